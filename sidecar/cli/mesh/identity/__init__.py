"""
The commands about who calls whom, and who may: `learn`. *Cold.*

Enters: a mesh's directory, and what a control plane has seen. Leaves: what the files would say, as a difference. Comes
in: the table of `sidecar mesh`.
"""
