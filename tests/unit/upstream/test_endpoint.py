"""An endpoint: what it shows, and how it ends."""

from __future__ import annotations

import pytest

from sidecar.net.address import parse_address
from sidecar.upstream.cluster import Cluster, ClusterSpec
from sidecar.upstream.endpoint import Endpoint
from tests.unit.upstream.fakes import FakeConnection


def endpoint_at(text: str) -> Endpoint:
    return Endpoint(Cluster(ClusterSpec("web")), parse_address(text))


@pytest.mark.parametrize(
    ("text", "host", "port", "unix_path"),
    [
        ("app:80", "app", 80, None),
        ("[2001:db8::1]:443", "2001:db8::1", 443, None),
        ("unix:/run/app.sock", "", 0, "/run/app.sock"),
    ],
)
def test_address_is_kept_for_the_dial_and_as_label(text: str, host: str, port: int, unix_path: str | None) -> None:
    """The dial gets host and port without brackets or a path; telemetry gets the text of the file."""
    endpoint = endpoint_at(text)
    assert (endpoint.host, endpoint.port, endpoint.unix_path) == (host, port, unix_path)
    assert endpoint.label == text


@pytest.mark.parametrize("takes_itself_out", [False, True])
def test_removal_closes_every_idle_connection_once(takes_itself_out: bool) -> None:
    """Whether or not a connection takes itself out of the pool, each is closed once and none is left."""
    endpoint = endpoint_at("app:80")
    connections = [FakeConnection(endpoint, takes_itself_out) for _ in range(3)]
    endpoint.remove("endpoint_removed")
    assert [connection.closed for connection in connections] == [["endpoint_removed"]] * 3
    assert endpoint.idle == []
    assert endpoint.is_removed


def test_removal_leaves_what_is_in_flight_alone() -> None:
    """Exchanges that run or wait on a removed endpoint end in their own time."""
    endpoint = endpoint_at("app:80")
    endpoint.active = 2
    endpoint.pending.append(object())
    endpoint.remove("endpoint_removed")
    assert (endpoint.active, len(endpoint.pending)) == (2, 1)


def test_repr_shows_the_state() -> None:
    """A look at an endpoint says whether it lives and what is under way."""
    endpoint = endpoint_at("10.0.0.1:80")
    assert (
        repr(endpoint)
        == "<Endpoint '10.0.0.1:80' [LIVE | Exchanges: 0 active, 0 pending | Connections: 0 idle, 0 connecting]>"
    )
    endpoint.active, endpoint.connecting = 3, 1
    FakeConnection(endpoint)
    assert "Exchanges: 3 active, 0 pending | Connections: 1 idle, 1 connecting" in repr(endpoint)
    endpoint.remove("endpoint_removed")
    assert repr(endpoint).startswith("<Endpoint '10.0.0.1:80' [REMOVED | ")
