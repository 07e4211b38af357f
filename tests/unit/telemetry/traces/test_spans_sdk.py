"""
Spans from templates carry what OpenTelemetry's SDK and its OTLP encoder would have sent for the same facts.

Each case is told to the recorder as an exchange and to the SDK as a name, a kind, attributes, a status and times, by
OpenTelemetry's HTTP conventions; the requests that leave are parsed and compared, field for field.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from sidecar import clock, errors
from sidecar.errors import Reason
from sidecar.exchange import Direction, Exchange, Try
from sidecar.message import RequestHead
from sidecar.telemetry.otlp_target import Target
from sidecar.telemetry.resource import encoded_resource
from sidecar.telemetry.traces.export import Exporter, SpanLosses
from tests.unit.telemetry.cases import Endpoint, Told, over, request
from tests.unit.telemetry.collector import Collector

IN, OUT = Direction.INBOUND, Direction.OUTBOUND
TRACE, PARENT = b"4bf92f3577b34da6a3ce929d0e0e4736", b"00f067aa0ba902b7"
TRACED = (b"traceparent: 00-%b-%b-01" % (TRACE, PARENT), b"tracestate: a=1,b=2")
RESOURCE = {"service.name": "storefront", "service.version": "1.10", "service.namespace": "shop"}


class Ids(IdGenerator):
    """Gives the ids that the recorder took."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def generate_span_id(self) -> int:
        return int(self._exchange.span_id, 16)

    def generate_trace_id(self) -> int:
        return int(self._exchange.trace_id, 16)


class Kept(SpanExporter):
    """Encodes what it is given."""

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []

    def export(self, spans: object) -> SpanExportResult:
        self.requests.append(encode_spans(spans))  # type: ignore[arg-type]
        return SpanExportResult.SUCCESS


def by_sdk(
    exchange: Exchange, name: str, kind: SpanKind, attributes: Mapping[str, str | int], status: Status | None
) -> ExportTraceServiceRequest:
    """What the SDK sends for the exchange."""
    kept = Kept()
    provider = TracerProvider(resource=Resource.create(RESOURCE), id_generator=Ids(exchange), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    context = None
    if exchange.parent_id:
        state = TraceState([tuple(pair.split("=")) for pair in exchange.tracestate.decode().split(",") if pair])  # type: ignore[misc]
        parent = SpanContext(
            int(exchange.trace_id, 16), int(exchange.parent_id, 16), True, TraceFlags(TraceFlags.SAMPLED), state
        )
        context = set_span_in_context(NonRecordingSpan(parent))
    start_ns = clock.wall_ns(exchange.start_ns)
    span = provider.get_tracer("sidecar", "0").start_span(
        name, context, kind, attributes, start_time=start_ns, record_exception=False
    )
    assert isinstance(span, ReadableSpan)
    if status is not None:
        span.set_status(status)  # type: ignore[attr-defined]
    span.end(start_ns + exchange.end_ns - exchange.start_ns)  # type: ignore[attr-defined]
    return kept.requests[0]


def the_span(request: ExportTraceServiceRequest) -> Span:
    """The only span, with its attributes in order."""
    ((resource_spans,),) = (request.resource_spans,)
    ((scope_spans,),) = (resource_spans.scope_spans,)
    assert scope_spans.scope.name == "sidecar"
    ((found,),) = (scope_spans.spans,)
    span = Span()
    span.CopyFrom(found)
    span.status.SetInParent()  # one that is unset may be absent or empty
    del span.attributes[:]
    span.attributes.extend(sorted(found.attributes, key=lambda pair: pair.key))
    return span


@dataclass(frozen=True)
class Case:
    """An exchange and the same facts in the conventions' words."""

    head: RequestHead | None
    name: str
    facts: Mapping[str, str | int]
    direction: Direction = OUT
    status_code: int = 200
    reason: Reason | None = None
    endpoint: str = "10.0.0.11:8080"
    attempts: int = 1
    retry_skipped: str = ""
    span_status: Status | None = None
    scope: tuple[str, str, str] = field(default=("canary", "recommendations", "recommendations.shop"))


ROUTED = {"http.route": "canary", "sidecar.route": "canary", "sidecar.upstream": "recommendations"}
CALL = {
    **ROUTED,
    "http.request.method": "GET",
    "http.response.status_code": 200,
    "network.protocol.version": "1.1",
    "server.address": "shop",
    "server.port": 8080,
    "url.full": "http://shop:8080/v1?a=b",
    "network.peer.address": "10.0.0.11",
    "network.peer.port": 8080,
    "sidecar.endpoint": "10.0.0.11:8080",
}
SERVED = {
    **ROUTED,
    "http.request.method": "GET",
    "http.response.status_code": 200,
    "network.protocol.version": "1.1",
    "url.scheme": "http",
    "url.path": "/v1",
    "url.query": "a=b",
    "server.address": "shop",
    "server.port": 8080,
    "client.address": "10.1.2.3",
    "network.peer.address": "10.1.2.3",
    "network.peer.port": 51234,
    "sidecar.endpoint": "10.0.0.11:8080",
}
FAILED = Status(StatusCode.ERROR)
CASES = {
    "a call": Case(request(), "GET canary", CALL),
    "a call in a trace": Case(request(*TRACED), "GET canary", CALL),
    "a call by an agent": Case(
        request(b"User-Agent: caf\xc3\xa9 \xff"), "GET canary",
        {**CALL, "user_agent.original": "caf\xc3\xa9 \xff"},
    ),
    "a call that was not found": Case(
        request(), "GET canary", {**CALL, "http.response.status_code": 404, "error.type": "404"},
        status_code=404, span_status=FAILED,
    ),
    "a call that failed": Case(
        request(), "GET canary", {**CALL, "http.response.status_code": 500, "error.type": "500"},
        status_code=500, span_status=FAILED,
    ),
    "a call that could not be made": Case(
        request(), "GET canary",
        {**CALL, "http.response.status_code": 503, "error.type": "connect_failed", "sidecar.response_flag": "UF",
         "http.request.resend_count": 1, "sidecar.retry_skipped": "attempts_used"},
        status_code=503, reason=errors.CONNECT_FAILED, attempts=2, retry_skipped="attempts_used",
        span_status=Status(StatusCode.ERROR, errors.CONNECT_FAILED.text),
    ),
    "a call with a secret": Case(
        request(line=b"GET /v1?X-Amz-Signature=abc&b=1 HTTP/1.1"), "GET canary",
        {**CALL, "url.full": "http://shop:8080/v1?X-Amz-Signature=REDACTED&b=1"},
    ),
    "a call to a socket": Case(
        request(), "GET canary",
        {key: value for key, value in CALL.items() if key != "network.peer.port"}
        | {"network.peer.address": "/run/app.sock", "sidecar.endpoint": "unix:/run/app.sock"},
        endpoint="unix:/run/app.sock",
    ),
    "a call by an unknown method": Case(
        request(line=b"PURGE /v1?a=b HTTP/1.1"), "HTTP canary",
        {**CALL, "http.request.method": "_OTHER", "http.request.method_original": "PURGE"},
    ),
    "a call that names no host": Case(
        request(line=b"GET /v1?a=b HTTP/1.0", host=b""), "GET canary",
        {**CALL, "network.protocol.version": "1.0", "server.address": "recommendations.shop", "url.full": "http:///v1?a=b"},
    ),
    "a request": Case(request(), "GET canary", SERVED, IN),
    "a request in a trace": Case(request(*TRACED), "GET canary", SERVED, IN),
    "a request that was not found": Case(
        request(), "GET canary", {**SERVED, "http.response.status_code": 404}, IN, status_code=404
    ),
    "a request that failed": Case(
        request(), "GET canary", {**SERVED, "http.response.status_code": 502, "error.type": "502"}, IN,
        status_code=502, span_status=FAILED,
    ),
    "a request whose client left": Case(
        request(), "GET canary",
        {**SERVED, "http.response.status_code": 499, "error.type": "client_left", "sidecar.response_flag": "DC"}, IN,
        status_code=499, reason=errors.CLIENT_LEFT,
    ),
    "what is no request": Case(
        None, "HTTP",
        {"http.request.method": "_OTHER", "http.response.status_code": 400, "error.type": "bad_request",
         "sidecar.response_flag": "DPE", "client.address": "10.1.2.3", "network.peer.address": "10.1.2.3",
         "network.peer.port": 51234},
        IN, status_code=400, reason=errors.BAD_REQUEST, endpoint="", scope=("", "", ""),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_leaves_is_what_the_sdk_would_have_sent(name: str) -> None:
    """Ids, state, name, kind, times, attributes, status; nothing more and nothing less."""
    case = CASES[name]
    telemetry = Told()
    exchange = over(
        case.head,
        scope=telemetry.scope(case.direction, *case.scope),
        direction=case.direction,
        status=case.status_code,
        reason=case.reason,
        endpoint=case.endpoint,
        attempts=case.attempts,
    )
    exchange.retry_skipped = case.retry_skipped
    telemetry.begin(exchange)
    telemetry.record(exchange)
    with Collector() as collector:
        exporter = Exporter(
            Target(f"{collector.url}/v1/traces", (), False), lambda: encoded_resource(RESOURCE), SpanLosses()
        )
        for span in telemetry.raw_spans():
            exporter.put(span)
        exporter.turn()
        exporter._disconnect()
    ours = collector.requests[0]
    kind = SpanKind.CLIENT if case.direction is OUT else SpanKind.SERVER
    theirs = by_sdk(exchange, case.name, kind, case.facts, case.span_status)
    sent, expected = the_span(ours), the_span(theirs)
    # The encoder leaves W3C's flags out, which "SHOULD be set" from the span's own (trace.proto, Span.flags).
    assert sent.flags == expected.flags | TraceFlags.SAMPLED
    sent.flags = expected.flags
    assert sent == expected
    resource, other = (some.resource_spans[0].resource for some in (ours, theirs))
    assert sorted(map(str, resource.attributes)) == sorted(map(str, other.attributes))


def facts_of(span: Span) -> dict[str, str | int]:
    """Its attributes."""
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value") or "") for pair in span.attributes}


class TestAttempts:
    """ "One CLIENT span per attempt", with `http.request.resend_count` on all but the first."""

    @staticmethod
    def retried(telemetry: Told, direction: Direction) -> Exchange:
        """Refused by the first endpoint, 503 from the second, answered by the third."""
        scope = telemetry.scope(direction, "r", "u", "h")
        exchange = over(
            request(*TRACED),
            scope=scope,
            direction=direction,
            endpoint="10.0.0.3:80",
            attempts=3,
            duration_ns=50_000_000,
        )
        telemetry.begin(exchange)
        start_ns = exchange.start_ns
        exchange.tries = [
            Try(Endpoint("10.0.0.1:80"), start_ns, start_ns + 1_000, 0, errors.CONNECT_FAILED, b"a" * 16),
            Try(Endpoint("10.0.0.2:80"), start_ns + 2_000, start_ns + 9_000, 503, None, b"b" * 16),
        ]
        exchange.sent_ns = start_ns + 20_000
        telemetry.record(exchange)
        return exchange

    def spans(self, direction: Direction) -> Iterator[Span]:
        telemetry = Told()
        self.exchange = self.retried(telemetry, direction)
        yield from telemetry.spans()

    def test_attempts_of_a_call_are_siblings(self) -> None:
        """Each to its endpoint, in its own time, with how it ended."""
        last, first, second = self.spans(OUT)
        origin = clock.wall_ns(self.exchange.start_ns)
        assert [span.kind for span in (first, second, last)] == [Span.SPAN_KIND_CLIENT] * 3
        assert [span.parent_span_id.hex() for span in (first, second, last)] == [PARENT.decode()] * 3
        assert [span.span_id.hex() for span in (first, second)] == ["a" * 16, "b" * 16]
        assert {span.trace_id.hex() for span in (first, second, last)} == {TRACE.decode()}
        times = [
            (span.start_time_unix_nano - origin, span.end_time_unix_nano - origin) for span in (first, second, last)
        ]
        assert times == [(0, 1_000), (2_000, 9_000), (20_000, 50_000_000)]
        assert [span.name for span in (first, second, last)] == ["GET r"] * 3
        shared = {
            "http.request.method": "GET", "http.route": "r", "network.protocol.version": "1.1",
            "server.address": "shop", "server.port": 8080, "sidecar.route": "r", "sidecar.upstream": "u", "url.full": "http://shop:8080/v1?a=b",
            "network.peer.port": 80,
        }  # fmt: skip
        assert facts_of(first) == {
            **shared, "error.type": "connect_failed", "sidecar.response_flag": "UF", "sidecar.endpoint": "10.0.0.1:80",
            "network.peer.address": "10.0.0.1",
        }  # fmt: skip
        assert facts_of(second) == {
            **shared, "http.response.status_code": 503, "error.type": "503", "sidecar.endpoint": "10.0.0.2:80",
            "network.peer.address": "10.0.0.2", "http.request.resend_count": 1,
        }  # fmt: skip
        assert facts_of(last) == {
            **shared, "http.response.status_code": 200, "sidecar.endpoint": "10.0.0.3:80",
            "network.peer.address": "10.0.0.3", "http.request.resend_count": 2,
        }  # fmt: skip
        assert [span.status.code for span in (first, second, last)] == [2, 2, 0]
        assert first.status.message == errors.CONNECT_FAILED.text
        assert last.trace_state == first.trace_state == "a=1,b=2"

    def test_attempts_at_the_app_belong_to_the_request_that_it_served(self) -> None:
        """The SERVER span is whole; those given up are calls below it, which the app was told of."""
        server, first, second = self.spans(IN)
        assert server.kind == Span.SPAN_KIND_SERVER
        assert server.end_time_unix_nano - server.start_time_unix_nano == 50_000_000
        assert server.parent_span_id.hex() == PARENT.decode()
        for span in (first, second):
            assert span.kind == Span.SPAN_KIND_CLIENT
            assert span.parent_span_id == server.span_id
        assert facts_of(second)["url.full"] == "http://shop:8080/v1?a=b"

    def test_what_is_not_sampled_has_no_attempts_either(self) -> None:
        """None of them is sent."""
        telemetry = Told()
        exchange = over(request(TRACED[0][:-1] + b"0"), attempts=2, endpoint="1.1.1.1:1")
        exchange.tries = [Try(None, 1, 2, 0, errors.CONNECT_FAILED, b"a" * 16)]
        telemetry.begin(exchange)
        telemetry.record(exchange)
        assert telemetry.spans() == []

    def test_invented_statuses_do_not_fill_memory(self) -> None:
        """Templates of attempts are bounded as those of exchanges are."""
        telemetry = Told()
        scope = telemetry.scope(OUT, "r", "u", "h")
        for status in range(100, 3000):
            scope.try_template(b"GET", 1, status, None)
        assert len(scope._tries) <= 1024
