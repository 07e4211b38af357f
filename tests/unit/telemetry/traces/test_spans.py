"""Spans from templates are the spans that the OpenTelemetry classes would make for the same facts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans, Span, Status

from sidecar import clock, errors
from sidecar.errors import Reason
from sidecar.exchange import Direction, Exchange
from sidecar.message import Version
from sidecar.telemetry.traces.protobuf import StringAttribute, delimited, int_attribute, varint
from sidecar.telemetry.traces.spans import Port, redacted
from tests.unit.telemetry.cases import Told, attributes, over, request

IN, OUT = Direction.INBOUND, Direction.OUTBOUND
TRACE = b"4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = b"00f067aa0ba902b7"


def built(exchange: Exchange, name: str, facts: dict[str, str | int], status: Status | None) -> Span:
    """The span as one would build it with the generated classes."""
    start = clock.wall_ns(exchange.start_ns)
    span = Span(
        trace_id=bytes.fromhex(exchange.trace_id.decode()),
        span_id=bytes.fromhex(exchange.span_id.decode()),
        parent_span_id=bytes.fromhex(exchange.parent_id.decode()),
        trace_state=exchange.tracestate.decode(),
        name=name,
        kind=Span.SPAN_KIND_SERVER if exchange.direction is IN else Span.SPAN_KIND_CLIENT,
        start_time_unix_nano=start,
        end_time_unix_nano=start + exchange.end_ns - exchange.start_ns,
        flags=0x301 if exchange.parent_id else 0x101,
        attributes=[
            KeyValue(
                key=key, value=AnyValue(int_value=value) if isinstance(value, int) else AnyValue(string_value=value)
            )
            for key, value in facts.items()
        ],
    )
    if status is not None:
        span.status.CopyFrom(status)
    return span


def _any(value: str | int) -> AnyValue:
    return AnyValue(int_value=value) if isinstance(value, int) else AnyValue(string_value=value)


def canonical(span: Span) -> bytes:
    """Octets that are equal for equal spans, in whatever order the attributes come."""
    ordered = Span()
    ordered.CopyFrom(span)
    del ordered.attributes[:]
    ordered.attributes.extend(sorted(span.attributes, key=lambda pair: pair.key))
    return ordered.SerializeToString(deterministic=True)


def recorded(telemetry: Told, exchange: Exchange) -> Span:
    """What telemetry made of the exchange."""
    telemetry.begin(exchange)
    telemetry.record(exchange)
    (span,) = telemetry.spans()
    return span


class TestWholeSpans:
    """The stable HTTP conventions of OpenTelemetry, and our own facts beside them."""

    def test_server_span_with_everything(self) -> None:
        """A request to the app, in a trace that somebody began."""
        telemetry = Told()
        head = request(
            b"Traceparent: 00-%b-%b-01" % (TRACE, PARENT),
            b"Tracestate: a=1",
            b"User-Agent: curl/8",
            b"X-Request-Id: r1",
        )
        scope = telemetry.scope(IN, "items", "app", "127.0.0.1:8080")
        exchange = over(head, scope=scope, endpoint="127.0.0.1:8080")
        span = recorded(telemetry, exchange)
        facts: dict[str, str | int] = {
            "http.request.method": "GET",
            "url.path": "/v1",
            "url.query": "a=b",
            "url.scheme": "http",
            "http.response.status_code": 200,
            "http.route": "items",
            "server.address": "shop",
            "server.port": 8080,
            "client.address": "10.1.2.3",
            "network.peer.address": "10.1.2.3",
            "network.peer.port": 51_234,
            "network.protocol.version": "1.1",
            "user_agent.original": "curl/8",
            "sidecar.route": "items",
            "sidecar.upstream": "app",
            "sidecar.endpoint": "127.0.0.1:8080",
        }
        expected = built(exchange, "GET items", facts, None)
        assert expected.trace_id.hex().encode() == TRACE
        assert expected.parent_span_id.hex().encode() == PARENT
        assert expected.trace_state == "a=1"
        assert canonical(span) == canonical(expected)

    @pytest.mark.parametrize(
        ("version", "name"), [(Version.HTTP10, "1.0"), (Version.HTTP11, "1.1"), (Version.HTTP2, "2")]
    )
    def test_the_protocol_is_that_of_the_request(self, version: int, name: str) -> None:
        """`network.protocol.version`: "1.1", "2"."""
        head = request()
        head.version = version
        assert attributes(recorded(Told(), over(head)))["network.protocol.version"] == name

    def test_a_route_with_a_template_is_called_by_it(self) -> None:
        """Name and `http.route` of the span and of the durations; the route's own name stays beside it."""
        telemetry = Told()
        scope = telemetry.scope(IN, "items", "app", "127.0.0.1:8080", "/v1/{id}")
        span = recorded(telemetry, over(request(), scope=scope, endpoint="127.0.0.1:8080"))
        found = {pair.key: pair.value.string_value for pair in span.attributes}
        assert (span.name, found["http.route"], found["sidecar.route"]) == ("GET /v1/{id}", "/v1/{id}", "items")
        assert scope.try_template(b"GET", 1, 503, None) is not telemetry.scope(IN, "items", "app", "127.0.0.1:8080")
        series = [name for name in telemetry.samples() if name.startswith("http_server_request_duration_seconds_count")]
        assert len(series) == 1
        assert 'http_route="/v1/{id}"' in series[0]
        assert 'route="items"' in series[0].replace("http_route", "")
        counted = [name for name in telemetry.samples() if name.startswith("sidecar_requests_total")]
        assert ['route="items"' in name for name in counted] == [True]

    def test_server_span_names_the_client_and_the_proxy_that_is_trusted(self) -> None:
        """`client.address` is whom the proxy names, `network.peer` the proxy."""
        telemetry = Told()
        exchange = over(request(), scope=telemetry.scope(IN, "items", "app", "127.0.0.1:8080"))
        exchange.direct_peer = ("10.0.0.5", 40_000)
        exchange.peer = ("203.0.113.7", 0)
        (span,) = (recorded(telemetry, exchange),)
        found = {pair.key: pair.value.string_value or pair.value.int_value for pair in span.attributes}
        assert found["client.address"] == "203.0.113.7"
        assert (found["network.peer.address"], found["network.peer.port"]) == ("10.0.0.5", 40_000)
        assert [pair.key for pair in span.attributes].count("network.peer.port") == 1

    def test_client_span_that_failed_after_a_second_attempt(self) -> None:
        """A request from the app, in a trace that begins here."""
        telemetry = Told()
        scope = telemetry.scope(OUT, "canary", "recommendations", "recommendations.shop:8080")
        exchange = over(
            request(line=b"POST /v1 HTTP/1.0", host=b"recommendations"),
            scope=scope, direction=OUT, status=503, reason=errors.CONNECT_FAILED, endpoint="[2001:db8::1]:8080",
            attempts=2,
        )  # fmt: skip
        span = recorded(telemetry, exchange)
        facts: dict[str, str | int] = {
            "http.request.method": "POST",
            "url.full": "http://recommendations/v1",
            "http.response.status_code": 503,
            "http.route": "canary",
            "http.request.resend_count": 1,
            "server.address": "recommendations",
            "server.port": 80,
            "network.peer.address": "2001:db8::1",
            "network.peer.port": 8080,
            "network.protocol.version": "1.0",
            "error.type": "connect_failed",
            "sidecar.route": "canary",
            "sidecar.upstream": "recommendations",
            "sidecar.endpoint": "[2001:db8::1]:8080",
            "sidecar.response_flag": "UF",
        }
        status = Status(code=Status.STATUS_CODE_ERROR, message=errors.CONNECT_FAILED.text)
        assert canonical(span) == canonical(built(exchange, "POST canary", facts, status))

    def test_a_request_that_could_not_be_parsed_has_a_span(self) -> None:
        """What was no request has no method, no URL and no route."""
        telemetry = Told()
        exchange = over(None, status=400, reason=errors.BAD_REQUEST)
        span = recorded(telemetry, exchange)
        facts: dict[str, str | int] = {
            "http.request.method": "_OTHER",
            "http.response.status_code": 400,
            "client.address": "10.1.2.3",
            "network.peer.address": "10.1.2.3",
            "network.peer.port": 51_234,
            "error.type": "bad_request",
            "sidecar.response_flag": "DPE",
        }
        assert canonical(span) == canonical(built(exchange, "HTTP", facts, None))

    def test_an_unknown_method_is_other_and_kept_beside(self) -> None:
        """`http.request.method_original`, and `HTTP` in the name."""
        telemetry = Told()
        scope = telemetry.scope(IN, "items", "app", "127.0.0.1:8080")
        span = recorded(telemetry, over(request(line=b"BREW /pot HTTP/1.1"), scope=scope, endpoint="unix:/run/app"))
        found = attributes(span)
        assert span.name == "HTTP items"
        assert found["http.request.method"] == "_OTHER"
        assert found["http.request.method_original"] == "BREW"

    def test_a_unix_socket_is_the_peer_by_its_path(self) -> None:
        """network.peer.address: "Peer address of the network connection - IP address or Unix domain socket name"."""
        telemetry = Told()
        found = attributes(recorded(telemetry, over(request(), direction=OUT, endpoint="unix:/run/app.sock")))
        assert found["network.peer.address"] == "/run/app.sock"
        assert "network.peer.port" not in found

    def test_connect_names_the_authority(self) -> None:
        """A tunnel's span has no path."""
        telemetry = Told()
        head = request(line=b"CONNECT db.example:5432 HTTP/1.1", host=b"db.example:5432")
        found = attributes(recorded(telemetry, over(head, direction=OUT, endpoint="10.0.0.1:5432")))
        assert found["url.full"] == "http://db.example:5432"
        assert found["server.address"] == "db.example"
        assert found["server.port"] == 5432

    def test_an_agent_that_is_not_utf8_is_latin_1(self) -> None:
        """A protobuf string must be UTF-8, whatever came."""
        telemetry = Told()
        assert attributes(recorded(telemetry, over(request(b"User-Agent: caf\xe9"))))["user_agent.original"] == "café"
        found = attributes(recorded(telemetry, over(request(b"User-Agent: caf\xc3\xa9"))))
        assert found["user_agent.original"] == "café"

    def test_long_values_are_whole(self) -> None:
        """Lengths over 127 and over 4095 octets take more than one octet to write."""
        telemetry = Told()
        for length in (100, 127, 128, 255, 256, 5_000, 20_000):
            path = b"/" + b"x" * length
            span = recorded(telemetry, over(request(line=b"GET %b HTTP/1.1" % path)))
            assert attributes(span)["url.path"] == path.decode()


class TestStatus:
    """Conventions for HTTP spans, "Status"."""

    @pytest.mark.parametrize(
        ("direction", "status", "reason", "is_error", "error_type"),
        [
            (IN, 200, None, False, None),
            (IN, 304, None, False, None),
            (IN, 404, None, False, None),
            (OUT, 404, None, True, "404"),
            (IN, 500, None, True, "500"),
            (OUT, 503, None, True, "503"),
            (IN, 404, errors.NO_ROUTE, False, "no_route"),
            (OUT, 404, errors.NO_ROUTE, True, "no_route"),
            (IN, 503, errors.UPSTREAM_CLOSED, True, "upstream_closed"),
            (IN, 200, errors.RESPONSE_CUT, True, "response_cut"),
            (IN, 200, errors.CLIENT_LEFT, False, "client_left"),
            (IN, 499, errors.CLIENT_LEFT, False, "client_left"),
        ],
    )
    def test_errors_are_what_the_conventions_call_errors(
        self, direction: Direction, status: int, reason: Reason | None, is_error: bool, error_type: str | None
    ) -> None:
        """5xx on both sides, 4xx on the client's, and a response that was cut whatever its status."""
        span = recorded(Told(), over(request(), direction=direction, status=status, reason=reason))
        assert (span.status.code == Status.STATUS_CODE_ERROR) == is_error
        assert attributes(span).get("error.type") == error_type
        assert bool(span.status.message) == (is_error and reason is not None)


class TestRedaction:
    """`url.query`: "Sensitive content provided in query string SHOULD be scrubbed when instrumentations can"."""

    @pytest.mark.parametrize(
        ("query", "shown"),
        [
            (b"", b""),
            (b"q=sig", b"q=sig"),
            (b"sig=abc", b"sig=REDACTED"),
            (b"a=1&Signature=x%3D&b=2", b"a=1&Signature=REDACTED&b=2"),
            (b"AWSAccessKeyId=A&X-Goog-Signature=&c", b"AWSAccessKeyId=REDACTED&X-Goog-Signature=REDACTED&c"),
            (b"X-Amz-Signature=1&X-Amz-Credential=2", b"X-Amz-Signature=REDACTED&X-Amz-Credential=REDACTED"),
            (b"design=1&mysig=2&SIG=3", b"design=1&mysig=2&SIG=3"),
        ],
    )
    def test_values_of_signatures_are_not_exported(self, query: bytes, shown: bytes) -> None:
        """Whole keys, case-sensitive; the rest of the query is as received."""
        assert redacted(query) == shown

    def test_both_kinds_of_spans_are_redacted(self) -> None:
        """`url.full` holds the query too."""
        head = request(line=b"GET /?sig=secret HTTP/1.1")
        for direction in (IN, OUT):
            telemetry = Told()
            telemetry.record(over(head, direction=direction))
            (span,) = telemetry.raw_spans()
            assert b"secret" not in span
            assert b"sig=REDACTED" in span


class TestPieces:
    """protobuf's encoding, against the generated classes."""

    @pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 16_383, 16_384, 65_535, 1 << 21, 1 << 40, (1 << 63) - 1])
    def test_integers_are_read_back(self, value: int) -> None:
        """Varints of one to nine octets."""
        span = Span.FromString(int_attribute("k", value))
        assert attributes(span) == {"k": value}
        assert AnyValue.FromString(b"\x18" + varint(value)).int_value == value

    @pytest.mark.parametrize("size", [0, 1, 100, 120, 127, 128, 200, 255, 256, 16_383, 16_384, 100_000])
    def test_strings_are_read_back(self, size: int) -> None:
        """Lengths of one to three octets."""
        assert attributes(Span.FromString(StringAttribute("key").encode(b"v" * size))) == {"key": "v" * size}
        assert ScopeSpans.FromString(delimited(b"\x1a", b"u" * size)).schema_url == "u" * size

    def test_every_port_is_read_back(self) -> None:
        """The quick way for ephemeral ports agrees with the general one."""
        for port in (0, 1, 80, 127, 128, 8080, 16_383, 16_384, 16_385, 32_768, 49_152, 60_999, 65_535):
            assert attributes(Span.FromString(Port(port).attribute)) == {"network.peer.port": port}


def test_the_page_lists_every_attribute() -> None:
    """docs/telemetry.md names whatever a span may carry, and nothing else."""
    page = (Path(__file__).resolve().parents[4] / "docs" / "telemetry.md").read_text()
    table = page.partition("**Spans.**")[2].partition("The status is")[0]
    listed = set(re.findall(r"`([a-z]+(?:[._][a-z_]+)*\.[a-z_]+)`", table))
    carried: set[str] = set()
    telemetry = Told()
    for direction in Direction:
        scope = telemetry.scope(direction, "r", "u", "h")
        for method in (b"GET", b"BREW"):
            head = request(b"user-agent: a", line=b"%b /v1?a=b HTTP/1.1" % method)
            for reason in (None, errors.RESPONSE_CUT):
                exchange = over(
                    head, scope=scope, direction=direction, reason=reason, endpoint="1.1.1.1:80", attempts=2
                )
                exchange.retry_skipped = "budget"
                telemetry.record(exchange)
        exchange = over(request(line=b"POST /shop.Quotes/Get HTTP/1.1"), scope=scope, direction=direction)
        exchange.grpc_status = 0
        telemetry.record(exchange)
    for span in telemetry.spans():
        carried |= set(attributes(span))
    assert carried == listed
