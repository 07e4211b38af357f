"""What a peer can make one callback do is bounded."""

from __future__ import annotations

import pytest

from tests.support.fakes import World

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
INTERIM = b"HTTP/1.1 100\r\n\r\n"


def test_a_hundred_interim_responses_pass(world: World) -> None:
    """More than any server has a use for."""
    client, server = world.warm()
    client.get()
    _ = server >> INTERIM * 100 + OK
    assert world.recorded[-1].status == 200
    assert client.received.count(b"HTTP/1.1 100 ") == 100
    world.assert_at_rest()


@pytest.mark.parametrize("at_once", [True, False])
def test_interim_responses_without_end_are_refused(world: World, at_once: bool) -> None:
    """RFC 9110, 15.2 sets no limit; we do: the exchange ends with 502, and the connection is not used again."""
    client, server = world.warm()
    client.get()
    if at_once:
        _ = server >> INTERIM * 64_000
    else:
        for _ in range(101):
            _ = server >> INTERIM
    assert client.received.count(b"HTTP/1.1 100 ") == 100
    assert (world.recorded[-1].status, world.recorded[-1].reason.name) == (502, "bad_response")  # type: ignore[union-attr]
    assert not server.is_open
    world.assert_at_rest()


def test_the_count_begins_anew_with_each_exchange(world: World) -> None:
    """It is of one response."""
    client, server = world.warm()
    for _ in range(3):
        client.get()
        _ = server >> INTERIM * 60 + OK
        assert world.recorded[-1].status == 200
    world.assert_at_rest()


def test_empty_lines_before_a_request_are_bounded(world: World) -> None:
    """RFC 9112, 2.2 asks for one to be ignored; a megabyte of them is no client's."""
    client = world.client()
    _ = client >> b"\r\n" * 60 + b"GET / HTTP/1.1\r\nHost: web\r\n\r\n"
    _ = world.accept() >> OK
    assert world.recorded[-1].status == 200
    _ = client >> b"\r\n" * 200_000
    assert (world.recorded[-1].status, world.recorded[-1].reason.name) == (400, "bad_request")  # type: ignore[union-attr]
