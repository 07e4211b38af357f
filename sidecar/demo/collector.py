"""
The collector of the demonstration: takes spans by OTLP/HTTP and pairs those of one trace.

Each request through the storefront makes two: SERVER where it came in, and as its child CLIENT where the app called
on. A pair is judged when it is complete and only the last few are kept, so the demonstration can run for days.
"""

from __future__ import annotations

import gzip
from collections import OrderedDict, deque
from dataclasses import dataclass

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1 import trace_pb2

from sidecar.demo.http11 import Request, Response

KEPT_TRACES = 50
MAX_WAITING = 10_000
"""Spans whose partner has not come; more are given up and counted as unpaired."""


@dataclass(frozen=True, slots=True)
class Span:
    """One span; ids in hexadecimal digits."""

    trace_id: str
    span_id: str
    parent_id: str
    kind: str
    name: str
    upstream: str
    status: int
    duration_ms: float


@dataclass(frozen=True, slots=True)
class Trace:
    """A SERVER span and, if the app called on, the CLIENT span of the same trace."""

    server: Span
    client: Span | None


class Collector:
    """
    What the sidecar's exporter talks to.

    Attributes:
        inbound, outbound: Spans received, by kind.
        others: Spans of another kind; there should be none.
        children: Pairs whose CLIENT span has the SERVER span as its parent.
        strangers: Pairs in one trace of which that is not so.
        refused: Requests that could not be understood.
        recent: The last traces, newest last.
    """

    def __init__(self) -> None:
        self.inbound = 0
        self.outbound = 0
        self.others = 0
        self.children = 0
        self.strangers = 0
        self.refused = 0
        self.recent: deque[Trace] = deque(maxlen=KEPT_TRACES)
        self._waiting: OrderedDict[str, Span] = OrderedDict()

    @property
    def unpaired(self) -> int:
        """Spans that are alone in their trace."""
        return self.inbound + self.outbound - 2 * (self.children + self.strangers)

    async def answer(self, request: Request) -> Response:
        """`POST /v1/traces` with protobuf, as the OTLP specification has it."""
        if request.method != "POST" or request.target != "/v1/traces":
            return Response(404, b"")
        body = request.body
        try:
            if request.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            message = ExportTraceServiceRequest.FromString(body)
        except (DecodeError, OSError, EOFError):
            self.refused += 1
            return Response(400, b"")
        for resource in message.resource_spans:
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self._add(span)
        reply = ExportTraceServiceResponse().SerializeToString()
        return Response(200, reply, {"content-type": "application/x-protobuf"})

    def _add(self, message: trace_pb2.Span) -> None:
        span = _read(message)
        if span.kind == "SERVER":
            self.inbound += 1
        elif span.kind == "CLIENT":
            self.outbound += 1
        else:
            self.others += 1
            return
        if span.kind == "SERVER" and not span.upstream:
            self.recent.append(Trace(span, None))  # answered by the sidecar itself: nothing follows
            return
        other = self._waiting.get(span.trace_id)
        if other is None or other.kind == span.kind:
            self._waiting[span.trace_id] = span
            if len(self._waiting) > MAX_WAITING:
                self._waiting.popitem(last=False)
            return
        del self._waiting[span.trace_id]
        server, client = (span, other) if span.kind == "SERVER" else (other, span)
        if client.parent_id == server.span_id:
            self.children += 1
        else:
            self.strangers += 1
        self.recent.append(Trace(server, client))


def _read(message: trace_pb2.Span) -> Span:
    attributes = {attribute.key: attribute.value for attribute in message.attributes}
    upstream, status = attributes.get("sidecar.upstream"), attributes.get("http.response.status_code")
    return Span(
        message.trace_id.hex(),
        message.span_id.hex(),
        message.parent_span_id.hex(),
        trace_pb2.Span.SpanKind.Name(message.kind).removeprefix("SPAN_KIND_"),
        message.name,
        upstream.string_value if upstream is not None else "",
        status.int_value if status is not None else 0,
        (message.end_time_unix_nano - message.start_time_unix_nano) / 1e6,
    )
