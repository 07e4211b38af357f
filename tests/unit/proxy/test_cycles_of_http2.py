"""
What becomes of connections of HTTP/2 and their streams is freed by reference counts, too: what a reload finds under way
it exempts from collection, and a circle of it would stay for as long as the process lives.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sidecar.http2 import frames
from sidecar.http2.codes import Code
from tests.support.fakes import Client, Server, World
from tests.support.http2 import HELLO, OK, POST, SETTINGS, content, headers, reset, window
from tests.unit.proxy.test_cycles import left_over, newest

PING = frames.ping(b"12345678", is_ack=False)
Happening = Callable[[World, Client], None]


# --- a client's connection ---------------------------------------------------------------------------------------


def asks(client: Client, *stream_ids: int) -> None:
    """Greet, and ask by each of these."""
    _ = client >> HELLO + b"".join(headers(one) for one in stream_ids)


def answered(world: World, client: Client) -> None:
    asks(client, 1)
    _ = newest(world) >> b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def answered_many_times(world: World, client: Client) -> None:
    for number in range(1, 400, 2):
        _ = client >> (HELLO if number == 1 else b"") + headers(number)
        _ = newest(world) >> b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def client_that_is_silent(world: World, client: Client) -> None:
    _ = client >> HELLO


def client_that_leaves(world: World, client: Client) -> None:
    asks(client, 1, 3)
    client.reset()


def client_that_leaves_in_its_body(world: World, client: Client) -> None:
    _ = client >> HELLO + headers(1, POST, ends=False) + content(1, b"x" * 100)
    client.reset()


def client_that_resets(world: World, client: Client) -> None:
    asks(client, 1, 3)
    _ = client >> reset(1)


def client_that_resets_at_once(world: World, client: Client) -> None:
    _ = client >> HELLO + headers(1) + reset(1)


def client_that_goes_away(world: World, client: Client) -> None:
    asks(client, 1)
    _ = client >> frames.goaway(0, Code.NO_ERROR)


def client_that_breaks_a_rule(world: World, client: Client) -> None:
    asks(client, 1)
    _ = client >> window(0, 0)


def client_that_breaks_a_stream_s_rule(world: World, client: Client) -> None:
    asks(client, 1, 3)
    _ = client >> window(1, 0)


def client_that_floods(world: World, client: Client) -> None:
    asks(client, 1)
    _ = client >> PING * 1200


def malformed(world: World, client: Client) -> None:
    _ = client >> HELLO + headers(1, [(b":method", b"GET")])


def head_too_large(world: World, client: Client) -> None:
    _ = client >> HELLO + headers(1, [*POST, (b"x", b"y" * 9000)])


def large_answer_that_is_not_read(world: World, client: Client) -> None:
    asks(client, 1)
    _ = newest(world) >> b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + b"x" * 200_000


def server_that_resets(world: World, client: Client) -> None:
    asks(client, 1, 3)
    newest(world).reset()


@pytest.mark.parametrize(
    "happen",
    [
        answered,
        answered_many_times,
        client_that_is_silent,
        client_that_leaves,
        client_that_leaves_in_its_body,
        client_that_resets,
        client_that_resets_at_once,
        client_that_goes_away,
        client_that_breaks_a_rule,
        client_that_breaks_a_stream_s_rule,
        client_that_floods,
        malformed,
        head_too_large,
        large_answer_that_is_not_read,
        server_that_resets,
    ],
)
def test_nothing_that_happens_to_a_client_makes_a_cycle(world: World, happen: Happening) -> None:
    """The collector finds nothing, though its session knows it and each stream its course."""
    assert left_over(world, happen) == 0


# --- a server's connection -----------------------------------------------------------------------------------------


def served(world: World, client: Client, *said: bytes) -> Server:
    """A client asks by HTTP/1.1, and a server by HTTP/2 says its settings and this."""
    client.get()
    server = world.accept()
    _ = server >> SETTINGS
    for one in said:
        _ = server >> one
    return server


def server_that_answers(world: World, client: Client) -> None:
    served(world, client, headers(1, OK))


def server_that_cuts(world: World, client: Client) -> None:
    served(world, client, headers(1, OK, ends=False)).reset()


def server_that_leaves(world: World, client: Client) -> None:
    served(world, client).leave()


def server_that_resets_the_stream(world: World, client: Client) -> None:
    served(world, client, reset(1, Code.INTERNAL_ERROR))


def server_that_goes_away(world: World, client: Client) -> None:
    served(world, client, frames.goaway(1, Code.NO_ERROR), headers(1, OK))


def server_that_breaks_a_rule(world: World, client: Client) -> None:
    served(world, client, window(0, 0))


def server_that_says_nothing(world: World, client: Client) -> None:
    client.get()
    world.accept().leave()


def server_without_a_client(world: World, client: Client) -> None:
    server = served(world, client)
    client.reset()
    assert server.is_open


def server_that_is_too_slow(world: World, client: Client) -> None:
    served(world, client)
    world.advance(30.0)


@pytest.mark.parametrize(
    "happen",
    [
        server_that_answers,
        server_that_cuts,
        server_that_leaves,
        server_that_resets_the_stream,
        server_that_goes_away,
        server_that_breaks_a_rule,
        server_that_says_nothing,
        server_without_a_client,
        server_that_is_too_slow,
    ],
)
def test_nothing_that_happens_to_a_server_makes_a_cycle(make_world: Callable[..., World], happen: Happening) -> None:
    """The same of the other side."""
    assert left_over(make_world(protocol="http2", timeout_s=5.0), happen) == 0
