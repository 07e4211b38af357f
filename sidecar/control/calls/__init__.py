"""
Who calls whom in the mesh, as its sidecars count it.

Enters: what reports say of calls. Leaves: sums of the last minute and the last hour, bounded in memory whatever is
reported. Who may come in: all of `control`.
"""
