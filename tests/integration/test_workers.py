"""Several workers are one sidecar: real processes, that serve, die, follow the file and end."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.origin import Origin
from tests.support.process import SidecarProcess, running_sidecar
from tests.support.signals import stop
from tests.support.wait import eventually
from tests.unit.telemetry.collector import Collector

REQUESTS = "sidecar_requests_total"
UNASKED = ("ConnectionResetError", "BrokenPipeError", "RemoteDisconnected")
"""How http.client tells that a connection ended before a response began."""


@pytest.fixture(scope="module")
def app() -> Iterator[Origin]:
    """An app that says `app`."""
    with Origin("app") as origin:
        yield origin


def config(app: Origin, more: str = "", workers: int = 2, body: str = "") -> str:
    """Two workers before the app; with `body`, a route of which they answer that themselves."""
    routes = f'routes: [{{match: {{path: /own}}, respond: {{status: 200, body: "{body}"}}}}], ' if body else ""
    return f"""
        service: storefront
        workers: {workers}
        inbound: {{{routes}listen: "127.0.0.1:${{INBOUND_PORT}}", app: "127.0.0.1:{app.port}"}}
        outbound: {{listen: "127.0.0.1:${{OUTBOUND_PORT}}"}}
        upstreams: {{dependency: {{endpoints: ["127.0.0.1:{app.port}"]}}}}
        drain: {{timeout: 10s}}
        {more}
    """


def workers_of(sidecar: SidecarProcess) -> dict[int, int]:
    """Process ids by worker."""
    return {one["worker"]: one["pid"] for one in sidecar.admin("/server_info").json()["workers"]}


def is_running(pid: int) -> bool:
    """Whether there is such a process, and not only its exit code."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def open_files(pid: int) -> set[Path]:
    """What the process has open, where that is known by a path."""
    found = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):  # closed meanwhile
            found.add(link.readlink())
    return found


def counters(sidecar: SidecarProcess) -> dict[str, float]:
    """Every sample of a scrape that may only grow."""
    text = sidecar.metrics().text
    names = set(re.findall(r"^# TYPE (\S+) (?:counter|histogram)$", text, re.MULTILINE))
    found = {}
    for line in text.splitlines():
        name, _, value = line.rpartition(" ")
        if re.sub(r"(_bucket|_count|_sum)?(\{.*)?$", "", name) in names:
            found[name] = float(value)
    return found


class Load:
    """
    Clients that ask one after the other, each on a new connection or always on the same.

    Attributes:
        served: Answers with status 200.
        failures: What else happened, a line each; being refused a connection is none when `may_be_refused`.
    """

    def __init__(self, port: int, *, fresh: int = 3, kept: int = 3, may_be_refused: bool = False) -> None:
        self.served = 0
        self.failures: list[str] = []
        self._port = port
        self._may_be_refused = may_be_refused
        self._is_over = threading.Event()
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._ask, args=(index >= fresh,), daemon=True) for index in range(fresh + kept)
        ]
        for thread in self._threads:
            thread.start()

    def _ask(self, is_kept: bool) -> None:
        connection: http.client.HTTPConnection | None = None
        while not self._is_over.is_set():
            if connection is None:
                connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
            try:
                connection.request("GET", "/x")
                reply = connection.getresponse()
                said = reply.read()
            except ConnectionRefusedError:
                connection = None
                if not self._may_be_refused:
                    self._note("refused")
                time.sleep(0.01)
                continue
            except Exception as error:
                self._note(repr(error))
                connection.close()
                connection = None
                continue
            self._note("" if reply.status == 200 else f"status {reply.status}: {said!r}")
            if not is_kept or reply.will_close:
                connection.close()
                connection = None
        if connection is not None:
            connection.close()

    def _note(self, failure: str) -> None:
        with self._lock:
            if failure:
                self.failures.append(failure)
            else:
                self.served += 1

    def wait_for_more(self, count: int) -> None:
        """Wait until so many more requests were served."""
        goal = self.served + count
        eventually(lambda: self.served >= goal, f"{count} more requests; failures: {self.failures}")

    def stop(self) -> None:
        """End the clients."""
        self._is_over.set()
        for thread in self._threads:
            thread.join(30)


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory, app: Origin) -> Iterator[SidecarProcess]:
    """Two workers that nothing happens to."""
    with running_sidecar(tmp_path_factory.mktemp("workers"), config(app)) as pair:
        yield pair


class TestTogether:
    """What several workers do while all is well."""

    def test_each_serves_and_the_numbers_are_those_of_both(self, sidecar: SidecarProcess) -> None:
        """As many as were sent, in the counters, in the log, and as the sum of the workers' own."""
        before = len(sidecar.access_log())
        for _ in range(60):
            assert sidecar.inbound("/x").text == "app"
        assert sidecar.metric(REQUESTS, route="app", code="200") == before + 60
        own = [_metric(sidecar.metrics(f"/metrics?worker={index}").text, REQUESTS, 'route="app"') for index in (0, 1)]
        assert sum(own) == before + 60
        assert min(own) > 0
        assert len(sidecar.wait_for_log_lines(before + 60)) == before + 60

    def test_one_page_speaks_for_both(self, sidecar: SidecarProcess) -> None:
        """Connections and counts added up, workers listed, the file and its hash told once."""
        info = sidecar.admin("/server_info").json()
        assert [one["worker"] for one in info["workers"]] == [0, 1]
        assert info["state"] == "LIVE"
        assert info["config"]["generation"] == 1
        assert {one["role"] for one in info["listeners"]} == {"inbound", "outbound", "metrics", "admin"}
        dependency = sidecar.admin("/upstreams").json()["dependency"]
        assert sorted(dependency["endpoints"][0]["by_worker"]) == ["0", "1"]
        assert sidecar.admin("/config").json()["effective"]["workers"] == 2
        assert "inbound" in sidecar.admin("/routes").json()
        assert sidecar.admin("/server_info?worker=1").json()["pid"] == workers_of(sidecar)[1]
        assert sidecar.admin("/server_info?worker=2").status == 404
        assert (sidecar.metric("sidecar_workers"), sidecar.metric("sidecar_workers_live")) == (2, 2)

    def test_a_tap_shows_requests_of_both_up_to_its_limit(self, sidecar: SidecarProcess) -> None:
        """As many as were asked for, whoever served them."""
        shown: list[str] = []
        tap = threading.Thread(target=lambda: shown.append(sidecar.admin("/tap?limit=20&path=/tapped").text))
        tap.start()
        while tap.is_alive():
            sidecar.inbound("/tapped")
        events = [json.loads(line) for line in shown[0].splitlines() if line.strip()]
        assert len(events) == 20
        assert {event["path"] for event in events} == {"/tapped"}

    def test_the_level_of_the_log_is_set_in_all(self, sidecar: SidecarProcess) -> None:
        """As each says itself."""
        assert sidecar.admin("/logging?level=debug", method="POST").status == 200
        for index in (0, 1):
            assert sidecar.admin(f"/logging?worker={index}").json() == {"level": "debug"}
        sidecar.admin("/logging?level=info", method="POST")

    def test_top_shows_one_sidecar(self, sidecar: SidecarProcess) -> None:
        """It reads a scrape, of all workers together."""
        over = threading.Event()

        def ask() -> None:
            while not over.is_set():
                sidecar.inbound("/x")

        asking = threading.Thread(target=ask)
        asking.start()
        top = [sys.executable, "-m", "sidecar", "top", "--admin", f"127.0.0.1:{sidecar.admin_port}"]
        told = subprocess.run([*top, "--once", "--json", "--interval", "0.5"], capture_output=True, timeout=60)
        over.set()
        asking.join(10)
        (route,) = json.loads(told.stdout)["routes"]
        assert (route["route"], route["success"]) == ("app", 1.0)

    def test_another_sidecar_of_the_same_user_does_not_get_the_port(
        self, tmp_path: Path, app: Origin, sidecar: SidecarProcess
    ) -> None:
        """Sockets that are shared among workers are not shared with strangers."""
        other = SidecarProcess(tmp_path, env={"INBOUND_PORT": str(sidecar.inbound_port)})
        other.rewrite(config(app))
        other.start()
        try:
            assert other.wait() == 1
            assert f"cannot listen on 127.0.0.1:{sidecar.inbound_port}: the address is already in use" in other.stderr()
            assert "Traceback" not in other.stderr()
        finally:
            other.kill()


def test_each_worker_is_an_instance_of_its_own_to_a_collector(tmp_path: Path, app: Origin) -> None:
    """By the id that the environment gives the whole, and its number."""
    with Collector() as collector:
        telemetry = (
            f'telemetry: {{metrics: {{listen: "127.0.0.1:${{METRICS_PORT}}"}}, access_log: {{format: off}},'
            f' traces: {{otlp_endpoint: "{collector.url}", sample: 1.0}}}}'
        )
        env = {"OTEL_RESOURCE_ATTRIBUTES": "service.instance.id=pod"}
        with running_sidecar(tmp_path, config(app, more=telemetry), env=env) as sidecar:
            for _ in range(20):
                sidecar.inbound("/x")
            told = sidecar.metrics().text
        resources = [spans.resource for request in collector.requests for spans in request.resource_spans]
        named = [{pair.key: pair.value.string_value for pair in resource.attributes} for resource in resources]
        assert {one["service.instance.id"] for one in named} == {"pod-0", "pod-1"}
        assert len(collector.spans()) == 20
        assert told.count("\ntarget_info{") == 1


class TestDeath:
    """A worker that dies, one that hangs, and a supervisor that does."""

    def test_only_what_a_killed_worker_had_in_flight_is_lost(self, tmp_path: Path, app: Origin) -> None:
        """The other serves on, a new one comes, and no counter of any scrape is lower than in the one before."""
        with running_sidecar(tmp_path, config(app)) as sidecar:
            load = Load(sidecar.inbound_port)
            load.wait_for_more(50)
            before = counters(sidecar)
            victim = workers_of(sidecar)[0]
            os.kill(victim, signal.SIGKILL)
            deadline = time.monotonic() + 20
            while sidecar.metric("sidecar_worker_restarts_total") < 1 or sidecar.metric("sidecar_workers_live") < 2:
                assert time.monotonic() < deadline
                now = counters(sidecar)
                assert {name: value for name, value in before.items() if now.get(name, -1) < value} == {}
                before = now
            load.wait_for_more(50)
            load.stop()
            assert len(load.failures) <= 6, load.failures  # one of each client
            now = counters(sidecar)
            assert {name: value for name, value in before.items() if now.get(name, -1) < value} == {}
            assert victim not in workers_of(sidecar).values()
            eventually(lambda: f"pid={victim} reason=died" in sidecar.stderr(), "the log to say so")
            for _ in range(20):
                assert sidecar.inbound("/after").status == 200
            assert min(_metric(sidecar.metrics(f"/metrics?worker={n}").text, REQUESTS, "app") for n in (0, 1)) > 0

    def test_who_waits_for_a_dead_worker_is_served_by_the_next(self, tmp_path: Path, app: Origin) -> None:
        """Connections in the backlog of a socket outlive the worker that was to accept them."""
        with running_sidecar(tmp_path, config(app)) as sidecar:
            pids = workers_of(sidecar)
            for pid in pids.values():
                stop(pid)
            waiting = [socket.create_connection(("127.0.0.1", sidecar.inbound_port), 20) for _ in range(20)]
            for one in waiting:
                one.sendall(b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            for pid in pids.values():
                os.kill(pid, signal.SIGKILL)
            for one in waiting:
                with one:
                    assert one.recv(15) == b"HTTP/1.1 200 OK"

    def test_workers_end_without_their_supervisor(self, tmp_path: Path, app: Origin) -> None:
        """Nobody is left who holds a port."""
        with running_sidecar(tmp_path, config(app)) as sidecar:
            pids = workers_of(sidecar)
            assert sidecar.process is not None
            sidecar.process.kill()
            sidecar.process.wait()
            eventually(lambda: not any(map(is_running, pids.values())), "the workers to end")

    def test_a_drained_worker_that_dies_gives_up_inbound_for_good(self, tmp_path: Path, app: Origin) -> None:
        """After `/drain` outbound goes on, also in a new worker; inbound does not come back."""
        with running_sidecar(tmp_path, config(app)) as sidecar:
            assert sidecar.admin("/drain", method="POST").status == 200
            os.kill(workers_of(sidecar)[0], signal.SIGKILL)
            eventually(lambda: sidecar.metric("sidecar_worker_restarts_total") == 1, "the death to be seen")
            eventually(lambda: sidecar.metric("sidecar_workers_live") == 2, "a new worker")
            with pytest.raises(ConnectionRefusedError):
                sidecar.inbound("/x")
            for _ in range(10):
                assert sidecar.outbound("/x", host="dependency").status == 200


class TestReload:
    """One file, all workers."""

    def test_a_good_file_reaches_all_and_a_bad_one_none(self, tmp_path: Path, app: Origin) -> None:
        """Every new connection, whichever worker it falls to, sees the same."""

        def bodies() -> set[str]:
            return {sidecar.inbound("/own").text for _ in range(16)}

        telemetry = 'telemetry: {metrics: {listen: "127.0.0.1:${METRICS_PORT}", compat: [envoy]}}'
        with running_sidecar(tmp_path, config(app, body="one")) as sidecar:
            assert bodies() == {"one"}
            sidecar.rewrite(config(app, body="two", more=telemetry))
            sidecar.wait_for_generation(2)
            assert bodies() == {"two"}
            sidecar.rewrite(config(app, body="three", more="nonsense: 1"))
            report = sidecar.admin("/reload", method="POST")
            assert (report.status, report.json()["problems"][0]["path"]) == (400, "nonsense")
            assert bodies() == {"two"}
            assert sidecar.metric("sidecar_config_last_reload_successful") == 0
            assert sidecar.metric("envoy_control_plane_connected_state") == 0
            assert sidecar.metric("envoy_server_live") == 1
            sidecar.rewrite(config(app, body="three", workers=3))
            report = sidecar.admin("/reload", method="POST")
            assert report.status == 400
            assert "workers: expected 2 as at the start, found 3" in report.json()["error"]
            os.kill(workers_of(sidecar)[1], signal.SIGKILL)
            eventually(lambda: sidecar.metric("sidecar_worker_restarts_total") == 1, "the death to be seen")
            eventually(lambda: sidecar.metric("sidecar_workers_live") == 2, "a new worker")
            assert bodies() == {"two"}

    def test_listeners_come_and_go_in_all(self, tmp_path: Path, app: Origin) -> None:
        """A port that is taken refuses the file and changes nothing; a Unix socket is shared by all."""
        path = tmp_path / "inbound.sock"
        with running_sidecar(tmp_path, config(app)) as sidecar, socket.create_server(("127.0.0.1", 0)) as taken:
            plain, port = config(app), taken.getsockname()[1]
            sidecar.rewrite(plain.replace('"127.0.0.1:${INBOUND_PORT}"', f'"127.0.0.1:{port}"'))
            refusal = sidecar.admin("/reload", method="POST").json()["problems"][0]
            assert refusal["path"] == "inbound.listen"
            assert "already in use" in refusal["message"]
            load = Load(sidecar.inbound_port)
            both = f'["127.0.0.1:${{INBOUND_PORT}}", "unix:{path}"]'
            sidecar.rewrite(plain.replace('"127.0.0.1:${INBOUND_PORT}"', both))
            assert sidecar.admin("/reload", method="POST").status == 200
            for _ in range(10):
                with socket.socket(socket.AF_UNIX) as client:
                    client.connect(str(path))
                    client.sendall(b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                    assert client.recv(15) == b"HTTP/1.1 200 OK"
            sidecar.rewrite(plain)
            assert sidecar.admin("/reload", method="POST").status == 200
            assert not path.exists()
            load.stop()
            assert load.failures == []

    def test_one_process_cannot_become_several(self, tmp_path: Path, app: Origin) -> None:
        """The file is refused, and says what to do."""
        with running_sidecar(tmp_path, config(app, workers=1)) as sidecar:
            assert "workers" not in sidecar.admin("/server_info").json()
            sidecar.rewrite(config(app, workers=2))
            report = sidecar.admin("/reload", method="POST")
            assert report.status == 400
            assert "workers: expected 1 as at the start, found 2" in report.json()["error"]
            assert "restart the sidecar" in report.json()["error"]


class TestEnd:
    """All end together."""

    def test_sigterm_loses_nothing_of_any_worker(self, tmp_path: Path) -> None:
        """Whatever reached the app was answered to its client and is in the log; the end cost connections at most."""
        with Origin("app") as app, running_sidecar(tmp_path, config(app)) as sidecar:
            load = Load(sidecar.inbound_port, may_be_refused=True)
            load.wait_for_more(50)
            pids = workers_of(sidecar)
            sidecar.signal(signal.SIGTERM)
            assert sidecar.wait() == 0
            load.stop()
            # A client that is slow to ask may find its idle connection closed; it was not taken on then.
            assert [failure for failure in load.failures if not failure.startswith(UNASKED)] == []
            assert len(app.requests) == load.served == len(sidecar.access_log())
            assert not any(map(is_running, pids.values()))

    def test_outbound_stays_until_inbound_of_all_has_come_to_rest(self, tmp_path: Path) -> None:
        """The app may finish what it does for one worker by way of another."""
        with Origin("slow") as app, running_sidecar(tmp_path, config(app)) as sidecar:
            slow = threading.Thread(target=lambda: sidecar.inbound("/slow"))
            slow.start()
            assert app.entered.wait(30)
            sidecar.signal(signal.SIGTERM)
            eventually(lambda: sidecar.stderr().count("listener_closed role=inbound") == 2, "inbound to close")
            for _ in range(10):
                assert sidecar.outbound("/x", host="dependency").status == 200
            app.release()
            slow.join(10)
            assert sidecar.wait() == 0

    def test_a_rotated_log_is_opened_again_by_all(self, tmp_path: Path, app: Origin) -> None:
        """SIGUSR1 to the supervisor reaches every worker."""
        with running_sidecar(tmp_path, config(app)) as sidecar:
            for _ in range(20):
                sidecar.inbound("/x")
            sidecar.wait_for_log_lines(20)
            (tmp_path / "access.log").rename(tmp_path / "rotated.log")
            sidecar.signal(signal.SIGUSR1)
            old, pids = tmp_path / "rotated.log", workers_of(sidecar).values()
            eventually(lambda: not any(old in open_files(pid) for pid in pids), "the old log to be closed by both")
            for _ in range(20):
                sidecar.inbound("/y")
            assert [line["path"] for line in sidecar.wait_for_log_lines(20)] == ["/y"] * 20
            assert old.read_text().count("/y") == 0

    def test_sigint_ends_all_at_once(self, tmp_path: Path) -> None:
        """Whatever is in flight."""
        with Origin("slow") as app, running_sidecar(tmp_path, config(app)) as sidecar:

            def ask() -> None:
                with suppress(OSError, http.client.HTTPException):
                    sidecar.inbound("/slow")

            slow = threading.Thread(target=ask)
            slow.start()
            assert app.entered.wait(30)
            sidecar.signal(signal.SIGINT)
            assert sidecar.wait(8) == 0
            slow.join(10)

    def test_an_app_as_child_ends_before_outbound_does(self, tmp_path: Path, app: Origin) -> None:
        """`sidecar exec` with workers: its exit code is the app's."""
        sidecar = SidecarProcess(tmp_path)
        sidecar.rewrite(config(app))
        script = f"import http.client as h; c = h.HTTPConnection('127.0.0.1', {sidecar.outbound_port}); " \
            "c.request('GET', '/x', headers={'Host': 'dependency'}); exit(c.getresponse().status - 180)"  # fmt: skip
        sidecar.start(command="exec", trailing=["--", "python3", "-c", script])
        try:
            assert sidecar.wait() == 20
            assert "Traceback" not in sidecar.stderr()
        finally:
            sidecar.kill()

    def test_a_signal_to_a_worker_is_none(self, sidecar: SidecarProcess) -> None:
        """Terminals and service managers send to all processes what is meant for the first."""
        pids = workers_of(sidecar)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGQUIT):
            for pid in pids.values():
                os.kill(pid, number)
        assert {sidecar.inbound("/x").status for _ in range(10)} == {200}
        assert workers_of(sidecar) == pids
        assert sidecar.metric("sidecar_worker_restarts_total") == 0

    def test_a_file_that_cannot_be_used_is_told_once(self, tmp_path: Path, app: Origin) -> None:
        """Exit code 1, a line a problem, no worker left."""
        sidecar = SidecarProcess(tmp_path)
        sidecar.rewrite(config(app, more="nonsense: 1"))
        sidecar.start()
        try:
            assert sidecar.wait() == 1
            assert [line for line in sidecar.stderr().splitlines() if "unknown key `nonsense`" not in line] == []
        finally:
            sidecar.kill()


def _metric(text: str, name: str, having: str) -> float:
    lines = [line for line in text.splitlines() if line.startswith(name + "{") and having in line]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_pause_of_all_costs_no_request(tmp_path: Path, app: Origin, workers: int) -> None:
    """A machine that stands still, a container that is frozen: longer than connecting may take and the loop be late."""
    with running_sidecar(tmp_path, config(app, workers=workers)) as sidecar:
        load = Load(sidecar.inbound_port)
        load.wait_for_more(50)
        pids = [sidecar.process.pid, *(workers_of(sidecar).values() if workers > 1 else ())]
        for pid in pids:
            stop(pid)
        time.sleep(1.2)
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        load.wait_for_more(50)
        load.stop()
        assert load.failures == []


class TestTakeover:
    """`run --takeover` where either has workers."""

    @pytest.mark.long
    @pytest.mark.parametrize("workers", [1, 2])
    def test_nobody_is_refused_or_cut(self, tmp_path: Path, app: Origin, workers: int) -> None:
        """Two workers take over from one process, or from two workers, under load."""
        with running_sidecar(tmp_path / "first", config(app, workers=workers)) as first:
            load = Load(first.inbound_port)
            load.wait_for_more(50)
            env = {name: first.env[name] for name in first.env}
            second = SidecarProcess(tmp_path / "second", env=env)
            second.admin_port, second.metrics_port = first.admin_port, first.metrics_port
            second.inbound_port = first.inbound_port
            second.rewrite(config(app))
            eventually(lambda: "listener_opened role=admin" in first.stderr(), "the first to be found")
            second.start("--takeover")
            try:
                assert first.wait() == 0
                load.wait_for_more(50)
                assert len(workers_of(second)) == 2
                load.stop()
                assert load.failures == []
                assert second.metric(REQUESTS) > 0
                assert second.stop() == 0
            finally:
                second.kill()

    def test_fewer_do_not_take_over(self, tmp_path: Path, app: Origin) -> None:
        """The second says why and ends; the first goes on."""
        with running_sidecar(tmp_path / "first", config(app)) as first:
            second = SidecarProcess(tmp_path / "second", env=first.env)
            second.rewrite(config(app, workers=1))
            second.start("--takeover")
            try:
                assert second.wait() == 1
                assert "it has 2 workers and this one 1; start with as many or more" in second.stderr()
                assert first.inbound("/x").status == 200
            finally:
                second.kill()
