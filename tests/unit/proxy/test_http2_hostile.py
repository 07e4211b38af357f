"""
Clients of HTTP/2 that mean harm, against the connection with a held clock: each is ended in time and within bounds,
told why, recorded once; and what others ask is answered as if nothing had been.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from sidecar.http2 import bounds, frames
from sidecar.http2.codes import MAX_STREAM_ID, Code, Flag, FrameType, Setting
from sidecar.proxy.client.http2 import Http2ClientConnection
from tests.support.fakes import LIMITS, Client, World
from tests.support.http2 import (
    GET,
    HELLO,
    POST,
    Frame,
    block,
    content,
    continuation,
    frame,
    headers,
    of_kind,
    parse,
    parse_all,
    reset,
    window,
)

LIMITS_OF_H2 = replace(LIMITS, h2_max_resets=20, h2_max_streams=10, client_idle_timeout_s=60.0)
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@pytest.fixture
def world() -> Iterator[World]:
    """Everybody, with few resets and streams."""
    with World(limits=LIMITS_OF_H2) as made:
        yield made


def greeted(world: World) -> Client:
    """A client that has begun as it should."""
    client = world.client()
    _ = client >> HELLO
    assert next(one.kind for one in parse_all(client.take_raw())) == FrameType.SETTINGS
    return client


def written(client: Client) -> list[Frame]:
    return parse_all(client.take_raw())


def assert_ended(world: World, client: Client, code: int, reason: str) -> None:
    """It was told why, its connection is closed, there is one record of it, and others are answered."""
    goodbyes = of_kind(parse(client.received)[0], FrameType.GOAWAY)
    assert [one.code for one in goodbyes] == [code]
    assert not client.is_open
    assert [one.reason.name for one in world.recorded if one.reason and one.reason.name == reason] == [reason]
    other, server = world.warm()
    assert other.responses()[0].status == 200
    other.leave()
    server.leave()
    world.advance(10.0)
    world.assert_at_rest()


# --- too much --------------------------------------------------------------------------------------------------------

EMPTY = {
    "PING": frames.ping(b"12345678", is_ack=False),
    "SETTINGS": frames.settings([]),
    "PRIORITY": frame(FrameType.PRIORITY, 0, 1, b"\0\0\0\0\0"),
    "WINDOW_UPDATE": window(0, 1),
    "an unknown frame": frame(0x42, 0, 0),
}


@pytest.mark.parametrize("name", EMPTY)
def test_floods_of_frames_that_carry_nothing(world: World, name: str) -> None:
    """ENHANCE_YOUR_CALM, and one record of it."""
    client = greeted(world)
    _ = client >> EMPTY[name] * (bounds.PATIENCE + 10)
    assert_ended(world, client, Code.ENHANCE_YOUR_CALM, "client_too_much")


def test_rapid_reset_begins_nothing_and_ends(world: World) -> None:
    """When the reset comes with the request, no server is asked."""
    client = greeted(world)
    _ = client >> b"".join(headers(number) + reset(number) for number in range(1, 101, 2))
    assert world.dialed == []
    assert_ended(world, client, Code.ENHANCE_YOUR_CALM, "client_too_much")
    assert len(world.recorded) == 20 + 1 + 1, "those that were withdrawn, the end, and another's"


def test_rapid_reset_in_turns_gives_back_what_it_took(world: World) -> None:
    """A request that was begun and given up leaves nothing."""
    client = greeted(world)
    for number in range(1, 101, 2):
        if client.is_open:
            _ = client >> headers(number)
            _ = client >> reset(number)
    while world.dialed:
        world.refuse()
    assert_ended(world, client, Code.ENHANCE_YOUR_CALM, "client_too_much")


LIES: dict[str, bytes] = {
    "no path": headers(1, GET[:2] + GET[3:]),
    "an upper-case name": headers(1, [*GET, (b"X", b"1")]),
    "a length without content": headers(1, [*POST, (b"content-length", b"1")]),
    "less than its length": headers(1, [*POST, (b"content-length", b"2")], ends=False) + content(1, b"x", ends=True),
    "more than its length": headers(1, [*POST, (b"content-length", b"2")], ends=False) + content(1, b"xyz"),
    "content behind the end": headers(1) + content(1, b"x"),
    "a window of nothing": headers(1, POST, ends=False) + window(1, 0),
}


@pytest.mark.parametrize("name", LIES)
def test_made_you_reset(world: World, name: str) -> None:
    """Each is answered by RST_STREAM, no server sees anything of it that is whole, and they are too many in the end."""
    client = greeted(world)
    one = parse_all(LIES[name])
    for number in range(1, 101, 2):
        if client.is_open:
            _ = client >> b"".join(frame(part.kind, part.flags, number, part.payload) for part in one)
    resets = of_kind(parse(client.received)[0], FrameType.RST_STREAM)
    assert 20 <= len(resets) <= 22
    while world.dialed:
        world.refuse()
    assert_ended(world, client, Code.ENHANCE_YOUR_CALM, "client_too_much")


def test_a_continuation_flood(world: World) -> None:
    """Neither many frames nor a long block."""
    client = greeted(world)
    _ = client >> frame(FrameType.HEADERS, 1, 1, block(GET)) + continuation(1, b"\0\1x\1y") * 100
    assert_ended(world, client, Code.ENHANCE_YOUR_CALM, "client_too_much")


def test_streams_beyond_the_most_are_refused(world: World) -> None:
    """And what is open is answered all the same."""
    client = greeted(world)
    _ = client >> b"".join(headers(number) for number in range(1, 23, 2))
    assert [(one.stream_id, one.code) for one in of_kind(written(client), FrameType.RST_STREAM)] == [
        (21, Code.REFUSED_STREAM)
    ]
    for server in [world.accept() for _ in range(10)]:
        _ = server >> ANSWER
    assert len(of_kind(written(client), FrameType.HEADERS)) == 10


# --- what is not read ------------------------------------------------------------------------------------------------


def test_acknowledgements_that_nobody_reads_are_bounded(world: World) -> None:
    """Patience comes back with time; what is written and not read does not become more than a MiB."""
    client = greeted(world)
    client.stop_reading()
    most = 0
    for _ in range(3000):
        if not client.is_open:
            break
        _ = client >> frames.ping(b"12345678", is_ack=False) * (bounds.PATIENCE // 10)
        world.advance(1.0)
        # An open stream, so that the connection is not idle.
        most = max(most, client.transport.unsent)
    assert not client.is_open
    assert most <= bounds.MAX_UNSENT_BYTES + 64 * 1024


def test_heads_that_nobody_reads_are_bounded() -> None:
    """No window holds a head: who asks and asks without reading is ended, and what waited is given up."""
    with World(limits=LIMITS_OF_H2) as world:
        client = greeted(world)
        client.stop_reading()
        number, most = 1, 0
        padding = b"".join(b"X-%d: %s\r\n" % (at, b"v" * 90) for at in range(50))
        server = None
        while client.is_open and number < 20_000:
            _ = client >> headers(number)
            server = server or world.accept()
            _ = server >> b"HTTP/1.1 200 OK\r\n" + padding + b"Content-Length: 0\r\n\r\n"
            most = max(most, client.transport.unsent)
            number += 2
        assert not client.is_open
        assert most <= bounds.MAX_UNSENT_BYTES + 64 * 1024
        assert client.transport.unsent == 0, "cut, not lingering"
        assert world.outcome_of_last() == (429, "client_too_much")


def test_a_window_of_zero_for_ever_ends_with_the_streams_time(world: World) -> None:
    """`limits.stream_idle_timeout`: the response is given up, its upstream freed, the connection lives."""
    client = greeted(world)
    _ = client >> frames.settings([(Setting.INITIAL_WINDOW_SIZE, 0)])
    _ = client >> headers(1)
    server = world.accept()
    _ = server >> b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + bytes(150_000)
    found = written(client)
    assert of_kind(found, FrameType.HEADERS)
    assert not of_kind(found, FrameType.DATA)
    assert server.is_paused
    for _ in range(29):
        world.advance(10.0)
        # Other windows than its own change nothing.
        _ = client >> window(0, 1)
    assert client.is_open
    world.advance(11.0)
    assert of_kind(written(client), FrameType.RST_STREAM, 1)
    assert client.is_open
    world.advance(61.0)
    assert not client.is_open
    world.assert_at_rest()


def test_a_request_that_goes_on_does_not_keep_an_answer_that_nobody_reads(world: World) -> None:
    """The answer is whole and waits for a window of zero: content that is of no use any more does not put that off."""
    client = greeted(world)
    _ = client >> frames.settings([(Setting.INITIAL_WINDOW_SIZE, 0)])
    _ = client >> headers(1, POST, ends=False)
    server = world.accept()
    _ = server >> b"HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n" + bytes(50_000)
    for _ in range(3):
        world.advance(99.0)
        _ = client >> content(1, b"x")
    assert world.recorded == []
    world.advance(4.0)
    assert [one.reason.name for one in world.recorded if one.reason] == ["client_stalled"]
    assert of_kind(written(client), FrameType.RST_STREAM, 1)


def test_a_rule_that_is_broken_when_it_is_answered_makes_no_second_record(world: World) -> None:
    """A small answer is recorded when it is written; it waits for a window, which the client opens by nothing."""
    client = greeted(world)
    _ = client >> frames.settings([(Setting.INITIAL_WINDOW_SIZE, 0)])
    _ = client >> headers(1)
    _ = world.accept() >> b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
    _ = client >> window(1, 0)
    assert of_kind(written(client), FrameType.RST_STREAM, 1)
    assert [one.status for one in world.recorded] == [200]
    _ = client >> headers(3)
    assert len(world.recorded) == 1


def test_an_answer_that_comes_because_time_is_up_has_time_to_leave() -> None:
    """A route's timeout ends the exchange, and not what the client is told of it."""
    with World(limits=LIMITS_OF_H2, timeout_s=5.0) as world:
        client = greeted(world)
        _ = client >> frames.settings([(Setting.INITIAL_WINDOW_SIZE, 0)])
        _ = client >> headers(1)
        world.accept()
        world.advance(10.0)
        assert world.outcome() == (504, "response_timeout")
        _ = client >> window(1, 10_000)
        found = written(client)
        assert [one.ends for one in of_kind(found, FrameType.DATA, 1)] == [True]
        assert of_kind(found, FrameType.RST_STREAM) == []


@pytest.mark.interpreted_only("looks at what a stream keeps")
def test_what_was_sent_ahead_of_a_tunnel_that_never_stood_is_not_kept(world: World) -> None:
    """64 KiB for each stream that waits for its next request would be much of an idle connection."""
    client = greeted(world)
    tunnel = [(b":method", b"CONNECT"), (b":protocol", b"websocket"), *GET[1:]]
    _ = client >> headers(1, tunnel, ends=False) + content(1, bytes(10_000))
    _ = world.accept() >> b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
    (connection,) = world.live.connections[1]
    assert isinstance(connection, Http2ClientConnection)
    assert [stream._ahead for stream in connection._spare] == [b""]


# --- what is not ended -----------------------------------------------------------------------------------------------

HALVES = {
    "half of HEADERS": headers(3)[:-1],
    "three octets of a frame": headers(3)[:3],
    "half of a PING": frames.ping(b"12345678", is_ack=False)[:-1],
}


@pytest.mark.parametrize("has_stream", [False, True])
@pytest.mark.parametrize("name", HALVES)
def test_what_is_begun_must_be_whole_in_time(world: World, name: str, has_stream: bool) -> None:
    """`limits.header_timeout`, however it trickles, whether another stream is open or not."""
    client = greeted(world)
    data = HALVES[name]
    if has_stream:
        _ = client >> headers(1, POST, ends=False)
    for at in range(len(data)):
        _ = client >> data[at : at + 1]
        world.advance(9.5 / len(data))
    assert client.is_open
    world.advance(1.0)
    while world.dialed:
        world.refuse()
    assert_ended(world, client, Code.ENHANCE_YOUR_CALM, "head_timeout")


def test_trickled_continuations_must_be_whole_in_time(world: World) -> None:
    """Each is a whole frame; together they are not."""
    client = greeted(world)
    _ = client >> frame(FrameType.HEADERS, Flag.END_STREAM, 1, block(GET)[:3])
    for at in range(3, 12):
        world.advance(1.1)
        _ = client >> continuation(1, block(GET)[at : at + 1])
    world.advance(0.3)
    assert_ended(world, client, Code.ENHANCE_YOUR_CALM, "head_timeout")


def test_what_is_whole_in_time_changes_nothing_of_what_is_awaited_then(world: World) -> None:
    """A head that came in two parts is answered, and the connection is idle for as long as it may be."""
    client = greeted(world)
    data = headers(1)
    _ = client >> data[:-1]
    world.advance(9.0)
    _ = client >> data[-1:]
    _ = world.accept() >> ANSWER
    world.advance(59.0)
    assert client.is_open
    _ = client >> headers(3)[:4]
    world.advance(5.0)
    assert not client.is_open, "idle since its last request, whatever it has begun"
    goodbyes = of_kind(parse(client.received)[0], FrameType.GOAWAY)
    assert [one.code for one in goodbyes] == [Code.NO_ERROR] * 2


def test_a_client_that_says_no_settings_is_ended(world: World) -> None:
    """`limits.header_timeout` from its preface on."""
    client = world.client()
    _ = client >> HELLO[:24]
    world.advance(10.2)
    assert_ended(world, client, Code.SETTINGS_TIMEOUT, "bad_frames")


def test_a_client_that_is_idle_is_told_goodbye(world: World) -> None:
    """`limits.client_idle_timeout`; what carries nothing does not put it off."""
    client = greeted(world)
    for _ in range(6):
        world.advance(9.9)
        _ = client >> frames.ping(b"12345678", is_ack=False) + frames.settings([])
    assert client.is_open
    world.advance(2.2)
    assert not client.is_open
    goodbyes = of_kind(parse(client.received)[0], FrameType.GOAWAY)
    assert [one.code for one in goodbyes] == [Code.NO_ERROR] * 2
    assert world.recorded == []


def test_what_an_idle_client_asks_as_it_is_told_goodbye_is_answered(world: World) -> None:
    """It could not know, and nobody else may repeat it: a close at that moment would reset what it had sent."""
    client = greeted(world)
    world.advance(60.2)
    assert client.is_open
    (goodbye,) = of_kind(written(client), FrameType.GOAWAY)
    assert int.from_bytes(goodbye.payload[:4], "big") == MAX_STREAM_ID
    _ = client >> headers(1, POST) + frames.ping(b"goodbye\0", is_ack=True)
    _ = world.accept() >> ANSWER
    assert [one.ends for one in of_kind(written(client), FrameType.HEADERS, 1)] == [True]
    assert not client.is_open
    assert [one.status for one in world.recorded] == [200]


def test_a_body_that_stops_ends_its_stream(world: World) -> None:
    """Half-open: the stream has its time, and the upstream is freed."""
    client = greeted(world)
    _ = client >> headers(1, POST, ends=False) + content(1, b"abc")
    server = world.accept()
    world.advance(301.0)
    assert not server.is_open
    assert [one.status for one in world.recorded] == [408]
    world.assert_at_rest()


def test_a_client_that_is_gone_leaves_nothing(world: World) -> None:
    """With streams in every state."""
    client = greeted(world)
    _ = client >> headers(1) + headers(3, POST, ends=False) + headers(5)
    server = world.accept()
    _ = server >> b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"
    client.reset()
    while world.dialed:
        world.refuse()
    assert len(world.recorded) == 3
    world.assert_at_rest()
