"""The upstreams of the uploads: they read every octet of a body before they answer, and count.

`GET /count` answers with `{"requests": n, "bytes": n}` of all bodies; any other request with 200 and `x-version`,
once its body is whole. A body of unknown length gets 411: every subject knows the length and has to pass it on.

    python benchmarks/receiver.py V1_PORT BETA_PORT
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from dataclasses import dataclass

import uvloop

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
CHUNKED = re.compile(rb"\r\ntransfer-encoding:", re.IGNORECASE)


@dataclass(slots=True)
class Tally:
    """What both ports have received."""

    requests: int = 0
    bytes: int = 0


class Receiver(asyncio.Protocol):
    """One connection; requests follow one another and are not pipelined."""

    __slots__ = ("_head", "_missing", "_tally", "_transport", "_version")

    def __init__(self, version: bytes, tally: Tally) -> None:
        self._version = version
        self._tally = tally
        self._head = b""
        self._missing = 0  # octets of the body that are to come
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvloop's own class
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._missing:
            self._on_body(len(data))
            return
        self._head += data
        head, blank, body = self._head.partition(b"\r\n\r\n")
        if not blank:
            return
        self._head = b""
        if head.startswith(b"GET /count "):
            tally = {"requests": self._tally.requests, "bytes": self._tally.bytes}
            self._answer(b"200 OK", json.dumps(tally).encode())
            return
        if CHUNKED.search(head):
            self._answer(b"411 Length Required", b"")
            return
        found = LENGTH.search(head)
        self._missing = int(found[1]) if found else 0
        self._on_body(len(body))

    def _on_body(self, octets: int) -> None:
        self._tally.bytes += octets
        self._missing -= octets
        if self._missing == 0:
            self._tally.requests += 1
            self._answer(b"200 OK", b"received")

    def _answer(self, status: bytes, body: bytes) -> None:
        assert self._transport is not None
        head = b"HTTP/1.1 %b\r\nx-version: %b\r\ncontent-length: %d\r\n\r\n" % (status, self._version, len(body))
        self._transport.write(head + body)


async def serve(v1_port: int, beta_port: int) -> None:
    """Receive until the process is ended."""
    loop, tally = asyncio.get_running_loop(), Tally()
    v1 = await loop.create_server(lambda: Receiver(b"v1", tally), "127.0.0.1", v1_port, backlog=4096)
    beta = await loop.create_server(lambda: Receiver(b"beta", tally), "127.0.0.1", beta_port, backlog=4096)
    await asyncio.gather(v1.serve_forever(), beta.serve_forever())


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), int(sys.argv[2])))
