"""
The command line: `main` finds the command, a file holds each.

Enters: an argument list. Leaves: text for people or JSON for programs, and an exit code. Commands are imported when
they are called, so that `run` carries nothing that only the others need; those that ask a running sidecar do it by
`admin_client`. Who may come in: nobody but the entry point and `python -m sidecar`.
"""
