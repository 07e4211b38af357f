"""
The data path of `data_path`, with a client that calls by gRPC and servers that answer so, all over HTTP/2.

A call has the shape of `benchmarks/calls.py`: eight fields beside the pseudo-header fields, of which a
`grpc-timeout`, a `traceparent` and a cookie are each user's own, a short message, and an answer of a head, a short
message and trailers. Blocks are made once, as an encoder makes them that has sent the like before: the first ones on
a connection insert what comes again, all others name it by its index. Only those are counted, so that what encodes
for the client and the servers is no part of it.
"""

from __future__ import annotations

import random

from benchmarks.micro.data_path import USERS, DataPath, Transport
from sidecar.http2 import frames
from sidecar.http2.codes import DEFAULT_WINDOW, MAX_WINDOW, PREFACE, Setting
from sidecar.http2.fields import field_from
from sidecar.http2.hpack.encoder import Encoder

_Pairs = list[tuple[bytes, bytes]]
_MAX_FRAME = 16384
_LEARNING = 4
"""Calls until an encoder has inserted whatever it will."""
_SETTINGS = frames.settings([(Setting.MAX_CONCURRENT_STREAMS, 1000)])
_WINDOW = frames.window_update(0, MAX_WINDOW - DEFAULT_WINDOW)
_HEAD: _Pairs = [
    (b":status", b"200"),
    (b"content-type", b"application/grpc"),
    (b"grpc-accept-encoding", b"identity,deflate,gzip"),
    (b"x-version", b"v1"),
]
_TRAILERS: _Pairs = [(b"grpc-status", b"0"), (b"grpc-message", b"")]
REQUEST_MESSAGE = b"\0\0\0\0\x40" + b"q" * 64
RESPONSE_MESSAGE = b"\0\0\0\0\x80" + b"a" * 128


def call_fields(user: int, chance: random.Random) -> _Pairs:
    """The field section of a user's call."""
    beta = b"BETA_USER=true; " if user % 10 == 0 else b""
    return [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", b"/v1/List"),
        (b":authority", b"recommendations"),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
        (b"user-agent", b"grpc-python/1.85.3 grpc-c/52.0.0 (linux; chttp2)"),
        (b"grpc-encoding", b"identity"),
        (b"grpc-accept-encoding", b"identity,deflate,gzip"),
        (b"grpc-timeout", b"%du" % chance.randint(900_000, 9_999_999)),
        (b"traceparent", b"00-%032x-%016x-01" % (chance.getrandbits(128) | 1, chance.getrandbits(64) | 1)),
        (b"cookie", b"uid=u%05d; %bsession=%016x" % (user, beta, chance.getrandbits(62))),
    ]


def blocks(users: int = USERS, seed: int = 1) -> list[bytes]:
    """The field block of a call of each user, a tenth of them beta users; the first few come first, and once."""
    chance, encoder = random.Random(seed), Encoder()
    made = [call_fields(user, chance) for user in range(1 - _LEARNING, users + 1)]
    return [encoder.encode([field_from(name, value) for name, value in pairs]) for pairs in made]


def _answers() -> list[tuple[bytes, bytes]]:
    encoder = Encoder()
    head, trailers = ([field_from(name, value) for name, value in pairs] for pairs in (_HEAD, _TRAILERS))
    return [(encoder.encode(head), encoder.encode(trailers)) for _ in range(_LEARNING)]


ANSWERS = _answers()


class CallPath(DataPath):
    """
    One process' data path, with one client connected that calls.

    Args:
        users: As many have a call, `calls`.
        seed: Of what is each one's own.
    """

    def __init__(self, *, has_log: bool = True, has_spans: bool = True, users: int = USERS, seed: int = 1) -> None:
        self._answered: dict[Transport, int] = {}
        self._next_id = 1
        super().__init__(has_log=has_log, has_spans=has_spans, protocol="http2")
        learning, self.calls = (made := blocks(users, seed))[:_LEARNING], made[_LEARNING:]
        self.client.arrive(PREFACE + _SETTINGS + _WINDOW)
        self.loop.run()
        for block in learning:
            self.call(block)

    def greet(self, server: Transport) -> None:
        """It allows many streams, and what a connection can take."""
        server.arrive(_SETTINGS + _WINDOW)

    def ask(self, block: bytes) -> Transport:
        """A call arrives and the turn ends; returns the transport on which it went on."""
        tag = self._next_id.to_bytes(4, "big")
        self._next_id += 2
        head = frames.header_frames(tag, block, False, _MAX_FRAME)
        return self.send(head + b"".join(frames.data_frames(tag, REQUEST_MESSAGE, True, _MAX_FRAME)))

    def reply(self, server: Transport) -> None:
        """The answer to what the server was last asked arrives and the turn ends."""
        end = server.last.rfind(REQUEST_MESSAGE)
        tag = server.last[end - 4 : end]
        number = self._answered.get(server, 0)
        self._answered[server] = number + 1
        head, trailers = ANSWERS[min(number, _LEARNING - 1)]
        message = b"".join(frames.data_frames(tag, RESPONSE_MESSAGE, False, _MAX_FRAME))
        headers = frames.header_frames(tag, head, False, _MAX_FRAME)
        self.answer(server, headers + message + frames.header_frames(tag, trailers, True, _MAX_FRAME))

    def call(self, block: bytes) -> None:
        """One exchange: two turns of the loop."""
        self.reply(self.ask(block))
