"""A cluster: its settings, and endpoints that keep their identity when addresses change."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.net.address import parse_address
from sidecar.upstream.balance.algorithms import HashKey
from sidecar.upstream.cluster import Change, Cluster, ClusterSpec, ClusterStats, resolved_addresses
from sidecar.upstream.stats import COUNTS
from tests.unit.upstream.fakes import HEAD, FakeConnection, cluster_of


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"endpoints": (("a:80", 1),), "dns": ("a", 80)}, "found several"),
        ({"endpoints": (("a:0", 1),)}, "port from 1 to 65535"),
        ({"endpoints": (("a:80", -1),)}, "weight of 0 or more"),
        ({"endpoints": (("a:80", float("nan")),)}, "weight of 0 or more"),
        ({"endpoints": (("a:80", float("inf")),)}, "weight of 0 or more"),
        ({"endpoints": (("a", 1),)}, "expected host:port"),
        ({"dns": ("a", 0)}, "port from 1 to 65535"),
        ({"policy": "hash"}, "hash key"),
        ({"hash_key": HashKey("source_ip")}, "hash key"),
    ],
)
def test_settings_that_contradict_themselves_are_refused(settings: dict[str, object], message: str) -> None:
    """A spec is checked when it is made, so that commit cannot fail half way."""
    with pytest.raises(ValueError, match=message):
        ClusterSpec("web", **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("spec", "server_address"),
    [
        (ClusterSpec("web", dns=("web.shop.svc", 80)), "web.shop.svc"),
        (ClusterSpec("web", (("10.0.0.1:80", 1),)), "10.0.0.1"),
        (ClusterSpec("web", (("unix:/run/app.sock", 1),)), "/run/app.sock"),
        (ClusterSpec("web", (("10.0.0.1:80", 1), ("10.0.0.2:80", 1))), "web"),
        (ClusterSpec("web"), "web"),
    ],
)
def test_server_address_is_bounded_and_known_before_resolving(spec: ClusterSpec, server_address: str) -> None:
    """Telemetry's label is one value for each upstream, whatever DNS answers."""
    assert spec.server_address == server_address
    assert Cluster(spec).server_address == server_address


def test_repeated_address_counts_with_the_sum_of_its_weights() -> None:
    """An address is one endpoint, with one pool, however often it is listed."""
    cluster = Cluster(ClusterSpec("web", (("a:80", 1), ("b:80", 1), ("a:80", 2))))
    assert [(endpoint.label, endpoint.weight) for endpoint in cluster.endpoints] == [("a:80", 3), ("b:80", 1)]


def test_address_that_stays_keeps_its_endpoint_and_connections() -> None:
    """Of three addresses one goes and one comes: the two that stay are the same objects, connections and all."""
    cluster = cluster_of("least_request", [1, 1, 1])
    first, second, third = cluster.endpoints
    connections = [FakeConnection(endpoint) for endpoint in cluster.endpoints]
    change = cluster.set_addresses({parse_address(f"e{i}:80"): 1 for i in (3, 1, 0)})
    assert change == Change(added=("e3:80",), removed=("e2:80",))
    assert [endpoint.label for endpoint in cluster.endpoints] == ["e3:80", "e1:80", "e0:80"]
    assert cluster.endpoints[1] is second
    assert cluster.endpoints[2] is first
    assert [connection.closed for connection in connections] == [[], [], ["endpoint_removed"]]
    assert third.is_removed
    assert not first.is_removed


def test_address_that_comes_back_is_a_new_endpoint() -> None:
    """What still runs on the removed endpoint is not counted against the new one."""
    cluster = cluster_of("least_request", [1])
    old = cluster.endpoints[0]
    old.active = 7
    cluster.set_addresses({})
    assert cluster.choose(HEAD, "") is None
    cluster.set_addresses({parse_address("e0:80"): 1})
    assert cluster.endpoints[0] is not old
    assert cluster.endpoints[0].active == 0


def test_weight_changes_in_place() -> None:
    """A new weight takes effect without a new endpoint."""
    cluster = cluster_of("random", [1, 1])
    before = cluster.endpoints
    assert not cluster.set_addresses({parse_address("e0:80"): 1, parse_address("e1:80"): 0})
    assert cluster.endpoints == before
    assert {endpoint.host for _ in range(50) if (endpoint := cluster.choose(HEAD, ""))} == {"e0"}


def test_settings_change_in_place() -> None:
    """New timeouts and a new policy hold at once for those that hold the cluster; a spec of another name is refused."""
    cluster = cluster_of("random", [1, 1])
    spec = ClusterSpec("web", cluster.spec.endpoints, policy="round_robin", connect_timeout_s=3, idle_timeout_s=9)
    before = cluster.endpoints
    assert not cluster.apply(spec, spec.static_addresses())
    assert (cluster.connect_timeout_s, cluster.idle_timeout_s) == (3, 9)
    assert cluster.endpoints == before
    hosts = [endpoint.host for _ in range(4) if (endpoint := cluster.choose(HEAD, ""))]
    assert sorted(hosts[:2]) == ["e0", "e1"]
    assert hosts[:2] == hosts[2:]
    with pytest.raises(ValueError, match="found those of other"):
        cluster.apply(ClusterSpec("other"), {})


def test_retired_cluster_keeps_no_connection_but_still_serves_older_plans() -> None:
    """An exchange that began under an older plan can still choose; its connection is not kept afterwards."""
    cluster = cluster_of("random", [1, 1])
    connection = FakeConnection(cluster.endpoints[0])
    cluster.retire("upstream_removed")
    assert connection.closed == ["upstream_removed"]
    chosen = cluster.choose(HEAD, "")
    assert chosen is not None
    assert chosen.is_removed


@given(steps=st.lists(st.dictionaries(st.integers(0, 6), st.sampled_from([0.0, 1.0, 2.0]), max_size=6), max_size=8))
def test_endpoints_are_exactly_what_was_set_and_identity_is_kept(steps: list[dict[int, float]]) -> None:
    """After any changes the endpoints are the last addresses, and an endpoint lives as long as its address."""
    cluster = Cluster(ClusterSpec("web"))
    for step in steps:
        before = {endpoint.label: endpoint for endpoint in cluster.endpoints}
        change = cluster.set_addresses({parse_address(f"e{i}:80"): weight for i, weight in step.items()})
        after = {endpoint.label: endpoint for endpoint in cluster.endpoints}
        assert {label: endpoint.weight for label, endpoint in after.items()} == {
            f"e{i}:80": weight for i, weight in step.items()
        }
        assert all(after[label] is before[label] for label in after.keys() & before.keys())
        assert set(change.added) == after.keys() - before.keys()
        assert set(change.removed) == before.keys() - after.keys()
        assert all(before[label].is_removed for label in change.removed)
        assert not any(endpoint.is_removed for endpoint in after.values())


def test_resolved_addresses_are_endpoints_of_weight_one() -> None:
    """Every record of an answer is an endpoint with the port of the configuration, IPv6 in brackets."""
    assert {
        str(address): weight for address, weight in resolved_addresses(("10.0.0.1", "2001:db8::1"), 80).items()
    } == {
        "10.0.0.1:80": 1.0,
        "[2001:db8::1]:80": 1.0,
    }


def test_every_count_begins_at_zero() -> None:
    """All counters exist from the start, so that a scrape shows them before the first request."""
    stats = ClusterStats()
    assert [name for name in COUNTS if getattr(stats, name)] == []


def test_repr_shows_the_state() -> None:
    """A look at a cluster says how it chooses and what is under way."""
    cluster = cluster_of("round_robin", [1, 1])
    cluster.endpoints[0].active = 2
    FakeConnection(cluster.endpoints[1])
    assert repr(cluster) == "<Cluster 'web' [round_robin | Endpoints: 2 | Exchanges: 2 active | Connections: 1 idle]>"
