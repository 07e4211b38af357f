"""Connections that requests share, where a server turns out to speak HTTP/1.1."""

from __future__ import annotations

import pytest

from sidecar.upstream.cluster import Cluster, ClusterSpec
from sidecar.upstream.endpoint import Endpoint, IdleConnection
from sidecar.upstream.shared import Shared
from tests.unit.upstream.test_pool import Connection, Dials, Request


@pytest.fixture
def endpoint() -> Endpoint:
    return Cluster(ClusterSpec("web", (("10.0.0.1:80", 1.0),))).endpoints[0]


def test_a_connection_for_one_request_goes_to_who_waited_for_a_shared_one(endpoint: Endpoint) -> None:
    """It is dialled once: the first that waits has it, and only the others have connections dialled for them."""
    shared_dials, dials = Dials(), Dials()
    shared = Shared(endpoint, shared_dials)
    first, second = Request(), Request()
    shared.wait(first)
    shared.wait(second)
    assert (len(shared_dials), len(dials)) == (1, 0)
    connection = Connection(endpoint)
    shared.refused(connection, dials)
    assert (first.told, second.told) == ([connection], [])
    assert (len(shared_dials), len(dials)) == (1, 1)
    assert (shared.is_refused, len(shared.pending), len(endpoint.pending)) == (True, 0, 1)


class Carrying:
    """A connection that carries so many already, and one more."""

    def __init__(self, endpoint: Endpoint, load: int) -> None:
        self.endpoint = endpoint
        self.load = load

    def room(self) -> int:
        """For one, until it is retired."""
        return 1

    def reserve(self) -> IdleConnection:
        """A place."""
        self.load += 1
        return Connection(self.endpoint)

    def retire(self, reason: str) -> None:
        """Nobody asks why."""


def test_connections_are_counted_with_what_they_carry_as_long_as_they_take_more(endpoint: Endpoint) -> None:
    """And those that are on their way."""
    shared = Shared(endpoint, Dials())
    assert shared.counts() == (0, 0, 0)
    shared.wait(Request())
    assert shared.counts() == (0, 0, 1)
    shared.connected(Carrying(endpoint, 0))
    assert shared.counts() == (1, 1, 0)
    shared.connecting += 1
    shared.connected(Carrying(endpoint, 40))
    shared.take()
    assert shared.counts() == (2, 42, 0)
    shared.retire("endpoint_removed")
    assert shared.counts() == (0, 0, 0)


def test_a_connection_for_one_request_that_nobody_waits_for_idles(endpoint: Endpoint) -> None:
    """Who had it dialled has given up meanwhile."""
    dials = Dials()
    shared = Shared(endpoint, dials)
    shared.wait(Request()).cancel()
    connection = Connection(endpoint)
    shared.refused(connection, dials)
    assert endpoint.idle == [connection]
    assert len(dials) == 1
