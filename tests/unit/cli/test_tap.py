"""`sidecar tap`: what it asks, what it prints."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl

import click
import pytest
from click.testing import CliRunner

from sidecar.cli.commands import cli
from sidecar.cli.tap import describe
from tests.unit.cli.fake_admin import FakeAdmin

EVENT: dict[str, Any] = {
    "start_time": "2026-01-31T12:00:00.123Z", "direction": "outbound", "method": "GET", "path": "/v1?a=1",
    "protocol": "HTTP/1.1", "response_code": 503, "response_flags": "UF", "response_code_details": "connect_failed",
    "route_name": "canary", "upstream_cluster": "beta", "upstream_host": "10.0.0.1:80", "bytes_received": 0,
    "bytes_sent": 12, "duration": 1.234, "upstream_service_time": None, "request_id": "i", "trace_id": "t",
    "authority": "shop:81", "downstream_remote_address": "127.0.0.1:5", "attempts": 2,
    "headers": [["host", "shop:81"], ["cookie", "[redacted]"]], "detail": "refused",
}  # fmt: skip


def stream(*events: dict[str, Any]) -> list[bytes]:
    return [b"\n" + b"".join(json.dumps(event).encode() + b"\n" for event in events)]


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli, ["tap", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def test_a_line_says_what_happened() -> None:
    """Time, direction, status and reason, how long, what, where."""
    assert describe(EVENT) == (
        "\x1b[2m12:00:00.123\x1b[0m ← \x1b[31m503 UF connect_failed\x1b[0m 1.2ms GET shop:81/v1?a=1"
        " \x1b[2mcanary → beta (10.0.0.1:80) x2\x1b[0m\n    refused"
    )


def test_headers_are_shown_a_line_each() -> None:
    """On request."""
    assert describe(EVENT, True).splitlines()[2:] == ["    host: shop:81", "    cookie: [redacted]"]


def test_a_request_that_could_not_be_read_has_a_line_too() -> None:
    """With what came instead."""
    absent = dict.fromkeys(
        ("method", "path", "authority", "route_name", "upstream_cluster", "upstream_host", "headers")
    )
    event = {**EVENT, **absent, "response_code": 400, "raw_line": "\x1b[2Jnonsense", "attempts": 0}
    assert "unreadable: \\x1b[2Jnonsense" in describe(event, True)


@pytest.mark.parametrize(
    "key", ["path", "method", "authority", "route_name", "upstream_cluster", "upstream_host", "detail"]
)
def test_nothing_in_an_event_reaches_the_terminal_as_a_command(key: str) -> None:
    """Control characters are escaped wherever they stand, also in names and values of fields."""
    evil = "a\x1b[2J\x07\x9b\u202e\nb"
    event = {**EVENT, key: evil, "headers": [[evil, evil]]}
    ours = describe(EVENT).count("\x1b")
    shown = describe(event, True)
    assert shown.count("\x1b") == ours
    assert all(char.isprintable() or char in "\x1b\n" for char in shown)
    assert "a\\x1b[2J\\x07\\x9b\\u202e\\x0ab" in shown


def test_a_call_of_grpc_is_shown_with_its_status() -> None:
    """Beside the status of HTTP, which says nothing of it."""
    called = {**EVENT, "response_code": 200, "grpc_status": "UNAVAILABLE"}
    assert " 200 UNAVAILABLE UF connect_failed" in click.unstyle(describe(called))


@pytest.mark.parametrize(
    ("name", "color"), [("UNAVAILABLE", "red"), ("NOT_FOUND", "yellow"), ("OK", "green"), ("NEW", "green")]
)
def test_a_call_has_the_colour_of_what_stands_for_how_it_ended(name: str, color: str) -> None:
    """So that one that failed stands out among those that did not; a status that nobody knows has HTTP's."""
    called = {**EVENT, "response_code": 200, "response_flags": "-", "grpc_status": name}
    assert click.style(f"200 {name}", fg=color) in describe(called)


def test_options_become_parameters() -> None:
    """Each as often as it was given; an empty stream that ends is an error."""
    with FakeAdmin(tap=[b""]) as admin:
        code, _, err = run(
            "--admin", admin.address, "--route", "a", "--route", "b*", "--upstream", "u", "--path", "/v1",
            "--method", "GET", "--status", ">=400", "--grpc-status", "!=OK", "--header", "x=a b",
            "--direction", "inbound", "--flag", "UF", "--rate", "5", "--limit", "3",
        )  # fmt: skip
        path, _, query = admin.targets[0].partition("?")
    assert path == "/tap"
    assert sorted(parse_qsl(query)) == sorted(
        [
            ("route", "a"), ("route", "b*"), ("upstream", "u"), ("path", "/v1"), ("method", "GET"),
            ("status", ">=400"), ("header", "x=a b"), ("direction", "inbound"), ("flag", "UF"), ("rate", "5"),
            ("limit", "3"), ("grpc_status", "!=OK"),
        ]
    )  # fmt: skip
    assert code == 1
    assert "ended the stream" in err


def test_json_passes_the_events_on_as_they_came() -> None:
    """Without heartbeats; with what was left out; the limit that was reached is exit code 0."""
    dropped = {"dropped": {"rate": 2, "slow_reader": 0}}
    with FakeAdmin(tap=stream(EVENT, dropped, EVENT)) as admin:
        code, out, err = run("--admin", admin.address, "--json", "--limit", "2")
    assert (code, err) == (0, "")
    assert [json.loads(line) for line in out.splitlines()] == [EVENT, dropped, EVENT]


def test_what_was_left_out_is_told_beside_the_output() -> None:
    """On standard error, so that a pipe gets requests only."""
    with FakeAdmin(tap=stream({"dropped": {"rate": 2, "slow_reader": 1}}, EVENT)) as admin:
        code, out, err = run("--admin", admin.address, "--limit", "1")
    assert code == 0
    assert err == "... left out: 2 over the rate, 1 not read in time\n"
    assert out.startswith("12:00:00.123 ← 503 UF connect_failed 1.2ms GET shop:81/v1?a=1 canary")


def test_a_refusal_of_the_sidecar_is_one_line() -> None:
    """Here of one that has no tap."""
    with FakeAdmin() as admin:
        code, _, err = run("--admin", admin.address)
    assert code == 1
    assert err == f"sidecar: {admin.address} answered 404 to /tap: no such endpoint\n"


def test_nobody_there_is_one_line() -> None:
    """Exit code 1."""
    code, out, err = run("--admin", "unix:/nonexistent/admin.sock")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "no answer from unix:/nonexistent/admin.sock: No such file or directory" in err
