"""Which endpoints are spoken to by TLS, and that no pool ever has connections of two kinds."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import Reason
from sidecar.net.address import parse_address
from sidecar.net.tls.settings import ServerTls, UpstreamTls, WorkloadTls
from sidecar.upstream import pool
from sidecar.upstream.cluster import Change, Cluster, ClusterSpec
from sidecar.upstream.discovery.endpoint_set import EndpointSet, Source
from sidecar.upstream.endpoint import Endpoint, Health, IdleConnection
from sidecar.upstream.registry import Registry
from tests.support.held_loop import run_held
from tests.unit.upstream.fakes import HEAD, FakeConnection

A, B = parse_address("a:80"), parse_address("b:80")
NAME = Source("name", "web")
MESH = WorkloadTls(("spiffe://shop/web",))
OTHER_MESH = WorkloadTls(("spiffe://shop/other",))
OUTSIDE = ServerTls("web.example")


def cluster_of(tls: UpstreamTls | None, said: bool | None = None) -> Cluster:
    """A cluster that discovers one endpoint, of which this is said."""
    cluster = Cluster(ClusterSpec("web", discover=NAME, tls=tls))
    cluster.set_addresses({A: 1.0}, tls={} if said is None else {A: said})
    return cluster


@pytest.mark.parametrize(
    ("tls", "said", "is_tls"),
    [
        (None, None, False), (None, False, False), (None, True, False),
        (MESH, None, True), (MESH, False, False), (MESH, True, True),
        (OUTSIDE, None, True), (OUTSIDE, False, True), (OUTSIDE, True, True),
    ],
)  # fmt: skip
def test_who_is_spoken_to_by_tls(tls: UpstreamTls | None, said: bool | None, is_tls: bool) -> None:
    """
    As the file says; of sidecars, whoever knows them may say that one has no TLS. A server outside never has a say in
    it, and an upstream without `tls` has nobody's certificate to look for.
    """
    assert [one.is_tls for one in cluster_of(tls, said).endpoints] == [is_tls]


@pytest.mark.parametrize("tls", [MESH, OUTSIDE])
def test_endpoints_of_the_file_are_spoken_to_by_tls(tls: UpstreamTls) -> None:
    """Nobody says anything of them."""
    cluster = Cluster(ClusterSpec("web", (("a:80", 1.0), ("b:80", 1.0)), tls=tls))
    assert [one.is_tls for one in cluster.endpoints] == [True, True]


@pytest.mark.parametrize(("before", "after"), [(False, True), (True, False)])
def test_an_endpoint_that_is_spoken_to_otherwise_is_another_one(before: bool, after: bool) -> None:
    """Its idle connections are closed, what it has in use ends there, and the newcomer begins with none."""
    cluster = cluster_of(MESH, before)
    (old,) = cluster.endpoints
    idle = FakeConnection(old)
    old.active, old.connections = 3, 2
    assert cluster.set_addresses({A: 1.0}, tls={A: after}) == Change((), (), ("a:80",))
    (new,) = cluster.endpoints
    assert new is not old
    assert (old.is_tls, old.is_removed, idle.closed) == (before, True, ["endpoint_switched"])
    assert (new.is_tls, new.is_removed, new.idle, new.active, new.connections) == (after, False, [], 0, 0)
    assert cluster.choose(HEAD, "") is new
    # The same again is no change.
    assert not cluster.set_addresses({A: 1.0}, tls={A: after})
    assert cluster.endpoints == (new,)


def test_a_connection_of_the_other_kind_comes_into_no_pool() -> None:
    """One that was in use or being opened when its endpoint was switched serves who waited for it, and closes."""
    cluster = cluster_of(MESH, False)
    (old,) = cluster.endpoints
    waiter = _Waiter()
    pool.wait(old, waiter, lambda endpoint: None)
    cluster.set_addresses({A: 1.0}, tls={A: True})
    (new,) = cluster.endpoints
    dialled = FakeConnection(old)
    old.idle.clear()
    pool.connected(dialled)
    assert waiter.connections == [dialled]
    pool.release(dialled)
    assert dialled.closed == ["endpoint_removed"]
    assert (old.idle, new.idle, pool.take(new)) == ([], [], None)


class _Waiter:
    """A request that waits."""

    def __init__(self) -> None:
        self.connections: list[IdleConnection] = []

    def on_connection(self, connection: IdleConnection) -> None:
        self.connections.append(connection)

    def on_connect_failed(self, reason: Reason, detail: str) -> None:
        raise AssertionError(detail)


def test_what_is_known_of_a_server_holds_when_it_is_spoken_to_otherwise() -> None:
    """It is as ill and as slow as it was; a probe that is under way is another's."""
    cluster = cluster_of(MESH, False)
    (old,) = cluster.endpoints
    cluster.set_health(old, Health.UNHEALTHY, 5.0)
    old.health_streak, old.joined_at, old.failing, old.latency_s, old.latency_at = 2, 4.0, 0.5, 0.2, 5.0
    old.ejected_until, old.ejections, old.is_on_probation, old.is_probed = 7.0, 3, True, True
    cluster.set_addresses({A: 2.0}, 9.0, {A: "z"}, {A: True})
    (new,) = cluster.endpoints
    assert (new.health, new.health_streak, new.joined_at, new.failing) == (Health.UNHEALTHY, 2, 4.0, 0.5)
    assert (new.ejected_until, new.ejections, new.is_on_probation, new.is_probed) == (7.0, 3, True, False)
    assert (new.latency_s, new.latency_at, new.weight, new.zone) == (0.2, 5.0, 2.0, "z")
    assert (cluster.stats.ejected, cluster.stats.unhealthy) == (1, 1)


@pytest.mark.parametrize(
    ("before", "after"),
    [(MESH, OTHER_MESH), (MESH, OUTSIDE), (OUTSIDE, ServerTls("other.example")), (None, MESH), (OUTSIDE, None)],
)
def test_another_idea_of_who_answers_is_another_pool(before: UpstreamTls | None, after: UpstreamTls | None) -> None:
    """A connection that was verified by what the file said before serves no request that expects what it says now."""
    cluster = Cluster(ClusterSpec("web", (("a:80", 1.0),), tls=before))
    (old,) = cluster.endpoints
    idle = FakeConnection(old)
    spec = ClusterSpec("web", (("a:80", 1.0),), tls=after)
    assert cluster.apply(spec, spec.static_addresses()) == Change((), (), ("a:80",))
    (new,) = cluster.endpoints
    assert new is not old
    assert (new.is_tls, idle.closed, old.is_removed) == (after is not None, ["endpoint_switched"], True)


def test_settings_that_have_nothing_to_do_with_tls_keep_connections() -> None:
    """So does a change of identities for an endpoint that is spoken to in clear: nobody is verified there."""
    cluster = Cluster(ClusterSpec("web", (("a:80", 1.0),), tls=MESH))
    (endpoint,) = cluster.endpoints
    idle = FakeConnection(endpoint)
    spec = ClusterSpec("web", (("a:80", 1.0),), tls=WorkloadTls(MESH.identities), connect_timeout_s=3.0)
    assert not cluster.apply(spec, spec.static_addresses())
    clear = cluster_of(MESH, False)
    (in_clear,) = clear.endpoints
    assert not clear.apply(ClusterSpec("web", discover=NAME, tls=OTHER_MESH), {A: 1.0}, tls={A: False})
    assert (cluster.endpoints, clear.endpoints, idle.closed) == ((endpoint,), (in_clear,), [])


def test_what_is_told_while_running_reaches_the_cluster(caplog: pytest.LogCaptureFixture) -> None:
    """Of one endpoint of two, with a line in the log; and a file that wants TLS from now on makes it count."""

    async def main() -> None:
        registry = Registry(random=lambda: 0.0)
        registry.discovery.tell(NAME, EndpointSet({A: 1.0, B: 1.0}, {}, {A: False, B: False}))
        web = (await registry.prepare([ClusterSpec("web", discover=NAME, tls=MESH)], 2.0)).commit()["web"]
        first, second = web.endpoints
        caplog.clear()
        registry.discovery.tell(NAME, EndpointSet({A: 1.0, B: 1.0}, {}, {A: False, B: True}))
        assert web.endpoints[0] is first
        assert [one.is_tls for one in web.endpoints] == [False, True]
        assert second.is_removed
        assert "endpoints_switched upstream=web endpoints=b:80 by_tls=1 total=2" in caplog.text
        assert "endpoints_changed" not in caplog.text
        web = (await registry.prepare([ClusterSpec("web", discover=NAME)], 2.0)).commit()["web"]
        assert web.endpoints[0] is first
        assert [one.is_tls for one in web.endpoints] == [False, False]
        web = (await registry.prepare([ClusterSpec("web", discover=NAME, tls=MESH)], 2.0)).commit()["web"]
        assert [one.is_tls for one in web.endpoints] == [False, True]
        await registry.stop()

    with caplog.at_level(logging.INFO, logger="sidecar.upstream"):
        run_held(main())


SAID = st.dictionaries(st.sampled_from([A, B]), st.booleans())
STEPS = st.lists(st.tuples(st.sampled_from([None, MESH, OTHER_MESH, OUTSIDE]), SAID), min_size=1, max_size=8)


@given(STEPS)
def test_no_pool_has_connections_of_two_kinds(steps: list[tuple[UpstreamTls | None, dict[object, bool]]]) -> None:
    """Whatever comes after what: a connection that is handed out was made as its endpoint is spoken to now."""
    cluster = Cluster(ClusterSpec("web", discover=NAME))
    made: list[tuple[FakeConnection, object]] = []
    for tls, said in steps:
        cluster.apply(ClusterSpec("web", discover=NAME, tls=tls), dict.fromkeys((A, B), 1.0), tls=said)  # type: ignore[arg-type]
        for endpoint in cluster.endpoints:
            kind = tls if endpoint.is_tls else None
            taken = []
            while (connection := pool.take(endpoint)) is not None:
                taken.append(connection)
                assert next(how for one, how in made if one is connection) == kind
            for connection in taken:
                pool.release(connection)
            for _ in range(2):
                made.append((FakeConnection(endpoint), kind))
    live: set[Endpoint] = set(cluster.endpoints)
    assert all(connection.closed for connection, _ in made if connection.endpoint not in live)
