"""Requests of apps that know nothing of a sidecar, through one, over connections that the kernel leads to it."""

from __future__ import annotations

from pathlib import Path

from tests.support.captured import app, capturing, get
from tests.support.namespaces import hosts

FILE = """
service: storefront
inbound: {app: "127.0.0.1:8080"}
outbound: {unmatched: deny}
capture: {}
upstreams:
  recommendations: {endpoints: ["198.51.100.2:9000"]}
"""


def test_calls_are_routed_by_name_and_port_and_others_pass(tmp_path: Path) -> None:
    """Whatever address a name leads to; with the log and the metrics of any request."""
    with (
        hosts(2) as (here, there),
        app(there, 9000, "nine"),
        app(there, 80, "eighty"),
        capturing(here, tmp_path, FILE) as sidecar,
    ):
        assert get(here, there.v4, 80, headers={"Host": "recommendations"}) == (200, "nine / recommendations -")
        assert get(here, there.v4, 80, headers={"Host": "other"}) == (200, "eighty / other -")
        assert get(here, there.v6, 80, headers={"Host": "recommendations"})[1] == "nine / recommendations -"
        lines = sidecar.wait_for_log_lines(3)
        assert [line["upstream_cluster"] for line in lines] == ["recommendations", "passthrough", "recommendations"]
        assert lines[0]["authority"] == "recommendations:80"


def test_requests_to_the_app_keep_its_port_and_their_client(tmp_path: Path) -> None:
    """Each of its ports is reached at the address that was called, and the log and the app hear who called."""
    with (
        hosts(2) as (here, there),
        app(here, 8080, "main", here.v4),
        app(here, 9100, "metrics"),
        capturing(here, tmp_path, FILE) as sidecar,
    ):
        assert get(there, here.v4, 8080, "/a") == (200, f"main /a {here.v4}:8080 {there.v4}")
        assert get(there, here.v4, 9100, "/b") == (200, f"metrics /b {here.v4}:9100 {there.v4}")
        lines = sidecar.wait_for_log_lines(2)
        assert {line["direction"] for line in lines} == {"inbound"}
        assert all(line["downstream_remote_address"].startswith(f"{there.v4}:") for line in lines)
        assert [line["upstream_host"] for line in lines] == [f"{here.v4}:8080", f"{here.v4}:9100"]


def test_app_that_listens_on_loopback_is_reached_only_by_the_port_that_the_file_names(tmp_path: Path) -> None:
    """First it is looked for where it was called; what else listens on loopback stays closed to others."""
    with (
        hosts(2) as (here, there),
        app(here, 8080, "main", "127.0.0.1"),
        app(here, 9999, "debug", "127.0.0.1"),
        capturing(here, tmp_path, FILE) as sidecar,
    ):
        assert [get(there, here.v4, 8080)[0] for _ in range(3)] == [200, 200, 200]
        assert get(there, here.v4, 9999)[0] == 503
        lines = sidecar.wait_for_log_lines(4)
        # Who was refused where it was called is not asked there again.
        assert [line["attempts"] for line in lines] == [2, 1, 1, 1]
        assert lines[3]["response_flags"] == "UF"


def test_clients_that_are_told_of_the_sidecar_go_on_as_before(tmp_path: Path) -> None:
    """`HTTP_PROXY` and Host at the port that captures; nobody is to call the other one by its address."""
    with hosts(2) as (here, there), app(there, 9000, "nine"), capturing(here, tmp_path, FILE) as sidecar:
        for address in ("127.0.0.1", "::1"):
            assert get(here, address, 15001, headers={"Host": "recommendations"})[0] == 200
            assert get(here, address, 15001, headers={"Host": "elsewhere"})[0] == 404
        assert get(here, "127.0.0.1", 15006)[0] == 508
        assert get(there, here.v4, 15006)[0] == 508
        lines = sidecar.wait_for_log_lines(6)
        assert [line["response_code_details"] for line in lines[-2:]] == ["loop", "loop"]


def test_what_nothing_names_can_be_refused(tmp_path: Path) -> None:
    """`unmatched: deny` of `capture`, whatever `outbound` says of those who come by address."""
    text = FILE.replace("capture: {}", "capture: {unmatched: deny}").replace(
        "unmatched: deny}\n", "unmatched: passthrough}\n", 1
    )
    with hosts(2) as (here, there), app(there, 80, "eighty"), capturing(here, tmp_path, text):
        assert get(here, there.v4, 80)[0] == 404
        assert get(here, "127.0.0.1", 15001, headers={"Host": there.v4})[0] == 200


def test_hosts_of_one_family_are_captured(tmp_path: Path) -> None:
    """IPv6 alone, and IPv4 alone."""
    for v4, v6 in ((False, True), (True, False)):
        with hosts(2, v4=v4, v6=v6) as (here, there):
            to = there.v4 or there.v6
            with (
                app(there, 9000, "nine", to),
                app(there, 80, "eighty", to),
                app(here, 8080, "main", here.v4 or here.v6),
            ):
                text = FILE.replace("198.51.100.2:9000", f"[{to}]:9000" if v6 else f"{to}:9000")
                with capturing(here, tmp_path / str(v6), text):
                    assert get(here, to, 80, headers={"Host": "recommendations"})[1].startswith("nine")
                    assert get(here, to, 80)[1].startswith("eighty")
                    assert get(there, here.v4 or here.v6, 8080)[1].startswith("main")


def test_ports_with_an_app_of_their_own_have_its_routes(tmp_path: Path) -> None:
    """By the port that was called, as if it had come to that listener."""
    text = """
    service: storefront
    inbound:
      listen:
      - {address: "0.0.0.0:15080", name: http, app: "127.0.0.1:8080"}
      - {address: "0.0.0.0:15090", name: web, app: "127.0.0.1:9090"}
      routes: [{name: closed, match: {path: {prefix: /closed}}, respond: {status: 403}}]
    capture: {}
    """
    with (
        hosts(2) as (here, there),
        app(here, 8080, "main"),
        app(here, 9090, "web"),
        capturing(here, tmp_path, text) as sidecar,
    ):
        assert get(there, here.v4, 8080)[1].startswith("main")
        assert get(there, here.v4, 9090)[1].startswith("web")
        assert get(there, here.v4, 9090, "/closed")[0] == 403
        assert [one["upstream_cluster"] for one in sidecar.wait_for_log_lines(3)] == ["app.http", "app.web", None]


def test_listeners_come_and_go_by_reload(tmp_path: Path) -> None:
    """A file that asks for capture only later, and not any more."""
    plain = FILE.replace("capture: {}\n", "")
    with (
        hosts(2) as (here, there),
        app(there, 80, "eighty"),
        app(there, 9000, "nine"),
        capturing(here, tmp_path, plain) as sidecar,
    ):
        # It listens there, and knows nothing of captured connections: they are taken by their Host.
        assert get(here, there.v4, 80)[0] == 404
        sidecar.rewrite(FILE)
        sidecar.wait_for_generation(2)
        assert get(here, there.v4, 80)[1].startswith("eighty")
        sidecar.rewrite(plain)
        sidecar.wait_for_generation(3)
        assert get(here, there.v4, 80)[0] == 404


def test_service_that_calls_itself_comes_in_by_its_own_listener(tmp_path: Path) -> None:
    """As any other caller: out by its own routes, in by its own rules."""
    text = FILE + '  storefront: {endpoints: ["198.51.100.1:15000"]}\n'
    with hosts(1) as (here,), app(here, 8080, "main"), capturing(here, tmp_path, text) as sidecar:
        assert get(here, "203.0.113.9", 80, headers={"Host": "storefront"})[1].startswith("main")
        lines = {line["direction"]: line for line in sidecar.wait_for_log_lines(2)}
        assert lines["inbound"]["trace_id"] == lines["outbound"]["trace_id"]
