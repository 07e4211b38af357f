"""A connection of HTTP/2 to a server, played by the test: its age, its end, and what its server makes of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from math import inf
from typing import cast

import pytest

from sidecar.errors import Reason
from sidecar.http2 import frames
from sidecar.http2.codes import MAX_STREAM_ID, PREFACE, Code, FrameType, Setting
from sidecar.http2.hpack.decoder import Decoder
from sidecar.message import NO_TRAILERS, Field, RequestHead, ResponseHead, Version
from sidecar.net.address import parse_address
from sidecar.net.flow import Outbox
from sidecar.net.timers import Timers
from sidecar.proxy.exchange.request import UpstreamRequest
from sidecar.proxy.server.attempt_stream import AttemptStream
from sidecar.proxy.server.http2 import Http2ServerConnection
from sidecar.upstream import pool, shared
from sidecar.upstream.cluster import Cluster, ClusterSpec
from sidecar.upstream.endpoint import Endpoint
from tests.support.fakes import LIMITS, FakeLoop, FakeTransport
from tests.support.http2 import OK, SETTINGS, Frame, content, headers, of_kind, parse_all, window

PING_S = 20.0


class Sink:
    """Notes what comes of an attempt."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.payload = b""

    def on_informational(self, head: ResponseHead) -> None:
        self.said.append(str(head.status))

    def on_response(self, head: ResponseHead, payload: bytes, is_end: bool, trailers: list[Field]) -> None:
        self.said.append(f"{head.status}{' whole' if is_end else ''}")
        self.payload += payload

    def on_payload(self, payload: bytes, is_end: bool, trailers: list[Field]) -> None:
        self.payload += payload
        if is_end:
            self.said.append("end")

    def splice_response(self, first: bytes, source: asyncio.Transport, limit: int) -> int:
        raise NotImplementedError

    def on_switched(self, head: ResponseHead | None, rest: bytes) -> None:
        self.said.append("switched")

    def on_upstream_lost(self, reason: Reason, detail: str, is_untouched: bool) -> None:
        self.said.append(reason.name)

    def on_upstream_blocked(self) -> None:
        self.said.append("blocked")

    def on_upstream_writable(self) -> None:
        self.said.append("writable")

    def on_tunnel_data(self, data: bytes) -> None:
        self.payload += data

    def on_tunnel_eof(self) -> bool:
        self.said.append("eof")
        return True

    def on_tunnel_lost(self, detail: str) -> None:
        self.said.append("lost")


class Place:
    """One endpoint, and the connections that are made to it."""

    def __init__(self, **settings: float) -> None:
        self.loop = FakeLoop()
        asyncio._set_running_loop(self.loop)  # type: ignore[arg-type]
        self.timers = Timers(self.loop)  # type: ignore[arg-type]
        self.timers.start()
        spec = ClusterSpec(
            "web",
            (("10.0.0.1:80", 1.0),),
            protocol="http2",
            **{"ping_interval_s": PING_S} | settings,  # type: ignore[arg-type]
        )
        self.endpoint = Cluster(spec).endpoints[0]
        self.shared = shared.of(self.endpoint, lambda _: None)
        self.outbox = Outbox(self.loop)  # type: ignore[arg-type]
        self.transports: list[FakeTransport] = []

    def connect(self, said: bytes = SETTINGS) -> Http2ServerConnection:
        """A connection whose server has said what it allows."""
        self.shared.connecting += 1
        self.endpoint.connections += 1
        made = Http2ServerConnection(self.endpoint, self.timers, self.outbox, self.shared.connected, lambda *_: None)
        transport = FakeTransport(self.loop, cast("asyncio.Protocol", made), ("10.0.0.1", 80))
        self.transports.append(transport)
        made.connection_made(transport)
        self.say(said)
        return made

    def say(self, *data: bytes) -> None:
        """The server of the last connection says this."""
        self.transports[-1].arrive(b"".join(data))
        self.loop.run()

    def read(self) -> list[Frame]:
        """All that the last connection was sent."""
        self.loop.run()
        return parse_all(b"".join(self.transports[-1].writes).removeprefix(PREFACE))

    def ask(self, sink: Sink, body: bytes = b"", upgrade: bytes = b"") -> AttemptStream:
        """A request by whatever connection has room."""
        stream = cast("AttemptStream", self.shared.take(self.endpoint))
        head = RequestHead(b"GET", b"/", None, Version.HTTP11)
        head.host = b"web"
        request = UpstreamRequest(head, [], b"/", None, b"", upgrade)
        if body:
            request.begin(body, True, NO_TRAILERS)
        stream.send(sink, request, LIMITS)
        return stream

    def close(self) -> None:
        for transport in self.transports:
            transport.dispose()
        asyncio._set_running_loop(None)


@pytest.fixture
def place() -> Iterator[Place]:
    made = Place(max_age_s=100.0)
    yield made
    made.close()


class TestAge:
    """`max_age`, with something under way."""

    def test_what_is_under_way_goes_on_and_its_server_is_still_asked(
        self, place: Place, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A connection that is too old takes no other request, and a server that is gone is missed all the same."""
        connection = place.connect()
        sink = Sink()
        place.ask(sink)
        for _ in range(10):
            place.loop.advance(10.0)
            place.say(frames.ping(b"12345678", is_ack=False))
        assert place.shared.take(place.endpoint) is None
        assert "timer_failed" not in caplog.text
        assert sink.said == []
        place.loop.advance(2 * PING_S + 10.0)
        assert sink.said == ["upstream_reset"], connection

    def test_one_that_is_retired_for_another_reason_is_not_looked_at_for_its_age(self, place: Place) -> None:
        """It would be with every tick, as long as something is under way."""
        connection = place.connect()
        place.ask(Sink())
        place.say(frames.goaway(MAX_STREAM_ID, Code.NO_ERROR))
        for _ in range(11):
            place.loop.advance(10.0)
            place.say(frames.ping(b"12345678", is_ack=False))
        place.loop.advance(1.0)
        assert connection.deadline > place.loop.time() + 1.0

    def test_servers_that_are_never_asked(self, caplog: pytest.LogCaptureFixture) -> None:
        """`ping_interval` of never: what is left of a connection that takes no further request has no deadline."""
        place = Place(max_age_s=100.0, ping_interval_s=inf)
        place.connect()
        sink = Sink()
        place.ask(sink)
        place.say(frames.goaway(MAX_STREAM_ID, Code.NO_ERROR))
        place.loop.advance(110.0)
        assert "timer_failed" not in caplog.text
        place.say(headers(1, OK))
        assert sink.said == ["200 whole"]
        assert place.transports[-1].ended == "close"
        place.close()


def test_a_connection_that_becomes_idle_makes_room(place: Place) -> None:
    """A request waits elsewhere, for the circuit breaker allows no further connection; and none if nobody waits."""
    connection = place.connect()
    there = Endpoint(place.endpoint.cluster, parse_address("10.0.0.2:80"))
    place.endpoint.cluster.endpoints = (place.endpoint, there)
    for is_awaited in (False, True):
        sink = Sink()
        place.ask(sink)
        pool.contest(there)
        if is_awaited:
            there.pending.append(object())
        place.say(headers(3 if is_awaited else 1, OK))
        assert sink.said == ["200 whole"]
        assert place.transports[-1].ended == ("close" if is_awaited else "")
    assert connection.load == 0


class TestGoodbyes:
    """GOAWAY, again and again."""

    def test_a_server_that_complains_is_logged_once(self, place: Place, caplog: pytest.LogCaptureFixture) -> None:
        """Also if it has said in order before that it would end."""
        caplog.set_level(logging.INFO)
        place.connect()
        place.ask(Sink())
        place.say(frames.goaway(MAX_STREAM_ID, Code.NO_ERROR), frames.goaway(1, Code.ENHANCE_YOUR_CALM, b"hi") * 50)
        assert [record.getMessage() for record in caplog.records] == [
            "upstream_goaway endpoint=10.0.0.1:80 code=ENHANCE_YOUR_CALM detail='hi'"
        ]


class TestTunnels:
    """Extended CONNECT (RFC 8441), and what is said last when both have ended."""

    def test_an_upgrade_that_has_content_is_an_ordinary_request(self, place: Place) -> None:
        """Behind CONNECT the content would be the other protocol's, or be lost."""
        place.connect(frames.settings([(Setting.ENABLE_CONNECT_PROTOCOL, 1)]))
        place.ask(Sink(), b"hello", upgrade=b"websocket")
        found = place.read()
        assert [(one.payload, one.ends) for one in of_kind(found, FrameType.DATA)] == [(b"hello", True)]
        (asked,) = of_kind(found, FrameType.HEADERS)
        fields = Decoder().decode(asked.payload, 4096, 100)
        assert [field.value for field in fields if field.name in (b":method", b":protocol")] == [b"GET"]

    def test_a_tunnel_whose_last_words_wait_gives_its_place_back_when_they_have_left(self, place: Place) -> None:
        """By whichever side it ends first."""
        connection = place.connect(frames.settings([(Setting.ENABLE_CONNECT_PROTOCOL, 1)]))
        for number in (1, 3):
            sink = Sink()
            stream = place.ask(sink, upgrade=b"websocket")
            place.say(headers(number, OK, ends=False))
            stream.open_tunnel(sink)
            stream.send_tunnel(b"x" * 70_000)
            if number == 1:
                stream.end_tunnel()
            place.say(content(number, b"bye", ends=True))
            assert sink.said == ["switched", "eof"]
            stream.finish()
            assert connection.load == 1
            place.say(window(0, 70_000), window(number, 70_000))
            assert connection.load == 0
            sent = of_kind(place.read(), FrameType.DATA, number)
            assert (sum(len(one.payload) for one in sent), sent[-1].ends) == (70_000, True)

    def test_last_words_that_a_server_does_not_take_are_given_up(self, place: Place) -> None:
        """Or each tunnel could cost a place for ever; another that has the same stream by then is none of that."""
        connection = place.connect(frames.settings([(Setting.ENABLE_CONNECT_PROTOCOL, 1)]))
        for number in (1, 3):
            stream = place.ask(Sink(), upgrade=b"websocket")
            place.say(headers(number, OK, ends=False))
            stream.open_tunnel(Sink())
            stream.send_tunnel(b"x" * 70_000)
            place.say(content(number, b"bye", ends=True))
            stream.finish()
            if number == 1:
                place.say(window(0, 140_000), window(1, 70_000))
        for _ in range(29):
            place.loop.advance(1.0)
            place.say(frames.ping(b"12345678", is_ack=False))
        assert connection.load == 1
        place.loop.advance(2.0)
        assert connection.load == 0
        assert [one.stream_id for one in of_kind(place.read(), FrameType.RST_STREAM)] == [3]
