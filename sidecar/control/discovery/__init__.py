"""
Where the endpoints of each upstream are, now and a moment ago.

Enters: registrations of sidecars, and what files, name servers and the engine's world know (`sources`). Leaves: for
each origin a set of endpoints with its version, and the change from any of the last few versions as a line of the
stream (`views`). Who may come in: `control.push`, which tells sidecars, and `control.plane`.
"""
