"""Control planes whose etcd was replaced by an empty one while they run."""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path

import pytest

from sidecar.link.messages import Config, Endpoints
from tests.integration.test_control_etcd import push
from tests.integration.test_goodbyes import both_ready, ports
from tests.support.control import SHOP, Peer, replica
from tests.support.etcd import etcd
from tests.support.wait import eventually

pytestmark = pytest.mark.long


def test_registrations_are_written_again_into_an_etcd_that_lost_everything(tmp_path: Path) -> None:
    """
    By the control planes that hold them, without a restart, and no endpoint is taken from anybody meanwhile. The mesh
    is pushed again, and then all is as it was: new sidecars get their file, and a goodbye is one.
    """
    with etcd(tmp_path) as cluster:
        prefix = f"/{secrets.token_hex(6)}/shop"
        member = cluster.members[0]

        def registered() -> set[str]:
            keys = member.keys(f"{prefix}/registrations/")
            return {name.rpartition("/")[2] for name in keys} - {""}

        push(cluster.url + prefix, SHOP)
        with (
            replica(tmp_path, cluster.url + prefix, "one", is_ready=False) as one,
            replica(tmp_path, cluster.url + prefix, "two", is_ready=False) as two,
            both_ready(one, two),
            Peer(one, "storefront", "caller") as caller,
            Peer(one, "catalog", "c1") as first,
            Peer(two, "catalog", "c2") as second,
        ):
            for peer in (caller, first, second):
                peer.wait_for(Config)
            first.report(ports=ports(4001))
            second.report(ports=ports(4002))
            eventually(lambda: caller.knows("catalog") == {"127.0.0.1:4001", "127.0.0.1:4002"}, "both endpoints")
            told = len(caller.lines)
            member.kill()
            shutil.rmtree(tmp_path / member.name)
            cluster.start(member)
            eventually(lambda: registered() == {"c1", "c2"}, f"registrations again: {one.log()}{two.log()}")
            eventually(lambda: "registrations_vanished" in one.log() + two.log(), "a line of it")
            assert not [line for line in caller.lines[told:] if isinstance(line, Config | Endpoints)]
            push(cluster.url + prefix, SHOP)
            with Peer(two, "storefront", "new") as new:
                eventually(lambda: new.knows("catalog") == caller.knows("catalog"), "a file and endpoints", 60)
                second.report(is_goodbye=True)
                for peer in (caller, new):
                    eventually(lambda peer=peer: peer.knows("catalog") == {"127.0.0.1:4001"}, "the goodbye")  # type: ignore[misc]
            assert {control.shown()["revision"] for control in (one, two)} == {1}
