"""Addresses by which upstreams are called: by what their names mean now, and who has one."""

from __future__ import annotations

import asyncio
import logging
import socket

import pytest

from sidecar.net.resolve import REFRESH_PERIOD_S, Resolver
from sidecar.upstream.cluster import Cluster, ClusterSpec
from sidecar.upstream.owners import Owners
from sidecar.upstream.registry import Registry
from tests.support.held_loop import run_held


class Lookup:
    """What names mean now; what is not here has no address."""

    def __init__(self, **known: str) -> None:
        self.known = known
        self.asked: list[str] = []

    async def __call__(self, name: str) -> list[str]:
        self.asked.append(name)
        if name not in self.known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return self.known[name].split()


def spec(name: str, *called: tuple[str, int]) -> ClusterSpec:
    return ClusterSpec(name, (("10.9.9.9:15000", 1.0),), is_stream=True, called=called)


async def put(registry: Registry, *specs: ClusterSpec) -> dict[str, Cluster]:
    return (await registry.prepare(specs, 1.0)).commit()


def test_what_a_name_means_is_known_when_the_plan_is_and_followed() -> None:
    """Of an address nobody asks; what is called otherwise is forgotten with the reload that says so."""

    async def main() -> None:
        lookup = Lookup(db="10.0.0.1 10.0.0.2")
        registry = Registry(Resolver(lookup), random=lambda: 0.0)
        cluster = (await put(registry, spec("db", ("db", 5432), ("fd00:0::9", 5433))))["db"]
        assert cluster.called == (("10.0.0.1", 5432), ("10.0.0.2", 5432), ("fd00::9", 5433))
        lookup.known["db"] = "10.0.0.3"
        await asyncio.sleep(REFRESH_PERIOD_S + 1)
        assert cluster.called == (("10.0.0.3", 5432), ("fd00::9", 5433))
        assert set(lookup.asked) == {"db"}
        before = cluster.called
        await put(registry, spec("db", ("db", 5432), ("fd00:0::9", 5433)))
        assert cluster.called is before
        assert (await put(registry, spec("db")))["db"] is cluster
        assert cluster.called == ()
        lookup.asked.clear()
        await put(registry)
        await asyncio.sleep(10 * REFRESH_PERIOD_S)
        assert lookup.asked == []
        await registry.stop()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_held(main())


def test_name_without_an_answer_owns_nothing_and_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    """Until it has one; an answer that was there stays through an outage."""

    async def main() -> None:
        lookup = Lookup()
        registry = Registry(Resolver(lookup), random=lambda: 0.0)
        cluster = (await put(registry, spec("db", ("db", 5432))))["db"]
        assert cluster.called == ()
        await asyncio.sleep(10 * REFRESH_PERIOD_S)
        lookup.known["db"] = "10.0.0.1"
        await asyncio.sleep(REFRESH_PERIOD_S)
        assert cluster.called == (("10.0.0.1", 5432),)
        del lookup.known["db"]
        await asyncio.sleep(2 * REFRESH_PERIOD_S)
        assert cluster.called == (("10.0.0.1", 5432),)
        await registry.stop()

    with caplog.at_level(logging.INFO, "sidecar.upstream"):
        run_held(main())
    assert caplog.text.count("called_failed upstream=db name=db") == 2
    assert caplog.text.count("called_recovered upstream=db name=db") == 1


def test_an_address_has_the_upstream_that_is_called_by_it_before_one_that_has_it() -> None:
    """The first of two of a kind; what changes is seen at the next question."""
    one, two = Cluster(spec("one")), Cluster(spec("two"))
    owners = Owners([one], [two])
    assert owners.find("10.9.9.9", 15000) is one
    assert owners.find("10.0.0.1", 1) is None
    two.called = (("10.9.9.9", 15000), ("10.0.0.1", 1))
    assert owners.find("10.9.9.9", 15000) is owners.find("10.0.0.1", 1) is two
    two.called = ()
    assert owners.find("10.9.9.9", 15000) is one
    assert owners.find("10.0.0.1", 1) is None
    assert Owners([]).find("10.0.0.1", 1) is None
