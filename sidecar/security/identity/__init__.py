"""
Whom we are and whom we believe: certificates followed, verified before they replace others, and made into contexts.

Enters: files, what the control plane or an agent hands over (`Material`), and what a plan says about TLS
(`net.tls.settings`). Leaves: contexts in the sides of listeners and upstreams (`net.tls.sides`), and what is held and
what is wrong with it for log, metrics and `/certs`. Only the standard library's `ssl` is used; no key is ever shown or
written to a disk. Who may come in: `runtime`, which owns the `holder`, and `link`, which hands it what it was signed.
"""
