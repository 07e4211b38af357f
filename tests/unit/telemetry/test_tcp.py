"""What is told of connections that are no HTTP's."""

from __future__ import annotations

from sidecar import errors
from sidecar.exchange import Direction, Exchange
from sidecar.message import RequestHead
from sidecar.telemetry.settings import TelemetrySettings
from tests.unit.telemetry.cases import COLLECTOR, Endpoint, Told

LABELS = 'direction="outbound",protocol="tls",upstream="api"'


def begun(told: Told, protocol: str = "tls") -> Exchange:
    head = RequestHead(b"CONNECT", b"", None, 1)
    head.host, head.port = b"api.example", 443
    scope = told.scope(Direction.OUTBOUND, "api", "api", "10.0.0.1:443")
    exchange = Exchange(Direction.OUTBOUND, 1_000_000_000, head, ("10.0.0.9", 4711), scope)
    exchange.protocol = protocol
    told.begin(exchange)
    exchange.endpoint, exchange.attempts = Endpoint("10.0.0.1:443"), 1
    return exchange


def ended(told: Told, exchange: Exchange) -> None:
    exchange.end_ns = exchange.start_ns + 2_500_000_000
    told.record(exchange)


def test_it_is_a_line_a_span_and_series_of_its_own() -> None:
    """And none of requests."""
    told = Told()
    exchange = begun(told)
    exchange.bytes_received, exchange.bytes_sent = 10, 20
    ended(told, exchange)
    (line,) = told.lines()
    shown = {
        name: line[name] for name in ("protocol", "method", "path", "authority", "upstream_cluster", "upstream_host")
    }
    assert shown == {
        "protocol": "tls", "method": None, "path": None, "authority": "api.example:443", "upstream_cluster": "api",
        "upstream_host": "10.0.0.1:443",
    }  # fmt: skip
    assert (line["bytes_received"], line["bytes_sent"], line["duration"]) == (10, 20, 2500.0)
    (span,) = told.spans()
    attributes = {one.key: one.value.string_value or one.value.int_value for one in span.attributes}
    assert span.name == "tls api"
    assert (attributes["network.transport"], attributes["network.protocol.name"]) == ("tcp", "tls")
    assert (attributes["sidecar.bytes_received"], attributes["sidecar.bytes_sent"]) == (10, 20)
    samples = told.samples()
    assert samples[f"sidecar_tcp_received_bytes_total{{{LABELS}}}"] == 10
    assert samples[f"sidecar_tcp_sent_bytes_total{{{LABELS}}}"] == 20
    assert (
        samples['sidecar_tcp_connections_closed_total{direction="outbound",flag="-",protocol="tls",upstream="api"}']
        == 1
    )
    assert samples['sidecar_tcp_connection_duration_seconds_sum{direction="outbound",upstream="api"}'] == 2.5
    assert not any(name.startswith(("sidecar_requests_total", "http_client")) for name in samples)
    assert samples['sidecar_requests_active{direction="outbound"}'] == 0


def test_octets_of_one_that_lasts_are_counted_while_they_go_by() -> None:
    """Each of them once."""
    told = Told()
    exchange = begun(told)
    for received, active in ((5, 1), (9, 1)):
        exchange.bytes_received = received
        samples = told.samples()
        assert samples[f"sidecar_tcp_received_bytes_total{{{LABELS}}}"] == received
        assert samples['sidecar_tcp_connections_active{direction="outbound"}'] == active
    ended(told, exchange)
    samples = told.samples()
    assert samples[f"sidecar_tcp_received_bytes_total{{{LABELS}}}"] == 9
    assert samples['sidecar_tcp_connections_active{direction="outbound"}'] == 0


def test_one_that_went_nowhere_is_told_with_its_reason() -> None:
    """In a line that a filter by status would leave out, too."""
    told = Told(TelemetrySettings("s", otlp_endpoint=COLLECTOR, access_log_path="/dev/null"))
    exchange = begun(told, "tcp")
    exchange.scope, exchange.endpoint = told.scope(Direction.OUTBOUND, "", "", ""), None
    exchange.reason, exchange.detail = errors.NO_ROUTE, "nobody"
    ended(told, exchange)
    (line,) = told.lines()
    assert (line["response_flags"], line["response_code_details"], line["detail"]) == ("NR", "no_route", "nobody")
    (span,) = told.spans()
    assert span.name == "tcp"
    assert span.status.code == 2


def test_log_template_has_it_too() -> None:
    """With what it does not have left empty."""
    template = "{protocol} {authority} {bytes_received} {response_flags} {method}"
    told = Told(TelemetrySettings("s", access_log_path="/dev/null", access_log_template=template))
    ended(told, begun(told))
    (line,) = told.raw_lines()
    assert line.startswith(b"tls api.example:443 0 -")
