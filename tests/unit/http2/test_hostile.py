"""
What a peer may make of HTTP/2 that costs it less than us (RFC 9113, 10.5): each is bounded, and ends with
ENHANCE_YOUR_CALM where it is too much of what may be.
"""

from __future__ import annotations

import tracemalloc

import pytest

from sidecar.http2 import bounds, frames
from sidecar.http2.codes import PREFACE, Code, Flag, FrameType, Setting
from tests.support.http2 import (
    GET,
    OK,
    POST,
    SETTINGS,
    Talk,
    block,
    content,
    continuation,
    encode_integer,
    frame,
    headers,
    of_kind,
    reset,
    window,
)

pytestmark = pytest.mark.interpreted_only("streams that only note what they hear inherit from a compiled class")

RESETS = 50


def calmed(talk: Talk) -> str:
    """The connection has ended for too much of something: of what."""
    assert talk.error is not None
    assert talk.error.code == Code.ENHANCE_YOUR_CALM, talk.error
    (goodbye,) = of_kind(talk.read(), FrameType.GOAWAY)
    assert goodbye.code == Code.ENHANCE_YOUR_CALM
    return talk.error.detail


def numbers(count: int, start: int = 1) -> range:
    """So many streams."""
    return range(start, start + 2 * count, 2)


# --- streams that are opened and given up ----------------------------------------------------------------------------


def test_rapid_reset_is_bounded_by_a_rate() -> None:
    """CVE-2023-44487: so many at once, and so many a second; who keeps to that goes on for ever."""
    talk = Talk(max_resets=RESETS)
    number = 1
    for _ in range(10):
        talk.say(*[headers(one) + reset(one) for one in numbers(RESETS, number)])
        number += 2 * RESETS
        talk.now += 1
    assert talk.error is None
    talk.say(*[headers(one) + reset(one) for one in numbers(RESETS + 1, number)])
    talk.say(*[headers(one) + reset(one) for one in numbers(RESETS, number + 2 * RESETS + 2)])
    assert "given up" in calmed(talk)


def test_requests_that_are_reset_at_once_are_never_begun() -> None:
    """When both came together, nobody is asked."""
    talk = Talk().say(headers(1) + reset(1) + headers(3))
    assert [(one.what, one.stream_id) for one in talk.take()] == [("withdrawn", 1), ("head", 3)]


INDUCED = {
    "a WINDOW_UPDATE of 0": headers(1, POST, ends=False) + window(1, 0),
    "a window that is too large": headers(1, POST, ends=False) + window(1, 0x7FFFFFFF),
    "DATA behind the end": headers(1) + content(1, b"x"),
    "HEADERS behind the end": headers(1) + headers(1),
    "a PRIORITY of a wrong length": headers(1, POST, ends=False) + frame(FrameType.PRIORITY, 0, 1, b"1234"),
    "a PRIORITY on itself": headers(1) + frame(FrameType.PRIORITY, 0, 1, b"\0\0\0\1\0"),
    "HEADERS on itself": frame(FrameType.HEADERS, 0x25, 1, b"\0\0\0\1\x10" + block(GET)),
    "trailers that are not the end": headers(1, POST, ends=False) + headers(1, [(b"x", b"1")], ends=False),
    "malformed trailers": headers(1, POST, ends=False) + headers(1, [(b":x", b"1")]),
    "more than the window": headers(1, POST, ends=False) + content(1, bytes(1025)),
}  # fmt: skip


def renumbered(data: bytes, number: int) -> bytes:
    """The same of another stream: every frame of it is of stream 1, and so is the priority."""
    tag = number.to_bytes(4, "big")
    out, at = b"", 0
    while at < len(data):
        end = at + 9 + int.from_bytes(data[at : at + 3], "big")
        payload = data[at + 9 : end]
        out += data[at : at + 5] + tag + (tag + payload[4:] if payload[:4] == b"\0\0\0\1" else payload)
        at = end
    return out


@pytest.mark.parametrize("name", INDUCED)
def test_resets_that_the_peer_makes_us_do_count_as_its_own(name: str) -> None:
    """CVE-2025-8671, "MadeYouReset": whatever the rule, each broken one is taken from the same budget."""
    talk = Talk(max_resets=RESETS, window_bytes=1024)
    talk.say(*[renumbered(INDUCED[name], number) for number in numbers(RESETS)])
    assert talk.error is None
    assert len(of_kind(talk.read(), FrameType.RST_STREAM)) == RESETS
    talk.say(*[renumbered(INDUCED[name], number) for number in numbers(RESETS + 1, 2 * RESETS + 1)])
    assert "rule is broken" in calmed(talk)


def test_messages_that_are_broken_off_count_the_same() -> None:
    """Malformed heads and lengths that lie are found by who reads the message."""
    talk = Talk(max_resets=RESETS)
    for number in numbers(RESETS + 1):
        talk.say(headers(number, POST, ends=False))
        talk.session.break_off(talk.session.streams[number], Code.PROTOCOL_ERROR)
    assert talk.error is None
    talk.say(headers(1001))
    assert "malformed" in calmed(talk)


def test_streams_beyond_the_most_are_refused_and_then_too_many() -> None:
    """5.1.2: REFUSED_STREAM; who goes on all the same is no client that has misunderstood."""
    talk = Talk(max_streams=5, max_resets=RESETS)
    talk.say(*[headers(number, POST, ends=False) for number in numbers(5)])
    for number in numbers(RESETS, 11):
        talk.say(headers(number))
    assert len(of_kind(talk.read(), FrameType.RST_STREAM)) == RESETS
    assert len(talk.session.streams) == 5
    talk.say(headers(1001))
    assert "beyond" in calmed(talk)


def test_what_is_remembered_of_streams_that_were_reset_is_bounded() -> None:
    """Frames of a client for the oldest of very many are a fault of its connection."""
    talk = Talk()
    for number in numbers(bounds.MAX_REMEMBERED + 1):
        talk.say(headers(number, POST, ends=False))
        talk.session.reset(talk.session.streams[number], Code.NO_ERROR)
    talk.say(content(3, b"x", ends=True))
    assert talk.error is None
    talk.say(content(1, b"x", ends=True))
    assert talk.error is not None
    assert talk.error.code == Code.STREAM_CLOSED


def test_a_server_that_answers_what_very_many_have_given_up_is_heard_on() -> None:
    """Clients that give up within the time that a reset takes must not end the connection that others share."""
    talk = Talk(is_server=False, max_resets=10)
    last = talk.open()
    talk.send(last, GET)
    given_up = [talk.open() for _ in range(2 * bounds.MAX_REMEMBERED)]
    for stream in given_up:
        talk.send(stream, GET)
        talk.session.reset(stream, Code.CANCEL)
    talk.say(*[headers(stream.id, OK, ends=False) + content(stream.id, ends=True) for stream in given_up])
    talk.say(headers(1, OK))
    assert talk.error is None
    assert [(one.what, one.stream_id) for one in talk.take()] == [("head", 1)]
    talk.say(headers(last.id + 2 * len(given_up) + 2, OK))
    assert talk.error is not None, "one that was never opened"


IGNORED = {
    "DATA of a stream that we have reset": content(1),
    "HEADERS of a stream that we have reset": headers(1, [(b"x", b"1")]),
}  # fmt: skip


@pytest.mark.parametrize("name", IGNORED)
def test_frames_that_are_ignored_tire(name: str) -> None:
    """They may be on their way, but not for ever; and they are no more in one turn than what somebody hears of."""
    talk = Talk().say(headers(1, POST, ends=False))
    talk.session.reset(talk.session.streams[1], Code.NO_ERROR)
    talk.say(IGNORED[name] * bounds.PATIENCE)
    assert talk.error is None
    assert talk.turns == bounds.PATIENCE // bounds.MAX_TOLD_AT_ONCE
    talk.read()
    talk.say(IGNORED[name] * 10)
    assert "carry nothing" in calmed(talk)


def test_content_of_a_stream_that_we_have_reset_is_let_pass() -> None:
    """As much as the windows hold may be on its way, in frames however small."""
    talk = Talk().say(headers(1, POST, ends=False))
    talk.session.reset(talk.session.streams[1], Code.NO_ERROR)
    talk.say(content(1, b"x") * 10_000)
    assert talk.error is None
    assert talk.turns >= 10_000 // (bounds.MAX_TOLD_AT_ONCE + 1)


@pytest.mark.parametrize("is_server", [False, True])
def test_one_frame_has_so_many_settings(is_server: bool) -> None:
    """CVE-2020-11080: each may be a change of the windows of all streams, and a frame has room for 2,730."""
    talk = Talk(is_server=is_server)
    talk.say(frames.settings([(Setting.INITIAL_WINDOW_SIZE, size) for size in range(bounds.MAX_SETTINGS)]))
    assert talk.error is None
    talk.read()
    talk.say(frames.settings([(Setting.INITIAL_WINDOW_SIZE, size) for size in range(bounds.MAX_SETTINGS + 1)]))
    assert "settings in a frame" in calmed(talk)


def test_one_turn_begins_no_more_than_its_share() -> None:
    """`MAX_AT_ONCE`: what else came in the same octets is taken in further turns, and all of it."""
    talk = Talk(max_streams=1000).say(*[headers(number) for number in numbers(100)])
    assert len(talk.take()) == 100
    assert talk.turns == 100 // bounds.MAX_AT_ONCE


def test_one_turn_tells_no_more_than_its_share_of_content() -> None:
    """A read of tiny DATA frames is thousands of calls; the loop's others have their turn between them."""
    talk = Talk(window_bytes=1 << 20).say(headers(1, POST, ends=False))
    talk.take()
    talk.say(content(1, b"x") * 10_000)
    heard = talk.take()
    assert b"".join(one.payload for one in heard) == b"x" * 10_000
    assert talk.turns >= 10_000 // (bounds.MAX_TOLD_AT_ONCE + 1)


# --- frames that carry nothing ---------------------------------------------------------------------------------------

EMPTY = {
    "PING": frames.ping(b"12345678", is_ack=False),
    "PING with ACK": frames.ping(b"12345678", is_ack=True),
    "SETTINGS": SETTINGS,
    "SETTINGS with ACK": frames.SETTINGS_ACK,
    "a table that comes and goes": frames.settings(
        [(Setting.HEADER_TABLE_SIZE, 0), (Setting.HEADER_TABLE_SIZE, 4096)]
    ),
    "windows that come and go": frames.settings([(Setting.INITIAL_WINDOW_SIZE, 0), (Setting.INITIAL_WINDOW_SIZE, 9)]),
    "PRIORITY": frame(FrameType.PRIORITY, 0, 7, b"\0\0\0\0\0"),
    "WINDOW_UPDATE": window(0, 1),
    "WINDOW_UPDATE of a stream": window(1, 1),
    "WINDOW_UPDATE of a closed stream": window(3, 1),
    "RST_STREAM of a closed stream": reset(3),
    "GOAWAY": frames.goaway(0, Code.NO_ERROR),
    "DATA without content": content(1),
    "DATA that is padding": frame(FrameType.DATA, Flag.PADDED, 1, b"\x03abc"),
    "an unknown frame": frame(0x42, 0, 0),
    "an unknown frame with much in it": frame(0x42, 0, 0, bytes(1000)),
}  # fmt: skip


@pytest.mark.parametrize("name", EMPTY)
def test_frames_that_carry_nothing_tire(name: str) -> None:
    """`PATIENCE` at once, and a tenth of it a second."""
    talk = Talk(window_bytes=1 << 20).say(headers(1, POST, ends=False), headers(3), reset(3))
    left = talk.session._patience.left
    talk.say(EMPTY[name] * left)
    assert talk.error is None, name
    talk.now += 10
    talk.say(EMPTY[name] * (bounds.PATIENCE // 10 * 10))
    assert talk.error is None, name
    talk.read()
    talk.say(EMPTY[name] * 2)
    assert "carry nothing" in calmed(talk)


@pytest.mark.parametrize("by_settings", [False, True])
def test_a_window_that_is_opened_an_octet_at_a_time_tires(by_settings: bool) -> None:
    """CVE-2019-9511: what is sent for it earns nothing, unless it is the last of what waited."""
    talk = Talk()
    talk.say(frames.settings([(Setting.INITIAL_WINDOW_SIZE, 0)]), headers(1))
    talk.send(talk.session.streams[1], OK, bytes(60_000))
    for size in range(1, bounds.MOST_PATIENCE + 2):
        talk.say(frames.settings([(Setting.INITIAL_WINDOW_SIZE, size)]) if by_settings else window(1, 1))
        if talk.error is not None:
            break
    assert "too many frames that carry nothing" in calmed(talk)


def test_a_window_that_is_opened_by_much_earns() -> None:
    """A download through a small window takes many updates."""
    talk = Talk()
    talk.say(frames.settings([(Setting.INITIAL_WINDOW_SIZE, 0)]), headers(1), window(0, 1 << 30))
    talk.send(talk.session.streams[1], OK, bytes(3 * bounds.MOST_PATIENCE * bounds.LEAST_THAT_EARNS))
    for _ in range(3 * bounds.MOST_PATIENCE):
        talk.say(window(1, bounds.LEAST_THAT_EARNS))
    assert talk.error is None
    assert not talk.session.streams


def test_streams_and_content_earn_patience() -> None:
    """Who transfers much needs windows, pings and some settings: for years, if it is so long."""
    talk = Talk(max_streams=10)
    number = 1
    for _ in range(3000):
        talk.say(
            headers(number, POST, ends=False), content(number, b"x", ends=True), window(0, 1), EMPTY["PING"],
            EMPTY["WINDOW_UPDATE of a stream"][:5] + number.to_bytes(4, "big") + b"\0\0\0\1",
        )  # fmt: skip
        talk.send(talk.session.streams[number], OK)
        number += 2
    assert talk.error is None
    assert talk.session._patience.left <= bounds.MOST_PATIENCE


def test_a_server_that_says_a_little_beside_each_answer_is_never_too_much() -> None:
    """Some reset what they have answered, some measure the time; the connection is that of many clients."""
    talk = Talk(is_server=False)
    for _ in range(3000):
        stream = talk.open()
        talk.send(stream, GET)
        talk.say(headers(stream.id, OK), reset(stream.id, Code.NO_ERROR), EMPTY["PING"], window(0, 1))
    assert talk.error is None
    assert talk.session._patience.left <= bounds.MOST_PATIENCE


# --- field blocks ----------------------------------------------------------------------------------------------------


def test_a_block_may_continue_so_often() -> None:
    """CVE-2024-27316: neither empty CONTINUATION frames nor full ones go on for ever."""
    begun = frame(FrameType.HEADERS, Flag.END_STREAM, 1, block(GET))
    talk = Talk().say(begun, continuation(1) * (bounds.MAX_CONTINUATIONS - 1), continuation(1, ends=True))
    assert [one.what for one in talk.take()] == ["head"]
    talk = Talk().say(begun, continuation(1) * bounds.MAX_CONTINUATIONS)
    assert talk.error is None
    talk.say(continuation(1))
    assert "CONTINUATION" in calmed(talk)


def test_an_encoded_block_is_read_up_to_twice_what_its_fields_may_be() -> None:
    """Behind that it ends at the octet at which it is too long, whether its end has come or not."""
    talk = Talk(max_header_bytes=4096).say(
        frame(FrameType.HEADERS, Flag.END_STREAM, 1, bytes(8000)), continuation(1, bytes(193))
    )
    assert "field block" in calmed(talk)
    talk = Talk(max_header_bytes=4096).say(frame(FrameType.HEADERS, Flag.END_STREAM, 1, bytes(8193)))
    assert "field block" in calmed(talk)


def test_a_block_that_is_somewhat_too_long_costs_its_own_message_alone() -> None:
    """The connection may be a proxy's, with others' requests on it: the table stays in step, and they go on."""
    large = block([*GET, (b"cookie", b"c" * 4096)])
    talk = Talk(max_header_bytes=4096).say(
        frame(FrameType.HEADERS, Flag.END_STREAM, 1, large[:100]), continuation(1, large[100:], ends=True), headers(3)
    )
    assert talk.error is None
    assert [(one.what, one.stream_id) for one in talk.take()] == [("too large", 1), ("head", 3)]


def test_limits_of_heads_change_for_those_that_come_then_and_the_peer_is_told() -> None:
    """A connection to a server outlives reloads."""
    talk = Talk(max_header_bytes=1000, max_headers=6)
    large = [*GET, (b"x", b"y" * 1000)]
    talk.say(headers(1, large))
    talk.session.limit_heads(2000, 6)
    told = of_kind(talk.read(), FrameType.SETTINGS)
    assert [one.payload for one in told] == [b"\0\6" + (2000).to_bytes(4, "big")]
    talk.say(headers(3, large))
    talk.session.limit_heads(2000, 4)
    assert not talk.read(), "of a number of fields no setting speaks"
    talk.say(headers(5, large), headers(7, GET))
    assert [(one.what, one.stream_id) for one in talk.take()] == [
        ("too large", 1), ("head", 3), ("too large", 5), ("head", 7),
    ]  # fmt: skip


def test_a_bomb_is_not_made() -> None:
    """CVE-2016-6581: a field as large as the table, named by an octet thousands of times."""
    bomb = b"\x40" + encode_integer(4, 0, 7) + b"bomb" + encode_integer(4000, 0, 7) + bytes([0x41]) * 4000
    data = frame(FrameType.HEADERS, 5, 1, bomb + b"\xbe" * 12_000)
    talk = Talk()
    tracemalloc.start()
    try:
        talk.say(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000, "48 MB if it were made"
    assert [one.what for one in talk.take()] == ["too large"]
    assert talk.say(headers(3)).error is None, "the table is in step"


def test_a_section_that_is_too_large_is_told_and_the_next_is_read() -> None:
    """10.5.1: by its octets and by its fields, exactly; trailers that are cost their stream."""
    fits = [*GET, (b"x", b"y" * (1000 - sum(len(name) + len(value) + 32 for name, value in GET) - 33))]
    talk = Talk(max_header_bytes=1000, max_headers=6)
    talk.say(headers(1, fits), headers(3, [*fits[:-1], (b"x", fits[-1][1] + b"y")]))
    talk.say(headers(5, [*GET, (b"x", b""), (b"x", b"")]), headers(7, [*GET, *[(b"x", b"")] * 3]))
    assert [(one.what, one.stream_id) for one in talk.take()] == [
        ("head", 1), ("too large", 3), ("head", 5), ("too large", 7),
    ]  # fmt: skip
    talk.say(headers(9, POST, ends=False), headers(9, [(b"x", b"")] * 7))
    assert [one.code for one in talk.take() if one.what == "fault"] == [Code.ENHANCE_YOUR_CALM]


def test_a_table_is_as_large_as_we_said_whatever_is_sent() -> None:
    """SETTINGS_HEADER_TABLE_SIZE is 4096 unless said otherwise, and we say nothing."""
    talk = Talk()
    for number in numbers(200):
        name, value = encode_integer(6, 0, 7) + b"x-%04d" % number, encode_integer(500, 0, 7) + b"v" * 500
        literal = b"\x40" + name + value
        talk.say(frame(FrameType.HEADERS, 5, number, block(GET) + literal))
        talk.take()
    assert talk.error is None
    assert talk.session._decoder._size <= 4096


def test_a_table_that_the_peer_resizes_stays_within_its_bounds() -> None:
    """2^32-1 octets are offered for ours: we take what we have a use for."""
    talk = Talk().say(frames.settings([(Setting.HEADER_TABLE_SIZE, 0xFFFFFFFF)]))
    for number in numbers(2000):
        talk.say(headers(number))
        talk.send(talk.session.streams[number], [*OK, (b"x-%d" % number, b"v" * 100)])
    assert talk.session._encoder._size < 64 * 1024


# --- what is begun and not ended -------------------------------------------------------------------------------------

UNFINISHED = {
    "half a frame's head": headers(1)[:5],
    "half of HEADERS": headers(1)[:-1],
    "HEADERS without their end": frame(FrameType.HEADERS, Flag.END_STREAM, 1, block(GET)),
    "half of a PING": frames.ping(b"12345678", is_ack=False)[:12],
    "half of padded DATA": headers(1, POST, ends=False) + frame(FrameType.DATA, Flag.PADDED, 1, b"\0" + bytes(9))[:12],
}  # fmt: skip


@pytest.mark.parametrize("name", UNFINISHED)
def test_what_is_begun_has_a_beginning_that_trickling_does_not_move(name: str) -> None:
    """So that who has the clock can end it."""
    talk = Talk()
    assert talk.session.unfinished_since == 0
    talk.now = 200.0
    data = UNFINISHED[name]
    talk.say(data[:-3])
    for at in range(len(data) - 3, len(data)):
        talk.now += 1
        talk.say(data[at : at + 1])
    assert talk.session.unfinished_since in (200.0, 203.0)
    assert (talk.session.unfinished_since == 203.0) == (name == "HEADERS without their end")


def test_continuations_that_trickle_belong_to_one_beginning() -> None:
    """And the head that is whole ends it, whatever comes then is begun anew."""
    talk = Talk()
    begun = block(GET)
    talk.say(frame(FrameType.HEADERS, Flag.END_STREAM, 1, begun[:1]))
    for at in range(1, 10):
        talk.now += 1
        talk.say(continuation(1, begun[at : at + 1]))
    assert talk.session.unfinished_since == 100.0
    talk.say(continuation(1, begun[10:], ends=True) + headers(3)[:4])
    assert talk.session.unfinished_since == 109.0
    talk.now += 1
    talk.say(headers(3)[4:], headers(5)[:4])
    assert talk.session.unfinished_since == 110.0
    talk.say(headers(5)[4:])
    assert talk.session.unfinished_since == 0


def test_content_that_is_under_way_is_not_unfinished() -> None:
    """It is its stream that waits for it, within its own time."""
    talk = Talk().say(headers(1, POST, ends=False), content(1, bytes(100))[:50])
    assert talk.session.unfinished_since == 0
    assert talk.take()[-1].payload


def test_a_preface_that_trickles_is_the_owners_to_end() -> None:
    """It has said no settings."""
    talk = Talk(greets=False).say_by_byte(PREFACE)
    assert not talk.session.has_settings
