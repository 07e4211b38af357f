"""Endpoints that are names: followed, each staying one endpoint, and no connection kept to where a name led."""

from __future__ import annotations

import asyncio
import logging
import socket

import pytest

from sidecar.net.resolve import REFRESH_PERIOD_S, Resolver
from sidecar.upstream import pool
from sidecar.upstream.cluster import Cluster, ClusterSpec
from sidecar.upstream.registry import Registry
from tests.support.held_loop import run_held
from tests.unit.upstream.fakes import FakeConnection


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


def spec_of(*addresses: str, **settings: float) -> ClusterSpec:
    return ClusterSpec("web", tuple((address, 1.0) for address in addresses), **settings)  # type: ignore[arg-type]


async def put(registry: Registry, *specs: ClusterSpec) -> Cluster | None:
    return (await registry.prepare(specs, 1.0)).commit().get("web")


def given_back(connection: FakeConnection) -> FakeConnection:
    connection.endpoint.idle.remove(connection)
    pool.release(connection)
    return connection


def test_name_that_moves_is_followed_and_its_connections_are_not_kept() -> None:
    """Idle ones are closed at once, those in use when they are given back; new ones are kept as ever."""

    async def main() -> None:
        lookup = Lookup(app="10.0.0.1")
        registry = Registry(Resolver(lookup), random=lambda: 0.0)
        cluster = await put(registry, spec_of("app:80", "10.0.0.9:80"))
        assert cluster is not None
        endpoint, other = cluster.endpoints
        await asyncio.sleep(1)
        assert await registry.names.addresses("app", 1.0) == ("10.0.0.1",)
        busy, idle, elsewhere = FakeConnection(endpoint), FakeConnection(endpoint), FakeConnection(other)
        endpoint.idle.remove(busy)
        lookup.known["app"] = "10.0.0.2 10.0.0.3"
        await asyncio.sleep(REFRESH_PERIOD_S)
        assert await registry.names.addresses("app", 1.0) == ("10.0.0.2", "10.0.0.3")
        assert cluster.endpoints == (endpoint, other)
        assert idle.closed == ["endpoint_moved"]
        pool.release(busy)
        assert busy.closed == ["endpoint_moved"]
        assert given_back(elsewhere).closed == given_back(FakeConnection(endpoint)).closed == []
        assert endpoint.objections
        await asyncio.sleep(cluster.max_age_s + REFRESH_PERIOD_S)
        assert endpoint.objections == 0
        await registry.stop()

    run_held(main())


def test_answer_that_shares_an_address_closes_nothing() -> None:
    """Names with many addresses give a part of them each time."""

    async def main() -> None:
        lookup = Lookup(app="10.0.0.1 10.0.0.2")
        registry = Registry(Resolver(lookup), random=lambda: 0.0)
        cluster = await put(registry, spec_of("app:80"))
        assert cluster is not None
        idle = FakeConnection(cluster.endpoints[0])
        for answer in ("10.0.0.2 10.0.0.3", "10.0.0.3 10.0.0.4", "10.0.0.4"):
            lookup.known["app"] = answer
            await asyncio.sleep(REFRESH_PERIOD_S)
        assert idle.closed == []
        assert await registry.names.addresses("app", 1.0) == ("10.0.0.4",)
        await registry.stop()

    run_held(main())


def test_failure_keeps_the_last_answer_and_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """As for `dns`, counters too."""

    async def main() -> None:
        lookup = Lookup(app="10.0.0.1")
        registry = Registry(Resolver(lookup), random=lambda: 0.0)
        cluster = await put(registry, spec_of("app:80"))
        assert cluster is not None
        await asyncio.sleep(1)
        del lookup.known["app"]
        await asyncio.sleep(10 * REFRESH_PERIOD_S)
        assert await registry.names.addresses("app", 1.0) == ("10.0.0.1",)
        assert (cluster.stats.dns_successes, cluster.stats.dns_failures) == (1, 10)
        lookup.known["app"] = "10.0.0.1"
        await asyncio.sleep(REFRESH_PERIOD_S)
        await registry.stop()

    with caplog.at_level(logging.INFO, "sidecar.upstream"):
        run_held(main())
    assert caplog.text.count("dns_failed upstream=web name=app kept=1") == 1
    assert caplog.text.count("dns_recovered upstream=web name=app") == 1


def test_configuration_does_not_wait_for_names_and_follows_those_that_it_has() -> None:
    """A reload drops what is gone, keeps what stays, and the end leaves no task."""

    async def main() -> None:
        lookup = Lookup(one="10.0.0.1", two="10.0.0.2")
        registry = Registry(Resolver(lookup), random=lambda: 0.0)
        await put(registry, spec_of("one:80", "one:81", "two:80", "10.0.0.9:80", "unix:/run/x"))
        assert lookup.asked == []
        await asyncio.sleep(1)
        assert sorted(lookup.asked) == ["one", "two"]
        await put(registry, spec_of("two:80"))
        lookup.asked.clear()
        await asyncio.sleep(REFRESH_PERIOD_S)
        assert lookup.asked == ["two"]
        await put(registry)
        lookup.asked.clear()
        await asyncio.sleep(10 * REFRESH_PERIOD_S)
        assert lookup.asked == []
        await put(registry, spec_of("two:80"))
        await registry.stop()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_held(main())


class TestAge:
    """`max_age`, as connections ask for it."""

    def test_connection_retires_up_to_a_tenth_early(self) -> None:
        """So that those of a burst do not end together."""
        cluster = Cluster(spec_of("10.0.0.1:80", max_age_s=100))
        assert (cluster.retires_at(5.0, lambda: 0.0), cluster.retires_at(5.0, lambda: 0.5)) == (105.0, 100.0)
        assert 95 < cluster.retires_at(5.0) <= 105

    def test_zero_is_no_limit(self) -> None:
        """And other changes take effect for connections that are opened from then on."""
        cluster = Cluster(spec_of("10.0.0.1:80", max_age_s=0))
        assert cluster.retires_at(5.0) == float("inf")
        spec = spec_of("10.0.0.1:80")
        cluster.apply(spec, spec.static_addresses())
        assert cluster.retires_at(0.0, lambda: 0.0) == 600

    @pytest.mark.parametrize("seconds", [-1, float("inf"), float("nan")])
    def test_ages_that_make_no_sense_are_refused(self, seconds: float) -> None:
        """A spec is checked when it is made."""
        with pytest.raises(ValueError, match="greatest age"):
            spec_of("10.0.0.1:80", max_age_s=seconds)
