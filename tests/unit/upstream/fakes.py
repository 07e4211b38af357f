"""What the tests of this room share: requests, connections, clusters."""

from __future__ import annotations

from sidecar.message import Field, RequestHead
from sidecar.upstream.cluster import Cluster, ClusterSpec, HashKey
from sidecar.upstream.endpoint import Endpoint

HEAD = RequestHead(b"GET", b"/", None, 1)


def head_with(name: bytes, *values: bytes) -> RequestHead:
    """A request with one field, perhaps several times."""
    head = RequestHead(b"GET", b"/", None, 1)
    head.fields = [Field(name, value, 0, name + b": " + value) for value in values]
    return head


class FakeConnection:
    """An idle connection that notes why it was closed; takes itself out of the pool if told to."""

    def __init__(self, endpoint: Endpoint, takes_itself_out: bool = False) -> None:
        self.endpoint = endpoint
        self.epoch = endpoint.epoch
        self.takes_itself_out = takes_itself_out
        self.closed: list[str] = []
        endpoint.idle.append(self)

    def is_usable(self) -> bool:
        return not self.closed

    def close_idle(self, reason: str) -> None:
        self.closed.append(reason)
        if self.takes_itself_out:
            self.endpoint.idle.remove(self)


def cluster_of(policy: str, weights: list[float], hash_key: HashKey | None = None, random: object = None) -> Cluster:
    """A static cluster with endpoints e0, e1, ... of these weights."""
    endpoints = tuple((f"e{i}:80", weight) for i, weight in enumerate(weights))
    spec = ClusterSpec("web", endpoints, policy=policy, hash_key=hash_key)  # type: ignore[arg-type]
    return Cluster(spec, random) if random is not None else Cluster(spec)  # type: ignore[arg-type]
