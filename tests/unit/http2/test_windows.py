"""Flow control both ways (RFC 9113, 5.2 and 6.9), and what is written when of several streams."""

from __future__ import annotations

import pytest

from sidecar.http2 import frames
from sidecar.http2.codes import DEFAULT_MAX_FRAME, DEFAULT_WINDOW, MAX_OUR_FRAME, Code, Flag, FrameType, Setting
from sidecar.http2.streams import HIGH_BYTES, LOW_BYTES
from tests.support.http2 import (
    GET,
    OK,
    POST,
    NotingStream,
    Talk,
    content,
    frame,
    headers,
    of_kind,
    reset,
    window,
)

pytestmark = pytest.mark.interpreted_only("streams that only note what they hear inherit from a compiled class")

WINDOW = 65536


def initial_window(size: int) -> bytes:
    return frames.settings([(Setting.INITIAL_WINDOW_SIZE, size)])


def asked(talk: Talk, stream_id: int = 1) -> NotingStream:
    """A request that is to be answered."""
    talk.say(headers(stream_id))
    talk.take()
    stream = talk.session.streams[stream_id]
    assert isinstance(stream, NotingStream)
    return stream


def sent(talk: Talk) -> list[tuple[int, int, bool]]:
    """DATA frames: stream, octets, END_STREAM."""
    return [(one.stream_id, len(one.payload), one.ends) for one in of_kind(talk.read(), FrameType.DATA)]


# --- what the peer may send ------------------------------------------------------------------------------------------


def test_what_we_say_is_what_we_grant() -> None:
    """SETTINGS_INITIAL_WINDOW_SIZE for streams, a WINDOW_UPDATE for the connection, which begins with 65,535."""
    talk = Talk(window_bytes=WINDOW, greets=False)
    settings, update = talk.read()
    assert (Setting.INITIAL_WINDOW_SIZE, WINDOW) in frames.read_settings(settings.payload)
    assert update.stream_id == 0
    assert DEFAULT_WINDOW + int.from_bytes(update.payload, "big") == talk.session.receive_window >= 4 * WINDOW


@pytest.mark.parametrize("is_padded", [False, True])
def test_a_streams_window_is_exact(is_padded: bool) -> None:
    """All of it may be used while nobody takes what comes; an octet more is FLOW_CONTROL_ERROR of the stream."""
    talk = Talk(window_bytes=WINDOW).say(headers(1, POST, ends=False))
    talk.session.hold(talk.session.streams[1])
    talk.read()
    if is_padded:
        # "The entire DATA frame payload is included in flow control" (6.1).
        data = frame(FrameType.DATA, Flag.PADDED, 1, b"\xff" + bytes(WINDOW // 4 - 1)) * 4
    else:
        data = content(1, bytes(WINDOW // 4)) * 4
    talk.say(data)
    assert of_kind(talk.read(), FrameType.WINDOW_UPDATE, 1) == []
    talk.say(content(1, b"x"))
    (fault,) = of_kind(talk.read(), FrameType.RST_STREAM)
    assert (fault.stream_id, fault.code) == (1, Code.FLOW_CONTROL_ERROR)
    assert talk.take()[-1].what == "fault"
    assert talk.error is None


def test_a_window_is_given_back_once_what_came_is_taken() -> None:
    """Half of it at a time; and none of a stream that has ended."""
    talk = Talk(window_bytes=WINDOW).say(headers(1, POST, ends=False))
    stream = talk.session.streams[1]
    talk.session.hold(stream)
    talk.say(content(1, bytes(16384)) * 3)
    talk.read()
    talk.session.unhold(stream)
    (update,) = talk.read()
    assert (update.stream_id, int.from_bytes(update.payload, "big")) == (1, 3 * 16384)
    assert stream.receive_window == WINDOW
    talk.say(content(1, bytes(16384)) * 2, content(1, bytes(16384), ends=True))
    assert [one.stream_id for one in of_kind(talk.read(), FrameType.WINDOW_UPDATE)].count(1) == 1


def test_a_stream_that_nobody_takes_does_not_hold_others() -> None:
    """The connection's window is given back whatever becomes of what came."""
    talk = Talk(window_bytes=WINDOW).say(*[headers(number, POST, ends=False) for number in range(1, 21, 2)])
    talk.session.hold(talk.session.streams[1])
    talk.say(content(1, bytes(16384)) * 4)
    talk.session.reset(talk.session.streams[1], Code.CANCEL)
    for _ in range(100):
        talk.say(*[content(number, bytes(16384)) for number in range(3, 21, 2)], content(1, bytes(1000)))
    assert talk.error is None
    assert 0 < talk.session.receive_window <= 1024 * 1024


def test_more_than_the_connections_window_ends_it() -> None:
    """Which takes a peer that does not wait for what was granted: it is said a frame late, never granted twice."""
    talk = Talk(window_bytes=1 << 20).say(*[headers(number, POST, ends=False) for number in range(1, 41, 2)])
    talk.session.receive_window = 100
    talk.say(content(1, bytes(101)))
    assert talk.error is not None
    assert talk.error.code == Code.FLOW_CONTROL_ERROR


# --- what we send ----------------------------------------------------------------------------------------------------


def test_we_send_as_much_as_the_peer_takes() -> None:
    """65,535 octets at first; the rest as the windows come, of stream and connection."""
    talk = Talk()
    stream = asked(talk)
    talk.send(stream, OK, bytes(100_000))
    assert sum(size for _, size, _ in sent(talk)) == DEFAULT_WINDOW
    assert stream.queued == 100_000 - DEFAULT_WINDOW
    talk.say(window(1, 50_000))
    assert sent(talk) == [], "the connection's window is used up"
    talk.say(window(0, 10_000))
    assert sent(talk) == [(1, 10_000, False)]
    talk.say(window(0, 50_000))
    assert sent(talk) == [(1, 16384, False), (1, 100_000 - DEFAULT_WINDOW - 10_000 - 16384, True)]
    assert talk.take()[-1].what == "sent"
    assert not talk.session.streams


def test_frames_are_as_long_as_the_peer_takes() -> None:
    """SETTINGS_MAX_FRAME_SIZE; and no longer than others can wait for."""
    talk = Talk().say(window(0, 1 << 20), initial_window(1 << 20))
    talk.send(asked(talk, 1), OK, bytes(DEFAULT_MAX_FRAME + 1))
    assert sent(talk) == [(1, DEFAULT_MAX_FRAME, False), (1, 1, True)]
    talk.say(frames.settings([(Setting.MAX_FRAME_SIZE, 20_000)]))
    talk.send(asked(talk, 3), OK, bytes(20_001))
    assert sent(talk) == [(3, 20_000, False), (3, 1, True)]
    talk.say(frames.settings([(Setting.MAX_FRAME_SIZE, (1 << 24) - 1)]))
    talk.send(asked(talk, 5), OK, bytes(MAX_OUR_FRAME + 1))
    assert sent(talk) == [(5, MAX_OUR_FRAME, False), (5, 1, True)]


def test_a_head_that_is_longer_than_a_frame_continues() -> None:
    """6.10: HEADERS with END_STREAM, CONTINUATION, and END_HEADERS on the last."""
    talk = Talk()
    talk.send(asked(talk), [*OK, *[(b"x-%d" % at, b"\x01" * 5000) for at in range(10)]])
    found = talk.read()
    assert [one.kind for one in found] == [FrameType.HEADERS] + [FrameType.CONTINUATION] * (len(found) - 1)
    assert [one.flags for one in found] == [Flag.END_STREAM] + [0] * (len(found) - 2) + [Flag.END_HEADERS]
    assert all(len(one.payload) <= DEFAULT_MAX_FRAME for one in found)


def test_settings_change_the_windows_of_open_streams() -> None:
    """6.9.2: by the difference, which may make one negative; and they do not change the connection's."""
    talk = Talk()
    stream = asked(talk)
    talk.send(stream, OK, bytes(60_000), ends=False)
    sent(talk)
    talk.say(initial_window(10_000))
    assert stream.send_window == 10_000 - 60_000
    assert talk.session.send_window == DEFAULT_WINDOW - 60_000
    talk.session.send_data(stream, bytes(1000), True, [])
    talk.say(window(1, 50_000))
    assert sent(talk) == [], "exactly used up"
    talk.say(window(1, 400))
    assert sent(talk) == [(1, 400, False)]
    talk.say(initial_window(DEFAULT_WINDOW))
    assert sent(talk) == [(1, 600, True)]


def test_settings_are_acknowledged_before_they_are_made_use_of() -> None:
    """6.5.3: a peer may hold us to the old ones until it has read the acknowledgement."""
    talk = Talk().say(initial_window(1))
    talk.send(asked(talk), OK, bytes(20_000), trailers=[(b"x", b"1")])
    talk.read()
    talk.say(frames.settings([(Setting.INITIAL_WINDOW_SIZE, 1 << 20), (Setting.MAX_FRAME_SIZE, 1 << 20)]))
    assert [(one.kind, len(one.payload)) for one in talk.read()[:2]] == [
        (FrameType.SETTINGS, 0),
        (FrameType.DATA, 19_999),
    ]


def test_a_window_of_zero_holds_content_but_no_head_nor_end() -> None:
    """Frames other than DATA are not subject to flow control, nor is a DATA frame without octets."""
    talk = Talk().say(initial_window(0))
    stream = asked(talk)
    talk.send(stream, OK, b"", ends=False)
    talk.session.send_data(stream, b"", True, [])
    assert [(one.kind, one.ends) for one in talk.read()[1:]] == [(FrameType.HEADERS, False), (FrameType.DATA, True)]
    other = asked(talk, 3)
    talk.send(other, OK, b"x", trailers=[(b"x", b"1")])
    assert [one.kind for one in talk.read()] == [FrameType.HEADERS]
    talk.say(window(3, 1))
    assert [(one.kind, one.ends) for one in talk.read()] == [(FrameType.DATA, False), (FrameType.HEADERS, True)]


def test_streams_that_wait_take_turns() -> None:
    """A frame each: a long answer does not hold a short one."""
    talk = Talk().say(initial_window(1 << 20))
    first, second = asked(talk, 1), asked(talk, 3)
    talk.send(first, OK, bytes(DEFAULT_WINDOW + 60_000))
    talk.send(second, OK, bytes(20_000))
    sent(talk)
    talk.say(window(0, 3 * DEFAULT_MAX_FRAME))
    assert [number for number, _, _ in sent(talk)] == [1, 3, 1]


def test_who_sends_is_told_to_stop_and_to_go_on() -> None:
    """Between `HIGH_BYTES` and `LOW_BYTES`, each once."""
    talk = Talk().say(initial_window(0), window(0, 1 << 24))
    stream = asked(talk)
    talk.send(stream, OK, bytes(HIGH_BYTES), ends=False)
    assert talk.take() == []
    talk.session.send_data(stream, b"x", False, [])
    talk.session.send_data(stream, b"x", False, [])
    assert [one.what for one in talk.take()] == ["blocked"]
    talk.say(window(1, HIGH_BYTES - LOW_BYTES + 1))
    assert talk.take() == []
    talk.say(window(1, 1))
    assert [one.what for one in talk.take()] == ["writable"]


def test_a_peer_that_does_not_read_is_sent_heads_alone() -> None:
    """`block`: content waits in its streams, and goes on where it stopped."""
    talk = Talk()
    stream = asked(talk)
    talk.session.block()
    talk.send(stream, OK, b"content", trailers=[(b"x", b"1")])
    assert [one.kind for one in talk.read()] == [FrameType.HEADERS]
    talk.session.unblock()
    assert [(one.kind, one.ends) for one in talk.read()] == [(FrameType.DATA, False), (FrameType.HEADERS, True)]


@pytest.mark.parametrize("by_peer", [False, True])
def test_what_waits_of_a_stream_that_is_reset_is_dropped(by_peer: bool) -> None:
    """Later windows bring nothing of it."""
    talk = Talk()
    stream = asked(talk)
    talk.send(stream, OK, bytes(100_000))
    if by_peer:
        talk.say(reset(1))
    else:
        talk.session.reset(stream, Code.INTERNAL_ERROR)
    talk.read()
    talk.say(window(0, 100_000), window(1, 100_000))
    assert talk.read() == []
    assert (stream.queue, stream.queued, stream.is_closed) == (None, 0, True)


def test_a_client_opens_as_many_streams_as_the_server_takes() -> None:
    """5.1.2: SETTINGS_MAX_CONCURRENT_STREAMS counts those that are open."""
    talk = Talk(is_server=False).say(frames.settings([(Setting.MAX_CONCURRENT_STREAMS, 2)]))
    for _ in range(2):
        talk.send(talk.open(), GET)
    assert not talk.session.can_open()
    talk.say(headers(1, OK))
    assert talk.session.can_open()


def test_a_client_whose_numbers_are_used_up_opens_no_stream() -> None:
    """5.1.1: numbers are not used again; a connection of its own is needed."""
    talk = Talk(is_server=False)
    talk.session._next_id = 0x7FFFFFFD
    talk.send(talk.open(), GET)
    assert not talk.session.can_open()
    talk.say(headers(0x7FFFFFFD, OK))
    assert [one.what for one in talk.take()] == ["head"]


def test_streams_that_a_server_has_not_looked_at_are_refused() -> None:
    """6.8: those beyond the number that its GOAWAY names; the others go on."""
    talk = Talk(is_server=False)
    for _ in range(3):
        talk.send(talk.open(), GET)
    talk.say(frames.goaway(3, Code.NO_ERROR, b"bye"))
    assert [(one.what, one.stream_id, one.code) for one in talk.take()] == [("reset", 5, Code.REFUSED_STREAM)]
    assert not talk.session.can_open()
    talk.say(headers(1, OK), headers(3, OK))
    assert [(one.what, one.stream_id) for one in talk.take()] == [("head", 1), ("head", 3)]
    assert talk.going_away == [(Code.NO_ERROR, b"bye")]


def test_a_server_ends_in_two_steps() -> None:
    """6.8: 2^31-1 first, then the last that it has looked at, behind which streams are as if they had never come."""
    talk = Talk()
    talk.session.announce_end()
    talk.say(headers(1))
    talk.session.end()
    talk.session.end()
    talk.say(headers(3), headers(5, POST, ends=False), content(5, b"x"), window(5, 1), reset(5))
    assert [one.stream_id for one in talk.take()] == [1]
    goodbyes = of_kind(talk.read(), FrameType.GOAWAY)
    assert [int.from_bytes(one.payload[:4], "big") for one in goodbyes] == [0x7FFFFFFF, 1]
    assert talk.error is None
