"""
What the running sidecar says of its own decisions.

Enter: questions of the admin listener, and the configuration in force with what its clusters know at this moment.
Leave: accounts, ready for JSON, made in slices between which traffic goes on. Who may come in: `runtime.views`.
"""
