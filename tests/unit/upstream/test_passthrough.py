"""Passthrough: endpoints made on demand, and never more than fit."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sidecar.upstream.passthrough import MAX_ENDPOINTS, Passthrough
from tests.unit.upstream.fakes import HEAD, FakeConnection


def test_same_authority_gets_the_same_endpoint() -> None:
    """Host and port name an endpoint, so that its connections are reused."""
    passthrough = Passthrough()
    endpoint = passthrough.endpoint_for(b"example.com", 80)
    assert passthrough.endpoint_for(b"example.com", 80) is endpoint
    assert passthrough.endpoint_for(b"example.com", 8080) is not endpoint
    assert (endpoint.host, endpoint.port, endpoint.label) == ("example.com", 80, "example.com:80")
    assert endpoint.cluster is passthrough.cluster


def test_ipv6_authority_is_dialled_without_brackets() -> None:
    """A head's host keeps the brackets of an IPv6 address; a dial does not want them."""
    endpoint = Passthrough().endpoint_for(b"[2001:db8::1]", 80)
    assert (endpoint.host, endpoint.label) == ("2001:db8::1", "[2001:db8::1]:80")


def test_settings_are_those_of_the_cluster() -> None:
    """The pool finds its timeouts as with any endpoint, and the cluster itself chooses nothing."""
    cluster = Passthrough().cluster
    assert (cluster.name, cluster.connect_timeout_s, cluster.idle_timeout_s) == ("passthrough", 1, 4)
    assert cluster.choose(HEAD, "10.0.0.1") is None


def test_endpoint_used_longest_ago_is_removed_with_its_connections() -> None:
    """A client that names ever new hosts makes the proxy hold a bounded number, the ones in use."""
    passthrough = Passthrough(max_endpoints=2)
    first, second = (passthrough.endpoint_for(host, 80) for host in (b"a", b"b"))
    connections = [FakeConnection(endpoint) for endpoint in (first, second)]
    passthrough.endpoint_for(b"a", 80)
    third = passthrough.endpoint_for(b"c", 80)
    assert [connection.closed for connection in connections] == [[], ["passthrough_evicted"]]
    assert second.is_removed
    assert passthrough.cluster.endpoints == (first, third)
    assert repr(passthrough) == "<Passthrough [Endpoints: 2 of 2]>"
    passthrough.close_idle("shutdown")
    assert connections[0].closed == ["shutdown"]
    assert MAX_ENDPOINTS == 1024


@given(hosts=st.lists(st.sampled_from([b"a", b"b", b"c", b"d", b"e"])), size=st.integers(1, 4))
def test_most_recently_used_authorities_are_the_ones_kept(hosts: list[bytes], size: int) -> None:
    """After any series of requests the endpoints are the last `size` different hosts, none of them removed."""
    passthrough = Passthrough(max_endpoints=size)
    for host in hosts:
        assert not passthrough.endpoint_for(host, 80).is_removed
    recent = list(dict.fromkeys(reversed(hosts)))[:size]
    assert {endpoint.host for endpoint in passthrough.cluster.endpoints} == {host.decode() for host in recent}
    assert not any(endpoint.is_removed for endpoint in passthrough.cluster.endpoints)
