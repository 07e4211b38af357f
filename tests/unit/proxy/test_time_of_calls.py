"""`grpc-timeout`: the time of a call runs from its beginning, and servers are told what is left of it."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from sidecar import errors, grpc
from sidecar.proxy.exchange.policies import Fault, Mirror
from sidecar.upstream.retry import RetryPolicy
from tests.support.fakes import Client, Server, World
from tests.unit.proxy.retrying import TWO

Make = Callable[..., World]
RETRIED = RetryPolicy(2, frozenset(("timeout",)), backoff_base_s=0, backoff_max_s=0, per_try_timeout_s=1.0)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\nGrpc-Status: 0\r\n\r\n"


def call(timeout: bytes, *, is_whole: bool = True, kind: bytes = b"application/grpc") -> bytes:
    """A call that says so."""
    framing = b"Content-Length: 5\r\n\r\n\0\0\0\0\0" if is_whole else b"Transfer-Encoding: chunked\r\n\r\n"
    return (
        b"POST /shop.Quotes/Get HTTP/1.1\r\nHost: web\r\nContent-Type: %b\r\ngrpc-timeout: %b\r\n%b"
        % (kind, timeout, framing)
    )  # fmt: skip


def told_s(server: Server) -> float:
    """Seconds that a server is given."""
    found = re.findall(rb"\r\ngrpc-timeout: ([^\r]*)\r\n", server.take_raw())
    assert len(found) == 1
    seconds = grpc.parse_timeout(found[0])
    assert seconds is not None
    return seconds


def status_of(client: Client) -> str:
    """How the last call of a client ended."""
    return grpc.NAMES[int(client.responses(b"POST")[-1].headers[b"grpc-status"])]


class TestHonoured:
    """Whoever it was that was waited for."""

    def test_a_call_ends_when_its_time_is_up(self, world: World) -> None:
        """DEADLINE_EXCEEDED, as by the route's timeout."""
        client = world.client()
        _ = client >> call(b"2S")
        server = world.accept()
        world.advance(1.9)
        assert not client.received
        world.advance(0.3)
        assert status_of(client) == "DEADLINE_EXCEEDED"
        assert (world.recorded[0].reason, world.recorded[0].detail) == (errors.RESPONSE_TIMEOUT, "grpc-timeout")
        assert not server.is_open
        world.assert_at_rest()

    @pytest.mark.parametrize(("timeout", "detail"), [(b"1S", "grpc-timeout"), (b"3S", "the route's timeout")])
    def test_the_smaller_of_the_call_s_and_the_route_s_counts(
        self, make_world: Make, timeout: bytes, detail: str
    ) -> None:
        """Both end it in the same way."""
        world = make_world(timeout_s=2.0)
        client = world.client()
        _ = client >> call(timeout)
        world.accept()
        world.advance(2.2)
        assert status_of(client) == "DEADLINE_EXCEEDED"
        assert world.recorded[0].detail == detail

    def test_it_runs_while_the_client_speaks(self, make_world: Make) -> None:
        """The route's time does not, and begins with the last of the request; the call's has begun with the first."""
        world = make_world(timeout_s=2.0)
        client = world.client()
        _ = client >> call(b"4S", is_whole=False)
        server = world.accept()
        assert told_s(server) == 4
        for _ in range(3):
            world.advance(1.0)
            _ = client >> b"1\r\nx\r\n"
        assert world.telemetry.recorded == []
        _ = client >> b"0\r\n\r\n"
        world.advance(1.2)
        assert status_of(client) == "DEADLINE_EXCEEDED"
        assert world.recorded[0].detail == "grpc-timeout"

    def test_a_stream_that_moves_ends_then_too(self, world: World) -> None:
        """Its response has begun, so it is cut; what is recorded is the same."""
        client = world.client()
        _ = client >> call(b"2S")
        server = world.accept()
        _ = server >> HEAD
        for _ in range(3):
            world.advance(0.75)
            _ = server >> b"1\r\nx\r\n"
        assert not client.is_open
        assert not client.responses(b"POST")[-1].is_complete
        assert world.recorded[0].reason is errors.RESPONSE_TIMEOUT
        assert grpc.NAMES[world.recorded[0].grpc_status] == "DEADLINE_EXCEEDED"

    def test_a_client_that_does_not_read_is_no_exception(self, world: World) -> None:
        """Unlike by the route's timeout, of which the server has done its part."""
        client = world.client()
        client.stop_reading()
        _ = client >> call(b"2S")
        _ = world.accept() >> HEAD + b"40000\r\n" + bytes(0x40000)
        world.advance(2.2)
        assert world.recorded[0].detail == "grpc-timeout"

    def test_no_time_is_left_from_the_beginning(self, world: World) -> None:
        """Nobody is asked."""
        client = world.client()
        _ = client >> call(b"0m")
        assert not world.dialed
        assert status_of(client) == "DEADLINE_EXCEEDED"
        world.assert_at_rest()

    def test_what_was_answered_in_time_may_be_followed_by_anything(self, world: World) -> None:
        """The next request of the connection has no time but its own."""
        client = world.client()
        _ = client >> call(b"1S")
        server = world.accept()
        _ = server >> HEAD + END
        client.get()
        world.advance(5.0)
        assert len(world.recorded) == 1
        _ = server >> HEAD + END
        assert world.outcome_of_last() == (200, "")

    @pytest.mark.parametrize(
        ("timeout", "kind"),
        [(b"1", b"application/grpc"), (b"1s", b"application/grpc"), (b"-1S", b"application/grpc"),
         (b"123456789n", b"application/grpc"), (b"1S", b"application/json")],
    )  # fmt: skip
    def test_what_says_no_time_of_a_call_goes_on_as_it_is(self, world: World, timeout: bytes, kind: bytes) -> None:
        """A server may judge it; here nothing ends for it."""
        client = world.client()
        _ = client >> call(timeout, kind=kind)
        server = world.accept()
        assert b"\r\ngrpc-timeout: %b\r\n" % timeout in server.take_raw()
        world.advance(5.0)
        _ = server >> HEAD + END
        assert world.outcome() == (200, "")


class TestTold:
    """What servers are given, which is never more than the client gave."""

    @pytest.mark.parametrize("timeout", [b"5S", b"100m", b"1H", b"7M", b"12345u"])
    def test_all_of_it_if_no_time_has_passed(self, world: World, timeout: bytes) -> None:
        """As it came, octet for octet: a clock that has not moved has nothing to say."""
        client = world.client()
        _ = client >> call(timeout)
        assert b"\r\ngrpc-timeout: %b\r\n" % timeout in world.accept().take_raw()

    def test_what_is_left_when_there_is_a_connection(self, world: World) -> None:
        """The connect was on the call's time."""
        client = world.client()
        _ = client >> call(b"5S")
        world.advance(1.5)
        assert told_s(world.accept()) == pytest.approx(3.5)

    def test_what_the_route_allows(self, make_world: Make) -> None:
        """If that is less."""
        world = make_world(timeout_s=2.0)
        _ = world.client() >> call(b"5S")
        assert told_s(world.accept()) == pytest.approx(2.0)

    def test_a_delay_is_on_the_call_s_time(self, make_world: Make) -> None:
        """Also one that was made on purpose."""
        world = make_world(fault=Fault(delay_percent=100, delay_s=1.0))
        _ = world.client() >> call(b"5S")
        world.advance(1.0)
        assert told_s(world.accept()) == pytest.approx(4.0)

    def test_each_attempt_is_told_its_own_rest(self, make_world: Make) -> None:
        """Of the whole: the time of an attempt is for its head only, and a response may be long."""
        world = make_world(endpoints=TWO, retry=RETRIED)
        _ = world.client() >> call(b"5S").replace(b"POST", b"GET")
        assert told_s(world.accept()) == 5.0
        world.advance(1.1)
        assert 3.8 <= told_s(world.accept()) <= 4.0

    def test_a_copy_is_told_how_long_it_is_waited_for(self, make_world: Make) -> None:
        """The mirror's own time."""
        world = make_world(timeout_s=2.0, mirror=lambda shadow: Mirror(shadow, 100.0, 65536))
        _ = world.client() >> call(b"5S")
        given = [told_s(world.accept()) for _ in range(2)]
        assert given == [pytest.approx(2.0), pytest.approx(2.0)]

    def test_whoever_was_told_nothing_is_told_nothing(self, make_world: Make) -> None:
        """A route's timeout makes no field."""
        world = make_world(timeout_s=2.0)
        _ = world.client() >> call(b"5S").replace(b"grpc-timeout: 5S\r\n", b"")
        assert b"grpc-timeout" not in world.accept().take_raw()
