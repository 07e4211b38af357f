"""An OTLP/HTTP collector that only counts: it proves that a proxy sent a span for every request.

Each subject gets a port of its own, so that a late batch of one is never counted for another.
`POST /v1/traces` takes a protobuf `ExportTraceServiceRequest`; `GET /count` answers
`{"spans": n, "exports": n, "bytes": n}`.

    python benchmarks/sink.py PORT [PORT ...]
"""

from __future__ import annotations

import asyncio
import gzip
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import httptools
import uvloop

RESOURCE_SPANS = 1  # ExportTraceServiceRequest.resource_spans
SCOPE_SPANS = 2  # ResourceSpans.scope_spans
SPANS = 2  # ScopeSpans.spans


def varint(data: bytes, at: int) -> tuple[int, int]:
    """Read one varint; gives the value and the offset after it."""
    value = shift = 0
    while True:
        octet = data[at]
        at += 1
        value |= (octet & 0x7F) << shift
        if octet < 0x80:
            return value, at
        shift += 7


def submessages(data: bytes, start: int, end: int, wanted: int) -> Iterator[tuple[int, int]]:
    """Give start and end of each length-delimited field numbered `wanted` (wire types 0, 1, 2 and 5)."""
    at = start
    while at < end:
        key, at = varint(data, at)
        kind = key & 7
        if kind == 2:
            length, at = varint(data, at)
            if key >> 3 == wanted:
                yield at, at + length
            at += length
        elif kind == 0:
            _, at = varint(data, at)
        elif kind == 1:
            at += 8
        elif kind == 5:
            at += 4
        else:
            raise ValueError(f"wire type {kind} at octet {at}")


def count_spans(data: bytes) -> int:
    """Count the spans of one export without decoding them."""
    total = 0
    for resource in submessages(data, 0, len(data), RESOURCE_SPANS):
        for scope in submessages(data, *resource, SCOPE_SPANS):
            total += sum(1 for _ in submessages(data, *scope, SPANS))
    return total


@dataclass(slots=True)
class Tally:
    """What one port has received."""

    spans: int = 0
    exports: int = 0
    bytes: int = 0


class Collector(asyncio.Protocol):
    """One connection of an exporter, or of compare.py asking for the count."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._body: list[bytes] = []
        self._is_gzip = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvloop's own class
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._body.clear()
        self._is_gzip = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"content-encoding" and value == b"gzip":
            self._is_gzip = True

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        assert self._transport is not None
        answer, kind = b"", b"application/x-protobuf"
        if self._parser.get_method() == b"POST":
            body = b"".join(self._body)
            tally = self._tally
            tally.exports += 1
            tally.bytes += len(body)
            tally.spans += count_spans(gzip.decompress(body) if self._is_gzip else body)
        else:
            tally = self._tally
            answer = json.dumps({"spans": tally.spans, "exports": tally.exports, "bytes": tally.bytes}).encode()
            kind = b"application/json"
        self._transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n%b" % (kind, len(answer), answer)
        )


def collector(tally: Tally) -> Callable[[], Collector]:
    """Bind the tally of a port to the protocol factory that its listener calls."""
    return lambda: Collector(tally)


async def serve(ports: list[int]) -> None:
    """Count on every port until the process is ended."""
    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(collector(Tally()), "127.0.0.1", port) for port in ports]
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    uvloop.run(serve([int(port) for port in sys.argv[1:]]))
