"""
What each sidecar is told over its stream, and when.

Enters: streams that open and close, the file that each instance is to have, endpoints that change, what sidecars say
they have. Leaves: the next lines of each stream, worked out only when they can be written: a slow reader holds up
nobody, and costs the memory of its state, not of all that it missed. Who may come in: `control.plane` and
`control.server`.
"""
