"""Captured connections on a clock that the test holds: what they carry, how long is waited, and that all arrives."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar import errors
from sidecar.exchange import Direction
from tests.support.fakes import World

DESTINATION = ("198.51.100.7", 7000)
LABEL = "198.51.100.7:7000"
BINARY = b"\x00\x01\x02"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def labels(world: World) -> set[str]:
    lines = world.telemetry.exposition().decode().splitlines()
    return {line for line in lines if line.startswith("sidecar_detected_connections_total{")}


class TestFirstOctets:
    """A client that speaks first is never waited for longer than it takes to know."""

    @given(
        data=st.binary(min_size=1, max_size=60), cuts=st.lists(st.integers(0, 60)), connected_after=st.integers(0, 8)
    )
    def test_every_octet_arrives_in_order_however_it_was_split(
        self, data: bytes, cuts: list[int], connected_after: int
    ) -> None:
        """Those that came before it was known, before there was a server, and after."""
        with World(captures=True) as world:
            client, server = world.client(DESTINATION), None
            edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
            for number, (begin, end) in enumerate(itertools.pairwise(edges)):
                _ = client >> BINARY + data[begin:end] if begin == 0 else client >> data[begin:end]
                if number == connected_after and world.dialed:
                    server = world.accept(LABEL)
            server = server or world.accept(LABEL)
            client.eof()
            assert server.received == BINARY + data
            assert server.transport.is_eof_written
            _ = server >> b"answer"
            server.eof()
            assert client.received == b"answer"
            (exchange,) = world.recorded
            assert (exchange.protocol, exchange.reason) == ("tcp", None)
            assert (exchange.bytes_received, exchange.bytes_sent) == (len(data) + 3, 6)

    def test_request_is_one_wherever_it_is_split(self) -> None:
        """And goes where its name leads, not where it was meant to go."""
        request = b"GET / HTTP/1.1\r\nHost: web\r\n\r\n"
        for cut in range(1, len(request)):
            with World(captures=True) as world:
                client = world.client(DESTINATION)
                _ = client >> request[:cut]
                _ = client >> request[cut:]
                server = world.accept("10.0.0.1:80")
                _ = server >> b"HTTP/1.1 204 No Content\r\n\r\n"
                assert client.responses()[0].status == 204

    @pytest.mark.parametrize(("data", "protocol"), [(PREFACE, "http2"), (BINARY, "tcp"), (b"\x16\x00", "tcp")])
    def test_what_it_is_is_told(self, data: bytes, protocol: str) -> None:
        """At once, and counted; what is HTTP goes nowhere before there is a request."""
        with World(captures=True) as world:
            _ = world.client(DESTINATION) >> data
            assert world.dialed == ([] if protocol == "http2" else [LABEL])
            assert labels(world) == {
                f'sidecar_detected_connections_total{{direction="outbound",protocol="{protocol}",waited="false"}} 1'
            }

    def test_beginning_of_a_request_is_waited_for_as_one(self) -> None:
        """A method and a space are one; a word alone, after the wait, is not."""
        for data, is_http in ((b"GET ", True), (b"GET", False)):
            with World(captures=True) as world:
                client = world.client(DESTINATION)
                _ = client >> data
                assert world.dialed == []
                world.advance(1.5)
                assert world.dialed == ([] if is_http else [LABEL])
                assert client.is_open

    def test_line_without_an_end_is_decided_by_its_beginning(self) -> None:
        """What is held of it is bounded."""
        with World(captures=True) as world:
            _ = world.client(DESTINATION) >> b"word /" + b"a" * 9000
            assert world.dialed == []  # a request whose target is too long
            assert world.recorded[0].reason is errors.TARGET_TOO_LONG


class TestSilence:
    """A client that says nothing."""

    def test_server_that_speaks_first_is_waited_for_once(self) -> None:
        """At the same address and port; elsewhere the wait is another."""
        with World(captures=True) as world:
            client = world.client(DESTINATION)
            world.advance(0.5)
            assert world.dialed == []
            world.advance(1.0)
            server = world.accept(LABEL)
            _ = server >> b"220 ready"
            assert client.received == b"220 ready"
            world.client(DESTINATION)
            assert world.dialed == [LABEL]
            world.client(("198.51.100.7", 7001))
            assert world.dialed == [LABEL]

    def test_client_of_http_that_spoke_late_is_still_one(self) -> None:
        """The server that was dialled for it is left, and nobody takes it for one that speaks first."""
        with World(captures=True) as world:
            client = world.client(DESTINATION)
            world.advance(1.5)
            left = world.accept(LABEL)
            client.get()
            assert not left.is_open
            server = world.accept("10.0.0.1:80")
            _ = server >> b"HTTP/1.1 204 No Content\r\n\r\n"
            assert client.responses()[0].status == 204
            world.client(DESTINATION)
            assert world.dialed == []

    def test_other_client_that_spoke_late_is_carried_on(self) -> None:
        """From its first octet."""
        with World(captures=True) as world:
            client = world.client(DESTINATION)
            world.advance(1.5)
            _ = client >> BINARY
            assert world.accept(LABEL).received == BINARY

    def test_silence_is_not_refused_where_a_request_may_come(self) -> None:
        """What could go nowhere as a connection may still be a request; it has a client's time for that."""
        with World(captures=True, is_denied=True) as world:
            client = world.client(DESTINATION)
            world.advance(30.0)
            assert client.is_open
            client.get()
            assert world.dialed == ["10.0.0.1:80"]
            other = world.client(DESTINATION)
            world.advance(400.0)
            assert not other.is_open

    def test_client_that_ends_without_a_word_has_nobody_dialled(self) -> None:
        """It wanted to know whether somebody listens."""
        with World(captures=True) as world:
            client = world.client(DESTINATION)
            client.eof()
            assert not client.is_open
            assert world.dialed == []
            assert world.recorded == []


class TestLimits:
    """Nobody holds more than is bounded."""

    def test_client_is_paused_while_its_server_is_dialled(self) -> None:
        """Behind 64 KiB, and read on when there is a server."""
        with World(captures=True) as world:
            client = world.client(DESTINATION)
            for _ in range(5):
                _ = client >> BINARY * 8192
            assert client.is_paused
            server = world.accept(LABEL)
            assert not client.is_paused
            assert server.received == BINARY * 8192 * 5

    def test_each_side_waits_for_the_other(self) -> None:
        """A reader that is slow is not read for."""
        with World(captures=True) as world:
            client = world.client(DESTINATION)
            _ = client >> BINARY
            server = world.accept(LABEL)
            server.stop_reading()
            _ = client >> bytes(1 << 20)
            assert client.is_paused
            server.read()
            assert not client.is_paused
            client.stop_reading()
            _ = server >> bytes(1 << 20)
            assert server.is_paused
            client.read()
            assert not server.is_paused

    def test_nothing_that_moves_for_long_ends_it(self) -> None:
        """By the limit of tunnels."""
        with World(captures=True) as world:
            client = world.client(DESTINATION)
            _ = client >> BINARY
            server = world.accept(LABEL)
            world.advance(200.0)
            _ = server >> b"x"
            world.advance(200.0)
            assert client.is_open
            world.advance(200.0)
            assert not client.is_open
            assert not server.is_open
            assert len(world.recorded) == 1


class TestEnds:
    """Whoever ends, both sides and the record do."""

    def test_failure_to_connect_is_told_and_the_client_reset(self) -> None:
        """There is nothing else that it would understand."""
        with World(captures=True) as world:
            client = world.client(DESTINATION)
            _ = client >> BINARY
            world.refuse()
            assert client.transport.ended == "abort"
            (exchange,) = world.recorded
            assert (exchange.reason, exchange.protocol) == (errors.CONNECT_FAILED, "tcp")

    def test_client_that_leaves_while_its_server_is_dialled_is_told(self) -> None:
        """And the connection that comes is closed."""
        with World(captures=True) as world:
            client = world.client(DESTINATION)
            _ = client >> BINARY
            client.leave()
            assert not world.accept(LABEL).is_open
            assert world.recorded[0].reason is errors.CLIENT_LEFT

    def test_end_of_the_process_ends_it_and_a_drain_does_not(self) -> None:
        """As other tunnels."""
        with World(captures=True) as world:
            client = world.client(DESTINATION)
            _ = client >> BINARY
            server = world.accept(LABEL)
            (connection,) = world.live.connections[Direction.OUTBOUND]
            connection.announce_close()
            connection.drain()
            world.loop.run()
            assert client.is_open
            connection.abort()
            world.loop.run()
            assert not client.is_open
            assert not server.is_open
            assert len(world.recorded) == 1
            assert world.live.connections[Direction.OUTBOUND] == set()

    def test_drain_ends_who_has_said_nothing_yet(self) -> None:
        """Nothing is lost by that."""
        with World(captures=True) as world:
            client = world.client(DESTINATION)
            (connection,) = world.live.connections[Direction.OUTBOUND]
            connection.drain()
            world.loop.run()
            assert not client.is_open
            assert world.live.connections[Direction.OUTBOUND] == set()
