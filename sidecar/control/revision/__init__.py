"""
What the mesh's files say, compiled, and who is to have which of it.

Enters: the mesh's files as the engine sees them. Leaves: compiled files by hash (`compiled`), a revision number that
goes up only when some of them changed, the problems of a content that was refused, and for each instance the file that
it is to run (`targets`). Compiling is done in a process of its own (`compiler`, `worker`). Who may come in:
`control.plane`, which hands it on to the streams.
"""
