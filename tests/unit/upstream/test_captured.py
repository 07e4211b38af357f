"""An app at the addresses at which it was called."""

from __future__ import annotations

from sidecar.upstream.captured import CapturedApp
from sidecar.upstream.cluster import Cluster, ClusterSpec
from sidecar.upstream.owners import Owners
from tests.unit.upstream.fakes import HEAD


def made() -> tuple[Cluster, CapturedApp]:
    cluster = Cluster(ClusterSpec("app", (("127.0.0.1:8080", 1.0),)))
    return cluster, CapturedApp(cluster)


class TestCapturedApp:
    """Where it is dialled."""

    def test_it_is_dialled_where_it_was_called(self) -> None:
        """Each address and port is an endpoint of the app's cluster, which by itself never chooses one of them."""
        cluster, app = made()
        (configured,) = cluster.endpoints
        for host, port, label in ((b"10.0.0.5", 8080, "10.0.0.5:8080"), (b"[2001:db8::5]", 9, "[2001:db8::5]:9")):
            endpoint = app.choose(host, port)
            assert (endpoint.label, endpoint.cluster) == (label, cluster)
            assert endpoint in cluster.endpoints
            assert app.choose(host, port) is endpoint
        assert {cluster.choose(HEAD, "10.0.0.1") for _ in range(20)} == {configured}

    def test_where_nobody_listens_the_configured_address_of_the_port_is_dialled_and_remembered(self) -> None:
        """Until nobody listens there either."""
        cluster, app = made()
        (configured,) = cluster.endpoints
        called = app.choose(b"10.0.0.5", 8080)
        assert app.choose_other(b"10.0.0.5", 8080, (called,)) is configured
        assert app.choose(b"10.0.0.5", 8080) is configured
        assert app.choose(b"10.0.0.6", 8080) is not configured
        assert app.choose_other(b"10.0.0.5", 8080, (configured,)) is called
        assert app.choose(b"10.0.0.5", 8080) is called

    def test_other_ports_are_dialled_nowhere_else(self) -> None:
        """What listens on loopback only stays closed to others."""
        _, app = made()
        called = app.choose(b"10.0.0.5", 9999)
        assert app.choose_other(b"10.0.0.5", 9999, (called,)) is called

    def test_reload_makes_its_endpoints_anew(self) -> None:
        """Those that a change of the cluster has removed are not used again."""
        cluster, app = made()
        before = app.choose(b"10.0.0.5", 8080)
        moved = ClusterSpec("app", (("127.0.0.1:8081", 1.0),))
        cluster.apply(moved, moved.static_addresses())
        assert before.is_removed
        after = app.choose(b"10.0.0.5", 8080)
        assert not after.is_removed
        assert [endpoint.label for endpoint in cluster.endpoints] == ["127.0.0.1:8081", "10.0.0.5:8080"]

    def test_addresses_are_bounded(self) -> None:
        """A client that calls every port makes the sidecar hold no more than so many."""
        cluster, app = made()
        for port in range(1, 3000):
            app.choose(b"10.0.0.5", port)
        assert len(cluster.endpoints) == 1 + 1024


class TestOwners:
    """Which upstream has an address."""

    def test_owner_of_an_address_follows_its_endpoints(self) -> None:
        """Also those that come and go while it runs; the first of two that share one."""
        one = Cluster(ClusterSpec("one", (("10.0.0.1:80", 1.0), ("10.0.0.2:80", 1.0))))
        two = Cluster(ClusterSpec("two", (("10.0.0.2:80", 1.0), ("[2001:db8::1]:80", 1.0))))
        owners = Owners([one, two])
        assert owners.find("10.0.0.1", 80) is one
        assert owners.find("10.0.0.2", 80) is one
        assert owners.find("2001:db8::1", 80) is two
        assert owners.find("10.0.0.1", 81) is None
        two.set_addresses(ClusterSpec("two", (("10.0.0.3:80", 1.0),)).static_addresses())
        one.set_addresses(ClusterSpec("one", (("10.0.0.1:80", 1.0),)).static_addresses())
        assert owners.find("10.0.0.3", 80) is two
        assert owners.find("10.0.0.2", 80) is None
        assert owners.find("2001:db8::1", 80) is None
