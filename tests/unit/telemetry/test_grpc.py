"""Calls of gRPC in metrics, lines and spans: how they ended is what gRPC says, and not what HTTP does."""

from __future__ import annotations

from dataclasses import replace

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from sidecar import errors, grpc
from sidecar.admin.live import event_of
from sidecar.errors import Reason
from sidecar.exchange import Direction, Exchange, Try
from sidecar.telemetry.settings import LogFilter
from tests.unit.telemetry.cases import SETTINGS, Endpoint, Told, attributes, over, request

IN, OUT = Direction.INBOUND, Direction.OUTBOUND


def call(
    telemetry: Told,
    grpc_status: int,
    *,
    direction: Direction = OUT,
    path: bytes = b"/shop.v1.Quotes/Get",
    template: str = "",
    status: int = 200,
    reason: Reason | None = None,
) -> Exchange:
    """One call, told."""
    scope = telemetry.scope(direction, "calls", "quotes", "quotes.shop", template)
    head = request(b"content-type: application/grpc", line=b"POST " + path + b" HTTP/1.1")
    exchange = over(head, scope=scope, direction=direction, status=status, reason=reason, endpoint="10.0.0.1:80")
    exchange.grpc_status = grpc_status
    telemetry.begin(exchange)
    telemetry.record(exchange)
    return exchange


class TestSpans:
    """OpenTelemetry's conventions for RPC and gRPC, beside those for HTTP."""

    def only(self, telemetry: Told) -> Span:
        (span,) = telemetry.spans()
        return span

    def test_name_and_attributes(self) -> None:
        """`{service}/{method}`, which the path is; the status by its number."""
        telemetry = Told()
        call(telemetry, 5)
        span = self.only(telemetry)
        assert span.name == "shop.v1.Quotes/Get"
        facts = attributes(span)
        assert {key: facts[key] for key in facts if key.startswith("rpc.")} == {
            "rpc.system": "grpc", "rpc.service": "shop.v1.Quotes", "rpc.method": "Get", "rpc.grpc.status_code": 5,
        }  # fmt: skip
        assert facts["http.response.status_code"] == 200
        assert facts["error.type"] == "NOT_FOUND"

    def test_a_route_with_a_template_is_called_by_it(self) -> None:
        """As every span of it."""
        telemetry = Told()
        call(telemetry, 0, template="/shop.v1.Quotes/{method}")
        span = self.only(telemetry)
        assert span.name == "POST /shop.v1.Quotes/{method}"
        assert attributes(span)["rpc.method"] == "Get"

    @pytest.mark.parametrize("path", [b"/", b"/x", b"/x/", b"//y"])
    def test_a_path_that_names_no_call(self, path: bytes) -> None:
        """Has no service and no method, and still a name."""
        telemetry = Told()
        call(telemetry, 12, path=path)
        span = self.only(telemetry)
        assert span.name == "grpc"
        assert not {"rpc.service", "rpc.method"} & set(attributes(span))

    @pytest.mark.parametrize("grpc_status", range(17))
    @pytest.mark.parametrize("direction", list(Direction))
    def test_which_are_errors(self, direction: Direction, grpc_status: int) -> None:
        """Of CLIENT all but OK; of SERVER those that are the server's fault."""
        telemetry = Told()
        call(telemetry, grpc_status, direction=direction)
        span = self.only(telemetry)
        name = grpc.NAMES[grpc_status]
        of_server = {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
        is_error = name != "OK" if direction is OUT else name in of_server
        assert (span.status.code == Status.STATUS_CODE_ERROR) is is_error
        assert attributes(span).get("error.type") == (name if is_error else None)

    def test_a_reason_of_ours_says_more(self) -> None:
        """Its name is the type of the error, and its text the description."""
        telemetry = Told()
        call(telemetry, 14, reason=errors.CONNECT_FAILED)
        span = self.only(telemetry)
        assert attributes(span)["error.type"] == "connect_failed"
        assert span.status.message == errors.CONNECT_FAILED.text
        call(telemetry, 7, direction=IN, reason=errors.AUTHORIZATION_DENIED)
        assert self.only(telemetry).status == Status()  # as a 403 is none of a server

    def test_an_attempt_that_was_refused_is_a_span_with_its_own_status(self) -> None:
        """And the label of its metric says which."""
        telemetry = Told()
        scope = telemetry.scope(OUT, "calls", "quotes", "quotes.shop")
        head = request(b"content-type: application/grpc", line=b"POST /shop.Quotes/Get HTTP/1.1")
        exchange = over(head, scope=scope, direction=OUT, endpoint="10.0.0.1:80", attempts=2)
        exchange.grpc_status = 0
        exchange.tries = [Try(Endpoint("10.0.0.2:80"), 1, 2, 200, None, b"a" * 16, 14)]
        telemetry.begin(exchange)
        telemetry.record(exchange)
        first = next(span for span in telemetry.spans() if span.span_id == b"\xaa" * 8)
        assert first.name == "shop.Quotes/Get"
        assert attributes(first)["rpc.grpc.status_code"] == 14
        assert attributes(first)["error.type"] == "UNAVAILABLE"
        samples = telemetry.samples()
        assert samples['sidecar_upstream_retries_total{reason="grpc_unavailable",upstream="quotes"}'] == 1


class TestLines:
    """The access log and `sidecar tap`."""

    def test_a_call_has_the_name_of_its_status(self) -> None:
        """What is no call has no such member."""
        telemetry = Told()
        exchange = call(telemetry, 14)
        (line,) = telemetry.lines()
        assert (line["grpc_status"], line["response_code"]) == ("UNAVAILABLE", 200)
        assert event_of(exchange)["grpc_status"] == "UNAVAILABLE"
        exchange = over(request())
        telemetry.record(exchange)
        (line,) = telemetry.lines()
        assert "grpc_status" not in line
        assert "grpc_status" not in event_of(exchange)

    def test_a_template_may_name_it(self) -> None:
        """A dash for what is no call."""
        telemetry = Told(replace(SETTINGS, access_log_template="{response_code} {grpc_status}"))
        call(telemetry, 4)
        telemetry.record(over(request()))
        assert telemetry.raw_lines() == [b"200 DEADLINE_EXCEEDED\n", b"200 -\n"]

    def test_who_asks_for_lines_of_failures_has_those_of_failed_calls(self) -> None:
        """By the status of HTTP that stands for theirs."""
        telemetry = Told(replace(SETTINGS, access_log_when=LogFilter(statuses=((500, 599),))))
        for grpc_status in (0, 5, 14):
            call(telemetry, grpc_status)
        assert [line["grpc_status"] for line in telemetry.lines()] == ["UNAVAILABLE"]


class TestMetrics:
    """Our own."""

    def test_calls_are_counted_by_status(self) -> None:
        """Beside all exchanges, which count calls too; what is no call is not among them."""
        telemetry = Told()
        for grpc_status in (0, 0, 14):
            call(telemetry, grpc_status)
        telemetry.record(over(request()))
        samples = telemetry.samples()
        calls = {name: number for name, number in samples.items() if name.startswith("sidecar_grpc_requests_total")}
        labels = 'code="200",counts_as="%d",direction="outbound",flag="-",grpc_status="%s"'
        labels += ',route="calls",upstream="quotes"'
        assert calls == {
            f"sidecar_grpc_requests_total{{{labels % (200, 'OK')}}}": 2,
            f"sidecar_grpc_requests_total{{{labels % (503, 'UNAVAILABLE')}}}": 1,
        }

    def test_durations_tell_failed_calls_apart(self) -> None:
        """By `error_type`."""
        telemetry = Told()
        call(telemetry, 14)
        names = [name for name in telemetry.samples() if name.startswith("http_client_request_duration_seconds_count")]
        assert len(names) == 1
        assert 'error_type="UNAVAILABLE"' in names[0]
