"""`sidecar top`: what it asks, what it prints."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from rich.console import Console

from sidecar.cli.admin_client import Admin, AskError, printable
from sidecar.cli.commands import cli
from sidecar.cli.rates import between, read
from sidecar.cli.top import picture
from tests.unit.cli.fake_admin import FakeAdmin


def scrape(scale: int, route: str = "canary") -> str:
    lines = [
        'sidecar_build_info{version="1.2.3",python_version="3"} 1',
        'target_info{service_name="storefront"} 1',
        'sidecar_config_info{hash="abc123"} 1',
        "sidecar_config_last_reload_successful 0",
        'sidecar_downstream_connections_active{direction="inbound"} 7',
        f'sidecar_spans_dropped_total{{reason="queue_full"}} {scale}',
    ]
    for upstream, code, count in (("v1", 200, 90), ("beta", 200, 9), ("beta", 503, 1)):
        labels = f'direction="outbound",route="{route}",upstream="{upstream}",code="{code}",flag="-"'
        lines.append(f"sidecar_requests_total{{{labels}}} {count * scale}")
    for bound, count in (("0.1", 50), ("0.2", 100), ("+Inf", 100)):
        labels = f'http_route="{route}",le="{bound}"'
        lines.append(f"http_client_request_duration_seconds_bucket{{{labels}}} {count * scale}")
    return "\n".join(lines) + "\n"


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def test_once_as_json_gives_one_interval() -> None:
    """Rates, success and quantiles of what happened between exactly two scrapes."""
    with FakeAdmin(metrics=[scrape(1).encode(), scrape(3).encode()]) as admin:
        code, out, _ = run("top", "--admin", admin.address, "--once", "--json", "--interval", "0.1")
        assert (code, admin.targets, admin.connections) == (0, ["/metrics"] * 2, 1)
    found = json.loads(out)
    assert (found["version"], found["service"], found["config_hash"]) == ("1.2.3", "storefront", "abc123")
    assert found["config_is_good"] is False
    (route,) = found["routes"]
    assert (route["route"], route["requests"], route["failed"]) == ("canary", 200, 2)
    assert route["success"] == pytest.approx(0.99)
    assert route["latency_ms"] == {"p50": 100, "p90": 180, "p99": 198}
    assert {one["upstream"]: one["requests"] for one in found["upstreams"]} == {"v1": 180, "beta": 20}
    assert found["lost"] == {"spans_dropped": 2, "log_lines_dropped": 0}


def test_once_prints_a_table_for_people() -> None:
    """The canary stands under its route, beside the rest."""
    with FakeAdmin(metrics=[scrape(1).encode(), scrape(3).encode()]) as admin:
        code, out, _ = run("top", "--admin", admin.address, "--once", "--interval", "0.1")
    assert code == 0
    assert "sidecar 1.2.3 of storefront" in out
    assert "LAST RELOAD FAILED" in out
    assert "TELEMETRY LOST 2" in out
    rows = [line.split() for line in out.splitlines()]
    assert next(row for row in rows if row[:1] == ["out"])[1:][:1] == ["canary"]
    beta = next(row for row in rows if row[:2] == ["→", "beta"])
    assert "90.00%" in beta


def calls(scale: int) -> str:
    """Of the requests to `beta` six are calls, one of which fails."""
    labels = 'code="200",flag="-",direction="outbound",route="canary",upstream="beta"'
    return "".join(
        f'sidecar_grpc_requests_total{{{labels},counts_as="{counts_as}",grpc_status="{name}"}} {count * scale}\n'
        for name, counts_as, count in (("OK", 200, 5), ("UNAVAILABLE", 503, 1))
    )


def test_calls_of_grpc_are_told_by_status_where_there_are_any() -> None:
    """As a column, in which what failed stands, and in JSON all of them; they are failures like others."""
    scrapes = [(scrape(scale) + calls(scale)).encode() for scale in (1, 3)]
    with FakeAdmin(metrics=scrapes) as admin:
        _, table, _ = run("top", "--admin", admin.address, "--once", "--interval", "0.1")
    with FakeAdmin(metrics=scrapes) as admin:
        _, text, _ = run("top", "--admin", admin.address, "--once", "--json", "--interval", "0.1")
    rows = {line.split()[1]: line for line in table.splitlines() if line.startswith(("out", "      →"))}
    assert "80.00%" in rows["beta"]
    assert "UNAVAILABLE" in rows["beta"]
    assert "UNAVAILABLE" in rows["canary"]
    assert "UNAVAILABLE" not in rows["v1"]
    found = {one["upstream"]: (one["failed"], one["grpc"]) for one in json.loads(text)["upstreams"]}
    assert found == {"beta": (4, {"OK": 10, "UNAVAILABLE": 2}), "v1": (0, {})}


@pytest.mark.parametrize("width", [60, 80, 200])
def test_a_table_keeps_its_numbers_on_narrow_terminals(width: int) -> None:
    """Names are broken over lines, numbers are not."""
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        earlier, later = read(scrape(1, "a-very-long-name" * 9), 0), read(scrape(3, "a-very-long-name" * 9), 1)
        console.print(picture(between(earlier, later), "127.0.0.1:9901"))
        text = console.export_text()
    assert "200.0" in text
    assert "99.00%" in text
    assert "198ms" in text


def test_many_routes_are_cut_and_the_rest_is_counted() -> None:
    """The busiest come first."""
    text = "".join(scrape(index + 1, f"route-{index}").splitlines(keepends=True)[-6] for index in range(100))
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        console.print(picture(between(read("", 0), read(text, 1)), "x"))
        shown = console.export_text()
    assert "route-99" in shown
    assert "route-0 " not in shown
    assert "and 60 quieter routes" in shown


def test_nobody_there_is_one_line_and_exit_code_1() -> None:
    """It says where was asked and how to ask elsewhere."""
    code, out, err = run("top", "--admin", "127.0.0.1:1", "--once")
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert "no answer from 127.0.0.1:1: Connection refused" in err
    assert "--admin" in err


@pytest.mark.parametrize("address", ["localhost", "host:", ":9901", "host:0", "host:65536", "host:x", "unix:", ""])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    """With the forms that there are."""
    with pytest.raises(AskError, match="expected"):
        Admin(address)


def test_what_is_no_exposition_is_one_line_and_exit_code_1() -> None:
    """Something else listens there."""
    with FakeAdmin(metrics=[b'sidecar_requests_total{direction="inbound" 5 5 5\n']) as admin:
        code, _, err = run("top", "--admin", admin.address, "--once")
    assert code == 1
    assert "no metrics that can be read" in err


def test_a_connection_that_was_closed_meanwhile_is_opened_again() -> None:
    """A sidecar closes idle connections, and may be restarted between two looks."""
    with FakeAdmin(live=[b"live\n"]) as server:
        admin = Admin(server.address)
        assert admin.get("/live") == b"live\n"
        assert admin._connection is not None
        admin._connection.sock.shutdown(2)
        assert admin.get("/live") == b"live\n"
        assert server.connections == 2
        with pytest.raises(AskError, match="answered 404 to /nothing: no such endpoint"):
            admin.get("/nothing?x=1")
        admin.close()


def test_printable_escapes_what_a_terminal_obeys() -> None:
    """All 256 octets as Latin-1, and characters that turn the writing around."""
    shown = printable("".join(map(chr, range(256))) + "\u202e\u2028\ud800\U000e0001é漢")
    assert shown.isprintable()
    assert "\\x1b" in shown
    assert "\\u202e\\u2028\\ud800\\U000e0001é漢" in shown
