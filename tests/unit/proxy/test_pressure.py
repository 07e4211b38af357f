"""Conversations that do not go in step: slow peers, early responses, half-closed clients."""

from __future__ import annotations

import pytest

from sidecar import errors
from sidecar.net.flow import HIGH_BYTES
from tests.support.fakes import World

GET = b"GET / HTTP/1.1\r\nHost: web\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class TestBackPressure:
    """Bodies stream with pause and resume between the two transports."""

    def test_slow_client_pauses_the_upstream(self, world: World) -> None:
        """Above the high mark the upstream is not read; below the low mark it is again."""
        client, server = world.warm()
        client.get()
        client.stop_reading()
        _ = server >> b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1000
        assert not server.is_paused
        _ = server >> b"x" * 300_000
        assert server.is_paused
        held = client.transport.unsent
        _ = server >> b"x" * 698_000
        assert client.transport.unsent == held
        client.read(1000)
        assert server.is_paused
        client.read()
        assert not server.is_paused
        _ = server >> b"x" * 1000
        assert len(client.received.partition(b"\r\n\r\n")[2].partition(b"\r\n\r\n")[2]) == 1_000_000
        world.assert_at_rest()

    def test_slow_upstream_pauses_the_client(self, world: World) -> None:
        """The same for a request body."""
        client, server = world.warm()
        server.stop_reading()
        _ = client >> b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 1000000\r\n\r\n"
        _ = client >> b"x" * 1_000_000
        assert client.is_paused
        assert server.transport.unsent < HIGH_BYTES + 300_000
        server.read()
        assert not client.is_paused
        assert server.received.endswith(b"x" * 1_000_000)
        _ = server >> OK
        assert client.responses(b"GET", b"POST")[-1].body == b"ok"
        world.assert_at_rest()

    def test_client_is_paused_while_the_connection_is_made(self, world: World) -> None:
        """What is held for a connection to come is bounded."""
        client = world.client()
        _ = client >> b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 1000000\r\n\r\n"
        _ = client >> b"x" * 1_000_000
        assert client.is_paused
        server = world.accept()
        assert not client.is_paused
        assert server.received.endswith(b"x" * 1_000_000)

    def test_connection_that_comes_but_does_not_read_keeps_the_client_paused(self, world: World) -> None:
        """Sending what was held may fill the new connection at once: then nothing more is read."""
        client = world.client()
        client.transport.arrive(b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 10000000\r\n\r\n")
        client.transport.arrive(b"x" * 10_000_000)
        server = world.accept(is_slow=True)
        assert client.is_paused
        assert server.transport.unsent < HIGH_BYTES + 600_000
        server.read()
        assert not client.is_paused
        assert server.received.endswith(b"x" * 10_000_000)

    def test_connection_with_unread_request_bytes_is_not_given_to_the_next_request(self, world: World) -> None:
        """An upstream that answers without reading the body cannot make us hold the next one's too."""
        client, server = world.warm()
        server.stop_reading()
        _ = client >> b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 200000\r\n\r\n" + b"x" * 200_000
        assert server.transport.is_writing_paused
        _ = server >> OK
        assert client.responses(b"GET", b"POST")[-1].body == b"ok"
        assert not server.is_open
        client.get()
        assert world.dials.count == 2
        _ = world.accept() >> OK
        world.assert_at_rest()

    def test_paused_client_is_read_again_after_the_response(self, world: World) -> None:
        """Whatever paused it, a client that has caught up is never left unread."""
        client, server = world.warm()
        server.stop_reading()
        client.stop_reading()
        _ = client >> b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 200000\r\n\r\n" + b"x" * 200_000
        assert client.is_paused
        _ = server >> b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + b"y" * 200_000
        client.read()
        assert not client.is_paused
        client.get()
        _ = world.accept() >> OK
        assert client.responses(b"GET", b"POST", b"GET")[-1].body == b"ok"

    def test_client_that_does_not_read_answers_is_not_read(self, world: World) -> None:
        """Pipelined requests that the proxy answers itself stop when the client does not take the answers."""
        client = world.client()
        client.stop_reading()
        request = b"GET / HTTP/1.1\r\nHost: nobody\r\n\r\n"
        for _ in range(100):
            _ = client >> request * 100
        assert client.is_paused
        assert client.transport.unsent < HIGH_BYTES + 10_000
        client.read()
        assert not client.is_paused
        assert len(world.recorded) == 10_000
        world.assert_at_rest()


class TestEarlyResponses:
    """RFC 9112, 9.6: the response may be complete before the request is."""

    def test_small_rest_of_the_request_is_swallowed(self, world: World) -> None:
        """The connection goes on behind it; the upstream's does not, for it was promised the rest."""
        client, server = world.warm()
        _ = client >> b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 100\r\n\r\n" + b"x" * 10
        _ = server >> OK
        _ = client << OK
        assert not server.is_open
        _ = client >> b"x" * 89
        _ = client >> b"x" + GET
        server = world.accept()
        _ = server << GET
        _ = server >> OK
        _ = client << OK
        world.assert_at_rest()

    def test_answer_that_a_write_overtook_is_read_when_the_connection_is_lost(self, world: World) -> None:
        """The server answered and reset; a write met the reset before the answer was read: the kernel still has it."""
        client, server = world.warm()
        _ = client >> b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 10
        server.transport.unread(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 9\r\n\r\ntoo large")
        server.transport.lose(ConnectionResetError(104, "reset"))
        answer = client.responses(b"GET", b"POST")[-1]
        assert (answer.status, answer.body) == (413, b"too large")
        client.eof()
        world.assert_at_rest()

    def test_large_rest_of_the_request_closes_politely(self, world: World) -> None:
        """The response says close, our side half-closes, and the connection goes when the client does."""
        client, server = world.warm()
        _ = client >> b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 10
        _ = server >> OK
        _ = client << b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nconnection: close\r\n\r\nok"
        assert client.transport.is_eof_written
        assert not client.transport.is_closing()
        _ = client >> b"x" * 100_000
        client.eof()
        assert client.transport.is_lost
        world.assert_at_rest()

    def test_lingering_ends_by_itself(self, world: World) -> None:
        """A client that neither closes nor stops sending is cut after a while."""
        client, server = world.warm()
        _ = client >> b"POST / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n"
        _ = server >> OK
        for _ in range(4):
            world.advance(0.9)
            _ = client >> b"1\r\nx\r\n"
        assert not client.is_open
        world.assert_at_rest()

    def test_lingering_lets_a_slow_client_take_the_response(self, world: World) -> None:
        """What was promised is delivered, though the client needs longer than the linger."""
        client, server = world.warm()
        client.stop_reading()
        _ = client >> b"POST / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n"
        _ = server >> b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"y" * 100_000
        for _ in range(8):
            world.advance(1.0)
            client.read(10_000)
        assert client.transport.ended != "abort"
        client.read()
        client.eof()
        world.assert_at_rest()

    def test_response_may_stream_while_the_request_does(self, world: World) -> None:
        """Both directions at once, as an echo does."""
        client, server = world.warm()
        _ = client >> b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 4\r\n\r\na"
        server.take()
        _ = server >> b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\na"
        for octet in (b"b", b"c", b"d"):
            _ = client >> octet
            _ = server << octet
            _ = server >> octet
        _ = client << b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcd"
        assert client.is_open
        assert server.is_open
        world.assert_at_rest()


class TestHalfClose:
    """RFC 9112, 9.6: a client that sends no more may still read."""

    def test_complete_request_is_answered(self, world: World) -> None:
        """Then the connection closes."""
        client, server = world.warm()
        client.get()
        client.eof()
        assert client.is_open
        _ = server >> OK
        assert client.take().endswith(b"\r\n\r\nok")
        assert not client.is_open
        world.advance(0.3)
        world.assert_at_rest()

    def test_all_complete_pipelined_requests_are_answered(self, world: World) -> None:
        """`printf 'GET..GET..' | nc` gets both answers."""
        client, server = world.warm()
        _ = client >> GET + GET
        client.eof()
        _ = server >> b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1"
        _ = server >> b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n2"
        assert [response.body for response in client.responses()] == [b"", b"1", b"2"]
        assert not client.is_open
        world.advance(0.3)
        world.assert_at_rest()

    @pytest.mark.parametrize("rest", [b"GET / HT", b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 5\r\n\r\nab"])
    def test_incomplete_last_request_is_dropped(self, world: World, rest: bytes) -> None:
        """What can never become complete holds nothing."""
        client, server = world.warm()
        _ = client >> GET + rest
        client.eof()
        _ = server >> OK
        assert [response.body for response in client.responses()] == [b"", b"ok"]
        assert not client.is_open
        assert b"POST" not in server.received
        world.assert_at_rest()

    def test_idle_connection_closes(self, world: World) -> None:
        """Nothing is owed."""
        client, _ = world.warm()
        client.eof()
        assert not client.is_open
        world.assert_at_rest()

    def test_half_closed_in_the_middle_of_a_body_is_a_client_that_left(self, world: World) -> None:
        """The request can never be complete; the upstream must not take what there is for the whole."""
        client, server = world.warm()
        _ = client >> b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 5\r\n\r\nab"
        client.eof()
        assert not client.is_open
        assert server.transport.ended == "abort"
        assert world.recorded[-1].reason is not None
        assert world.recorded[-1].reason.name == "client_left"
        world.assert_at_rest()


class TestSlowReaders:
    """A response that is written is not yet delivered."""

    def test_client_that_never_reads_its_last_response_does_not_hold_its_connection(self, world: World) -> None:
        """Closing waits for the client to read, but not for ever, and the connection stays counted meanwhile."""
        client = world.client()
        client.stop_reading()
        client.get(b"/", b"web", b"Connection: close")
        server = world.accept()
        _ = server >> b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000
        assert not client.transport.is_lost
        assert not world.recorded
        world.advance(world.plan.limits.idle_timeout_s + 1)
        assert client.transport.is_lost
        assert world.outcome() == (200, "client_stalled")
        world.assert_at_rest()

    def test_client_that_reads_its_last_response_slowly_gets_all_of_it(self, world: World) -> None:
        """The close comes behind the last byte."""
        client = world.client()
        client.stop_reading()
        client.get(b"/", b"web", b"Connection: close")
        server = world.accept()
        _ = server >> b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000
        world.advance(world.plan.limits.idle_timeout_s / 2)
        assert not world.recorded
        client.read()
        assert not client.is_open
        assert world.outcome() == (200, "")
        client.eof()
        assert client.transport.is_lost
        world.assert_at_rest()

    def test_upstream_that_ends_the_exchange_without_reading_does_not_hold_its_connection(self, world: World) -> None:
        """What it did not read of the request is of no use any more."""
        client, server = world.warm()
        server.stop_reading()
        _ = client >> b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 50000\r\n\r\n" + b"x" * 50_000
        _ = server >> b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        assert server.transport.is_lost
        world.assert_at_rest()


class TestHeadsInPieces:
    """What a client may do with our patience."""

    def test_trickled_empty_lines_do_not_put_the_head_timeout_off(self, world: World) -> None:
        """A connection on which no request ever becomes complete ends in time."""
        client = world.client()
        _ = client >> b"\r"
        for _ in range(4):
            world.advance(4)
            _ = client >> b"\n\r"
        assert not client.is_open
        world.assert_at_rest()

    def test_trickled_head_does_not_put_the_head_timeout_off(self, world: World) -> None:
        """An octet now and then is not progress."""
        client = world.client()
        for octet in b"GET":
            _ = client >> bytes([octet])
            world.advance(4)
        assert world.outcome() == (408, "head_timeout")

    def test_twenty_requests_ahead_and_a_later_read_are_parted_right(self, world: World) -> None:
        """Whole requests that wait for their slice are not taken for the beginning of one."""
        client = world.client()
        request = b"GET / HTTP/1.1\r\nHost: nobody\r\n\r\n"
        client.transport.arrive(request * 20)
        client.transport.arrive(request * 20)
        world.loop.run()
        assert [response.status for response in client.responses()] == [404] * 40


class TestLoopLag:
    """The sidecar itself is overloaded."""

    def test_new_requests_are_refused_while_the_loop_is_late_and_accepted_ones_finish(self, world: World) -> None:
        """503 `UO` with `Retry-After` at once; the response that was under way arrives whole."""
        client, server = world.warm()
        client.get()
        late = world.client()
        world.timers.lag_s = 1.5
        late.get()
        assert late.responses()[-1].status == 503
        assert b"retry-after: 1" in late.received
        assert world.telemetry.recorded[-1].reason is errors.OVERLOADED
        _ = server >> OK
        assert client.responses()[-1].status == 200
        world.timers.lag_s = 0.9
        late.get()
        _ = server >> OK
        assert late.responses()[-1].status == 200
        world.assert_at_rest()

    def test_new_connections_are_refused_while_the_loop_is_late(self, world: World) -> None:
        """They are told so and closed."""
        world.timers.lag_s = 1.5
        client = world.client()
        assert client.responses()[-1].status == 503
        client.leave()
        world.assert_at_rest()
