"""
HTTP/2 against `h2`, another's implementation, in both roles: whatever is asked, answered, granted, changed and given
up, and however it is cut on its way, both ends agree on what was said. And whatever octets come, there is one kind of
error.
"""

from __future__ import annotations

import tracemalloc
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.http2 import bounds, frames
from sidecar.http2.codes import MAX_WINDOW, Code, FrameType, Setting
from sidecar.http2.streams import Stream
from tests.support.http2 import (
    GET,
    HELLO,
    OK,
    POST,
    Pairs,
    Talk,
    block,
    content,
    continuation,
    fields_of,
    frame,
    headers,
    reset,
    window,
)
from tests.support.thoroughness import examples

pytestmark = pytest.mark.interpreted_only("streams that only note what they hear inherit from a compiled class")

QUICK = settings(deadline=None, max_examples=examples(120))
WINDOW = 65536


@dataclass
class Said:
    """A message, as far as it was said."""

    fields: Pairs = field(default_factory=list)
    content: bytes = b""
    trailers: Pairs = field(default_factory=list)
    is_whole: bool = False
    is_reset: bool = False


class Between:
    """
    Our session and an `h2` connection, with the octets between them, cut as `cuts` say.

    Attributes:
        to_us, to_them: What was said in each direction, by stream; as its sender has it.
        heard_here, heard_there: The same as its receiver has it.
    """

    def __init__(self, is_server: bool, cuts: list[int]) -> None:
        self.is_server = is_server
        self.talk = Talk(is_server=is_server, window_bytes=WINDOW, greets=False, max_resets=10_000)
        self.peer = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=is_server, header_encoding=None, validate_outbound_headers=False)
        )
        self.peer.initiate_connection()
        self.to_us: dict[int, Said] = {}
        self.to_them: dict[int, Said] = {}
        self.heard_here: dict[int, Said] = {}
        self.heard_there: dict[int, Said] = {}
        self.streams: dict[int, Stream] = {}
        self._cuts = cuts
        self._turn = 0
        self._grants = True
        self.exchange()

    # --- octets ------------------------------------------------------------------------------------------------

    def _pieces(self, data: bytes) -> list[bytes]:
        pieces = []
        while data:
            size = self._cuts[self._turn % len(self._cuts)] if self._cuts else len(data)
            self._turn += 1
            pieces.append(data[:size])
            data = data[size:]
        return pieces

    def exchange(self) -> None:
        """Deliver in both directions until nothing moves."""
        while True:
            ours, theirs = self.talk.read_raw(), self.peer.data_to_send()
            if not ours and not theirs:
                break
            for piece in self._pieces(theirs):
                self.talk.say(piece)
                self._note_here()
            for piece in self._pieces(ours):
                for event in self.peer.receive_data(piece):
                    self._note_there(event)
            assert self.talk.error is None, self.talk.error

    def _note_here(self) -> None:
        for number, stream in self.talk.session.streams.items():
            self.streams[number] = stream
        for one in self.talk.take():
            said = self.heard_here.setdefault(one.stream_id, Said())
            if one.what == "head":
                said.fields = one.fields
            if one.what == "withdrawn":
                said.fields = one.fields
                said.is_reset = True
            said.content += one.payload
            if one.is_end:
                said.is_whole = True
                said.trailers = one.trailers
            if one.what == "reset":
                said.is_reset = True

    def _note_there(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.RequestReceived | h2.events.ResponseReceived):
            self._heard(event.stream_id).fields = [(bytes(name), bytes(value)) for name, value in event.headers]
        elif isinstance(event, h2.events.DataReceived):
            self._heard(event.stream_id).content += event.data
            if self._grants and event.flow_controlled_length:
                self.peer.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.TrailersReceived):
            self._heard(event.stream_id).trailers = [(bytes(name), bytes(value)) for name, value in event.headers]
        elif isinstance(event, h2.events.StreamEnded):
            self._heard(event.stream_id).is_whole = True
        elif isinstance(event, h2.events.StreamReset):
            self._heard(event.stream_id).is_reset = True
        else:
            assert not isinstance(event, h2.events.ConnectionTerminated), event

    def _heard(self, stream_id: int | None) -> Said:
        assert stream_id is not None
        return self.heard_there.setdefault(stream_id, Said())

    # --- what may be said --------------------------------------------------------------------------------------

    def they_send(self, number: int, pairs: Pairs | None, payload: bytes, trailers: Pairs | None, ends: bool) -> None:
        """As much as our windows let them."""
        said = self.to_us.setdefault(number, Said())
        if said.is_whole or said.is_reset:
            return
        if pairs is not None:
            said.fields = pairs
            self.peer.send_headers(number, pairs, end_stream=ends and not payload and not trailers)
            said.is_whole = ends and not payload and not trailers
        while payload and not said.is_whole:
            room = min(self.peer.local_flow_control_window(number), self.peer.max_outbound_frame_size, len(payload))
            if room <= 0:
                return
            pad_length = 3 if room > 100 else None
            if pad_length is not None:
                room -= pad_length + 1
            piece, payload = payload[:room], payload[room:]
            said.is_whole = ends and not payload and not trailers
            said.content += piece
            self.peer.send_data(number, piece, end_stream=said.is_whole, pad_length=pad_length)
            self.exchange()
        if ends and not said.is_whole:
            said.is_whole = True
            if trailers:
                said.trailers = trailers
                self.peer.send_headers(number, trailers, end_stream=True)
            else:
                self.peer.end_stream(number)

    def we_send(self, number: int, pairs: Pairs | None, payload: bytes, trailers: Pairs | None, ends: bool) -> None:
        """All of it; what has no window waits."""
        stream = self.streams.get(number)
        said = self.to_them.setdefault(number, Said())
        if stream is None or stream.is_closed or said.is_whole or said.is_reset:
            return
        end_fields = fields_of(trailers or []) if ends else []
        if pairs is not None:
            said.fields = pairs
            self.talk.session.send_message(stream, fields_of(pairs), payload, ends, end_fields)
        elif payload or ends:
            self.talk.session.send_data(stream, payload, ends, end_fields)
        said.content += payload
        said.is_whole = ends
        said.trailers = (trailers or []) if ends else []


_VALUES = st.sampled_from([b"", b"1", b"text/html", b"v" * 300, bytes(range(0x21, 0x7F)), b"\xe4\xf6\xfc"])
_NAMES = st.sampled_from([b"accept", b"x-one", b"x-two", b"authorization", b"grpc-status", b"set-cookie"])
_FIELDS = st.lists(st.tuples(_NAMES, _VALUES), max_size=5)
_PAYLOADS = st.sampled_from([b"", b"x", b"abc" * 100, b"m" * 16384, b"l" * 40_000, b"w" * 90_000])
_ENDS = st.booleans()
_TRAILERS = st.one_of(st.none(), st.lists(st.tuples(_NAMES, _VALUES), min_size=1, max_size=3))
_PLACE = st.integers(0, 5)
_ACTS = st.one_of(
    st.tuples(st.just("ask"), _FIELDS, _PAYLOADS, _TRAILERS, _ENDS),
    st.tuples(st.just("answer"), _PLACE, _FIELDS, _PAYLOADS, _TRAILERS, _ENDS),
    st.tuples(st.just("more"), _PLACE, st.booleans(), _PAYLOADS, _TRAILERS, _ENDS),
    st.tuples(st.just("they change"), st.sampled_from([0, 1000, 20_000, 65535, 200_000]), st.sampled_from([0, 4096])),
    st.tuples(st.just("they grow"), st.sampled_from([16384, 20_000, 1 << 20])),
    st.tuples(st.just("they reset"), _PLACE),
    st.tuples(st.just("we reset"), _PLACE),
    st.tuples(st.just("hold"), _PLACE),
    st.tuples(st.just("ping")),
    st.tuples(st.just("exchange")),
)  # fmt: skip
_CUTS = st.one_of(st.just([]), st.lists(st.integers(1, 40), min_size=1, max_size=6).map(lambda sizes: [*sizes, 50_000]))


def play(is_server: bool, acts: list[tuple[object, ...]], cuts: list[int]) -> Between:
    """All that, and then whatever still waits."""
    between = Between(is_server, cuts)
    peer, talk = between.peer, between.talk
    asks, answers = (between.they_send, between.we_send) if is_server else (between.we_send, between.they_send)
    numbers: list[int] = []
    answered: set[int] = set()
    for what, *rest in acts:
        number = numbers[-1 - rest[0] % len(numbers)] if numbers and rest and isinstance(rest[0], int) else 0
        if what == "ask":
            extra, payload, trailers, ends = rest
            if is_server:
                number = peer.get_next_available_stream_id()
            else:
                stream = talk.open()
                number = stream.id
                between.streams[number] = stream
            numbers.append(number)
            asks(number, [*POST, *extra], payload, trailers, ends)  # type: ignore[misc, arg-type]
        elif what == "answer" and number and number not in answered:
            between.exchange()
            if _is_open_there(between, number):
                answered.add(number)
                answers(number, [*OK, *rest[1]], *rest[2:])  # type: ignore[arg-type, misc]
        elif what == "more" and number:
            between.exchange()
            if _is_open_there(between, number):
                send = asks if rest[1] or number not in answered else answers
                send(number, None, *rest[2:])  # type: ignore[arg-type]
        elif what == "they change":
            codes = h2.settings.SettingCodes
            peer.update_settings({codes.INITIAL_WINDOW_SIZE: rest[0], codes.HEADER_TABLE_SIZE: rest[1]})
        elif what == "they grow":
            peer.update_settings({h2.settings.SettingCodes.MAX_FRAME_SIZE: min(rest[0], (1 << 24) - 1)})  # type: ignore[type-var]
        elif what == "they reset" and number:
            between.exchange()
            if _is_open_there(between, number):
                peer.reset_stream(number, Code.CANCEL)
                between.to_us.setdefault(number, Said()).is_reset = True
        elif what == "we reset" and number:
            stream = between.streams.get(number)
            if stream is not None and not stream.is_closed:
                talk.session.reset(stream, Code.CANCEL)
                between.to_them.setdefault(number, Said()).is_reset = True
                between.exchange()
        elif what == "hold" and number and (stream := between.streams.get(number)) is not None:
            if stream.is_held:
                talk.session.unhold(stream)
            elif not stream.is_closed:
                talk.session.hold(stream)
        elif what == "ping":
            peer.ping(b"12345678")
        else:
            between.exchange()
    peer.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 1 << 20})
    for stream in between.streams.values():
        talk.session.unhold(stream)
    between.exchange()
    return between


def _is_open_there(between: Between, number: int) -> bool:
    said = [kept.get(number, Said()) for kept in (between.to_us, between.to_them)]
    if any(one.is_reset for one in said) or all(one.is_whole for one in said):
        return False
    return number in between.peer.streams


def agree(between: Between) -> None:
    """What one said is what the other heard, as far as neither gave it up; and so are the windows."""
    for said, heard in ((between.to_us, between.heard_here), (between.to_them, between.heard_there)):
        for number, sent in said.items():
            is_given_up = any(kept.get(number, Said()).is_reset for kept in (between.to_us, between.to_them))
            got = heard.get(number, Said())
            if is_given_up:
                assert sent.content.startswith(got.content)
                continue
            if sent.fields:
                assert (got.fields, got.content, got.trailers, got.is_whole) == (
                    sent.fields, sent.content, sent.trailers, sent.is_whole,
                )  # fmt: skip
    session = between.talk.session
    assert session.send_window == between.peer.inbound_flow_control_window
    assert session.receive_window == between.peer.outbound_flow_control_window
    for number, stream in session.streams.items():
        theirs = between.peer.streams.get(number)
        if theirs is not None and not stream.has_remote_ended:
            assert stream.receive_window == theirs.outbound_flow_control_window
        if theirs is not None and not stream.has_local_ended:
            assert stream.send_window == theirs.inbound_flow_control_window
        assert stream.queue is None


@QUICK
@given(st.lists(_ACTS, min_size=1, max_size=25), _CUTS)
def test_a_client_and_our_server_agree(acts: list[tuple[object, ...]], cuts: list[int]) -> None:
    """`h2` asks, we answer."""
    agree(play(True, acts, cuts))


@QUICK
@given(st.lists(_ACTS, min_size=1, max_size=25), _CUTS)
def test_our_client_and_a_server_agree(acts: list[tuple[object, ...]], cuts: list[int]) -> None:
    """We ask, `h2` answers."""
    agree(play(False, acts, cuts))


# --- whatever comes --------------------------------------------------------------------------------------------------

_ID = st.sampled_from([0, 1, 1, 3, 3, 5, 2, 7, 0x7FFFFFFF, 0x80000001])
_FRAMES = st.one_of(
    st.builds(headers, _ID, st.sampled_from([GET, POST, OK, GET[:2], [(b"x", b"1")]]), ends=st.booleans()),
    st.builds(content, _ID, st.sampled_from([b"", b"x", bytes(500), bytes(16384)]), ends=st.booleans()),
    st.builds(continuation, _ID, st.sampled_from([b"", block(GET), b"\x40"]), ends=st.booleans()),
    st.builds(reset, _ID, st.integers(0, 20)),
    st.builds(window, _ID, st.sampled_from([0, 1, 1000, MAX_WINDOW])),
    st.builds(
        lambda key, value: frames.settings([(key, value)]),
        st.integers(0, 9),
        st.sampled_from([0, 1, 4096, 16384, MAX_WINDOW, MAX_WINDOW + 1, 0xFFFFFFFF]),
    ),
    st.builds(lambda code: frames.goaway(1, code, b"bye"), st.integers(0, 20)),
    st.builds(lambda data: frame(FrameType.PING, 0, 0, data), st.binary(min_size=7, max_size=9)),
    st.builds(frame, st.integers(0, 12), st.integers(0, 255), _ID, st.binary(max_size=40)),
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Frames that may be, and then perhaps some octets of them changed, taken away or put in."""
    data = b"".join(draw(st.lists(_FRAMES, max_size=15)))
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, len(data)))
        data = data[:place] + draw(st.binary(max_size=3)) + data[place + draw(st.integers(0, 3)) :]
    return data


def _survives(is_server: bool, data: bytes, size: int) -> list[object]:
    """Whatever is said, it raises nothing but its error (`Talk` would let it through); and what was heard."""
    talk = Talk(is_server=is_server, window_bytes=20_000, max_header_bytes=2000)
    if not is_server:
        for _ in range(2):
            talk.send(talk.open(), POST, bytes(100_000), ends=False)
    for at in range(0, len(data), size):
        talk.say(data[at : at + size])
    session = talk.session
    assert len(session._held) <= 9 + 16384
    assert sum(map(len, session._block)) <= 2000
    assert len(session._forgotten) <= bounds.MAX_REMEMBERED
    assert len(session.streams) <= 100
    for stream in session.streams.values():
        assert stream.receive_window >= 0
    heads = [(one.what, one.stream_id, one.fields) for one in talk.heard if one.what in ("head", "too large")]
    return [heads, talk.error.code if talk.error is not None else None]


@settings(deadline=None, max_examples=examples(400))
@given(st.booleans(), damaged() | st.binary(max_size=300), st.integers(1, 50))
def test_damaged_frames_end_in_one_kind_of_error(is_server: bool, data: bytes, size: int) -> None:
    """`SessionError`, the same however the octets are cut; no more is kept than what was granted."""
    whole, cut = _survives(is_server, data, max(len(data), 1)), _survives(is_server, data, size)
    assert whole[1] == cut[1]


def test_memory_is_bounded_whatever_is_sent() -> None:
    """A MiB of what is not ended, of every kind of frame."""
    tracemalloc.start()
    try:
        for kind in range(12):
            talk = Talk()
            talk.say(headers(1, POST, ends=False))
            before, _ = tracemalloc.get_traced_memory()
            tracemalloc.reset_peak()
            for _ in range(64):
                talk.say(frame(kind, 0, 1 if kind in (0, 1, 3, 9) else 0, bytes(16384)))
                talk.take()
                talk.read_raw()
                talk.going_away.clear()
            _, peak = tracemalloc.get_traced_memory()
            assert peak - before < 300_000, kind
    finally:
        tracemalloc.stop()


def test_the_hello_may_be_cut_anywhere() -> None:
    """At every octet."""
    said = HELLO + frames.settings([(Setting.INITIAL_WINDOW_SIZE, 7)]) + headers(1)
    for at in range(len(said) + 1):
        talk = Talk(greets=False).say(said[:at], b"").say(said[at:])
        assert [one.what for one in talk.take()] == ["head"]
