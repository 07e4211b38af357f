"""
What telemetry costs a request: begin and record, with metrics, JSON log line and span, each alone and together.

Run `python benchmarks/micro/record.py`; figures are medians of rounds, in microseconds of this process' CPU time,
with sinks that take the octets and drop them.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections import deque
from collections.abc import Callable

from sidecar.clock import monotonic_ns
from sidecar.exchange import Direction, Exchange
from sidecar.http1.head import parse_request_head
from sidecar.message import RequestHead
from sidecar.telemetry.recorder import Telemetry, TelemetrySettings

BLOCK = (
    b"GET /v1/items?page=2 HTTP/1.1\r\nHost: recommendations\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) Gecko/2010"
    b"0101 Firefox/128.0\r\nAccept: text/html,application/xhtml+xml\r\nAccept-Language: en-US,en;q=0.5\r\n"
    b"Accept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\nCookie: uid=42; BETA_USER=true\r\nX-Env: test"
)
TRACED = BLOCK + (
    b"\r\nTraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\nX-Request-Id: 8a6e0804-2bd0-4672"
)
PROPAGATORS = ("tracecontext", "b3", "b3multi", "xray")
COMPAT = ("envoy", "istio", "linkerd", "appmesh")
ROUNDS, CALLS = 11, 20_000


class Endpoint:
    """An address that was chosen."""

    label = "10.0.0.11:8080"


ENDPOINT = Endpoint()


def median_us(action: Callable[[], object], calls: int = CALLS) -> float:
    """CPU time of one call, median of rounds."""
    figures = []
    for _ in range(ROUNDS):
        started = time.process_time_ns()
        for _ in range(calls):
            action()
        figures.append((time.process_time_ns() - started) / calls / 1000)
    return statistics.median(figures)


def exchange_of(head: RequestHead, telemetry: Telemetry) -> Callable[[], Exchange]:
    """Makes finished exchanges that telemetry has not seen."""
    scope = telemetry.scope(Direction.OUTBOUND, "canary", "recommendations", "recommendations.shop:8080")

    def make() -> Exchange:
        start = monotonic_ns()
        exchange = Exchange(Direction.OUTBOUND, start, head, ("127.0.0.1", 50_123))
        exchange.scope = scope
        exchange.endpoint = ENDPOINT
        exchange.attempts = 1
        exchange.sent_ns = start + 30_000
        exchange.first_byte_ns = start + 1_200_000
        exchange.received_ns = start + 1_240_000
        exchange.end_ns = start + 1_250_000
        exchange.status = 200
        exchange.bytes_sent = 4321
        return exchange

    return make


def telemetry_with(*, has_log: bool, has_spans: bool, has_everything: bool) -> Telemetry:
    """Telemetry whose sinks drop what they get; no thread runs."""
    telemetry = Telemetry(
        TelemetrySettings(
            "storefront",
            otlp_endpoint="http://127.0.0.1:4318" if has_spans else None,
            access_log_path="/dev/null" if has_log else None,
            propagators=PROPAGATORS if has_everything else None,
            compat=COMPAT if has_everything else (),
        ),
        environment={},
    )
    # The queues are bounded by octets and nobody empties them here: each item takes the place of the one before.
    for sink in (telemetry._sinks.log_file, telemetry._sinks.exporter):
        if sink is not None:
            sink._outbox._items = deque(maxlen=1)
            sink._outbox._max_bytes = 1 << 60
    return telemetry


def main() -> None:
    """Measure and print."""
    out = sys.stdout.write
    for name, block in (("no context received", BLOCK), ("traceparent and x-request-id received", TRACED)):
        head = parse_request_head(block, 100)
        out(f"{name}\n")
        for label, has_log, has_spans, has_everything in (
            ("metrics", False, False, False),
            ("metrics, log", True, False, False),
            ("metrics, span", False, True, False),
            ("metrics, log, span", True, True, False),
            ("all, four formats and meshes", True, True, True),
        ):
            telemetry = telemetry_with(has_log=has_log, has_spans=has_spans, has_everything=has_everything)
            make = exchange_of(head, telemetry)
            bare = median_us(make)

            def begun(make: Callable[[], Exchange] = make, telemetry: Telemetry = telemetry) -> None:
                telemetry.begin(make())

            def whole(make: Callable[[], Exchange] = make, telemetry: Telemetry = telemetry) -> None:
                exchange = make()
                telemetry.begin(exchange)
                telemetry.record(exchange)

            begin_us = median_us(begun) - bare
            total_us = median_us(whole) - bare
            out(f"  {label:28} begin {begin_us:5.2f}  record {total_us - begin_us:5.2f}  together {total_us:5.2f} us\n")


if __name__ == "__main__":
    main()
