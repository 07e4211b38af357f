"""`sidecar tap` and `sidecar top` against a running sidecar, as a user starts them."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.origin import Origin
from tests.support.process import SidecarProcess, running_sidecar
from tests.support.wait import eventually
from tests.support.wire import Client

CONFIG = """
    service: {{name: storefront, version: "7"}}
    inbound: {{listen: "127.0.0.1:${{INBOUND_PORT}}", app: "127.0.0.1:{app}"}}
    outbound:
      listen: "127.0.0.1:${{OUTBOUND_PORT}}"
      routes:
        - {{name: canary, match: {{host: shop}}, to: {{shop: 1, beta: 1}}}}
    upstreams:
      shop: {{endpoints: ["127.0.0.1:{app}"]}}
      beta: {{endpoints: ["127.0.0.1:{beta}"]}}
"""


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SidecarProcess]:
    """Two apps behind it."""
    with Origin("v1") as app, Origin("beta") as beta:
        text = CONFIG.format(app=app.port, beta=beta.port)
        with running_sidecar(tmp_path_factory.mktemp("live"), text) as one:
            yield one


def command(sidecar: SidecarProcess, *arguments: str) -> list[str]:
    """`sidecar tap` or `top`, told where to ask."""
    name, *rest = arguments
    return [sys.executable, "-m", "sidecar", name, "--admin", f"127.0.0.1:{sidecar.admin_port}", *rest]


class Tapping:
    """A `sidecar tap` that looks; `finish` waits for its end."""

    def __init__(self, sidecar: SidecarProcess, *arguments: str) -> None:
        self.process = subprocess.Popen(
            command(sidecar, "tap", *arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def finish(self) -> tuple[int, str, str]:
        """Exit code, output, errors."""
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err


@contextlib.contextmanager
def requests_until_left(sidecar: SidecarProcess, headers: dict[str, str] | None = None) -> Iterator[None]:
    """A request of each direction every few milliseconds, as long as the context lasts."""
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(0.005):
            sidecar.inbound("/items?token=hunter2", headers=headers)
            sidecar.outbound("/v1", host="shop")
            sidecar.outbound("/v1", host="unknown")

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)


def test_tap_shows_requests_as_they_happen_without_secrets(sidecar: SidecarProcess) -> None:
    """What the client sent, filtered in the sidecar, credentials hidden."""
    headers = {"authorization": "Bearer hunter2", "cookie": "sid=hunter2", "x-plain": "yes"}
    with requests_until_left(sidecar, headers):
        code, out, err = Tapping(sidecar, "--json", "--limit", "5", "--direction", "inbound").finish()
    assert (code, err) == (0, "")
    events = [json.loads(line) for line in out.splitlines()]
    assert len(events) == 5
    assert "hunter2" not in out
    for event in events:
        fields = dict(event["headers"])
        assert (event["direction"], event["route_name"], event["path"]) == ("inbound", "app", "/items?token=[redacted]")
        assert (fields["authorization"], fields["cookie"], fields["x-plain"]) == ("[redacted]", "[redacted]", "yes")


def test_tap_tells_the_same_as_the_access_log(sidecar: SidecarProcess) -> None:
    """Key by key, but for the fields and for what the tap hides."""
    with requests_until_left(sidecar):
        code, out, _ = Tapping(sidecar, "--json", "--limit", "9", "--direction", "outbound").finish()
    assert code == 0
    lines: dict[str, dict[str, Any]] = {}

    def are_all_written() -> bool:
        lines.update({line["request_id"]: line for line in sidecar.access_log()})
        return all(event["request_id"] in lines for event in events)

    events = [json.loads(line) for line in out.splitlines()]
    eventually(are_all_written, "the lines of what was shown")
    for event in events:
        line = lines[event["request_id"]]
        shared = event.keys() & line.keys()
        assert {key: event[key] for key in shared} == {key: line[key] for key in shared}
        assert event.keys() - line.keys() == {"headers"}
        assert line.keys() - event.keys() <= {"user_agent"}


def test_several_taps_look_at_once_each_at_its_own(sidecar: SidecarProcess) -> None:
    """Filters and limits are of each."""
    taps = {
        "canary": Tapping(sidecar, "--json", "--limit", "4", "--route", "canary"),
        "-": Tapping(sidecar, "--json", "--limit", "3", "--flag", "NR", "--status", "4xx"),
        "app": Tapping(sidecar, "--json", "--limit", "2", "--route", "app", "--path", "/it*"),
    }
    with requests_until_left(sidecar):
        shown = {name: tap.finish() for name, tap in taps.items()}
    assert [code for code, _, _ in shown.values()] == [0, 0, 0]
    routes = {
        name: [json.loads(line)["route_name"] for line in out.splitlines()] for name, (_, out, _) in shown.items()
    }
    assert routes == {"canary": ["canary"] * 4, "-": [None] * 3, "app": ["app"] * 2}


def test_a_tap_that_nobody_reads_delays_no_request(sidecar: SidecarProcess) -> None:
    """The client of the tap takes nothing; requests go on, memory stays, and what was left out is counted."""
    with Client(sidecar.admin_port, receive_buffer=4096) as tap:
        tap.get("/tap?rate=10000", host="localhost")
        tap.read_until(b"\r\n\r\n")
        before = sidecar.memory_kib()
        filler = {"x-filler": "a" * 6000}
        for _ in range(1000):
            assert sidecar.inbound("/items", headers=filler).status == 200
        assert sidecar.memory_kib() - before < 16 * 1024
        # 6 MB were to be shown; what the tap and the kernel hold is a fraction of that.
        seen = b""
        while b'"dropped"' not in seen[-4096:]:
            seen += tap.receive()
        assert b'"slow_reader":' in seen
        assert seen.count(b'"response_code":200') < 1000


def test_ctrl_c_ends_a_tap_quietly(sidecar: SidecarProcess) -> None:
    """Exit code 0, no traceback, and the sidecar goes on."""
    with requests_until_left(sidecar):
        tap = Tapping(sidecar)
        assert tap.process.stdout is not None
        assert "shop" in "".join(tap.process.stdout.readline() for _ in range(6))
        tap.process.send_signal(signal.SIGINT)
        code, _, err = tap.finish()
    assert (code, err) == (0, "")
    assert sidecar.inbound("/items").status == 200


def test_a_tap_ends_with_its_sidecar(tmp_path: Path) -> None:
    """It says so, with exit code 1; the sidecar does not wait for it."""
    with Origin("v1") as app, running_sidecar(tmp_path, CONFIG.format(app=app.port, beta=app.port)) as one:
        tap = Tapping(one, "--json")
        assert tap.process.stdout is not None
        with requests_until_left(one):
            tap.process.stdout.readline()
        begin = time.monotonic()
        assert one.stop() == 0
        assert time.monotonic() - begin < 10
        code, _, err = tap.finish()
    assert code == 1
    assert "ended the stream" in err


def test_top_shows_what_happened(sidecar: SidecarProcess) -> None:
    """Rates and success by route and upstream, of one interval, as JSON."""
    with requests_until_left(sidecar):
        found = subprocess.run(
            command(sidecar, "top", "--once", "--json", "--interval", "1"), capture_output=True, text=True, timeout=60
        )
    assert (found.returncode, found.stderr) == (0, "")
    told = json.loads(found.stdout)
    routes = {(one["direction"], one["route"]): one for one in told["routes"]}
    assert (told["service"], told["config_is_good"]) == ("storefront", True)
    assert told["seconds"] >= 0.9
    assert routes.keys() == {("inbound", "app"), ("outbound", "canary"), ("outbound", "")}
    for one in routes.values():
        assert one["requests"] > 0
        assert one["rate"] == pytest.approx(one["requests"] / told["seconds"], rel=0.01)
        assert 0 < one["latency_ms"]["p50"] <= one["latency_ms"]["p90"] <= one["latency_ms"]["p99"]
    assert routes["outbound", ""]["refused"] == routes["outbound", ""]["requests"]
    split = {one["upstream"]: one["requests"] for one in told["upstreams"] if one["route"] == "canary"}
    assert sum(split.values()) == routes["outbound", "canary"]["requests"]
    assert split.keys() <= {"shop", "beta"}


@pytest.mark.parametrize("term", ["dumb", "unknown", None])
def test_top_prints_lines_on_a_terminal_that_cannot_be_drawn_on(sidecar: SidecarProcess, term: str | None) -> None:
    """One table after the other, without a code for a cursor: in an editor's shell, in CI, under `env -i`."""
    environment = {name: value for name, value in os.environ.items() if name not in ("TERM", "FORCE_COLOR")}
    screen = _on_a_terminal(sidecar, {**environment, **({"TERM": term} if term is not None else {})})
    assert b"REQ/S" in screen
    assert b"\x1b" not in screen


def test_a_colour_that_is_forced_makes_no_screen_of_a_pipe(sidecar: SidecarProcess) -> None:
    """FORCE_COLOR is a wish for colours."""
    environment = {**os.environ, "FORCE_COLOR": "1", "TERM": "xterm"}
    with requests_until_left(sidecar):
        process = subprocess.Popen(
            command(sidecar, "top", "--interval", "0.2"), stdout=subprocess.PIPE, env=environment
        )
        assert process.stdout is not None
        with process.stdout:
            lines = [process.stdout.readline() for _ in range(4)]
            process.send_signal(signal.SIGINT)
            process.wait(30)
    assert b"\x1b[?1049h" not in b"".join(lines)


def test_top_refreshes_in_place_on_a_terminal_until_ctrl_c(sidecar: SidecarProcess) -> None:
    """On a pseudo terminal: the other screen, the routes, and back again."""
    screen = _on_a_terminal(sidecar, {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "40"})
    assert b"\x1b[?1049h" in screen
    assert b"\x1b[?1049l" in screen


def _on_a_terminal(sidecar: SidecarProcess, environment: dict[str, str]) -> bytes:
    """What `sidecar top` writes until it has shown a route three times and is interrupted."""
    controller, terminal = pty.openpty()
    with requests_until_left(sidecar):
        process = subprocess.Popen(
            command(sidecar, "top", "--interval", "0.2"), stdin=terminal, stdout=terminal, stderr=terminal,
            env=environment, start_new_session=True,
        )  # fmt: skip
        os.close(terminal)
        screen = b""
        try:
            while screen.count(b"canary") < 3:
                screen += os.read(controller, 65536)
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(OSError):  # EIO: the other side was closed
                while data := os.read(controller, 65536):
                    screen += data
            assert process.wait(30) == 0
        finally:
            process.kill()
            process.wait(30)
            os.close(controller)
    assert b"Traceback" not in screen
    return screen
