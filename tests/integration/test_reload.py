"""Hot reload of a real process: every way in which a file changes, and what a reload must leave alone."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.integration.test_lifecycle import InFlight, can_connect
from tests.support.origin import Origin
from tests.support.process import Response, SidecarProcess, running_sidecar
from tests.support.wait import eventually, free_port

LISTEN = "127.0.0.1:${OUTBOUND_PORT}"


@pytest.fixture
def v1() -> Iterator[Origin]:
    """Where the service is at first."""
    with Origin("v1") as origin:
        yield origin


@pytest.fixture
def v2() -> Iterator[Origin]:
    """Where it moves to."""
    with Origin("v2") as origin:
        yield origin


def outbound(origin: Origin, *listen: str, extra: str = "") -> str:
    """A file whose host `svc` is at `origin`, with an upstream of the origin's own name."""
    addresses = ", ".join(f'"{address}"' if "{" not in address[:1] else address for address in listen or (LISTEN,))
    lines = [
        "service: x",
        "outbound:",
        f"  listen: [{addresses}]",
        f"upstreams: {{{origin.name}: {{hosts: [svc], endpoints: ['127.0.0.1:{origin.port}']}}}}",
        extra,
    ]
    return "\n".join(lines)


def who(sidecar: SidecarProcess) -> str:
    """Which version answers now."""
    return sidecar.outbound("/who", host="svc").text


def becomes(sidecar: SidecarProcess, name: str) -> None:
    """Wait until this version answers."""
    eventually(lambda: who(sidecar) == name, f"{name} to answer")


# --- ways in which a file changes ------------------------------------------------------------------------------------


def by_rewrite(path: Path, text: str) -> None:
    path.write_text(text)


def by_rename(path: Path, text: str) -> None:
    other = path.with_suffix(".new")
    other.write_text(text)
    other.rename(path)


@pytest.mark.parametrize("change", [by_rewrite, by_rename])
def test_a_changed_file_is_live_within_a_second(
    tmp_path: Path, v1: Origin, v2: Origin, change: Callable[[Path, str], None]
) -> None:
    """Without any signal, and again for the next change."""
    with running_sidecar(tmp_path, outbound(v1)) as sidecar:
        assert who(sidecar) == "v1"
        changed_at = time.time()
        change(sidecar.config, sidecar.complete(outbound(v2)))
        becomes(sidecar, "v2")
        change(sidecar.config, sidecar.complete(outbound(v1)))
        becomes(sidecar, "v1")
        applied_at = sidecar.metric("sidecar_config_last_reload_success_timestamp_seconds")
        # Two changes, each within a second, on a machine that may be busy.
        assert applied_at - changed_at < 10


def test_the_link_swap_of_a_config_map_is_seen(tmp_path: Path, v1: Origin, v2: Origin) -> None:
    """Kubernetes mounts `sidecar.yaml -> ..data/sidecar.yaml`, `..data -> ..<time>`, and renames a new link over it."""
    mount = tmp_path / "mount"

    def publish(stamp: str, text: str) -> None:
        (mount / stamp).mkdir(parents=True)
        (mount / stamp / "sidecar.yaml").write_text(text)
        (mount / "..data_tmp").symlink_to(stamp)
        (mount / "..data_tmp").rename(mount / "..data")

    sidecar = SidecarProcess(tmp_path / "run", config=mount / "sidecar.yaml")
    publish("..2026_01", sidecar.complete(outbound(v1)))
    sidecar.config.symlink_to("..data/sidecar.yaml")
    sidecar.start()
    try:
        sidecar.wait_ready()
        assert who(sidecar) == "v1"
        publish("..2026_02", sidecar.complete(outbound(v2)))
        becomes(sidecar, "v2")
        assert sidecar.stop() == 0
    finally:
        sidecar.kill()


def test_sighup_reloads_at_once_and_also_an_unchanged_file(tmp_path: Path, v1: Origin) -> None:
    """Whoever sends it wants it."""
    with running_sidecar(tmp_path, outbound(v1)) as sidecar:
        sidecar.signal(signal.SIGHUP)
        sidecar.wait_for_generation(2)
        assert sidecar.admin("/config").json()["last_load"]["trigger"] == "signal"


def test_post_reload_answers_when_the_file_is_live(tmp_path: Path, v1: Origin, v2: Origin) -> None:
    """The next request already goes by the new file."""
    with running_sidecar(tmp_path, outbound(v1)) as sidecar:
        sidecar.rewrite(outbound(v2))
        report = sidecar.admin("/reload", method="POST")
        assert (report.status, report.json()["ok"]) == (200, True)
        assert who(sidecar) == "v2"


# --- files that are refused ------------------------------------------------------------------------------------------


def test_a_bad_file_changes_nothing_and_is_told_everywhere(tmp_path: Path, v1: Origin) -> None:
    """The reply, the log, `/config` and the metric say it; the old configuration serves on; a good file heals it."""
    with running_sidecar(tmp_path, outbound(v1)) as sidecar:
        sidecar.config.write_text("service: x\noutbound: {lisen: '127.0.0.1:1'}\n")
        report = sidecar.admin("/reload", method="POST")
        assert report.status == 400
        (problem,) = report.json()["problems"]
        assert (problem["line"], problem["column"], problem["path"]) == (2, 12, "outbound.lisen")
        assert "listen" in problem["hint"]
        assert who(sidecar) == "v1"
        assert sidecar.metric("sidecar_config_last_reload_successful") == 0
        config = sidecar.admin("/config").json()
        assert config["live"]["generation"] == 1
        assert config["last_load"]["problems"] == [problem]
        assert config["effective"]["upstreams"]["v1"]["hosts"] == ["svc"]
        eventually(lambda: "config_refused" in sidecar.stderr(), "the log to say so")
        assert sidecar.is_ready()
        sidecar.rewrite(outbound(v1))
        eventually(lambda: sidecar.metric("sidecar_config_last_reload_successful") == 1, "the metric to heal")


def test_a_warning_is_told_everywhere_and_the_file_is_live(tmp_path: Path, v1: Origin) -> None:
    """The reply, the log and `/config` say it; the new configuration serves."""
    with running_sidecar(tmp_path, outbound(v1)) as sidecar:
        looped = "  routes: [{match: {path: /again}, redirect: {status: 303}}]\n"
        sidecar.rewrite(outbound(v1).replace("outbound:\n", "outbound:\n" + looped, 1))
        report = sidecar.admin("/reload", method="POST")
        assert (report.status, report.json()["problems"]) == (200, [])
        (warning,) = report.json()["warnings"]
        assert "warning: outbound.routes[0].redirect: leads to itself" in warning
        assert sidecar.admin("/config").json()["last_load"]["warnings"] == [warning]
        eventually(lambda: "config_warning" in sidecar.stderr(), "the log to say so")
        assert who(sidecar) == "v1"
        answer = sidecar.outbound("/again?a=b", host="svc", method="POST")
        assert (answer.status, answer.headers["location"]) == (303, "/again?a=b")


def test_a_file_that_went_missing_changes_nothing(tmp_path: Path, v1: Origin) -> None:
    """An editor's moment without a file is no event; asking for a reload then says what is wrong."""
    with running_sidecar(tmp_path, outbound(v1)) as sidecar:
        sidecar.config.unlink()
        report = sidecar.admin("/reload", method="POST")
        assert report.status == 400
        assert report.json()["error"] == f"cannot read {sidecar.config}: no such file"
        assert who(sidecar) == "v1"


def test_a_port_in_use_refuses_the_whole_reload_and_names_its_line(tmp_path: Path, v1: Origin, v2: Origin) -> None:
    """Neither the routes nor the other new listener of that file take effect."""
    with running_sidecar(tmp_path, outbound(v1)) as sidecar, socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        free, in_use = free_port(), taken.getsockname()[1]
        sidecar.rewrite(outbound(v2, LISTEN, f"127.0.0.1:{free}", f"127.0.0.1:{in_use}"))
        report = sidecar.admin("/reload", method="POST")
        assert report.status == 400
        (problem,) = report.json()["problems"]
        assert problem["line"] == 3
        assert f"cannot listen on 127.0.0.1:{in_use}" in problem["message"]
        assert who(sidecar) == "v1"
        assert not can_connect(free)


# --- listeners -------------------------------------------------------------------------------------------------------


def test_listeners_are_added_moved_and_removed_while_others_stay(tmp_path: Path, v1: Origin, v2: Origin) -> None:
    """A connection to one that stays goes on, across every change, and goes by the new file."""
    with running_sidecar(tmp_path, outbound(v1)) as sidecar:
        kept = http.client.HTTPConnection("127.0.0.1", sidecar.outbound_port, timeout=15)
        kept.connect()
        ours = kept.sock

        def ask() -> str:
            kept.request("GET", "/", headers={"Host": "svc"})
            return kept.getresponse().read().decode()

        assert ask() == "v1"
        first, second = free_port(), free_port()
        for extra, is_open in (
            ([f"127.0.0.1:{first}"], (True, False)),
            ([f"127.0.0.1:{second}"], (False, True)),
            ([f"0.0.0.0:{second}"], (False, True)),
            ([], (False, False)),
        ):
            sidecar.rewrite(outbound(v2, LISTEN, *extra))
            assert sidecar.admin("/reload", method="POST").json()["ok"]
            assert (can_connect(first), can_connect(second)) == is_open
            assert ask() == "v2"
        assert kept.sock is ours
        kept.close()


def test_a_removed_listener_lets_its_exchange_finish_and_closes_idle_connections(tmp_path: Path, v1: Origin) -> None:
    """Under the plan with which the exchange began."""
    other = free_port()
    with running_sidecar(tmp_path, outbound(v1, LISTEN, f"127.0.0.1:{other}")) as sidecar:
        idle = sidecar.connect(other)
        in_flight = InFlight(other, v1, "svc")
        sidecar.rewrite(outbound(v1))
        assert sidecar.admin("/reload", method="POST").status == 200
        assert idle.recv(1) == b""
        idle.close()
        assert not can_connect(other)
        v1.release()
        in_flight.join()
        assert in_flight.response is not None
        assert in_flight.response.text == "v1"
        assert in_flight.response.headers["connection"] == "close"


def test_a_listener_that_gets_a_host_keeps_its_socket(tmp_path: Path, v1: Origin) -> None:
    """Only what requests are taken for changes."""
    with running_sidecar(tmp_path, outbound(v1)) as sidecar:
        assert sidecar.outbound("/", host="stranger").status == 404
        sidecar.rewrite(outbound(v1, f'{{address: "{LISTEN}", host: svc}}'))
        assert sidecar.admin("/reload", method="POST").status == 200
        assert sidecar.outbound("/", host="stranger").text == "v1"
        assert sidecar.stderr().count("listener_opened role=outbound") == 1


def test_metrics_and_admin_listeners_move_too(tmp_path: Path, v1: Origin) -> None:
    """The new addresses answer, the old ones are closed, and the reply to the reload that moved them arrives."""
    with running_sidecar(tmp_path, outbound(v1)) as sidecar:
        old_admin, old_metrics = sidecar.admin_port, sidecar.metrics_port
        new_admin, new_metrics = free_port(), free_port()
        text = sidecar.complete(outbound(v1))
        text = text.replace("${ADMIN_PORT}", str(new_admin)).replace("${METRICS_PORT}", str(new_metrics))
        sidecar.config.write_text(text)
        assert sidecar.admin("/reload", method="POST").status == 200
        sidecar.admin_port, sidecar.metrics_port = new_admin, new_metrics
        assert sidecar.is_ready()
        assert sidecar.admin("/server_info").status == 200
        assert not can_connect(old_admin)
        assert not can_connect(old_metrics)


def test_two_listeners_that_swap_their_directions_are_never_refused(tmp_path: Path, v1: Origin) -> None:
    """Inbound takes the address of outbound and the other way round, in one reload."""
    text = """
        service: x
        inbound: {{listen: "127.0.0.1:${{{}}}", app: "127.0.0.1:{}"}}
        outbound: {{listen: "127.0.0.1:${{{}}}"}}
    """
    with running_sidecar(tmp_path, text.format("INBOUND_PORT", v1.port, "OUTBOUND_PORT")) as sidecar:
        assert (sidecar.inbound("/").status, sidecar.outbound("/", host="nobody").status) == (200, 404)
        sidecar.rewrite(text.format("OUTBOUND_PORT", v1.port, "INBOUND_PORT"))
        assert sidecar.admin("/reload", method="POST").status == 200
        assert (sidecar.inbound("/").status, sidecar.outbound("/", host="nobody").status) == (404, 200)


# --- what goes on ----------------------------------------------------------------------------------------------------


def test_an_exchange_in_flight_ends_under_the_plan_with_which_it_began(tmp_path: Path, v1: Origin, v2: Origin) -> None:
    """Even if its upstream is gone from the file."""
    with running_sidecar(tmp_path, outbound(v1)) as sidecar:
        in_flight = InFlight(sidecar.outbound_port, v1, "svc")
        sidecar.rewrite(outbound(v2))
        assert sidecar.admin("/reload", method="POST").status == 200
        assert who(sidecar) == "v2"
        v1.release()
        in_flight.join()
        assert in_flight.response is not None
        assert in_flight.response.text == "v1"


def test_a_tunnel_lives_through_reloads(tmp_path: Path, v1: Origin) -> None:
    """A CONNECT to an allowed host carries bytes before, between and after them."""
    with running_sidecar(tmp_path, outbound(v1)) as sidecar, sidecar.connect(sidecar.outbound_port) as tunnel:
        tunnel.sendall(b"CONNECT svc:80 HTTP/1.1\r\nHost: svc:80\r\n\r\n")
        assert tunnel.recv(65536).startswith(b"HTTP/1.1 200")
        for round_ in range(3):
            tunnel.sendall(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % round_)
            answer = b""
            while not answer.endswith(b"v1"):
                got = tunnel.recv(65536)
                assert got
                answer += got
            sidecar.rewrite(outbound(v1, extra=f"limits: {{max_headers: {100 + round_}}}"))
            assert sidecar.admin("/reload", method="POST").status == 200


def test_pools_and_counters_of_unchanged_upstreams_survive(tmp_path: Path, v1: Origin) -> None:
    """One connection serves requests before and after; no counter goes back."""
    with running_sidecar(tmp_path, outbound(v1)) as sidecar:
        for generation in range(2, 6):
            assert who(sidecar) == "v1"
            sidecar.rewrite(outbound(v1, extra=f"limits: {{max_headers: {100 + generation}}}"))
            assert sidecar.admin("/reload", method="POST").json()["generation"] >= generation
        assert v1.connections == 1
        assert sidecar.metric("sidecar_requests_total", upstream="v1") == 4
        stats = sidecar.admin("/upstreams").json()["v1"]["stats"]
        assert (stats["requests"], stats["connections_opened"]) == (4, 1)


@contextmanager
def load(sidecar: SidecarProcess, clients: int) -> Iterator[list[str]]:
    """Clients that ask without pause; yields the list of what went wrong, complete after the context."""
    faults: list[str] = []
    stop = threading.Event()

    def ask(keep_alive: bool) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", sidecar.outbound_port, timeout=15)
        while not stop.is_set():
            try:
                connection.request("GET", "/", headers={"Host": "svc"})
                answer = connection.getresponse()
                body = answer.read()
                if answer.status != 200 or body not in (b"v1", b"v2"):
                    faults.append(f"{answer.status} {body!r}")
            except Exception as error:
                faults.append(repr(error))
                return
            if not keep_alive:
                connection.close()
        connection.close()

    threads = [threading.Thread(target=ask, args=(index % 2 == 0,), daemon=True) for index in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield faults
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)


@pytest.mark.long
def test_100_reloads_under_load_lose_no_request(tmp_path: Path, v1: Origin, v2: Origin) -> None:
    """Upstreams come and go with every reload, on kept and on new connections; every request gets its answer."""
    with running_sidecar(tmp_path, outbound(v1)) as sidecar:
        files = [sidecar.complete(outbound(origin)) for origin in (v2, v1)]
        with load(sidecar, 4) as faults:
            for count in range(100):
                by_rename(sidecar.config, files[count % 2])
                report = sidecar.admin("/reload", method="POST")
                assert report.json()["ok"], report.text
        assert faults == []
        assert sidecar.generation() >= 101
        assert sidecar.metric("sidecar_requests_total", code="200") == sidecar.metric("sidecar_requests_total")
        assert min(len(v1.requests), len(v2.requests)) > 20


def many_routes(origin: Origin, count: int) -> str:
    """A file of so many routes besides that of the host `svc`."""
    routes = "\n".join(
        f"    - {{name: r{n}, match: {{path: {{prefix: /r{n}}}}}, to: {origin.name}}}" for n in range(count)
    )
    return outbound(origin).replace("upstreams:", f"  routes:\n{routes}\nupstreams:")


@pytest.mark.long
def test_large_files_come_and_go_under_load_and_lose_no_request(tmp_path: Path, v1: Origin, v2: Origin) -> None:
    """Read by another process, built, swapped and let go in slices, while clients ask without pause."""
    with running_sidecar(tmp_path, many_routes(v1, 2000)) as sidecar:
        with load(sidecar, 4) as faults:
            for origin in (v2, v1):
                sidecar.rewrite(many_routes(origin, 2000))
                report = sidecar.admin("/reload", method="POST", timeout_s=60)
                assert report.json()["ok"], report.text
                assert sidecar.outbound("/r1999", host="x").text == origin.name
        assert faults == []
        assert sidecar.metric("sidecar_requests_total", code="200") == sidecar.metric("sidecar_requests_total")


def compilers(sidecar: SidecarProcess) -> list[int]:
    """Processes that the sidecar has started."""
    assert sidecar.process is not None
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            pid, _, rest = path.read_text().partition(" ")
            if int(rest.rpartition(")")[2].split()[1]) == sidecar.process.pid:
                found.append(int(pid))
    return found


def test_a_compiler_that_is_killed_is_a_refused_load(tmp_path: Path, v1: Origin, v2: Origin) -> None:
    """By whomever, such as the kernel for want of memory: nothing is lost or changed, and the next load works."""
    with running_sidecar(tmp_path, outbound(v1)) as sidecar:
        eventually(lambda: not compilers(sidecar), "the first compiler to leave")
        sidecar.config.write_text("# " + "x" * 9_000_000 + "\n" + sidecar.complete(many_routes(v2, 3000)))
        # Whoever asks first, the file's watch or this, the compiler is killed while it works.
        reports: list[Response] = []
        asking = threading.Thread(target=lambda: reports.append(sidecar.admin("/reload", method="POST", timeout_s=60)))
        with load(sidecar, 2) as faults:
            asking.start()
            while asking.is_alive():
                for pid in compilers(sidecar):
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                asking.join(0.01)
        assert faults == []
        (report,) = reports
        assert report.status == 400
        assert "SIGKILL; was there enough memory?; nothing was changed" in report.json()["error"]
        assert who(sidecar) == "v1"
        eventually(lambda: "config_refused" in sidecar.stderr(), "the log to say so")
        sidecar.rewrite(outbound(v2))
        assert sidecar.admin("/reload", method="POST", timeout_s=60).json()["ok"]
        assert who(sidecar) == "v2"


def test_reloads_that_are_asked_for_at_once_happen_one_by_one(tmp_path: Path, v1: Origin) -> None:
    """Each gets an answer, and each a generation of its own."""
    with running_sidecar(tmp_path, outbound(v1)) as sidecar:
        generations: list[int] = []

        def ask() -> None:
            generations.append(sidecar.admin("/reload", method="POST").json()["generation"])

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert sorted(generations) == list(range(2, 10))


def test_secrets_of_the_environment_are_not_shown(tmp_path: Path, v1: Origin) -> None:
    """Neither what stands under a header that carries secrets, nor what a secret variable put elsewhere."""
    routes = """
  routes:
    - match: {host: a}
      to: v1
      request_headers: {set: {authorization: "Bearer ${UPSTREAM_TOKEN}", x-other: "k=${UPSTREAM_TOKEN}", x-env: prod}}
"""
    text = outbound(v1).replace("upstreams:", f"{routes.strip(chr(10))}\nupstreams:")
    with running_sidecar(tmp_path, text, env={"UPSTREAM_TOKEN": "s3cr3t-value"}) as sidecar:
        shown = sidecar.admin("/config").text
        assert "s3cr3t-value" not in shown
        assert "x-env" in shown
        assert os.environ.get("UPSTREAM_TOKEN") is None
        echoed = sidecar.outbound("/echo", host="a").json()["headers"]
        assert ["authorization", "Bearer s3cr3t-value"] in echoed
