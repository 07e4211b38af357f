"""
Streams are objects that are used again, also by whoever is told of the end of what they were: nothing that has come
for what one was may be taken for what it is.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sidecar.http2.codes import Code, FrameType
from sidecar.message import Field
from tests.support.http2 import GET, OK, POST, Heard, NotingStream, Talk, content, headers, of_kind, reset, window

pytestmark = pytest.mark.interpreted_only("streams that only note what they hear inherit from a compiled class")

INTERIM = [(b":status", b"103")]


class ReusedStream(NotingStream):
    """It is given the next request while it is told of the last one, as often as there is one waiting."""

    __slots__ = ("_ask", "_waiting")

    def __init__(self, heard: list[Heard], ask: Callable[[NotingStream], None], waiting: int = 1) -> None:
        super().__init__(heard)
        self._ask = ask
        self._waiting = waiting

    def on_head(self, fields: list[Field], payload: bytes, is_end: bool, trailers: list[Field]) -> None:
        super().on_head(fields, payload, is_end, trailers)
        self._go_on()

    def on_data(self, payload: bytes, is_end: bool, trailers: list[Field]) -> None:
        super().on_data(payload, is_end, trailers)
        self._go_on()

    def _go_on(self) -> None:
        if self._waiting:
            self._waiting -= 1
            self._ask(self)


def asked(talk: Talk, *, waiting: int = 1) -> ReusedStream:
    """A request whose stream, when it is told anything, is given up and asks again."""

    def ask(stream: NotingStream) -> None:
        talk.session.reset(stream, Code.CANCEL)
        talk.session.open(stream)
        talk.send(stream, GET)

    stream = ReusedStream(talk.heard, ask, waiting)
    talk.session.open(stream)
    talk.send(stream, GET)
    return stream


REST = {
    "the rest of its content": headers(1, OK, ends=False) + content(1, b"first") + content(1, b"rest"),
    "its end": headers(1, OK, ends=False) + content(1, b"first") + content(1, b"rest", ends=True),
    "its trailers": headers(1, OK, ends=False) + content(1, b"first") + headers(1, [(b"x", b"1")]),
    "its head": headers(1, INTERIM, ends=False) + headers(1, OK),
    "a reset": headers(1, OK, ends=False) + reset(1),
    "a reset behind its end": headers(1, OK) + reset(1, Code.NO_ERROR),
    "a reset behind its content": headers(1, OK, ends=False) + content(1, b"first", ends=True) + reset(1),
}


@pytest.mark.parametrize("by_byte", [False, True])
@pytest.mark.parametrize("name", REST)
def test_what_comes_for_what_a_stream_was_is_not_told_to_what_it_is(name: str, by_byte: bool) -> None:
    """All of it in one read, and the stream in use again from the first call on."""
    talk = Talk(is_server=False)
    stream = asked(talk)
    if by_byte:
        talk.say_by_byte(REST[name])
    else:
        talk.say(REST[name])
    assert talk.error is None
    assert [one.what for one in talk.take()] == ["head"]
    assert not stream.is_closed
    talk.say(headers(3, OK, ends=False), content(3, b"second", ends=True))
    heard = talk.take()
    assert b"".join(one.payload for one in heard) == b"second"
    assert {one.stream_id for one in heard} == {3}
    assert stream.is_closed


def test_the_rest_of_a_frame_is_not_told_to_the_next_request() -> None:
    """Of a frame of content a part has come, then the request is given up and another asked by the same object."""
    talk = Talk(is_server=False)
    stream = asked(talk, waiting=0)
    frame = content(1, b"first rest")
    talk.say(headers(1, OK, ends=False), frame[:14])
    talk.session.reset(stream, Code.CANCEL)
    talk.session.open(stream)
    talk.send(stream, GET)
    talk.take()
    talk.say(frame[14:])
    assert talk.take() == []
    talk.say(headers(3, OK, ends=False), content(3, b"second", ends=True))
    (heard,) = talk.take()
    assert (heard.stream_id, heard.payload, heard.is_end) == (3, b"second", True)


class SentStream(NotingStream):
    """It is given the next request when what it was has left."""

    __slots__ = ("_talk",)

    def __init__(self, talk: Talk) -> None:
        super().__init__(talk.heard)
        self._talk = talk

    def on_sent(self) -> None:
        super().on_sent()
        if self.id == 1:
            self._talk.session.open(self)
            self._talk.send(self, POST, b"y" * 70_000)


def test_what_waits_of_a_stream_that_is_used_again_is_sent_once() -> None:
    """It waits for a window in its turn, under its new number."""
    talk = Talk(is_server=False)
    stream = SentStream(talk)
    talk.session.open(stream)
    talk.send(stream, POST, b"x" * 70_000)
    talk.say(headers(1, OK), window(0, 20_000), window(1, 100_000))
    talk.say(window(3, 100_000), window(0, 100_000))
    assert talk.error is None
    sent = of_kind(talk.read(), FrameType.DATA)
    assert [sum(len(one.payload) for one in sent if one.stream_id == number) for number in (1, 3)] == [70_000, 70_000]


class ClosingStream(NotingStream):
    """Whoever is told of it closes the connection."""

    __slots__ = ("_talk",)

    def __init__(self, talk: Talk) -> None:
        super().__init__(talk.heard)
        self._talk = talk

    def on_head(self, fields: list[Field], payload: bytes, is_end: bool, trailers: list[Field]) -> None:
        super().on_head(fields, payload, is_end, trailers)
        self._talk.session.close()


@pytest.mark.parametrize("name", REST)
def test_a_connection_that_is_closed_within_a_call_keeps_nothing_to_tell(name: str) -> None:
    """Nobody would be told of it, and it would keep the stream, which knows the connection."""
    talk = Talk(is_server=False)
    stream = ClosingStream(talk)
    talk.session.open(stream)
    talk.send(stream, GET)
    talk.say(REST[name])
    assert [one.what for one in talk.take()] == ["head"]
    assert talk.session._event_stream is None
