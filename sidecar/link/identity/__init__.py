"""
How this sidecar comes by who it is from the control plane, and stays it: joining, holding, renewing. *Cold.*

Enters: where the control plane is, a file with a token, what was kept of an earlier life. Leaves: `Credentials` for
`security.identity`, again and again, and words for pages, reports and the log. A key is made by a process of its own
(`make_request`), which alone needs the library for it, and never leaves this machine. Who may come in: `runtime`, which
starts that process and keeps what is to be kept; `control` for the messages (`messages`), which both sides speak.
"""
