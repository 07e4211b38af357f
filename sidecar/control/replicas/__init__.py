"""
What replicas of the control plane tell each other: who is connected to whom, what that runs, and who calls whom.

Enters: the summary of this replica, and those of the others by HTTP. Leaves: one picture of all, and who is not seen.
Who may come in: `control.plane`, and `control.shown` for people.
"""
