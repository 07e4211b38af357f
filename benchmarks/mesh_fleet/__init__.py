"""
What `benchmarks/mesh.py` is made of: a mesh of many services (`directory`), sidecars that only speak the protocol
(`sidecars`), real ones with apps and clients (`real`), a control plane under a ruler (`control`), what the measuring
process itself adds (`strain`), arithmetic (`figures`), a run of all of it (`run`), and the scenarios: `whole`, `node`,
`growth`, `control_cost`.
"""
