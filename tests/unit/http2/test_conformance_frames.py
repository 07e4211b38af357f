"""
What RFC 9113 demands of who receives frames, case by case, each named by its section: the connection's faults, the
streams' faults, and what is none.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from sidecar.http2 import frames
from sidecar.http2.codes import DEFAULT_MAX_FRAME, MAX_WINDOW, PREFACE, Code, Flag, FrameType, Setting
from sidecar.message import Field
from tests.support.http2 import (
    GET,
    HELLO,
    OK,
    POST,
    SETTINGS,
    SETTINGS_ACK,
    NotingStream,
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

PING = b"12345678"
OPEN = headers(1, POST, ends=False)
"""Stream 1 is open; 3 is idle."""
DONE = headers(1) + reset(1)
"""Stream 1 is closed by the peer."""


@dataclass(frozen=True)
class Case:
    """
    Args:
        said: By the peer behind its preface and its SETTINGS.
        code: Of the fault, or -1 if there is none.
        stream_id: Whose fault it is; 0: the connection's.
    """

    said: bytes
    code: int = -1
    stream_id: int = 0


def priority(stream_id: int, on: int, more: bytes = b"") -> bytes:
    return frame(FrameType.PRIORITY, 0, stream_id, on.to_bytes(4, "big") + b"\x10" + more)


def ping(flags: int = 0, stream_id: int = 0, payload: bytes = PING) -> bytes:
    return frame(FrameType.PING, flags, stream_id, payload)


def setting(key: int, value: int) -> bytes:
    return frames.settings([(key, value)])


def goaway(stream_id: int = 0, payload: bytes = bytes(8)) -> bytes:
    return frame(FrameType.GOAWAY, 0, stream_id, payload)


def padded(stream_id: int, size: int, payload: bytes, flags: int = 0) -> bytes:
    return frame(FrameType.DATA, Flag.PADDED | flags, stream_id, bytes([size]) + payload)


BLOCK = block(GET)
BEGUN = frame(FrameType.HEADERS, Flag.END_STREAM, 1, BLOCK[:10])
"""HEADERS that CONTINUATION must follow."""

PROTOCOL, SIZE, FLOW, CLOSED = Code.PROTOCOL_ERROR, Code.FRAME_SIZE_ERROR, Code.FLOW_CONTROL_ERROR, Code.STREAM_CLOSED

OF_CLIENTS: dict[str, Case] = {
    # --- 4: frames
    "4.1: a frame of an unknown type is ignored": Case(frame(0x16, 0, 0, b"any") + frame(0xFF, 0xFF, 7, b"thing")),
    "4.1: flags that mean nothing are ignored": Case(ping(0x16) + headers(1, more=0x42)),
    "4.1: the reserved bit of a stream's number is ignored": Case(
        frame(FrameType.HEADERS, Flag.END_HEADERS | Flag.END_STREAM, 1 << 31 | 1, BLOCK)
    ),
    "4.2: a frame of 2^14 octets is taken": Case(OPEN + content(1, bytes(DEFAULT_MAX_FRAME))),
    "4.2: a DATA frame that is larger than SETTINGS_MAX_FRAME_SIZE": Case(
        OPEN + content(1, bytes(DEFAULT_MAX_FRAME + 1)), SIZE
    ),
    "4.2: a HEADERS frame that is larger than SETTINGS_MAX_FRAME_SIZE": Case(
        headers(1, [*GET, (b"x", bytes(DEFAULT_MAX_FRAME))]), SIZE
    ),
    "4.2: an unknown frame that is larger than SETTINGS_MAX_FRAME_SIZE": Case(
        frame(0x16, 0, 0, bytes(DEFAULT_MAX_FRAME + 1)), SIZE
    ),
    "4.3: a field block that is none": Case(
        frame(FrameType.HEADERS, Flag.END_HEADERS | Flag.END_STREAM, 1, b"\xff\xff\xff\xff\xff\xff"),
        Code.COMPRESSION_ERROR,
    ),
    "4.3: a field block of a refused stream that is none": Case(
        DONE + frame(FrameType.HEADERS, Flag.END_HEADERS, 1, b"\x80"), Code.COMPRESSION_ERROR
    ),
    "4.3: PRIORITY within a field block": Case(BEGUN + priority(1, 0), PROTOCOL),
    "4.3: HEADERS of another stream within a field block": Case(BEGUN + headers(3), PROTOCOL),
    "4.3: an unknown frame within a field block": Case(BEGUN + frame(0x16, 0, 1, b""), PROTOCOL),
    "4.3: DATA within a field block": Case(BEGUN + content(1, b"x"), PROTOCOL),
    "4.3: a table's size that is more than was allowed": Case(
        frame(
            FrameType.HEADERS, Flag.END_HEADERS | Flag.END_STREAM, 1, encode_integer(1 << 20, 0x20, 5) + BLOCK
        ),
        Code.COMPRESSION_ERROR,
    ),
    # --- 5.1: states
    "5.1, idle: DATA": Case(content(1, b"x"), PROTOCOL),
    "5.1, idle: padded DATA": Case(padded(1, 0, b"x"), PROTOCOL),
    "5.1, idle: RST_STREAM": Case(reset(1), PROTOCOL),
    "5.1, idle: WINDOW_UPDATE": Case(window(1, 1), PROTOCOL),
    "5.1, idle: CONTINUATION": Case(continuation(1, BLOCK, ends=True), PROTOCOL),
    "5.1, idle: PRIORITY is taken": Case(priority(1, 3)),
    "5.1, half-closed (remote): DATA": Case(headers(1) + content(1, b"x"), CLOSED, 1),
    "5.1, half-closed (remote): padded DATA": Case(headers(1) + padded(1, 0, b"x"), CLOSED, 1),
    "5.1, half-closed (remote): HEADERS": Case(headers(1) + headers(1), CLOSED, 1),
    "5.1, half-closed (remote): WINDOW_UPDATE, PRIORITY and RST_STREAM are taken": Case(
        headers(1) + window(1, 1) + priority(1, 3) + reset(1)
    ),
    "5.1, closed by its RST_STREAM: DATA": Case(DONE + content(1, b"x"), CLOSED),
    "5.1, closed by its RST_STREAM: HEADERS": Case(DONE + headers(1), CLOSED),
    "5.1, closed: CONTINUATION": Case(DONE + continuation(1, BLOCK, ends=True), PROTOCOL),
    "5.1, closed: PRIORITY, WINDOW_UPDATE and RST_STREAM are taken": Case(
        DONE + priority(1, 3) + window(1, 1) + reset(1)
    ),
    "5.1, closed by our RST_STREAM: what was on its way is ignored": Case(
        OPEN + window(1, 0) + content(1, b"x") + headers(1) + window(1, 5) + reset(1), PROTOCOL, 1
    ),
    # --- 5.1.1, 5.1.2: numbers
    "5.1.1: a stream with an even number": Case(headers(2), PROTOCOL),
    "5.1.1: a stream's number that is lower than the last": Case(headers(5) + headers(3), CLOSED),
    "5.1.1: the highest number there is": Case(headers(0x7FFFFFFF)),
    "5.1.1: HEADERS on stream 0": Case(headers(0), PROTOCOL),
    "5.1.2: the stream beyond SETTINGS_MAX_CONCURRENT_STREAMS": Case(
        b"".join(headers(number) for number in range(1, 203, 2)), Code.REFUSED_STREAM, 201
    ),
    # --- 5.3: priorities, of which nothing is made
    "5.3.1 of RFC 7540: HEADERS of a stream that depends on itself": Case(
        frame(
            FrameType.HEADERS, Flag.END_HEADERS | Flag.END_STREAM | Flag.PRIORITY, 1, b"\0\0\0\1\x10" + BLOCK
        ),
        PROTOCOL,
        1,
    ),
    "5.3.1 of RFC 7540: PRIORITY of a stream that depends on itself": Case(OPEN + priority(1, 1), PROTOCOL, 1),
    # --- 6.1: DATA
    "6.1: DATA on stream 0": Case(content(0, b"x"), PROTOCOL),
    "6.1: padded DATA on stream 0": Case(padded(0, 0, b"x"), PROTOCOL),
    "6.1: padding as long as the payload": Case(OPEN + padded(1, 5, b"xxxx"), PROTOCOL),
    "6.1: padding longer than the payload": Case(OPEN + padded(1, 200, b"x"), PROTOCOL),
    "6.1: a padded frame without the padding's length": Case(OPEN + frame(FrameType.DATA, Flag.PADDED, 1), PROTOCOL),
    "6.1: nothing but padding": Case(OPEN + padded(1, 4, bytes(4))),
    "6.1: padding that is not zero is ignored": Case(OPEN + padded(1, 3, b"xyzz!")),
    # --- 6.2: HEADERS
    "6.2: padding as long as the payload": Case(
        frame(FrameType.HEADERS, Flag.END_HEADERS | Flag.PADDED, 1, b"\x05aaaa"), PROTOCOL
    ),
    "6.2: padding that leaves no room for the priority": Case(
        frame(FrameType.HEADERS, Flag.END_HEADERS | Flag.PADDED | Flag.PRIORITY, 1, b"\x02aaaa"), SIZE
    ),
    "6.2: padding and priority": Case(
        frame(
            FrameType.HEADERS,
            Flag.END_HEADERS | Flag.END_STREAM | Flag.PADDED | Flag.PRIORITY,
            1,
            b"\x03\0\0\0\0\x10" + BLOCK + bytes(3),
        )
    ),
    # --- 6.3: PRIORITY
    "6.3: PRIORITY on stream 0": Case(priority(0, 3), PROTOCOL),
    "6.3: PRIORITY of another length than 5 octets": Case(OPEN + priority(1, 3, b"x"), SIZE, 1),
    # --- 6.4: RST_STREAM
    "6.4: RST_STREAM on stream 0": Case(reset(0), PROTOCOL),
    "6.4: RST_STREAM of another length than 4 octets": Case(
        OPEN + frame(FrameType.RST_STREAM, 0, 1, bytes(5)), SIZE
    ),
    "7: RST_STREAM with an unknown code": Case(OPEN + reset(1, 0xFFFF)),
    # --- 6.5: SETTINGS
    "6.5: an acknowledgement with a payload": Case(frame(FrameType.SETTINGS, Flag.ACK, 0, bytes(6)), SIZE),
    "6.5: SETTINGS on a stream": Case(frame(FrameType.SETTINGS, 0, 1), PROTOCOL),
    "6.5: an acknowledgement on a stream": Case(frame(FrameType.SETTINGS, Flag.ACK, 1), PROTOCOL),
    "6.5: SETTINGS of a length that is no multiple of 6": Case(frame(FrameType.SETTINGS, 0, 0, bytes(5)), SIZE),
    "6.5.2: SETTINGS_ENABLE_PUSH of 2": Case(setting(Setting.ENABLE_PUSH, 2), PROTOCOL),
    "6.5.2: SETTINGS_ENABLE_PUSH of 1 and 0": Case(setting(Setting.ENABLE_PUSH, 1) + setting(Setting.ENABLE_PUSH, 0)),
    "6.5.2: SETTINGS_INITIAL_WINDOW_SIZE of more than 2^31-1": Case(
        setting(Setting.INITIAL_WINDOW_SIZE, MAX_WINDOW + 1), FLOW
    ),
    "6.5.2: SETTINGS_MAX_FRAME_SIZE of less than 2^14": Case(
        setting(Setting.MAX_FRAME_SIZE, DEFAULT_MAX_FRAME - 1), PROTOCOL
    ),
    "6.5.2: SETTINGS_MAX_FRAME_SIZE of more than 2^24-1": Case(setting(Setting.MAX_FRAME_SIZE, 1 << 24), PROTOCOL),
    "6.5.2: the most and the least that may be": Case(
        setting(Setting.INITIAL_WINDOW_SIZE, MAX_WINDOW)
        + setting(Setting.INITIAL_WINDOW_SIZE, 0)
        + setting(Setting.MAX_FRAME_SIZE, (1 << 24) - 1)
        + setting(Setting.MAX_FRAME_SIZE, DEFAULT_MAX_FRAME)
        + setting(Setting.HEADER_TABLE_SIZE, 0xFFFFFFFF)
        + setting(Setting.HEADER_TABLE_SIZE, 0)
        + setting(Setting.MAX_CONCURRENT_STREAMS, 0)
        + setting(Setting.MAX_HEADER_LIST_SIZE, 0)
    ),
    "6.5.2: a setting that nobody knows is ignored": Case(setting(0xFF, 1) + setting(0, 0xFFFFFFFF)),
    "RFC 8441, 3: SETTINGS_ENABLE_CONNECT_PROTOCOL of 2": Case(setting(Setting.ENABLE_CONNECT_PROTOCOL, 2), PROTOCOL),
    # --- 6.6, 8.4: PUSH_PROMISE
    "8.4: a client's PUSH_PROMISE": Case(
        OPEN + frame(FrameType.PUSH_PROMISE, Flag.END_HEADERS, 1, b"\0\0\0\2" + BLOCK), PROTOCOL
    ),
    # --- 6.7: PING
    "6.7: PING on a stream": Case(ping(stream_id=1), PROTOCOL),
    "6.7: PING of another length than 8 octets": Case(ping(payload=b"1234567"), SIZE),
    "6.7: an answer that nobody asked for": Case(ping(Flag.ACK)),
    # --- 6.8: GOAWAY
    "6.8: GOAWAY on a stream": Case(goaway(1), PROTOCOL),
    "6.8: GOAWAY that is too short": Case(goaway(payload=bytes(7)), SIZE),
    "6.8: GOAWAY with something for people": Case(goaway(payload=bytes(8) + b"so long")),
    "6.8: streams that are opened behind a client's GOAWAY": Case(goaway() + headers(1)),
    # --- 6.9: WINDOW_UPDATE
    "6.9: WINDOW_UPDATE of 0 for the connection": Case(window(0, 0), PROTOCOL),
    "6.9: WINDOW_UPDATE of 0 for a stream": Case(OPEN + window(1, 0), PROTOCOL, 1),
    "6.9: the reserved bit of an increment is ignored": Case(OPEN + window(1, 1 << 31 | 1) + window(0, 1 << 31 | 1)),
    "6.9: WINDOW_UPDATE of 0 with the reserved bit": Case(window(0, 1 << 31), PROTOCOL),
    "6.9: WINDOW_UPDATE of another length than 4 octets": Case(
        frame(FrameType.WINDOW_UPDATE, 0, 0, bytes(3)), SIZE
    ),
    "6.9: WINDOW_UPDATE of a stream of another length than 4 octets": Case(
        OPEN + frame(FrameType.WINDOW_UPDATE, 0, 1, bytes(5)), SIZE
    ),
    "6.9.1: a connection's window of more than 2^31-1": Case(window(0, MAX_WINDOW), FLOW),
    "6.9.1: a stream's window of more than 2^31-1": Case(OPEN + window(1, MAX_WINDOW), FLOW, 1),
    "6.9.1: the largest windows": Case(OPEN + window(1, MAX_WINDOW - 65535) + window(0, MAX_WINDOW - 65535)),
    "6.9.2: settings that make a window more than 2^31-1": Case(
        OPEN + window(1, MAX_WINDOW - 65535) + setting(Setting.INITIAL_WINDOW_SIZE, 65536), FLOW
    ),
    # --- 6.10: CONTINUATION
    "6.10: CONTINUATION behind END_HEADERS": Case(headers(1) + continuation(1), PROTOCOL),
    "6.10: CONTINUATION on another stream": Case(BEGUN + continuation(3, BLOCK[10:], ends=True), PROTOCOL),
    "6.10: CONTINUATION on stream 0": Case(BEGUN + continuation(0, BLOCK[10:], ends=True), PROTOCOL),
    "6.10: CONTINUATION behind DATA": Case(OPEN + content(1, b"x") + continuation(1), PROTOCOL),
    "6.10: several, and an empty one": Case(
        BEGUN + continuation(1, BLOCK[10:20]) + continuation(1) + continuation(1, BLOCK[20:], ends=True)
    ),
    # --- 8.1: messages
    "8.1: a second field section that is not the end": Case(
        OPEN + content(1, b"x") + headers(1, [(b"x", b"1")], ends=False), PROTOCOL, 1
    ),
    "8.1: trailers": Case(OPEN + content(1, b"x") + headers(1, [(b"x", b"1")])),
    "8.1: trailers without content": Case(OPEN + headers(1, [(b"x", b"1")])),
    "8.3: a pseudo-header field in trailers": Case(OPEN + headers(1, [(b":method", b"GET")]), PROTOCOL, 1),
    "8.3: an unknown pseudo-header field in trailers": Case(OPEN + headers(1, [(b":x", b"1")]), PROTOCOL, 1),
    "8.2.1: an upper-case letter in trailers": Case(OPEN + headers(1, [(b"X", b"1")]), PROTOCOL, 1),
    "8.2.1: LF in a value of trailers": Case(OPEN + headers(1, [(b"x", b"1\ny: 2")]), PROTOCOL, 1),
    "8.2.2: transfer-encoding in trailers": Case(OPEN + headers(1, [(b"transfer-encoding", b"chunked")]), PROTOCOL, 1),
}  # fmt: skip

OF_SERVERS: dict[str, Case] = {
    "5.1, idle: HEADERS of a stream that we have not opened": Case(headers(3, OK), PROTOCOL),
    "5.1, idle: DATA of a stream that we have not opened": Case(content(3, b"x"), PROTOCOL),
    "5.1, idle: RST_STREAM of a stream that we have not opened": Case(reset(3), PROTOCOL),
    "5.1, idle: WINDOW_UPDATE of a stream that we have not opened": Case(window(3, 1), PROTOCOL),
    "5.1.1: a stream that a server opens": Case(headers(2, OK), PROTOCOL),
    "5.1, half-closed (remote): DATA": Case(headers(1, OK) + content(1, b"x"), CLOSED, 1),
    "5.1, half-closed (remote): HEADERS": Case(headers(1, OK) + headers(1, OK), CLOSED, 1),
    "6.5.2: SETTINGS_ENABLE_PUSH of 1 by a server": Case(setting(Setting.ENABLE_PUSH, 1), PROTOCOL),
    "6.5.2: SETTINGS_ENABLE_PUSH of 0 by a server": Case(setting(Setting.ENABLE_PUSH, 0)),
    "RFC 8441, 3: SETTINGS_ENABLE_CONNECT_PROTOCOL that is taken back": Case(
        setting(Setting.ENABLE_CONNECT_PROTOCOL, 1) + setting(Setting.ENABLE_CONNECT_PROTOCOL, 0), PROTOCOL
    ),
    "6.6: a PUSH_PROMISE that we have forbidden": Case(
        frame(FrameType.PUSH_PROMISE, Flag.END_HEADERS, 1, b"\0\0\0\2" + BLOCK), PROTOCOL
    ),
    "8.1: interim responses, a final one, trailers": Case(
        headers(1, [(b":status", b"103")], ends=False) * 2
        + headers(1, OK, ends=False)
        + content(1, b"x")
        + headers(1, [(b"x", b"1")])
    ),
    "8.1: a second final response": Case(headers(1, OK, ends=False) * 2, PROTOCOL, 1),
    "8.3: :status in trailers": Case(headers(1, OK, ends=False) + headers(1, OK), PROTOCOL, 1),
    "6.9: WINDOW_UPDATE of 0": Case(window(1, 0), PROTOCOL, 1),
    "6.1: DATA on stream 0": Case(content(0, b"x"), PROTOCOL),
    "6.8: GOAWAY that names a stream beyond ours": Case(goaway(payload=b"\x7f\xff\xff\xff\0\0\0\0")),
}


def judge(talk: Talk, case: Case) -> None:
    """It ended as it should, and said so once."""
    written = talk.read()
    goodbyes = of_kind(written, FrameType.GOAWAY)
    if case.code == -1 or case.stream_id:
        assert talk.error is None
        assert not goodbyes
    else:
        assert talk.error is not None
        assert (talk.error.code, [one.code for one in goodbyes]) == (case.code, [case.code]), talk.error
        assert len(talk.error.detail) < 128
    resets = [(one.stream_id, one.code) for one in of_kind(written, FrameType.RST_STREAM)]
    assert resets == ([(case.stream_id, case.code)] if case.stream_id else [])


@pytest.mark.parametrize("name", OF_CLIENTS)
def test_what_a_client_says(name: str) -> None:
    """Each fault is answered with its code, on its stream or for the connection; what is none is taken."""
    case = OF_CLIENTS[name]
    judge(Talk().say(case.said), case)


@pytest.mark.parametrize("name", OF_CLIENTS)
def test_what_a_client_says_octet_by_octet(name: str) -> None:
    """It means the same, however it is cut; but for a request that is opened and reset, of which somebody hears."""
    case = OF_CLIENTS[name]
    talk = Talk()
    if len(case.said) > 1000:
        for at in range(0, len(case.said), 997):
            talk.say(case.said[at : at + 997])
    else:
        talk.say_by_byte(case.said)
    judge(talk, case)


@pytest.mark.parametrize("name", OF_SERVERS)
def test_what_a_server_says(name: str) -> None:
    """The same of the other role, when one stream is open and its request is whole."""
    case = OF_SERVERS[name]
    talk = Talk(is_server=False)
    talk.send(talk.open(), GET)
    talk.read()
    judge(talk.say(case.said), case)


# --- 3.4: the preface ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\n\r\n", PREFACE[:-1] + b"x", PREFACE.lower(), b"\0" * 24])
def test_3_4_another_preface_is_a_fault_at_its_first_wrong_octet(said: bytes) -> None:
    """Whether more of it comes or not."""
    whole, cut = Talk(greets=False), Talk(greets=False)
    wrong = next(at for at in range(len(said)) if said[at] != PREFACE[at])
    assert cut.say_by_byte(said[:wrong]).error is None
    for talk, data in ((whole, said), (cut, said[wrong : wrong + 1])):
        talk.say(data)
        assert talk.error is not None
        assert talk.error.code == Code.PROTOCOL_ERROR


@pytest.mark.parametrize(
    "said",
    [headers(1), ping(), window(0, 1), content(1, b"x"), padded(1, 0, b"x"), priority(1, 3), goaway(), reset(1),
     SETTINGS_ACK, frame(0x16, 0, 0)],
)  # fmt: skip
@pytest.mark.parametrize("is_server", [True, False])
def test_3_4_the_first_frame_is_settings(said: bytes, is_server: bool) -> None:
    """Of a client behind its preface, of a server before all else."""
    talk = Talk(greets=False, is_server=is_server)
    talk.say(PREFACE if is_server else b"", said)
    assert talk.error is not None
    assert talk.error.code == Code.PROTOCOL_ERROR


def test_3_4_requests_may_come_with_the_preface_at_once() -> None:
    """ "A client can send frames immediately after sending the preface"."""
    talk = Talk(greets=False).say(HELLO, headers(1))
    assert [one.what for one in talk.take()] == ["head"]
    written = talk.read()
    assert [one.kind for one in written[:1]] == [FrameType.SETTINGS], "a server's preface is its first frame"


def test_3_4_a_client_begins_with_its_preface_and_settings() -> None:
    """And asks for no push."""
    talk = Talk(greets=False, is_server=False)
    data = talk.read_raw()
    assert data.startswith(PREFACE + b"\0\0\x12\4\0\0\0\0\0")
    assert b"\0\2\0\0\0\0" in data, "SETTINGS_ENABLE_PUSH of 0"


# --- 6.5.3, 6.7: what is answered ------------------------------------------------------------------------------------


def test_6_5_3_each_settings_frame_is_acknowledged_once() -> None:
    """And no acknowledgement is."""
    talk = Talk()
    talk.say(SETTINGS * 3, SETTINGS_ACK)
    acks = of_kind(talk.read(), FrameType.SETTINGS)
    assert [(one.flags, one.payload) for one in acks] == [(Flag.ACK, b"")] * 3
    assert talk.settings == 4


def test_6_5_3_values_are_taken_in_their_order() -> None:
    """The last of a setting that comes twice counts."""
    talk = Talk(is_server=False)
    talk.say(frames.settings([(Setting.MAX_CONCURRENT_STREAMS, 7), (Setting.MAX_CONCURRENT_STREAMS, 0)]))
    assert talk.session.peer_max_streams == 0
    assert not talk.session.can_open()


def test_6_7_a_ping_is_answered_with_its_octets() -> None:
    """Those of ours are told."""
    talk = Talk()
    talk.say(ping(payload=b"\0\1\2\3\4\5\6\xff"), ping(Flag.ACK))
    assert [(one.flags, one.payload) for one in talk.read()] == [(Flag.ACK, b"\0\1\2\3\4\5\6\xff")]
    assert talk.pings == [PING]


def test_a_fault_ends_the_connection_for_good() -> None:
    """5.4.1: what comes behind it is not looked at, and the last stream that was is named."""
    talk = Talk().say(headers(1), headers(3), ping(stream_id=1))
    (goodbye,) = of_kind(talk.read(), FrameType.GOAWAY)
    assert int.from_bytes(goodbye.payload[:4], "big") == 3
    talk.take()
    talk.say(headers(5))
    assert talk.take() == []
    assert talk.read() == []


@pytest.mark.parametrize("answer", [headers(1, OK), headers(1, OK, ends=False) + content(1, b"all", ends=True)])
def test_5_4_1_an_answer_that_was_whole_before_its_connection_ended_is_told(answer: bytes) -> None:
    """What a server has sent before the frame that breaks a rule holds."""
    talk = Talk(is_server=False)
    talk.send(talk.open(), GET)
    talk.say(answer + window(0, 0))
    assert talk.error is not None
    assert [(one.what, one.is_end) for one in talk.take()] == [("head", True)]


def test_5_4_1_a_request_before_the_frame_that_breaks_a_rule_is_not_begun() -> None:
    """Its client would not get the answer."""
    talk = Talk()
    talk.say(headers(1) + window(0, 0))
    assert talk.error is not None
    assert talk.take() == []


def test_5_4_1_nobody_is_given_a_place_on_a_connection_that_ends() -> None:
    """Who is told of the last answer may have the next request to send."""
    talk, could_open = Talk(is_server=False), []

    class Asking(NotingStream):
        def on_head(self, fields: list[Field], payload: bytes, is_end: bool, trailers: list[Field]) -> None:
            could_open.append(talk.session.can_open())

    stream = Asking(talk.heard)
    talk.session.open(stream)
    talk.send(stream, GET)
    talk.say(headers(1, OK) + window(0, 0))
    assert could_open == [False]
