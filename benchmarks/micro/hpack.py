"""
What HPACK costs a gRPC call that is proxied: blocks read, blocks written, and compared with `hpack` on the same fields.

    python -m benchmarks.micro.hpack                                 # of the interpreted data path
    PYTHONPATH=build/compiled:. python -P -m benchmarks.micro.hpack    # of the compiled one (`make compile`)

Prints microseconds of processor time per block, the best of several rounds. Ours also checks the fields by RFC 9113,
classifies them and parses what has a parsed form. The timeout and the trace of each request are new. Requests are read
as our encoder writes them (those two as plain literals with an indexed name), and as `hpack` does and gRPC in Go would
(in Huffman code, and inserted into the table, which changes with each request). Measured on a 2-core virtual machine
with Python 3.11, others at work; other runs of the compiled one had 2.4 to 4.6 for a call, as the others worked more:

    microseconds                               interpreted  compiled
    request read                                      7.04      0.84
    request written                                   2.66      0.99
    response read                                     0.19      0.08
    response written                                  0.43      0.19
    trailers read                                     0.23      0.08
    trailers written                                  0.41      0.18
    a call, both sides                               10.95      2.35
    request read, Huffman code, all inserted         19.93      2.99
    the same with hpack                              52.67     49.23
    request written with hpack                       56.46     57.01
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import thread_time_ns
from typing import Any

import hpack

from sidecar.http2.fields import field_from
from sidecar.http2.hpack.decoder import Decoder
from sidecar.http2.hpack.encoder import Encoder

_CALLS, _ROUNDS = 2_000, 9
_Pairs = list[tuple[bytes, bytes]]
_REQUEST: _Pairs = [
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/shop.Recommendations/List"),
    (b":authority", b"recommendations:8080"),
    (b"content-type", b"application/grpc"),
    (b"te", b"trailers"),
    (b"user-agent", b"grpc-python/1.85.3 grpc-c/52.0.0 (linux; chttp2)"),
    (b"grpc-accept-encoding", b"identity,deflate,gzip"),
]
_RESPONSE: _Pairs = [
    (b":status", b"200"),
    (b"content-type", b"application/grpc"),
    (b"grpc-accept-encoding", b"identity,deflate,gzip"),
]
_TRAILERS: _Pairs = [(b"grpc-status", b"0"), (b"grpc-message", b"")]


def request(number: int) -> _Pairs:
    """The fields of a call: the last two are another's each time."""
    trace = b"00-%032x-%016x-01" % (number * 0x9E3779B97F4A7C15 << 40, number * 0xC2B2AE3D27D4EB4F & 2**64 - 1)
    return [*_REQUEST, (b"grpc-timeout", b"%du" % (900_000 + number)), (b"traceparent", trace)]


def _us(work: Callable[[Any], object], items: Sequence[Any]) -> float:
    """Microseconds for an item: of the best round; each item is worked on once, in order."""
    best = 1 << 62
    for start in range(0, len(items), _CALLS):
        some = items[start : start + _CALLS]
        began = thread_time_ns()
        for item in some:
            work(item)
        best = min(best, thread_time_ns() - began)
    return best / _CALLS / 1000


def _read(blocks: Sequence[bytes]) -> float:
    decoder = Decoder()
    return _us(lambda block: decoder.decode(block, 65536, 128), blocks)


def _written(lists: Sequence[_Pairs]) -> tuple[float, list[bytes]]:
    """What it costs to send fields as a decoder hands them out, and the blocks."""
    encoder = Encoder()
    blocks: list[bytes] = []
    fields = [[field_from(name, value) for name, value in pairs] for pairs in lists]
    return _us(lambda some: blocks.append(encoder.encode(some)), fields), blocks


def main() -> None:
    """Measure and print."""
    requests = [request(number) for number in range(_CALLS * _ROUNDS)]
    responses, trailers = [_RESPONSE] * len(requests), [_TRAILERS] * len(requests)
    theirs, reader = hpack.Encoder(), hpack.Decoder()
    blocks_of_go = [theirs.encode(pairs) for pairs in requests]
    rows: dict[str, float] = {}
    for label, lists in (("request", requests), ("response", responses), ("trailers", trailers)):
        cost, blocks = _written(lists)
        rows[f"{label} read"] = _read(blocks)
        rows[f"{label} written"] = cost
    together = sum(rows.values())
    rows["a call, both sides"] = together
    rows["request read, Huffman code, all inserted"] = _read(blocks_of_go)
    rows["the same with hpack"] = _us(lambda block: reader.decode(block, raw=True), blocks_of_go)
    rows["request written with hpack"] = _us(theirs.encode, requests)
    print("microseconds")
    for label, cost in rows.items():
        print(f"{label:<46}{cost:>8.2f}")


if __name__ == "__main__":
    main()
