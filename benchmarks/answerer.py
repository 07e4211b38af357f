"""Upstreams of calls: two servers that answer each request at once, by HTTP/2 as gRPC does and by HTTP/1.1.

    python benchmarks/answerer.py '{"ports": [PORT, PORT], "body_bytes": 133, "tls": {"certificate": FILE, "key": FILE,
                                    "trust": FILE}}'

Whatever a connection begins with is what it speaks; by `tls`, which is optional, clients must show a certificate, and
ALPN says `h2` or `http/1.1`. The first server says `x-version: v1`, the second `beta`. A request is answered when it
has ended: over HTTP/2 with a head, so many octets of content, and trailers with `grpc-status`. Content waits for
windows, and what is sent is not looked at further.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import sys
from collections.abc import Callable
from typing import NotRequired, TypedDict

import uvloop
import wire

SETTINGS = wire.settings(max_streams=100_000, window=wire.MAX_WINDOW)
CREDIT = 1 << 29  # octets of content after which the connection's window is made whole
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)


class Order(TypedDict):
    """What is asked of this program."""

    ports: list[int]
    body_bytes: int
    tls: NotRequired[dict[str, str]]


class Answer:
    """What one server says to all."""

    def __init__(self, version: bytes, body_bytes: int) -> None:
        self.size = body_bytes
        status: wire.Pairs = [(b"grpc-status", b"0"), (b"grpc-message", b"")]
        # What is more than a frame is answered a piece here and a piece there: in which order, the table must not mind.
        is_long = body_bytes > wire.MAX_FRAME
        trailers = wire.Blocks([], [], [], plain=status) if is_long else wire.Blocks([], status, [])
        said = [(b"content-type", b"application/grpc"), (b"grpc-accept-encoding", b"identity,gzip")]
        head = wire.Blocks([8], [*said, (b"x-version", version)], [], behind=trailers.inserts)
        self.first = self._pieces(head.learning([]), trailers.learning([]))
        self.later = self._pieces(head.later([]), trailers.later([]))
        self.body = b"x" * body_bytes
        self.http1 = (
            b"HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\nx-version: %b\r\ncontent-length: %d\r\n\r\n%b"
        ) % (version, body_bytes, self.body)

    def _pieces(self, head: bytes, trailers: bytes) -> tuple[bytes, bytes, bytes, bytes]:
        """What stands between the stream's numbers: head, content and trailers, for as far as content is one frame."""
        begins = wire.begin(wire.HEADERS, wire.END_HEADERS, len(head))
        content = wire.begin(wire.DATA, 0, self.size) if self.size <= wire.MAX_FRAME else b""
        last = wire.begin(wire.HEADERS, wire.END_HEADERS | wire.END_STREAM, len(trailers))
        return begins, head + content, b"x" * self.size + last, trailers


class Server(asyncio.Protocol):
    """One connection."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self._speaks = 0  # 1 or 2, once it is known
        self._pieces = answer.first
        self._received = 0
        self._window = wire.DEFAULT_WINDOW
        self._peer_window = wire.DEFAULT_WINDOW  # what a stream begins with
        self._windows: dict[int, int] = {}  # what else than that streams have
        self._waiting: dict[int, int] = {}  # octets that are to be sent, by stream

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvloop's own class
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        data = self._rest + data if self._rest else data
        if not self._speaks:
            if len(data) < len(wire.PREFACE) and wire.PREFACE.startswith(data):
                self._rest = data
                return
            self._speaks = 2 if data.startswith(wire.PREFACE) else 1
            if self._speaks == 2:
                data = data[len(wire.PREFACE) :]
                self._write(SETTINGS + wire.window_update(0, wire.MAX_WINDOW - wire.DEFAULT_WINDOW))
        self._rest = self._read_frames(data) if self._speaks == 2 else self._read_requests(data)

    def _write(self, data: bytes) -> None:
        assert self._transport is not None
        self._transport.write(data)

    def _read_requests(self, data: bytes) -> bytes:
        while (end := data.find(b"\r\n\r\n")) >= 0:
            end += 4
            if (found := LENGTH.search(data, 0, end)) is not None:
                end += int(found[1])
                if len(data) < end:
                    break
            elif CHUNKED.search(data, 0, end):
                end = data.find(b"0\r\n\r\n", end) + 5
                if end < 5:
                    break
            self._write(self._answer.http1)
            data = data[end:]
        return data

    def _read_frames(self, data: bytes) -> bytes:
        at, size, out = 0, len(data), list[bytes]()
        while size - at >= 9:
            high, low, kind, flags, stream = wire.FRAME.unpack_from(data, at)
            length = high << 8 | low
            if size - at - 9 < length:
                break
            at += 9 + length
            if kind == wire.DATA:
                self._received += length
            if kind <= wire.HEADERS:
                if flags & wire.END_STREAM:
                    self._reply(out, stream)
            elif kind >= wire.RST_STREAM:
                self._on_control(out, kind, flags, stream, data[at - length : at])
        if self._received > CREDIT:
            out.append(wire.window_update(0, self._received))
            self._received = 0
        if out:
            self._write(b"".join(out))
        return data[at:]

    def _reply(self, out: list[bytes], stream: int) -> None:
        pieces, tag = self._pieces, stream.to_bytes(4, "big")
        self._pieces = self._answer.later
        size = self._answer.size
        if size <= min(wire.MAX_FRAME, self._window, self._peer_window):
            self._window -= size
            out.append(tag.join(pieces))
            return
        head = len(pieces[1]) - (5 if size <= wire.MAX_FRAME else 0)
        out.append(tag.join((pieces[0], pieces[1][:head])))
        self._waiting[stream] = size
        self._windows[stream] = self._peer_window
        self._send_more(out, stream)

    def _send_more(self, out: list[bytes], stream: int) -> None:
        left, tag = self._waiting[stream], stream.to_bytes(4, "big")
        while left and (room := min(left, self._window, self._windows[stream], wire.MAX_FRAME)) > 0:
            out.append(wire.begin(wire.DATA, 0, room) + tag + self._answer.body[:room])
            left -= room
            self._window -= room
            self._windows[stream] -= room
        self._waiting[stream] = left
        if not left:
            out.append(self._answer.later[2][self._answer.size :] + tag + self._answer.later[3])
            del self._waiting[stream], self._windows[stream]

    def _on_control(self, out: list[bytes], kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == wire.WINDOW_UPDATE:
            size = int.from_bytes(payload, "big")
            if stream == 0:
                self._window += size
                for each in list(self._waiting):
                    self._send_more(out, each)
            elif stream in self._windows:
                self._windows[stream] += size
                self._send_more(out, stream)
        elif kind == wire.SETTINGS and not flags & wire.ACK:
            for at in range(0, len(payload), 6):
                if payload[at : at + 2] == b"\0\4":
                    self._peer_window = int.from_bytes(payload[at + 2 : at + 6], "big")
            out.append(wire.frame(wire.SETTINGS, wire.ACK, 0, b""))
        elif kind == wire.PING and not flags & wire.ACK:
            out.append(wire.frame(wire.PING, wire.ACK, 0, payload))
        elif kind == wire.RST_STREAM:
            self._waiting.pop(stream, None)
            self._windows.pop(stream, None)


def server_of(answer: Answer) -> Callable[[], Server]:
    """What makes the connections of one of the two."""
    return lambda: Server(answer)


def _context(files: dict[str, str]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(files["certificate"], files["key"])
    context.load_verify_locations(files["trust"])
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


async def serve(order: Order) -> None:
    """Answer until the process is ended."""
    loop = asyncio.get_running_loop()
    context = _context(order["tls"]) if "tls" in order else None
    answers = [Answer(version, order["body_bytes"]) for version in (b"v1", b"beta")]
    servers = [
        await loop.create_server(server_of(answer), "127.0.0.1", port, ssl=context, backlog=4096)
        for answer, port in zip(answers, order["ports"], strict=True)
    ]
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    uvloop.run(serve(json.loads(sys.argv[1])))
