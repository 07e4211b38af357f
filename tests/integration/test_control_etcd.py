"""Control planes on real etcd: two replicas that know the same, and what happens to them when it goes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from pathlib import Path

import pytest

from sidecar.control.engines.etcd.engine import EtcdEngine
from sidecar.control.engines.etcd.settings import read_settings
from sidecar.control.engines.interface import Content
from sidecar.control.start import Options, StartError, check
from sidecar.link.messages import Config, Endpoints
from sidecar.link.report import Port
from tests.support.control import SHOP, Peer, replica
from tests.support.etcd import etcd
from tests.support.wait import eventually

WAIT_S = 60.0


def push(url: str, files: Mapping[str, str]) -> None:
    """Make this the mesh, whatever it was."""

    async def act() -> None:
        engine = EtcdEngine(read_settings(url), "push")
        await engine.open()
        try:
            async with asyncio.timeout(WAIT_S), contextlib.aclosing(engine.mesh.follow()) as changes:
                async for change in changes:
                    if isinstance(change, Content):
                        await engine.mesh.push({name: text.encode() for name, text in files.items()}, change.version)
                        return
        finally:
            await engine.close()

    asyncio.run(act())


@pytest.mark.long
def test_two_replicas_tell_the_same_and_survive_etcd(tmp_path: Path) -> None:
    """
    What registers at one is told to the callers at the other; a push reaches the sidecars of both under one number.
    etcd killed changes nothing for anyone, and when it is back all goes on: what was said in between is not lost.
    """
    with etcd(tmp_path) as cluster:
        url = f"{cluster.url}/sidecar/shop"
        push(url, SHOP)
        with (
            replica(tmp_path, url, "one") as one,
            replica(tmp_path, url, "two") as two,
            Peer(one, "storefront") as caller,
            Peer(two, "catalog") as callee,
        ):
            assert one.shown()["engine"] == "etcd"
            hashes = {control.shown()["hash"] for control in (one, two)}
            assert len(hashes) == 1
            caller.wait_for(Config)
            callee.wait_for(Config)
            caller.report()  # else its next file waits for its word on the first one
            callee.report(ports={"http": Port("127.0.0.1:4001")})
            eventually(lambda: caller.knows("catalog") == {"127.0.0.1:4001"}, "the endpoint, by the other replica")
            eventually(lambda: {each["name"] for each in one.shown()["replicas"]} == {"one", "two"}, "both replicas")

            member = cluster.members[0]
            member.kill()
            seen = len(caller.lines)
            callee.report(ports={"http": Port("127.0.0.1:4002")})
            eventually(lambda: "registration_not_stored" in two.log(), "the loss to be told")
            assert not caller.is_over
            assert not callee.is_over
            assert not [line for line in caller.lines[seen:] if isinstance(line, Config | Endpoints)]
            cluster.start(member)
            eventually(lambda: caller.knows("catalog") == {"127.0.0.1:4002"}, "what was said in between")

            before = caller.has
            storefront = (
                "service: storefront\napp: 127.0.0.1:8080\ncalls: {recommendations: {}, catalog: {timeout: 9s}}\n"
            )
            push(url, SHOP | {"storefront.yaml": storefront})
            eventually(lambda: caller.has != before, "the new file")
            assert "9s" in caller.wait_for(Config).file
            assert caller.revision == 2
            eventually(lambda: {each.shown()["revision"] for each in (one, two)} == {2}, "the number at both")


def test_check_judges_what_is_wanted_in_etcd(tmp_path: Path) -> None:
    """Nothing at all has problems, a good mesh none; where etcd does not answer nothing can be judged."""
    with etcd(tmp_path) as cluster:
        asked = Options(engine=cluster.url)
        push(cluster.url, {})
        assert asyncio.run(check(asked))
        push(cluster.url, SHOP)
        assert asyncio.run(check(asked)) == ()
        cluster.members[0].kill()
        with pytest.raises(StartError, match="etcd"):
            asyncio.run(check(asked))
