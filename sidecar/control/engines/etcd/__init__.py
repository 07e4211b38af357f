"""
The engine `etcd`: everything in keys of one prefix, by any number of replicas.

Spoken is etcd's own JSON gateway (3.4 and later: `/v3/...` on the client port) with `aiohttp`, which the control plane
has anyway, and no client library: those for Python speak gRPC, whose package alone is larger than the control plane
(18 MiB of memory) and whose stubs pin the versions of `protobuf` that telemetry uses; none is both asynchronous and
kept, and none does what is hard here, which is to notice that a watch is silent because its member has no leader. What
is needed of the protocol is eight calls (`wire`).

    PREFIX/mesh/wanted                   the manifest: which files, under which keys; its revision is the version
    PREFIX/mesh/files/PUSH/NAME          a file of the mesh, as it was pushed
    PREFIX/compiled/HASH/...             a compiled file that a sidecar was told, by zlib
    PREFIX/registrations/INSTANCE        who is registered; without a lease. The bare prefix: that anybody ever was
    PREFIX/record                        the rollout record
    PREFIX/secrets/NAME                  what the authority keeps: keys, hashes of tokens, what was issued
    PREFIX/mover                         the name of the replica that moves rollouts; with a lease
    PREFIX/replicas/NAME                 a replica's announcement; with a lease

Enters: where etcd is, and who we are to it (`settings`). Leaves: an `Engine`. Who may come in: `control.start`, and
`cli` for the settings.
"""
