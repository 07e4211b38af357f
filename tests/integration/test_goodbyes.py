"""Goodbyes in a mesh of several control planes, on real etcd."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from pathlib import Path

from sidecar.link.messages import Config, Left
from sidecar.link.report import Port
from tests.integration.test_control_etcd import push
from tests.support.control import SHOP, Control, Peer, replica
from tests.support.etcd import etcd
from tests.support.wait import eventually


def ports(number: int) -> dict[str, Port]:
    """Of a callee."""
    return {"http": Port(f"127.0.0.1:{number}")}


@contextlib.contextmanager
def both_ready(*replicas: Control) -> Iterator[None]:
    """They start at the same time."""
    for one in replicas:
        eventually(one.is_ready, "a control plane that is ready", 60)
    yield


def test_drain_ends_when_the_callers_at_both_replicas_have_applied_it(tmp_path: Path) -> None:
    """
    The one that leaves is at one of them. It is not told `left` before the caller at the other has said that it lets go
    of it; and then long before the other replica's callers would be taken for gone.
    """
    with etcd(tmp_path) as cluster:
        prefix = f"/{secrets.token_hex(6)}/shop"
        url = cluster.url + prefix
        push(url, SHOP)
        # Somebody registered before: a store without that is no copy, and for 30 s callers may be on their way.
        cluster.members[0].put(f"{prefix}/registrations/", "")
        with (
            replica(tmp_path, url, "one", is_ready=False) as one,
            replica(tmp_path, url, "two", is_ready=False) as two,
            both_ready(one, two),
            Peer(two, "catalog", "stays") as stays,
            Peer(one, "catalog", "leaves") as leaves,
            Peer(one, "storefront", "here") as here,
            Peer(two, "storefront", "there") as there,
        ):
            for peer in (stays, leaves, here, there):
                peer.wait_for(Config)
            stays.report(ports=ports(4001))
            both = {"127.0.0.1:4001", "127.0.0.1:4002"}
            eventually(lambda: here.knows("catalog") == {"127.0.0.1:4001"}, "one that was there before")
            leaves.report(ports=ports(4002))
            for caller in (here, there):
                eventually(lambda caller=caller: caller.knows("catalog") == both, "both")  # type: ignore[misc]
                caller.report()
            assert leaves.report(is_goodbye=True).json() == {}
            for caller in (here, there):
                eventually(lambda caller=caller: caller.knows("catalog") == {"127.0.0.1:4001"}, "the goodbye")  # type: ignore[misc]
                assert not [line for line in leaves.lines if isinstance(line, Left)]
                caller.report()
            leaves.wait_for(Left, "left, as the last caller has applied it")
            assert leaves.report(is_goodbye=True).json() == {"left": True}
