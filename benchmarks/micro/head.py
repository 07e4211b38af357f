"""
What a head costs: read, forwarded, and compared with llhttp and h11 on the same bytes.

    python -m benchmarks.micro.head

Prints microseconds per head: the best of several rounds, so that other work on the machine counts little.
The rows of llhttp and h11 only split the head into fields; ours also classifies them, decides host, path, framing and
persistence, and keeps each line for forwarding. Measured on a 2-core virtual machine with Python 3.11, others at work:

    microseconds
    request head, 8 fields, lines seen before         3.36
    request head, 8 fields, a new cookie each         4.91
    the same with llhttp, a callback a header         2.00
    the same with h11                                24.97
    request head written                              0.93
    response head, 6 fields, lines seen before        1.77
    response head written                             0.74
    64 KiB in chunks of 4 KiB                        20.53
    500 chunks of 16 octets                         485.12
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from timeit import repeat

import h11
import httptools

from sidecar.http1.body import ChunkedReader
from sidecar.http1.forward import request_bytes, response_bytes
from sidecar.http1.head import find_head_end, parse_request_head, parse_response_head
from sidecar.message import Framing

_CALLS, _ROUNDS = 5_000, 7
_ADDED = (
    b"x-forwarded-proto: http\r\ntraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n"
    b"x-request-id: 0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9\r\n"
)
REQUEST = (
    b"GET /v1/items/12?page=2 HTTP/1.1\r\nHost: recommendations.shop:8080\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n"
    b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\nAccept-Language: en-GB,en;q=0.5\r\n"
    b"Accept-Encoding: gzip, deflate, br\r\nCookie: session=0a1b2c3d; uid=u-%d; BETA_USER=true\r\n"
    b"Referer: http://shop/\r\nCache-Control: no-cache\r\n\r\n"
)
RESPONSE = (
    b"HTTP/1.1 200 OK\r\nDate: Mon, 23 Nov 2026 06:00:%02d GMT\r\nContent-Type: application/json\r\n"
    b"Content-Length: 512\r\nServer: uvicorn\r\nVary: Accept-Encoding\r\nX-Version: v1\r\n\r\n"
)


class _Collector:
    """A callback a header, as a proxy on llhttp needs."""

    def __init__(self) -> None:
        self.fields: list[tuple[bytes, bytes]] = []

    def on_url(self, url: bytes) -> None:
        self.url = url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.lower(), value))


def _microseconds(call: Callable[[], object], calls: int = _CALLS) -> float:
    return min(repeat(call, number=calls, repeat=_ROUNDS)) / calls * 1e6


def _with_llhttp(data: bytes) -> Callable[[], object]:
    def read() -> object:
        collector = _Collector()
        httptools.HttpRequestParser(collector).feed_data(data)
        return collector

    return read


def _with_h11(data: bytes) -> Callable[[], object]:
    def read() -> object:
        connection = h11.Connection(h11.SERVER)
        connection.receive_data(data)
        return connection.next_event()

    return read


def _read_request(data: bytes) -> object:
    return parse_request_head(data[: find_head_end(data)], 128)


def main() -> None:
    """Measure and print."""
    request, response = REQUEST % 1, RESPONSE % 1
    head = parse_request_head(request[:-4], 128)
    answer = parse_response_head(response[:-4], 128, b"GET")
    numbers = count()
    cookies = [REQUEST % number for number in range(100_000)]
    chunks = b"".join(b"1000\r\n%b\r\n" % (b"x" * 4096) for _ in range(16))
    small = b"10\r\n0123456789abcdef\r\n" * 500
    rows: dict[str, Callable[[], object]] = {
        "request head, 8 fields, lines seen before": lambda: _read_request(request),
        "request head, 8 fields, a new cookie each": lambda: _read_request(cookies[next(numbers) % len(cookies)]),
        "the same with llhttp, a callback a header": _with_llhttp(request),
        "the same with h11": _with_h11(request),
        "request head written": lambda: request_bytes(head, head.fields, head.path, None, _ADDED),
        "response head, 6 fields, lines seen before": lambda: parse_response_head(response[:-4], 128, b"GET"),
        "response head written": lambda: response_bytes(answer, answer.fields, Framing.LENGTH, b""),
        "64 KiB in chunks of 4 KiB": lambda: ChunkedReader(8192).feed(chunks),
        "500 chunks of 16 octets": lambda: ChunkedReader(8192).feed(small),
    }
    print("microseconds")
    for label, call in rows.items():
        calls = 500 if "chunks" in label or "h11" in label else _CALLS
        print(f"{label:<46}{_microseconds(call, calls):>8.2f}")


if __name__ == "__main__":
    main()
