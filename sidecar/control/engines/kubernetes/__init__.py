"""
The engine `kubernetes`: everything in objects of one namespace, by any number of replicas; no custom resource.

Spoken is the API itself with `aiohttp`, which the control plane has anyway, and no client library. `kubernetes-asyncio`
brings 60 MiB of generated models for every kind there is, of which five are needed; its informer hides what matters
here: whether an object that is missing was deleted, or only not listed again, is a fact in one case and doubt in the
other. What is needed of the protocol is list, watch, and writing one object (`client`, `changes`).

    ConfigMap  sidecar.mesh/mesh=MESH               the mesh's files, written by whoever applies them; never by us
    ConfigMap  sidecar-MESH.record                  the rollout record
    Secret     sidecar-MESH.ca, .tokens, ...        what the authority keeps: keys, hashes of tokens, what was issued
    ConfigMap  sidecar-MESH.file.HASH               a compiled file that a sidecar was told, by zlib; immutable
    ConfigMap  sidecar-MESH.registered.INSTANCE     who is registered; without an owner, so that nothing collects it
    ConfigMap  sidecar-MESH.registrations           that anybody ever was
    Lease      sidecar-MESH.mover                   who moves rollouts
    Lease      sidecar-MESH.replica.NAME            a replica's announcement
    EndpointSlice, Service                          read only: the origin `kubernetes` of a mesh file's `instances`

Enters: where the API is, and who we are to it (`settings`). Leaves: an `Engine`. Who may come in: `control.start`.
"""
