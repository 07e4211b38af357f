"""Access-log lines as the file's own text, and which of them are written."""

from __future__ import annotations

import re

import pytest

from sidecar import errors
from sidecar.exchange import Direction, Exchange
from sidecar.telemetry.access_log.line_template import NAMES, LineTemplate, TemplateError
from sidecar.telemetry.recorder import TelemetrySettings
from sidecar.telemetry.settings import LogFilter
from tests.unit.telemetry.cases import Told, over, request

ENVOY = (
    '[{start_time}] "{method} {path} {protocol}" {response_code} {response_flags} {bytes_received} {bytes_sent} '
    '{duration} {upstream_service_time} "{x_forwarded_for}" "{user_agent}" "{request_id}" "{authority}" '
    '"{upstream_host}"'
)


def told(template: str | None = None, when: LogFilter | None = None) -> Told:
    """Telemetry with this log."""
    return Told(TelemetrySettings("s", access_log_path="/dev/null", access_log_template=template, access_log_when=when))


def line(template: str, exchange: Exchange) -> str:
    """The one line of one exchange, without its line feed."""
    telemetry = told(template)
    telemetry.record(exchange)
    (written,) = telemetry.raw_lines()
    assert written.endswith(b"\n")
    return written[:-1].decode("ascii")


class TestTemplate:
    """Text with names in braces."""

    def test_every_name_of_the_json_line_can_be_used(self) -> None:
        """And says the same; absent values are a dash."""
        telemetry = told()
        telemetry.record(over(request()))
        (as_json,) = telemetry.lines()
        assert set(as_json) <= NAMES
        assert {name for name in NAMES if name not in as_json} == {
            "span_id", "authorization", "rule", "rule_at", "detail", "raw_line", "retry_skipped", "x_forwarded_for",
            "tls_version", "peer_identity", "upstream_tls_version", "upstream_peer_identity", "jwt", "jwt_issuer",
            "http_route", "grpc_status",
        }  # fmt: skip
        names = sorted(set(as_json) - {"request_id", "trace_id", "start_time", "duration"})
        exchange = over(request(b"User-Agent: curl"), endpoint="10.0.0.1:80")
        telemetry.record(exchange)
        (as_json,) = telemetry.lines()
        text = line(
            "|".join(f"{{{name}}}" for name in names), over(request(b"User-Agent: curl"), endpoint="10.0.0.1:80")
        )
        expected = ["-" if as_json[name] is None else str(as_json[name]) for name in names]
        shown = [value if name != "upstream_service_time" else str(float(value)) for name, value in
                 zip(names, text.split("|"), strict=True)]  # fmt: skip
        assert shown == expected

    @pytest.mark.parametrize(("template", "shown"), [("/a/{b}", "/a/{b} r"), ("", "r r")])
    def test_the_template_of_a_route_can_be_named(self, template: str, shown: str) -> None:
        """Of a route without one it is the name, as in spans."""
        telemetry = told("{http_route} {route_name}")
        telemetry.record(over(request(), scope=telemetry.scope(Direction.INBOUND, "r", "u", "h", template)))
        assert telemetry.raw_lines() == [f"{shown}\n".encode()]

    def test_the_line_that_envoys_users_know(self) -> None:
        """Its order can be written down."""
        exchange = over(
            request(
                b"User-Agent: curl/8", b"X-Forwarded-For: 1.1.1.1", b"x-forwarded-for: 2.2.2.2", b"x-request-id: r"
            ),
            endpoint="10.0.0.1:80",
        )
        assert re.fullmatch(
            r'\[\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\] "GET /v1\?a=b HTTP/1\.1" 200 - 7 42 12\.346 2\.000 '
            r'"1\.1\.1\.1, 2\.2\.2\.2" "curl/8" "r" "shop:8080" "10\.0\.0\.1:80"',
            line(ENVOY, exchange),
        )

    def test_a_request_that_could_not_be_read_has_dashes(self) -> None:
        """And what came instead, and why it was refused."""
        exchange = over(None, status=400, reason=errors.BAD_REQUEST)
        exchange.raw_line = b"\x00\x1b[31m\r\nGET"
        exchange.detail = 'a "detail"\n'
        assert line("{method} {path} {user_agent} {detail} {raw_line}", exchange) == (
            r"- - - a \"detail\"\n \u0000\u001b[31m\r\nGET"
        )

    def test_braces_and_percent_signs_can_be_written(self) -> None:
        """Doubled braces; nothing else has a meaning."""
        assert line('{{"code": {response_code}}} 100% %b %(x)s "é"', over(request())) == (
            r'{"code": 200} 100% %b %(x)s "\u00e9"'
        )

    def test_no_value_can_forge_a_line_or_end_a_quoted_one(self) -> None:
        """All octets that a header may hold, in every place that shows one."""
        nasty = bytes(octet for octet in range(256) if octet not in b"\r\n\x00" and (octet >= 32 or octet == 9))
        value = nasty.replace(b"\x7f", b"")
        exchange = over(request(b"User-Agent: " + value, b"X-Forwarded-For: " + value))
        written = line('"{user_agent}" "{x_forwarded_for}"', exchange)
        assert written.isprintable()
        assert len(re.findall(r'(?<!\\)(?:\\\\)*"', written)) == 4

    @pytest.mark.parametrize("template", ["{", "}", "a } b", "{meth{od}", "{}", "{ method}", "{Method}", "{status}"])
    def test_what_is_no_template_is_refused(self, template: str) -> None:
        """Braces that stand alone, and names that there are not."""
        with pytest.raises(TemplateError):
            LineTemplate(template)

    def test_a_reload_changes_the_form_and_keeps_the_counts(self) -> None:
        """Of scopes that were bound before, too."""
        telemetry = told("{response_code}")
        telemetry.record(over(request()))
        assert telemetry.raw_lines() == [b"200\n"]
        telemetry.reconfigure(TelemetrySettings("s", access_log_path="/dev/null", access_log_template="{method}"))
        telemetry.record(over(request()))
        assert telemetry.raw_lines() == [b"GET\n"]
        telemetry.reconfigure(TelemetrySettings("s", access_log_path="/dev/null"))
        telemetry.record(over(request()))
        assert telemetry.lines()[0]["method"] == "GET"
        series = 'sidecar_requests_total{code="200",direction="inbound",flag="-",route="",upstream=""}'
        assert telemetry.samples()[series] == 3


class TestFilter:
    """`when`: a line is written if one of its conditions holds."""

    @pytest.mark.parametrize(
        ("when", "statuses"),
        [
            (None, [200, 302, 404, 499, 500]),
            (LogFilter(((400, 999),)), [404, 499, 500]),
            (LogFilter(((404, 404), (500, 599))), [404, 500]),
            (LogFilter(), []),
            (LogFilter(sample=1.0), [200, 302, 404, 499, 500]),
            (LogFilter(((500, 599),), slower_than_ns=12_345_678), [200, 302, 404, 499, 500]),
            (LogFilter(((500, 599),), slower_than_ns=12_345_679), [500]),
        ],
    )
    def test_conditions(self, when: LogFilter | None, statuses: list[int]) -> None:
        """Status ranges, the least duration, a share; the status that stands for a client that left counts too."""
        telemetry = told(when=when)
        for status in (200, 302, 404, 500):
            telemetry.record(over(request(), status=status))
        telemetry.record(over(request(), status=0, reason=errors.CLIENT_LEFT))
        written = sorted(found["response_code"] for found in telemetry.lines())
        assert written == statuses
        assert telemetry.samples()["sidecar_log_lines_filtered_total"] == 5 - len(statuses)

    def test_a_share_is_chosen_by_trace(self) -> None:
        """Lines of one trace are all written or none, by all sidecars with the same share; about as many as said."""
        telemetry = told(when=LogFilter(sample=0.25))
        for _ in range(1000):
            telemetry.record(over(request()))
        assert 180 <= len(telemetry.raw_lines()) <= 320  # five standard deviations
        low, high = b"0" * 16, b"f" * 16
        for half, count in ((low, 2), (high, 0)):
            for direction in Direction:
                parent = b"traceparent: 00-4bf92f3577b34da6%b-00f067aa0ba902b7-00" % half
                telemetry.record(over(request(parent), direction=direction))
            assert len(telemetry.raw_lines()) == count

    def test_what_is_left_out_is_still_counted_and_has_its_span(self) -> None:
        """The filter is the log's alone."""
        telemetry = Told(
            TelemetrySettings("s", otlp_endpoint="http://c:1", access_log_path="/dev/null", access_log_when=LogFilter())
        )
        telemetry.record(over(request()))
        assert telemetry.raw_lines() == []
        assert len(telemetry.spans()) == 1

    def test_why_a_retry_was_skipped_is_in_the_line(self) -> None:
        """Only where there was one to skip."""
        telemetry = told()
        exchange = over(request(), status=503)
        exchange.retry_skipped = "budget"
        telemetry.record(exchange)
        telemetry.record(over(request()))
        first, second = telemetry.lines()
        assert first["retry_skipped"] == "budget"
        assert "retry_skipped" not in second
