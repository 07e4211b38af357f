"""Exchanges as the proxy hands them over, for the tests of this room."""

from __future__ import annotations

import json
from typing import Any

from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans, Span

from sidecar.errors import Reason
from sidecar.exchange import Direction, Exchange
from sidecar.http1.head import parse_request_head
from sidecar.message import RequestHead
from sidecar.telemetry.recorder import Scope, Telemetry, TelemetrySettings

COLLECTOR = "http://127.0.0.1:4318"
SETTINGS = TelemetrySettings("storefront", otlp_endpoint=COLLECTOR, access_log_path="/dev/null")


class Endpoint:
    """An address that was chosen."""

    def __init__(self, label: str) -> None:
        self.label = label


class Told:
    """Telemetry whose threads never run, so that what was told can be read."""

    def __init__(self, settings: TelemetrySettings = SETTINGS, **options: Any) -> None:
        self.inner = Telemetry(settings, **{"environment": {}, **options})

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def raw_lines(self) -> list[bytes]:
        """Lines handed over since the last call."""
        log_file = self._sinks.log_file
        return [] if log_file is None else log_file._outbox.take(1 << 30, 1 << 60)

    def lines(self) -> list[dict[str, Any]]:
        """The same, parsed."""
        return [json.loads(line) for line in self.raw_lines()]

    def raw_spans(self) -> list[bytes]:
        """Spans handed over since the last call."""
        exporter = self._sinks.exporter
        return [] if exporter is None else exporter._outbox.take(1 << 30, 1 << 60)

    def spans(self) -> list[Span]:
        """The same, parsed."""
        return list(ScopeSpans.FromString(b"".join(self.raw_spans())).spans)

    def samples(self) -> dict[str, float]:
        """The exposition, by series."""
        lines = self.exposition().decode().splitlines()
        samples = (line.rpartition(" ") for line in lines if line[0] != "#")
        return {name: float(value) for name, _, value in samples}


def request(*fields: bytes, line: bytes = b"GET /v1?a=b HTTP/1.1", host: bytes = b"shop:8080") -> RequestHead:
    """A head as the parser makes it; without a host for HTTP/1.0 only."""
    return parse_request_head(b"\r\n".join((line, *([b"Host: " + host] if host else []), *fields)), 100)


def over(
    head: RequestHead | None,
    *,
    scope: Scope | None = None,
    direction: Direction = Direction.INBOUND,
    status: int = 200,
    grpc_status: int = -1,
    reason: Reason | None = None,
    endpoint: str | None = None,
    attempts: int = 1,
    start_ns: int = 1_000_000_000,
    duration_ns: int = 12_345_678,
    peer: tuple[str, int] = ("10.1.2.3", 51_234),
) -> Exchange:
    """An exchange that is over; with an endpoint, the upstream answered after 2 ms, and was asked after 40 us;
    its last octet was read 10 us before the end."""
    exchange = Exchange(direction, start_ns, head, peer)
    exchange.scope = scope
    exchange.status = status
    exchange.grpc_status = grpc_status
    exchange.reason = reason
    exchange.attempts = attempts if endpoint else 0
    exchange.end_ns = start_ns + duration_ns
    exchange.bytes_received = 7
    exchange.bytes_sent = 42
    if endpoint:
        exchange.endpoint = Endpoint(endpoint)
        exchange.sent_ns = start_ns + 40_000
        exchange.first_byte_ns = start_ns + 2_040_000
        exchange.received_ns = start_ns + duration_ns - 10_000
    return exchange


def attributes(span: Span) -> dict[str, str | int]:
    """A span's attributes, each key once."""
    found: dict[str, str | int] = {}
    for pair in span.attributes:
        assert pair.key not in found, f"{pair.key} twice"
        kind = pair.value.WhichOneof("value")
        assert kind in ("string_value", "int_value")
        found[pair.key] = getattr(pair.value, kind)
    return found
