"""
What a span costs: encoded from a template, exported by the thread, and by the SDK for comparison.

Run `python benchmarks/micro/spans.py`; figures are medians of rounds, in microseconds of CPU time a span. "whole" is
this process with all its threads: encode, queue, batch, send to a sink in another process that reads and replies.
"""

from __future__ import annotations

import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from multiprocessing.connection import Connection
from typing import Any

from sidecar.exchange import Direction
from sidecar.telemetry.otlp_target import Target
from sidecar.telemetry.resource import encoded_resource, service_attributes
from sidecar.telemetry.traces import spans, tracecontext
from sidecar.telemetry.traces.export import Exporter, SpanLosses
from sidecar.telemetry.traces.spans import Agent, Authority, Destination, Peer, SpanTemplate, request_span

ROUNDS, SPANS = 9, 10_000
TEMPLATE = SpanTemplate(request_span(Direction.OUTBOUND, b"GET", 1, "canary", "recommendations", 200, None))
PEER = Peer("127.0.0.1", Direction.OUTBOUND)
DESTINATION = Destination("10.0.0.11:8080", Direction.OUTBOUND)
AUTHORITY = Authority(b"recommendations", None)
AGENT = Agent(b"Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/128.0")
PATH, QUERY = b"/v1/items", b"page=2"


def encode() -> bytes:
    """One span, as the recorder makes it."""
    trace_id, span_id = tracecontext.new_ids()
    own = PEER.attributes + DESTINATION.attributes + AUTHORITY.attributes
    own += spans.url_attributes(True, AUTHORITY.octets, PATH, QUERY) + AGENT.attribute
    return TEMPLATE.encode(trace_id, span_id, b"", b"", 1_800_000_000_000_000_000, 1_800_000_000_001_000_000, own)


class Sink(BaseHTTPRequestHandler):
    """Reads and forgets."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Reply 200 to whatever came."""
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def serve(started: Connection) -> None:
    """Run the sink; tells its port."""
    server = HTTPServer(("127.0.0.1", 0), Sink)
    started.send(server.server_port)
    server.serve_forever()


def cpu_us(action: Callable[[], object]) -> float:
    """CPU time of all threads of this process for `SPANS` spans, a span, median of rounds."""
    figures = []
    for _ in range(ROUNDS):
        started = time.process_time_ns()
        action()
        figures.append((time.process_time_ns() - started) / SPANS / 1000)
    return statistics.median(figures)


def exported(url: str, *, is_compressed: bool) -> float:
    """Encode, hand over, batch and send."""
    losses = SpanLosses()
    resource = encoded_resource(service_attributes("storefront", "1", "", {}))
    exporter = Exporter(Target(url, (), is_compressed), lambda: resource, losses, 1 << 30)

    def run() -> None:
        put = exporter.put
        for _ in range(SPANS):
            put(encode())
        exporter.turn()

    figure = cpu_us(run)
    assert losses.exported == ROUNDS * SPANS, losses
    return figure


def sdk() -> float:
    """The same span by the SDK, without exporting it."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import SpanKind

    tracer = TracerProvider().get_tracer("sidecar")

    def run() -> None:
        for _ in range(SPANS):
            attributes: dict[str, str | int] = {
                "http.request.method": "GET", "network.protocol.version": "1.1", "http.response.status_code": 200,
                "http.route": "canary", "sidecar.route": "canary", "sidecar.upstream": "recommendations",
                "sidecar.endpoint": "10.0.0.11:8080", "network.peer.address": "10.0.0.11", "network.peer.port": 8080,
                "server.address": "recommendations", "server.port": 80,
                "url.full": "http://recommendations/v1/items?page=2",
                "user_agent.original": "Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/128.0",
            }  # fmt: skip
            tracer.start_span("GET canary", kind=SpanKind.CLIENT, attributes=attributes).end()

    return cpu_us(run)


def main() -> None:
    """Measure and print."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    sink = context.Process(target=serve, args=(there,), daemon=True)
    sink.start()
    url = f"http://127.0.0.1:{here.recv()}/v1/traces"
    out = sys.stdout.write

    def encode_all() -> None:
        for _ in range(SPANS):
            encode()

    out(f"octets                 {len(encode()):6}\n")
    out(f"encode                 {cpu_us(encode_all):6.2f} us\n")
    out(f"whole                  {exported(url, is_compressed=False):6.2f} us\n")
    out(f"whole, gzip            {exported(url, is_compressed=True):6.2f} us\n")
    out(f"SDK, start and end     {sdk():6.2f} us\n")
    sink.terminate()


if __name__ == "__main__":
    main()
