"""Ends and successions of a real process that lose nothing: the drain's delay, and one sidecar after another."""

from __future__ import annotations

import functools
import http.client
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.origin import Origin
from tests.support.process import SidecarProcess, running_sidecar
from tests.support.wait import eventually


@pytest.fixture
def app() -> Iterator[Origin]:
    """The app, which is its own dependency."""
    with Origin("app") as origin:
        yield origin


def config(app: Origin, drain: str) -> str:
    """A file with an app, and a dependency that is the same server."""
    return f"""
        service: storefront
        inbound: {{listen: "127.0.0.1:${{INBOUND_PORT}}", app: "127.0.0.1:{app.port}"}}
        outbound: {{listen: "127.0.0.1:${{OUTBOUND_PORT}}"}}
        upstreams: {{dependency: {{endpoints: ["127.0.0.1:{app.port}"]}}}}
        drain: {drain}
    """


class Load:
    """
    Clients that keep their connections and send one request after the other; who is told to close connects anew.

    Attributes:
        served: Responses with 200.
        failures: Everything else.
    """

    def __init__(self, port: int, clients: int = 4) -> None:
        self.served = 0
        self.failures: list[str] = []
        self._port = port
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        connection: http.client.HTTPConnection | None = None
        while not self._is_over.is_set():
            connection = connection or http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
            try:
                connection.request("GET", "/x", headers={"Host": "dependency"})
                reply = connection.getresponse()
                reply.read()
            except Exception as error:
                self.failures.append(repr(error))
                connection.close()
                connection = None
                continue
            if reply.status == 200:
                self.served += 1
            else:
                self.failures.append(f"status {reply.status}")
            if reply.will_close:
                connection.close()
                connection = None
        if connection is not None:
            connection.close()

    def stop(self) -> None:
        """End the clients."""
        self._is_over.set()
        for thread in self._threads:
            thread.join(30)

    def wait_for_more(self, count: int) -> None:
        """Wait until so many more requests were served."""
        goal = self.served + count
        eventually(lambda: self.served >= goal or self.failures, f"{count} more requests")


def _answers(sidecar: SidecarProcess) -> bool:
    """Whether it is this process that answers at the admin port."""
    assert sidecar.process is not None
    return bool(sidecar.admin("/server_info").json()["pid"] == sidecar.process.pid)


class TestDelay:
    """`drain.delay`."""

    def test_inbound_serves_while_readiness_fails_already(self, tmp_path: Path, app: Origin) -> None:
        """During the delay new connections are accepted, and every response tells its client to close."""
        with running_sidecar(tmp_path, config(app, "{timeout: 20s, delay: 3s}")) as sidecar:
            began = time.monotonic()
            sidecar.signal(signal.SIGTERM)
            eventually(lambda: sidecar.metrics("/ready").status == 503, "readiness to fail")
            reply = sidecar.inbound("/x")
            assert (reply.status, reply.headers["connection"]) == (200, "close")
            assert sidecar.outbound("/x", host="dependency").headers.get("connection") != "close"
            assert sidecar.wait() == 0
            assert time.monotonic() - began >= 3

    def test_clients_under_load_that_connect_anew_lose_nothing_in_the_delay(self, tmp_path: Path, app: Origin) -> None:
        """Whoever goes elsewhere within the delay, as readiness asks, sees no failure."""
        with running_sidecar(tmp_path, config(app, "{timeout: 20s, delay: 2s}")) as sidecar:
            load = Load(sidecar.inbound_port)
            load.wait_for_more(50)
            sidecar.signal(signal.SIGTERM)
            eventually(lambda: not sidecar.is_ready(), "readiness to fail")
            load.wait_for_more(50)
            load.stop()
            assert load.failures == []
            assert sidecar.wait() == 0

    def test_sigint_does_not_wait_for_the_delay(self, tmp_path: Path, app: Origin) -> None:
        """At once means at once."""
        with running_sidecar(tmp_path, config(app, "{timeout: 120s, delay: 60s}")) as sidecar:
            sidecar.signal(signal.SIGTERM)
            eventually(lambda: not sidecar.is_ready(), "readiness to fail")
            sidecar.signal(signal.SIGINT)
            assert sidecar.wait(10) == 0

    def test_a_request_on_its_way_over_a_new_connection_is_served(self, tmp_path: Path, app: Origin) -> None:
        """A connection without a request yet is not closed in the same moment as the listener."""
        with running_sidecar(tmp_path, config(app, "{timeout: 20s}")) as sidecar:
            with sidecar.connect(sidecar.inbound_port) as fresh:
                before = sidecar.admin("/server_info").json()["connections"]["inbound"]
                assert before == 1
                sidecar.signal(signal.SIGTERM)
                eventually(lambda: "listener_closed role=inbound" in sidecar.stderr(), "the listener to close")
                fresh.sendall(b"GET /x HTTP/1.1\r\nHost: app\r\n\r\n")
                answer = b""
                while chunk := fresh.recv(65536):
                    answer += chunk
            assert answer.startswith(b"HTTP/1.1 200")
            assert b"connection: close" in answer.lower()
            assert sidecar.wait() == 0


class TestTakeover:
    """`sidecar run --takeover`."""

    def _successor(self, sidecar: SidecarProcess, directory: Path, text: str) -> SidecarProcess:
        """Another process with the ports of the first."""
        other = SidecarProcess(directory)
        for name in ("inbound_port", "outbound_port", "admin_port", "metrics_port"):
            setattr(other, name, getattr(sidecar, name))
        other.env = dict(sidecar.env)
        other.rewrite(text)
        return other

    def test_a_successor_takes_over_under_load_and_nothing_is_lost(self, tmp_path: Path, app: Origin) -> None:
        """Three successions, on both sides, with keep-alive clients: no failure, and each predecessor exits with 0."""
        text = config(app, "{timeout: 20s}")
        with running_sidecar(tmp_path / "0", text) as first:
            inbound, outbound = Load(first.inbound_port), Load(first.outbound_port)
            current = first
            for number in range(1, 4):
                inbound.wait_for_more(50)
                outbound.wait_for_more(50)
                successor = self._successor(first, tmp_path / str(number), text)
                successor.start("--takeover")
                try:
                    assert current.wait() == 0
                    eventually(functools.partial(_answers, successor), "the successor to answer")
                    assert successor.is_ready()
                    assert "taken_over" in current.stderr()
                except BaseException:
                    successor.kill()
                    raise
                current = successor
            inbound.wait_for_more(50)
            outbound.wait_for_more(50)
            inbound.stop()
            outbound.stop()
            assert current.stop() == 0
            assert inbound.failures == []
            assert outbound.failures == []

    def test_an_exchange_in_flight_ends_with_the_predecessor(self, tmp_path: Path, app: Origin) -> None:
        """While the successor serves everybody else."""
        text = config(app, "{timeout: 20s}")
        with running_sidecar(tmp_path / "a", text) as first:
            connection = http.client.HTTPConnection("127.0.0.1", first.inbound_port, timeout=30)
            connection.request("GET", "/slow")
            assert app.entered.wait(10)
            successor = self._successor(first, tmp_path / "b", text)
            successor.start("--takeover")
            try:
                eventually(lambda: "taken_over" in first.stderr(), "the first to be taken over")
                assert successor.inbound("/x").text == "app"
                assert first.process is not None
                assert first.process.poll() is None
                app.release()
                reply = connection.getresponse()
                assert (reply.status, reply.read()) == (200, b"app")
                assert first.wait() == 0
                assert successor.stop() == 0
            finally:
                successor.kill()

    def test_a_successor_that_cannot_start_leaves_the_first_as_it_was(self, tmp_path: Path, app: Origin) -> None:
        """One whose file is wrong, and one that wants another port that is taken; Unix sockets keep their files."""
        path = tmp_path / "out.sock"
        text = config(app, "{timeout: 20s}").replace(
            '"127.0.0.1:${OUTBOUND_PORT}"', f'["127.0.0.1:${{OUTBOUND_PORT}}", "unix:{path}"]'
        )
        with running_sidecar(tmp_path / "a", text) as first, socket.create_server(("127.0.0.1", 0)) as stranger:
            taken = f'"127.0.0.1:{stranger.getsockname()[1]}"'
            bad = [
                text.replace("app:", "ap:"),
                text.replace('"127.0.0.1:${INBOUND_PORT}"', f'["127.0.0.1:${{INBOUND_PORT}}", {taken}]'),
            ]
            for number, wrong in enumerate(bad):
                successor = self._successor(first, tmp_path / f"b{number}", wrong)
                successor.start("--takeover")
                try:
                    assert successor.wait() == 1
                finally:
                    successor.kill()
            assert first.is_ready()
            assert first.inbound("/x").text == "app"
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
            successor = self._successor(first, tmp_path / "good", text)
            successor.start("--takeover")
            try:
                assert first.wait() == 0
                with socket.socket(socket.AF_UNIX) as client:
                    client.connect(str(path))
                assert successor.stop() == 0
                assert not path.exists()
            finally:
                successor.kill()

    def test_without_a_predecessor_it_starts_as_usual(self, tmp_path: Path, app: Origin) -> None:
        """So that a unit file can always say --takeover."""
        with running_sidecar(tmp_path, config(app, "{timeout: 20s}"), "--takeover") as sidecar:
            assert sidecar.inbound("/x").text == "app"

    def test_a_port_in_use_by_a_stranger_stays_an_error(self, tmp_path: Path, app: Origin) -> None:
        """And so does a second sidecar that was not told to take over."""
        text = config(app, "{timeout: 20s}")
        sidecar = SidecarProcess(tmp_path / "a")
        sidecar.rewrite(text)
        with socket.socket() as stranger:
            stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            stranger.bind(("127.0.0.1", sidecar.inbound_port))
            stranger.listen()
            sidecar.start("--takeover")
            assert sidecar.wait() == 1
            assert "the address is already in use" in sidecar.stderr()
        with running_sidecar(tmp_path / "b", text) as first:
            second = self._successor(first, tmp_path / "c", text)
            second.start()
            assert second.wait() == 1
            assert "the address is already in use" in second.stderr()
            assert first.is_ready()
