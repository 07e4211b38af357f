"""A real sidecar asks real servers how they are, and sends requests to those that are well."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.support.process import SidecarProcess, running_sidecar
from tests.support.wait import eventually


class Checked:
    """
    A server that answers `/ping` as the test says and every other path with its name.

    Attributes:
        status, body: Of the answer to `/ping`.
        checks: Fields of every check that came.
        served: Requests that came for other paths.
    """

    def __init__(self, name: str) -> None:
        self.status = 200
        self.body = b"pong"
        self.checks: list[dict[str, str]] = []
        self.served = 0
        this = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                if self.path.startswith("/ping"):
                    this.checks.append({"path": self.path, **{key.lower(): v for key, v in self.headers.items()}})
                    status, body = this.status, this.body
                else:
                    this.served += 1
                    status, body = 200, name.encode()
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def one() -> Iterator[Checked]:
    """The first server."""
    server = Checked("one")
    yield server
    server.close()


@pytest.fixture
def two() -> Iterator[Checked]:
    """The second."""
    server = Checked("two")
    yield server
    server.close()


def config(
    one: Checked,
    two: Checked,
    *,
    path: str = "/ping",
    interval: str = "50ms",
    check: str = "",
    more: str = "",
    zones: tuple[str, str] | None = None,
) -> str:
    """
    An upstream `shop` of both, checked twenty times a second.

    Args:
        check: Further settings of the check.
        more: Further settings of the upstream.
        zones: Of the two; the sidecar is in `a1`.
    """
    first, second = [f", zone: {zone}" for zone in zones] if zones else ["", ""]
    return f"""
        service: storefront
        {"zone: a1" if zones else ""}
        outbound: {{listen: "127.0.0.1:${{OUTBOUND_PORT}}"}}
        upstreams:
          shop:
            endpoints:
              - {{address: "127.0.0.1:{one.port}"{first}}}
              - {{address: "127.0.0.1:{two.port}"{second}}}
            load_balancing: round_robin
            health_check: {{path: "{path}", interval: {interval}, timeout: 2s, unhealthy_threshold: 2{check}}}
            {more}
    """


def answers(sidecar: SidecarProcess, count: int = 20) -> Counter[str]:
    """Who answers so many requests; all must be answered with 200."""
    replies = [sidecar.outbound("/", host="shop") for _ in range(count)]
    assert {reply.status for reply in replies} == {200}
    return Counter(reply.text for reply in replies)


def health(sidecar: SidecarProcess) -> list[str]:
    """What `/upstreams` says of the two."""
    endpoints = sidecar.admin("/upstreams").json()["shop"]["endpoints"]
    return [endpoint["health"] for endpoint in endpoints]


def wait_for(sidecar: SidecarProcess, *expected: str) -> None:
    eventually(lambda: health(sidecar) == list(expected), f"health {expected}; log:\n{sidecar.stderr()}")


def test_an_unhealthy_endpoint_gets_no_request_until_it_is_well(tmp_path: Path, one: Checked, two: Checked) -> None:
    """Out after its threshold, back after the other one; nobody saw an error, and the log says both."""
    with running_sidecar(tmp_path, config(one, two)) as sidecar:
        wait_for(sidecar, "healthy", "healthy")
        assert set(answers(sidecar)) == {"one", "two"}
        one.status = 503
        wait_for(sidecar, "unhealthy", "healthy")
        assert answers(sidecar) == {"two": 20}
        one.status = 200
        wait_for(sidecar, "healthy", "healthy")
        assert set(answers(sidecar)) == {"one", "two"}
        back = f"endpoint_healthy upstream=shop endpoint=127.0.0.1:{one.port}"
        log = eventually(lambda: back in sidecar.stderr() and sidecar.stderr(), "the log to say so")
        assert f"endpoint_unhealthy upstream=shop endpoint=127.0.0.1:{one.port}" in log
        assert "status 503" in log


def test_an_endpoint_that_listens_no_more_is_unhealthy(tmp_path: Path, one: Checked, two: Checked) -> None:
    """A refused connection is a bad answer."""
    with running_sidecar(tmp_path, config(one, two)) as sidecar:
        wait_for(sidecar, "healthy", "healthy")
        two.close()
        wait_for(sidecar, "healthy", "unhealthy")
        assert answers(sidecar) == {"one": 20}


def test_health_survives_reloads(tmp_path: Path, one: Checked, two: Checked) -> None:
    """A reload that changes other things never lets an unhealthy endpoint back in, not even for one request."""
    one.status = 500
    with running_sidecar(tmp_path, config(one, two)) as sidecar:
        wait_for(sidecar, "unhealthy", "healthy")
        # An hour between checks: whatever is known after the reload was known before.
        served = one.served
        sidecar.rewrite(config(one, two, more="connect_timeout: 3s", interval="1h"))
        sidecar.wait_for_generation(2)
        assert health(sidecar) == ["unhealthy", "healthy"]
        assert answers(sidecar) == {"two": 20}
        assert one.served == served


def test_checks_are_sent_as_the_file_says(tmp_path: Path, one: Checked, two: Checked) -> None:
    """Path with its query, host, fields, and a port of its own: here that of the other server."""
    check = f', port: {two.port}, host: shop.example, headers: {{x-check: "yes"}}'
    with running_sidecar(tmp_path, config(one, two, check=check, path="/ping?deep=1")) as sidecar:
        wait_for(sidecar, "healthy", "healthy")
        eventually(lambda: len(two.checks) >= 4, "checks on the other port")
        assert one.checks == []
        for fields in two.checks:
            assert (fields["path"], fields["host"], fields["x-check"]) == ("/ping?deep=1", "shop.example", "yes")


def test_status_and_body_decide(tmp_path: Path, one: Checked, two: Checked) -> None:
    """A good status with the wrong body is a bad answer, another expected status a good one."""
    one.status, two.body = 204, b"sick"
    one.body = b""
    check = ", expected_statuses: [200, 204]"
    with running_sidecar(tmp_path, config(one, two, check=check)) as sidecar:
        wait_for(sidecar, "healthy", "healthy")
        one.status, one.body = 200, b"all is well"
        sidecar.rewrite(config(one, two, check=check + ", expected_body: well"))
        wait_for(sidecar, "healthy", "unhealthy")


def test_when_too_few_are_healthy_all_are_used_and_that_is_said(tmp_path: Path, one: Checked, two: Checked) -> None:
    """Panic: an endpoint that may be sick is better than none; with a threshold of 0 there is none."""
    one.status = two.status = 500
    with running_sidecar(tmp_path, config(one, two)) as sidecar:
        wait_for(sidecar, "unhealthy", "unhealthy")
        assert set(answers(sidecar)) == {"one", "two"}
        eventually(lambda: "upstream_panic upstream=shop usable=0 total=2" in sidecar.stderr(), "the log to say so")
        sidecar.rewrite(config(one, two, more="panic_threshold: 0"))
        sidecar.wait_for_generation(2)
        reply = sidecar.outbound("/", host="shop")
        assert (reply.status, json.loads(reply.body)["flag"]) == (503, "UH")


def test_requests_stay_in_the_zone_and_spill_over_when_it_is_sick(tmp_path: Path, one: Checked, two: Checked) -> None:
    """The endpoint of the sidecar's own zone gets all, then, while it is unhealthy, the other."""
    text = config(one, two, zones=("a1", "b1"))
    with running_sidecar(tmp_path, text) as sidecar:
        wait_for(sidecar, "healthy", "healthy")
        assert answers(sidecar) == {"one": 20}
        one.status = 500
        wait_for(sidecar, "unhealthy", "healthy")
        assert answers(sidecar) == {"two": 20}


def test_an_endpoint_that_comes_back_starts_slowly(tmp_path: Path, one: Checked, two: Checked) -> None:
    """With a slow start of a day it has a tenth of its weight at first; round robin gives that share."""
    with running_sidecar(tmp_path, config(one, two, more="slow_start: 24h")) as sidecar:
        wait_for(sidecar, "healthy", "healthy")
        one.status = 500
        wait_for(sidecar, "unhealthy", "healthy")
        one.status = 200
        wait_for(sidecar, "healthy", "healthy")
        assert 5 <= answers(sidecar, 110)["one"] <= 15
