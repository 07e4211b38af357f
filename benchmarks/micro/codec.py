"""
What the codec of a proxied call costs: both sides' frames, streams, windows and HPACK, without the proxy between them.

    python -m benchmarks.micro.codec              # interpreted
    python -m benchmarks.micro.codec_compiled     # compiled; takes a minute to make

A call has the shape of `call_path`. The session that faces the client receives head, message and end, the one that
faces the server sends them on, receives head, message and trailers, and the first sends those. Fields go from one to
the other as they were decoded. Prints microseconds a call, the best of several rounds, so that other work on the
machine counts little.
"""

from __future__ import annotations

from time import perf_counter_ns

from benchmarks.micro.call_path import ANSWERS, REQUEST_MESSAGE, RESPONSE_MESSAGE, blocks
from sidecar.http2 import frames, streams
from sidecar.http2.codes import DEFAULT_WINDOW, MAX_WINDOW, PREFACE, Setting
from sidecar.http2.sending import SessionOwner
from sidecar.http2.session import Session
from sidecar.http2.streams import Stream
from sidecar.message import NO_TRAILERS, Field

if __name__ == "__main__" and not streams.__file__.endswith(".py"):
    raise SystemExit(
        f"{streams.__file__} is compiled, and streams of this file, which is not, cannot inherit from it:\n"
        "run `python -m benchmarks.micro.codec_compiled`, which compiles both; or leave PYTHONPATH to the source"
    )

_CALLS, _ROUNDS, _MAX_FRAME = 2_000, 9, 16384
_SETTINGS = frames.settings([(Setting.MAX_CONCURRENT_STREAMS, 1000)])
_WINDOW = frames.window_update(0, MAX_WINDOW - DEFAULT_WINDOW)


class Half(Stream):
    """A stream that keeps what has come, for the other side to send."""

    __slots__ = ("fields", "payload", "trailers")

    def __init__(self) -> None:
        super().__init__()
        self.fields: list[Field] = []
        self.payload = b""
        self.trailers = NO_TRAILERS

    def on_head(self, fields: list[Field], payload: bytes, is_end: bool, trailers: list[Field]) -> None:
        """All of a message: it has come together."""
        assert is_end
        self.fields, self.payload, self.trailers = fields, payload, trailers


class Owner(SessionOwner):
    """A connection that keeps the last write."""

    __slots__ = ("last", "stream")

    def __init__(self) -> None:
        self.last = b""
        self.stream = Half()

    def write(self, data: bytes) -> None:
        """Keep it."""
        self.last = data

    def new_stream(self) -> Stream | None:
        """One at a time."""
        return self.stream

    def on_stream_closed(self, stream: Stream) -> None:
        """It may be opened again."""

    def on_settings(self) -> None:
        """They are those of this file."""

    def write_much(self, parts: list[bytes]) -> None:
        """Messages are short."""
        raise NotImplementedError

    def on_going_away(self, code: int, detail: bytes) -> None:
        """Nobody does."""
        raise NotImplementedError

    def on_ping_answered(self, data: bytes) -> None:
        """Nobody asks."""
        raise NotImplementedError

    def defer(self) -> None:
        """One call at a time."""
        raise NotImplementedError


class Pair:
    """The two sessions of a proxy that carries calls from one to the other."""

    def __init__(self) -> None:
        self.client, self.server = Owner(), Owner()
        self.facing_client = Session(self.client, True, 100, 262144, 65536, 128, 200, lambda: 0.0)
        self.facing_server = Session(self.server, False, 0, 262144, 65536, 128, 200, lambda: 0.0)
        for session, greeting in ((self.facing_client, PREFACE), (self.facing_server, b"")):
            session.start()
            session.receive(greeting + _SETTINGS + _WINDOW)

    def carry(self, request: bytes, response: bytes) -> None:
        """One call."""
        asked, answered = self.client.stream, self.server.stream
        self.facing_client.receive(request)
        self.facing_server.open(answered)
        self.facing_server.send_message(answered, asked.fields, asked.payload, True, NO_TRAILERS)
        self.facing_server.receive(response)
        self.facing_client.send_message(asked, answered.fields, answered.payload, True, answered.trailers)


def _data(tag: bytes, message: bytes, *, is_end: bool) -> bytes:
    return b"".join(frames.data_frames(tag, message, is_end, _MAX_FRAME))


def conversation(count: int) -> list[tuple[bytes, bytes]]:
    """What comes from the client and from the server, call by call."""
    made = []
    for number, block in enumerate(blocks(count)):
        tag = (2 * number + 1).to_bytes(4, "big")
        head, trailers = ANSWERS[min(number, len(ANSWERS) - 1)]
        request = frames.header_frames(tag, block, False, _MAX_FRAME) + _data(tag, REQUEST_MESSAGE, is_end=True)
        response = frames.header_frames(tag, head, False, _MAX_FRAME) + _data(tag, RESPONSE_MESSAGE, is_end=False)
        made.append((request, response + frames.header_frames(tag, trailers, True, _MAX_FRAME)))
    return made


def main() -> None:
    """Measure and print."""
    pair, calls, best = Pair(), conversation(_CALLS * _ROUNDS), 1 << 62
    for start in range(0, _CALLS * _ROUNDS, _CALLS):
        some = calls[start : start + _CALLS]
        began = perf_counter_ns()
        for request, response in some:
            pair.carry(request, response)
        best = min(best, perf_counter_ns() - began)
    print(f"a call, both sides: {best / _CALLS / 1000:.2f} us")


if __name__ == "__main__":
    main()
