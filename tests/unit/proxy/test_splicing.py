"""Large bodies go past the process: whole, in order, counted, and nobody's to anybody else."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar import errors
from sidecar.net.splicing_reader import SplicingReader
from sidecar.proxy.exchange.policies import Mirror
from sidecar.upstream.retry import RetryPolicy
from tests.support.fakes import Client, Server, World

LARGE = 600_000
PIECE = 50_000
SPLICED_BYTES = 128 * 1024


@pytest.fixture(params=[True, False], ids=["spliced", "read"])
def world(make_world: Callable[..., World], request: pytest.FixtureRequest) -> World:
    """Where the kernel can do it, and where it cannot: nobody may see a difference."""
    return make_world(splices=request.param)


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


def is_spliced(peer: Client | Server) -> bool:
    return isinstance(peer.transport.protocol, SplicingReader)


def can_splice(world: World) -> bool:
    return world.live.outbox.splicer is not None


@cache
def pattern(seed: int, size: int = LARGE) -> bytes:
    """Octets of which no part is like another's."""
    return b"".join(b"%d:%d;" % (seed, number) for number in range(size // 6))[:size].ljust(size, b".")


def test_a_large_body_arrives_and_the_connection_goes_on(world: World) -> None:
    """Whole, and twice; in between and afterwards the connection reads as always."""
    client, server = world.warm()
    for seed in (1, 2):
        begin_again(client, server)
        assert is_spliced(server) is can_splice(world)
        _ = server >> pattern(seed)
        assert client.take() == pattern(seed)
        assert not is_spliced(server)
    client.get()
    _ = server >> b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
    assert client.responses()[-1].body == b"hello"
    world.assert_at_rest()
    assert [exchange.bytes_sent for exchange in world.recorded[-3:]] == [LARGE, LARGE, 5]


@pytest.mark.parametrize(("length", "is_large"), [(SPLICED_BYTES - 1, False), (SPLICED_BYTES, True)])
def test_a_body_from_128_kib_on_is_large(make_world: Callable[..., World], length: int, is_large: bool) -> None:
    """What is less costs less to copy than to prepare for."""
    world = make_world()
    client, server = begin(world, length)
    assert is_spliced(server) is is_large
    _ = server >> b"x" * length
    assert client.take() == b"x" * length
    world.assert_at_rest()


def test_only_the_beginning_of_what_has_come_is_read(make_world: Callable[..., World]) -> None:
    """The rest goes by, in the order of its arrival, and is counted."""
    world = make_world()
    client, server = begin(world)
    _ = server >> pattern(1)
    assert client.take() == pattern(1)
    assert sum(world.splicer.sizes) >= LARGE - 3 * 4096
    assert max(world.splicer.sizes) <= 256 * 1024
    assert world.recorded[-1].bytes_sent == LARGE


def test_what_the_kernel_turned_out_not_to_do_is_not_tried_again(make_world: Callable[..., World]) -> None:
    """Bodies from then on are read as small ones are."""
    world = make_world()
    world.splicer.is_supported = False
    client, server = begin(world)
    assert not is_spliced(server)
    _ = server >> pattern(1)
    assert client.take() == pattern(1)
    assert world.splicer.sizes == []


def test_what_comes_in_small_pieces_is_read(make_world: Callable[..., World]) -> None:
    """Three more system calls for each would cost more than the copies."""
    world = make_world()
    client, server = begin(world)
    before = len(client.transport.writes)
    for start in range(0, LARGE, 20_000):
        _ = server >> pattern(1)[start : start + 20_000]
    assert client.take() == pattern(1)
    assert len(world.splicer.sizes) == 1
    assert len(client.transport.writes) == before + LARGE // 20_000


def test_a_source_that_fails_has_cut_the_response(make_world: Callable[..., World]) -> None:
    """The kernel says so once, to whoever asks first."""
    world = make_world()
    client, server = begin(world)
    world.splicer.error = ConnectionResetError(104, "Connection reset by peer")
    _ = server >> b"x" * PIECE
    assert world.recorded[-1].reason is errors.RESPONSE_CUT
    assert "reset" in world.recorded[-1].detail
    assert client.transport.ended == "abort"
    world.loop.run()
    world.assert_at_rest()


def test_chunks_and_the_end_of_a_connection_are_not_read_there(world: World) -> None:
    """Their framing has to be read."""
    client, server = world.warm()
    client.get()
    _ = server >> b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert not is_spliced(server)
    _ = server >> b"61a80\r\n" + b"x" * 400_000 + b"\r\n0\r\n\r\n"
    client.get()
    _ = server >> b"HTTP/1.1 200 OK\r\n\r\n"
    assert not is_spliced(server)
    _ = server >> b"x" * 400_000
    server.eof()
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
    assert is_spliced(server) is can_splice(world)
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
@given(acts=ACTS, splices=st.booleans())
def test_whoever_is_slow_and_whenever_each_gets_its_own(acts: list[tuple[int, str, int]], splices: bool) -> None:
    """Three downloads at once, in pieces of any size, by clients that stop and go on at any time."""
    with World(splices=splices) as world:
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
            assert not is_spliced(server)
        world.assert_at_rest()


class TestUploads:
    """The other direction, where nobody keeps the body."""

    @staticmethod
    def begin(world: World, length: int = LARGE, *lines: bytes) -> tuple[Client, Server]:
        """A client that sends the head and the first piece of a large request."""
        client, server = world.warm()
        TestUploads.begin_again(client, length, *lines)
        return client, server

    @staticmethod
    def begin_again(client: Client, length: int = LARGE, *lines: bytes) -> None:
        """One more."""
        head = (b"PUT /large HTTP/1.1", b"Host: web", b"Content-Length: %d" % length, *lines, b"", b"")
        _ = client >> b"\r\n".join(head) + pattern(1, length)[:PIECE]

    @staticmethod
    def finish(client: Client, length: int = LARGE) -> None:
        """The rest of it."""
        _ = client >> pattern(1, length)[PIECE:]

    def test_a_large_body_arrives_and_the_connection_goes_on(self, world: World) -> None:
        """Whole, and twice; in between and afterwards the connection reads as always."""
        client, server = world.warm()
        for _ in (1, 2):
            self.begin_again(client)
            assert is_spliced(client) is can_splice(world)
            self.finish(client)
            assert not is_spliced(client)
            assert server.take().endswith(b"\r\n\r\n" + pattern(1))
            _ = server >> b"HTTP/1.1 204 No Content\r\n\r\n"
            assert client.take().startswith(b"HTTP/1.1 204 ")
        client.get()
        _ = server >> b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
        assert client.take().endswith(b"hello")
        world.assert_at_rest()
        assert [exchange.bytes_received for exchange in world.recorded[-3:]] == [LARGE, LARGE, 0]
        assert bool(world.splicer.sizes) is can_splice(world)

    def test_a_body_that_a_retry_may_need_is_read(self, make_world: Callable[..., World]) -> None:
        """Until more of it went by than is kept."""
        world = make_world(retry=RetryPolicy(attempts=1, max_body_bytes=LARGE - 1))
        client, server = self.begin(world)
        assert not is_spliced(client)
        self.finish(client)
        assert server.take().endswith(pattern(1))
        assert world.splicer.sizes == []
        _ = server >> b"HTTP/1.1 204 No Content\r\n\r\n"
        world.assert_at_rest()

    def test_a_body_that_is_too_large_to_be_kept_is_not(self, make_world: Callable[..., World]) -> None:
        """From there on it goes by."""
        world = make_world(retry=RetryPolicy(attempts=1, max_body_bytes=PIECE - 1))
        client, server = self.begin(world)
        assert is_spliced(client)
        self.finish(client)
        assert server.take().endswith(pattern(1))
        assert world.splicer.sizes

    def test_a_body_that_a_mirror_copies_is_read(self, make_world: Callable[..., World]) -> None:
        """The copy is whole."""
        world = make_world(mirror=partial(Mirror, max_body_bytes=LARGE))
        client, server = self.begin(world)
        assert not is_spliced(client)
        self.finish(client)
        assert server.take().endswith(pattern(1))
        assert world.accept("10.9.9.9:80").take().startswith(b"GET ")  # of the request that warmed the pair
        assert world.accept("10.9.9.9:80").take().endswith(pattern(1))

    def test_a_body_that_is_too_large_for_the_mirror_goes_by(self, make_world: Callable[..., World]) -> None:
        """The copy is not made, and counted as such."""
        world = make_world(mirror=partial(Mirror, max_body_bytes=PIECE - 1))
        client, server = self.begin(world)
        assert is_spliced(client)
        self.finish(client)
        assert server.take().endswith(pattern(1))
        assert world.shadow.stats.mirror_skipped_body_too_large == 1

    def test_a_request_behind_it_is_the_next(self, world: World) -> None:
        """Sent ahead, it comes in the same read."""
        client, server = self.begin(world)
        _ = client >> pattern(1)[PIECE:] + b"GET /next HTTP/1.1\r\nHost: web\r\n\r\n"
        assert server.take().endswith(pattern(1))
        _ = server >> b"HTTP/1.1 204 No Content\r\n\r\n"
        assert server.take().startswith(b"GET /next ")
        _ = server >> b"HTTP/1.1 204 No Content\r\n\r\n"
        world.assert_at_rest()

    def test_an_early_answer_reaches_the_client(self, world: World) -> None:
        """What the upstream had to say before it closed is read before more is written."""
        client, server = self.begin(world)
        _ = server >> b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        self.finish(client)
        assert client.take().startswith(b"HTTP/1.1 413 ")
        world.loop.run()
        assert world.recorded[-1].status == 413

    def test_a_slow_upstream_pauses_its_client(self, world: World) -> None:
        """Above the high mark nothing more is read, and so nothing more is kept."""
        client, server = self.begin(world)
        server.stop_reading()
        for start in range(PIECE, LARGE, PIECE):
            _ = client >> pattern(1)[start : start + PIECE]
        assert client.is_paused
        assert server.transport.unsent < 128 * 1024 + PIECE + 1
        server.read()
        assert not client.is_paused
        assert server.take().endswith(pattern(1))

    @pytest.mark.parametrize("is_kernel_first", [False, True])
    def test_a_client_that_leaves_ends_the_upstream_side(
        self, make_world: Callable[..., World], is_kernel_first: bool
    ) -> None:
        """By the transport's word or by the kernel's."""
        world = make_world()
        client, server = self.begin(world)
        if is_kernel_first:
            world.splicer.error = ConnectionResetError(104, "Connection reset by peer")
            self.finish(client)
        else:
            client.reset()
        assert world.recorded[-1].reason is errors.CLIENT_LEFT
        assert "reset" in world.recorded[-1].detail
        assert server.transport.ended == "abort"
        world.loop.run()
        world.assert_at_rest()
