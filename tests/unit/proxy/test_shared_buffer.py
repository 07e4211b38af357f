"""Large bodies are read into memory that all connections of a loop share: nobody may ever see another's there."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar import errors
from sidecar.proxy.server.buffered_reader import BufferedReader
from tests.support.fakes import Client, Server, World

LARGE = 600_000
PIECE = 50_000


def begin(world: World, length: int = LARGE, *fields: bytes) -> tuple[Client, Server]:
    """A client that was told the head of a large response, and the server that goes on with its body."""
    client, server = world.warm()
    begin_again(client, server, length, *fields)
    return client, server


def begin_again(client: Client, server: Server, length: int = LARGE, *fields: bytes) -> None:
    """One more such response for the same pair."""
    client.get()
    _ = server >> b"\r\n".join((b"HTTP/1.1 200 OK", b"Content-Length: %d" % length, *fields, b"", b""))
    client.take()
    server.take()


def is_buffered(server: Server) -> bool:
    return isinstance(server.transport.protocol, BufferedReader)


@cache
def pattern(seed: int, size: int = LARGE) -> bytes:
    """Octets of which no part is like another's."""
    return b"".join(b"%d:%d;" % (seed, number) for number in range(size // 6))[:size].ljust(size, b".")


def test_a_large_body_arrives_and_the_connection_goes_on(world: World) -> None:
    """Whole, and twice; in between and afterwards the connection reads as always."""
    client, server = world.warm()
    for seed in (1, 2):
        begin_again(client, server)
        assert is_buffered(server)
        _ = server >> pattern(seed)
        assert client.take() == pattern(seed)
        assert not is_buffered(server)
    client.get()
    _ = server >> b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
    assert client.responses()[-1].body == b"hello"
    world.assert_at_rest()
    assert [exchange.bytes_sent for exchange in world.recorded[-3:]] == [LARGE, LARGE, 5]


@pytest.mark.parametrize(("length", "is_worth_it"), [(128 * 1024 - 1, False), (128 * 1024, True)])
def test_a_body_from_128_kib_on_is_large(world: World, length: int, is_worth_it: bool) -> None:
    """What is less costs less to copy than to prepare for."""
    client, server = begin(world, length)
    assert is_buffered(server) is is_worth_it
    _ = server >> b"x" * length
    assert client.take() == b"x" * length
    world.assert_at_rest()


def test_chunks_and_the_end_of_a_connection_are_not_read_there(world: World) -> None:
    """Their framing has to be read."""
    client, server = world.warm()
    client.get()
    _ = server >> b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert not is_buffered(server)
    _ = server >> b"61a80\r\n" + b"x" * 400_000 + b"\r\n0\r\n\r\n"
    client.get()
    _ = server >> b"HTTP/1.1 200 OK\r\n\r\n"
    assert not is_buffered(server)
    _ = server >> b"x" * 400_000
    server.eof()
    world.assert_at_rest()


def test_a_unix_socket_is_read_as_always(world: World) -> None:
    """It gives more at a time than there is memory."""
    client, server = world.warm()
    server.endpoint.unix_path = "/run/app.sock"
    begin_again(client, server)
    assert not is_buffered(server)
    _ = server >> pattern(1)
    assert client.take() == pattern(1)
    world.assert_at_rest()


def test_what_a_slow_client_has_not_read_is_not_written_over(world: World) -> None:
    """Its transport keeps the memory; another client's body goes elsewhere."""
    slow, slow_server = begin(world)
    fast, fast_server = begin(world)
    slow.stop_reading()
    for start in range(0, LARGE, PIECE):
        _ = slow_server >> pattern(1)[start : start + PIECE]
        _ = fast_server >> pattern(2)[start : start + PIECE]
    assert fast.take() == pattern(2)
    slow.read()
    assert slow.take() == pattern(1)
    world.assert_at_rest()


def test_memory_is_kept_only_where_a_client_is_slow(world: World) -> None:
    """All other large bodies go through the same."""
    memory = world.live.outbox.read_buffer
    pairs = [begin(world) for _ in range(3)]
    for seed, (_, server) in enumerate(pairs):
        _ = server >> pattern(seed)
    assert world.live.outbox.read_buffer is memory
    client, server = pairs[-1]
    begin_again(client, server)
    client.stop_reading()
    _ = server >> b"x" * PIECE
    assert world.live.outbox.read_buffer is not memory


def test_a_slow_client_pauses_its_upstream(world: World) -> None:
    """Above the high mark nothing more is read, and so nothing more is kept."""
    client, server = begin(world)
    client.stop_reading()
    for _ in range(12):
        _ = server >> b"x" * PIECE
    assert server.is_paused
    assert client.transport.unsent < 128 * 1024 + PIECE + 1
    client.read()
    assert not server.is_paused
    world.assert_at_rest()


def test_what_waits_is_written_first(world: World) -> None:
    """The head waits for the end of the turn; a piece of the body that comes in the same turn is behind it."""
    client, server = world.warm()
    client.get()
    server.transport.arrive(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\nfirst" % LARGE)
    server.transport.arrive(b"second" * 9000)
    world.loop.run()
    assert client.take().endswith(b"\r\n\r\nfirst" + b"second" * 9000)


def test_small_pieces_of_a_turn_are_one_write(world: World) -> None:
    """As of any body: what is small is copied, and waits for the end of the turn."""
    client, server = begin(world)
    before = len(client.transport.writes)
    for _ in range(3):
        server.transport.arrive(b"x" * 1000)
    world.loop.run()
    assert len(client.transport.writes) == before + 1
    assert client.take() == b"x" * 3000


def test_octets_behind_the_body_close_the_connection(world: World) -> None:
    """They answer nothing; the client gets its response and none of them."""
    client, server = begin(world)
    _ = server >> b"x" * (LARGE - 10)
    _ = server >> b"y" * 10 + b"HTTP/1.1 200 OK\r\n"
    assert client.take() == b"x" * (LARGE - 10) + b"y" * 10
    assert not server.is_open
    world.assert_at_rest()


def test_a_connection_that_says_close_is_closed(world: World) -> None:
    """As without."""
    client, server = begin(world, LARGE, b"Connection: close")
    _ = server >> b"x" * LARGE
    assert client.take() == b"x" * LARGE
    assert not server.is_open
    world.assert_at_rest()


@pytest.mark.parametrize("end", [Server.eof, Server.reset])
def test_a_body_that_is_cut_cuts_the_client(world: World, end: Callable[[Server], None]) -> None:
    """It must not take what it has for the whole."""
    client, server = begin(world)
    _ = server >> b"x" * PIECE
    end(server)
    assert world.recorded[-1].reason is errors.RESPONSE_CUT
    assert client.transport.ended == "abort"
    world.assert_at_rest()


def test_a_client_that_leaves_ends_the_upstream_side(world: World) -> None:
    """The rest of the body has nowhere to go."""
    client, server = begin(world)
    _ = server >> b"x" * PIECE
    client.reset()
    assert world.recorded[-1].reason is errors.CLIENT_LEFT
    assert server.transport.ended == "abort"
    world.assert_at_rest()


def test_an_upload_goes_on_while_its_answer_is_read_there(world: World) -> None:
    """An early answer: what comes of it while the upload is written is read by both ways, in order."""
    client, server = world.warm()
    _ = client >> b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 200000\r\n\r\n"
    _ = server >> b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE
    assert is_buffered(server)
    client.take()
    for start in range(0, LARGE, 2 * PIECE):
        if start < 200_000:
            _ = client >> b"u" * PIECE * 2
        server.transport.arrive(pattern(3)[start : start + 2 * PIECE])
        world.loop.run()
    assert client.take() == pattern(3)
    assert server.take().endswith(b"u" * 200_000)


ACTS = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from(("piece", "stop", "read", "some")), st.integers(1, 300_000))
)


@settings(deadline=None)
@given(acts=ACTS)
def test_whoever_is_slow_and_whenever_each_gets_its_own(acts: list[tuple[int, str, int]]) -> None:
    """Three downloads at once, in pieces of any size, by clients that stop and go on at any time."""
    with World() as world:
        pairs = [begin(world) for _ in range(3)]
        sent = [0, 0, 0]

        def send(which: int, size: int) -> None:
            _ = pairs[which][1] >> pattern(which)[sent[which] : sent[which] + size]
            sent[which] = min(sent[which] + size, LARGE)

        for which, act, size in acts:
            client = pairs[which][0]
            if act == "piece" and sent[which] < LARGE:
                send(which, size)
            elif act == "stop":
                client.stop_reading()
            elif act == "read":
                client.read()
            else:
                client.read(size)
        for which, (client, _) in enumerate(pairs):
            if sent[which] < LARGE:
                send(which, LARGE)
            client.read()
        for which, (client, server) in enumerate(pairs):
            assert client.take() == pattern(which)
            assert not is_buffered(server)
        world.assert_at_rest()
