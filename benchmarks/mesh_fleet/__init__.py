"""
What `benchmarks/mesh.py` is made of: a mesh of many services (`directory`), sidecars that only speak the protocol
(`sidecars`), a control plane under a ruler (`control`).
"""
