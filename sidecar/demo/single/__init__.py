"""
The demonstration of one sidecar: an app, its sidecar with a YAML file to edit, and two versions of a service.

Enters: how long and how fast. Leaves: a screen, or a verdict on each claim. Who may come in: `cli.demo`, by `show`.
"""
