"""The access log: one line of JSON a request, whatever the request holds."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from sidecar import errors
from sidecar.exchange import Direction
from sidecar.message import Field, Kind, RequestHead, Version
from sidecar.telemetry import json_text
from tests.unit.telemetry.cases import Told, over, request

IN, OUT = Direction.INBOUND, Direction.OUTBOUND
KEYS = [
    "start_time", "direction", "method", "path", "protocol", "response_code", "response_flags",
    "response_code_details", "route_name", "upstream_cluster", "upstream_host", "bytes_received", "bytes_sent",
    "duration", "upstream_service_time", "request_id", "trace_id", "authority", "user_agent",
    "downstream_remote_address", "attempts",
]  # fmt: skip


class TestLine:
    """Design, section 10: the keys that Istio's and Envoy's users know."""

    def test_every_key_of_a_forwarded_request(self) -> None:
        """A request that the upstream answered."""
        telemetry = Told()
        scope = telemetry.scope(OUT, "canary", "recommendations", "recommendations:8080")
        exchange = over(
            request(b"User-Agent: curl/8", b"X-Request-Id: r-1"), scope=scope, direction=OUT, endpoint="10.0.0.11:8080"
        )
        telemetry.record(exchange)
        (line,) = telemetry.lines()
        assert list(line) == KEYS
        assert line.pop("start_time").endswith("Z")
        assert line == {
            "direction": "outbound",
            "method": "GET",
            "path": "/v1?a=b",
            "protocol": "HTTP/1.1",
            "response_code": 200,
            "response_flags": "-",
            "response_code_details": "via_upstream",
            "route_name": "canary",
            "upstream_cluster": "recommendations",
            "upstream_host": "10.0.0.11:8080",
            "bytes_received": 7,
            "bytes_sent": 42,
            "duration": 12.346,
            "upstream_service_time": 2.0,
            "request_id": "r-1",
            "trace_id": exchange.trace_id.decode(),
            "authority": "shop:8080",
            "user_agent": "curl/8",
            "downstream_remote_address": "10.1.2.3:51234",
            "attempts": 1,
        }

    @pytest.mark.parametrize(
        ("version", "protocol"),
        [(Version.HTTP10, "HTTP/1.0"), (Version.HTTP11, "HTTP/1.1"), (Version.HTTP2, "HTTP/2")],
    )
    def test_the_protocol_is_called_as_envoy_calls_it(self, version: int, protocol: str) -> None:
        """And requests of two versions are told apart, though they end alike."""
        telemetry = Told()
        for spoken in (Version.HTTP11, version):
            head = request()
            head.version = spoken
            telemetry.record(over(head))
        assert [line["protocol"] for line in telemetry.lines()] == ["HTTP/1.1", protocol]

    def test_a_route_with_a_template_shows_it_beside_its_name(self) -> None:
        """And no other route has the key."""
        telemetry = Told()
        scope = telemetry.scope(OUT, "of-user", "users", "users:80", '/users/{id}/100%b"')
        telemetry.record(over(request(), scope=scope, direction=OUT))
        (line,) = telemetry.lines()
        at = KEYS.index("route_name") + 1
        assert list(line) == [*KEYS[:at], "http_route", *KEYS[at:]]
        assert (line["route_name"], line["http_route"]) == ("of-user", '/users/{id}/100%b"')

    def test_what_is_not_known_is_null(self) -> None:
        """A request that no route matched, from a client that names no agent."""
        telemetry = Told()
        telemetry.record(over(request(), status=404, reason=errors.NO_ROUTE))
        (line,) = telemetry.lines()
        assert list(line) == KEYS
        nulls = {key for key, value in line.items() if value is None}
        assert nulls == {"route_name", "upstream_cluster", "upstream_host", "upstream_service_time", "user_agent"}
        assert line["response_flags"] == "NR"
        assert line["response_code_details"] == "no_route"
        assert line["attempts"] == 0

    def test_a_request_that_could_not_be_parsed_shows_what_came(self) -> None:
        """Its first 256 octets, and what was wrong with them."""
        telemetry = Told()
        exchange = over(None, status=400, reason=errors.BAD_REQUEST)
        exchange.raw_line = b'\x16\x03\x01"\n\xff' + b"x" * 1000
        exchange.detail = "an invalid method"
        telemetry.record(exchange)
        (line,) = telemetry.lines()
        assert list(line) == [*KEYS, "detail", "raw_line"]
        assert line["raw_line"] == '\x16\x03\x01"\n\xff' + "x" * 250
        assert line["detail"] == "an invalid method"
        assert line["method"] is line["path"] is line["protocol"] is None
        assert line["authority"] == ""

    def test_a_reply_of_the_route_itself_says_so(self) -> None:
        """Envoy's `direct_response`."""
        telemetry = Told()
        telemetry.record(over(request(), scope=telemetry.scope(IN, "teapot", "", ""), status=418))
        assert telemetry.lines()[0]["response_code_details"] == "direct_response"

    def test_start_is_in_utc_with_milliseconds(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """ISO 8601, as Envoy writes it."""
        monkeypatch.setattr("sidecar.clock._WALL_OFFSET_NS", 1_769_860_800_000_000_000)
        telemetry = Told()
        for start_ns in (0, 7_999_999, 999_999_999, 1_000_000_000, 86_399_999_000_000):
            telemetry.record(over(request(), start_ns=start_ns))
        assert [line["start_time"] for line in telemetry.lines()] == [
            "2026-01-31T12:00:00.000Z",
            "2026-01-31T12:00:00.007Z",
            "2026-01-31T12:00:00.999Z",
            "2026-01-31T12:00:01.000Z",
            "2026-02-01T11:59:59.999Z",
        ]

    def test_an_ipv6_client_is_in_brackets(self) -> None:
        """So that the port can be told from the address."""
        telemetry = Told()
        telemetry.record(over(request(), peer=("2001:db8::1", 80)))
        assert telemetry.lines()[0]["downstream_remote_address"] == "[2001:db8::1]:80"

    def test_names_with_signs_of_formatting_are_shown_as_they_are(self) -> None:
        """A route called `50%b` is no place in the pattern."""
        telemetry = Told()
        telemetry.record(over(request(), scope=telemetry.scope(IN, '50%b %d "x"\n', "a%sb", "h"), endpoint="%d%n:1"))
        (line,) = telemetry.lines()
        assert line["route_name"] == '50%b %d "x"\n'
        assert line["upstream_cluster"] == "a%sb"
        assert line["upstream_host"] == "%d%n:1"

    def test_no_log_is_no_line(self) -> None:
        """`access_log: off`."""
        from sidecar.telemetry.recorder import TelemetrySettings

        telemetry = Told(TelemetrySettings("s", access_log_path=None))
        telemetry.record(over(request()))
        assert telemetry.raw_lines() == []


def _forged(octets: bytes) -> RequestHead:
    """A head with these octets wherever a client has a say, past any parser's checks."""
    head = RequestHead(b"M" + octets, b"/" + octets, octets, 1)
    head.host = b"h" + octets
    head.fields = [Field(b"user-agent", octets, Kind.USER_AGENT, b"user-agent: " + octets)]
    head.fields.append(Field(b"x-request-id", octets, Kind.REQUEST_ID, b"x-request-id: " + octets))
    head.fields.append(Field(b"traceparent", octets, Kind.TRACE, b"traceparent: " + octets))
    head.kinds = Kind.USER_AGENT | Kind.REQUEST_ID | Kind.TRACE
    return head


class TestEscaping:
    """No header or path can forge a line, break the JSON or command a terminal."""

    def test_every_octet_is_shown_as_itself_and_breaks_nothing(self) -> None:
        """All 256 octets, in method, path, query, host and agent."""
        telemetry = Told()
        for octet in range(256):
            octets = bytes((octet,)) * 2
            telemetry.record(over(_forged(octets)))
            (raw,) = telemetry.raw_lines()
            assert raw.isascii()
            assert raw.count(b"\n") == 1
            assert raw.endswith(b"}\n")
            assert not any(control in raw[:-1] for control in (*range(0x20), 0x7F))
            line = json.loads(raw)
            assert list(line) == KEYS
            shown = octets.decode("latin-1")
            assert line["user_agent"] == shown
            assert line["path"] == f"/{shown}?{shown}"
            assert line["authority"] == f"h{shown}"
            assert line["method"] == f"M{shown}"

    @pytest.mark.parametrize(
        ("octets", "shown"),
        [
            (b"plain", b"plain"),
            (b'a"b\\c', b'a\\"b\\\\c'),
            (b'"}\n{"x":"', b'\\"}\\n{\\"x\\":\\"'),
            ("é€😀".encode(), b"\\u00e9\\u20ac\\ud83d\\ude00"),
            (b"\xe9", b"\\u00e9"),
            (b"\xc3\x28\xa0", b"\\u00c3(\\u00a0"),
            (b"\xed\xa0\x80", b"\\u00ed\\u00a0\\u0080"),
            (b"\x1b[31m\x7f", b"\\u001b[31m\\u007f"),
            (b"\xe2\x80\xa8", b"\\u2028"),
        ],
    )
    def test_utf8_is_read_as_characters_and_the_rest_as_latin_1(self, octets: bytes, shown: bytes) -> None:
        """Nothing that is not ASCII reaches the file."""
        assert json_text.escape(octets) == shown
        assert json.loads(json_text.quote(octets)) == json_text.text(octets)


def test_the_page_lists_every_key_in_order() -> None:
    """docs/telemetry.md is what a user parses lines by."""
    page = (Path(__file__).resolve().parents[4] / "docs" / "telemetry.md").read_text()
    table = page.partition("## Access log")[2].partition("Absent values")[0]
    at = KEYS.index("route_name") + 1
    assert re.findall(r"^\| `([a-z_]+)` \|", table, re.MULTILINE) == [
        *KEYS[:at], "http_route", "grpc_status", *KEYS[at:], "authorization", "rule", "rule_at", "detail",
        "retry_skipped", "raw_line",
    ]  # fmt: skip
