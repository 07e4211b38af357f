"""Upstreams that die, hang and lie at every phase: what may be repeated survives, what may not arrives at most once."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.process import Response, SidecarProcess, running_sidecar
from tests.support.signals import stop
from tests.support.wait import eventually
from tests.support.wire import Client, CutError, Message, ServerConnection

BODY = bytes(range(256)) * 200
ROOT = Path(__file__).parents[2]


# --- servers that remember -----------------------------------------------------------------------------------------


class Recorder:
    """
    Listens at two addresses; the first connection after `arm` is ill-treated, every other is served.

    Attributes:
        ports: Of the two endpoints.
        begun: Request lines of which at least a byte was read, one for each connection.
        whole: Requests that were read whole and answered with 200.
    """

    def __init__(self) -> None:
        self.begun: list[bytes] = []
        self.whole: list[Message] = []
        self._ill: Callable[[ServerConnection], None] | None = None
        self._lock = threading.Lock()
        self._listeners = [socket.create_server(("127.0.0.1", 0), backlog=128) for _ in range(2)]
        self.ports = [listener.getsockname()[1] for listener in self._listeners]
        for listener in self._listeners:
            threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        for listener in self._listeners:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    def arm(self, ill: Callable[[ServerConnection], None]) -> None:
        """Treat the next connection so."""
        with self._lock:
            self._ill = ill
            self.begun.clear()
            self.whole.clear()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(ServerConnection(sock),), daemon=True).start()

    def _serve(self, connection: ServerConnection) -> None:
        with self._lock:
            ill, self._ill = self._ill, None
        with contextlib.suppress(OSError, CutError):
            if ill is not None:
                ill(connection)
            else:
                message = connection.request()
                self.begun.append(message.start.encode())
                self.whole.append(message)
                connection.answer(fields="Connection: close\r\n")
        connection.close()


def at_accept(recorder: Recorder, connection: ServerConnection) -> None:
    """Nothing is read."""


def in_head(recorder: Recorder, connection: ServerConnection) -> None:
    """Some bytes of the head are read."""
    recorder.begun.append(connection.read_exactly(9))


def behind_head(recorder: Recorder, connection: ServerConnection) -> None:
    """The head is read, the body is not."""
    recorder.begun.append(connection.head().start.encode())


def in_body(recorder: Recorder, connection: ServerConnection) -> None:
    """Half of the body is read."""
    message = connection.head()
    recorder.begun.append(message.start.encode())
    if message.get("content-length"):
        connection.read_exactly(len(BODY) // 2)


def behind_request(recorder: Recorder, connection: ServerConnection) -> None:
    """The request is read whole."""
    recorder.begun.append(connection.request().start.encode())


def in_response_head(recorder: Recorder, connection: ServerConnection) -> None:
    """The answer has begun, but not for the client."""
    behind_request(recorder, connection)
    connection.send(b"HTTP/1.1 20")


def behind_early_hints(recorder: Recorder, connection: ServerConnection) -> None:
    """An informational response went out."""
    behind_request(recorder, connection)
    connection.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")


PHASES = (at_accept, in_head, behind_head, in_body, behind_request, in_response_head, behind_early_hints)


def close(connection: ServerConnection) -> None:
    """In order."""
    connection.close()


def reset(connection: ServerConnection) -> None:
    """As the kernel does for a process that is killed."""
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def hang(connection: ServerConnection) -> None:
    """Until the other side has had enough."""
    while connection.receive():
        pass


def unavailable(connection: ServerConnection) -> None:
    """A 503, and a close."""
    connection.answer(status="503 Service Unavailable", fields="Connection: close\r\n")


ENDS = (close, reset, hang)
OCCASIONS = "connect_failure, reset_before_response, refused, gateway_error, 5xx, retriable_4xx, timeout"
RETRY = f"attempts: 3, on: [{OCCASIONS}], backoff: {{base: 1ms, max: 5ms}}"


def both(
    phase: Callable[[Recorder, ServerConnection], None], end: Callable[[ServerConnection], None], recorder: Recorder
) -> Callable[[ServerConnection], None]:
    """One behind the other."""

    def ill(connection: ServerConnection) -> None:
        phase(recorder, connection)
        end(connection)

    return ill


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    """Two endpoints of one upstream."""
    with Recorder() as both:
        yield both


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory, recorder: Recorder) -> Iterator[SidecarProcess]:
    """One that retries all that it may."""
    text = f"""
        service: storefront
        outbound:
          listen: "127.0.0.1:${{OUTBOUND_PORT}}"
          routes:
            # The others are to be told apart from a server that is slow because the machine is.
            - match: {{host: pair, headers: {{x-end: hang}}}}
              to: pair
              retry: {{{RETRY}, per_try_timeout: 500ms}}
            - {{match: {{host: pair}}, to: pair, retry: {{{RETRY}}}}}
        upstreams:
          pair:
            endpoints: ["127.0.0.1:{recorder.ports[0]}", "127.0.0.1:{recorder.ports[1]}"]
            retry_budget: {{min_per_second: 1000}}
    """
    with running_sidecar(tmp_path_factory.mktemp("resilience"), text) as process:
        yield process


def final(client: Client, method: str) -> Message:
    """The response behind the informational ones."""
    while (response := client.response(method)).status < 200:
        pass
    return response


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
@pytest.mark.parametrize("phase", PHASES, ids=lambda phase: phase.__name__)
class TestEveryPhase:
    """The first try fails in a phase, in a way."""

    def test_a_post_never_arrives_twice(
        self,
        sidecar: SidecarProcess,
        recorder: Recorder,
        phase: Callable[[Recorder, ServerConnection], None],
        end: Callable[[ServerConnection], None],
    ) -> None:
        """Of which a byte may have been processed; the client is told, and why there was no second try."""
        recorder.arm(both(phase, end, recorder))
        path = f"/post/{phase.__name__}/{end.__name__}"
        with Client(sidecar.outbound_port) as client:
            client.get(path, host="pair", method="POST", body=BODY, fields=f"X-End: {end.__name__}\r\n")
            response = final(client, "POST")
        if phase is at_accept and end is not hang and response.status == 200:
            # The end was here before the first octet was written: nothing was sent, and the second try is the first.
            assert len(recorder.whole) == 1
            return
        assert response.status == (504 if end is hang else 503)
        assert len(recorder.begun) <= 1
        assert not recorder.whole
        (line,) = eventually(
            lambda: [row for row in sidecar.access_log() if row["path"] == path], f"the log line of {path}"
        )
        assert line["retry_skipped"] == "not_idempotent"

    @pytest.mark.parametrize("kind", ["GET", "PUT", "keyed POST"])
    def test_what_may_be_repeated_survives(
        self,
        sidecar: SidecarProcess,
        recorder: Recorder,
        phase: Callable[[Recorder, ServerConnection], None],
        end: Callable[[ServerConnection], None],
        kind: str,
    ) -> None:
        """On the other endpoint, whole."""
        recorder.arm(both(phase, end, recorder))
        method = kind.split()[-1]
        body = b"" if method == "GET" else BODY
        with Client(sidecar.outbound_port) as client:
            fields = "Idempotency-Key: 1\r\n" if kind == "keyed POST" else ""
            fields += f"X-End: {end.__name__}\r\n"
            client.get("/again", host="pair", method=method, body=body, fields=fields)
            assert final(client, method).status == 200
        (message,) = recorder.whole
        assert (message.method, message.body) == (method, body)
        assert len(recorder.begun) <= 2


def test_a_post_that_is_answered_with_a_status_of_the_policy_is_passed_on(
    sidecar: SidecarProcess, recorder: Recorder
) -> None:
    """The client gets the server's own 503."""
    recorder.arm(both(behind_request, unavailable, recorder))
    with Client(sidecar.outbound_port) as client:
        client.get("/status", host="pair", method="POST", body=BODY)
        response = client.response()
    assert (response.status, response.get("proxy-status")) == (503, None)
    assert len(recorder.begun) == 1


def test_a_response_that_has_begun_is_cut_and_not_repeated(sidecar: SidecarProcess, recorder: Recorder) -> None:
    """`response_started`: the client has some of it."""

    def half(connection: ServerConnection) -> None:
        behind_request(recorder, connection)
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        connection.close()

    recorder.arm(half)
    with Client(sidecar.outbound_port) as client:
        client.get("/half", host="pair")
        with pytest.raises(CutError):
            client.response()
    assert len(recorder.begun) == 1
    (line,) = eventually(lambda: [row for row in sidecar.access_log() if row["path"] == "/half"], "the log line")
    assert line["retry_skipped"] == "response_started"


# --- servers that are processes ------------------------------------------------------------------------------------


class ServerProcess:
    """An `Origin` in a process that can be stopped and killed."""

    def __init__(self, name: str) -> None:
        code = f"""
import signal
from tests.support.origin import Origin
with Origin({name!r}) as origin:
    print(origin.port, flush=True)
    signal.pause()
"""
        self.process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def send(self, number: signal.Signals) -> None:
        """A signal."""
        self.process.send_signal(number)


def two_of(one: ServerProcess, two: ServerProcess, retry: str, upstream: str = "") -> str:
    """A file with both as one upstream."""
    return f"""
        service: storefront
        outbound:
          listen: "127.0.0.1:${{OUTBOUND_PORT}}"
          routes: [{{match: {{host: shop}}, to: shop, retry: {{{retry}}}}}]
        upstreams:
          shop:
            endpoints: ["127.0.0.1:{one.port}", "127.0.0.1:{two.port}"]
            load_balancing: round_robin
            {upstream}
    """


def ask(sidecar: SidecarProcess) -> Response:
    """A GET."""
    return sidecar.outbound("/", host="shop")


def test_nobody_notices_that_one_of_two_servers_is_killed(tmp_path: Path) -> None:
    """SIGKILL under load from four clients: every GET is answered with 200, before and after."""
    with ServerProcess("one") as one, ServerProcess("two") as two:
        text = two_of(one, two, "attempts: 2, on: [connect_failure, reset_before_response]")
        with running_sidecar(tmp_path, text) as sidecar, ThreadPoolExecutor(4) as pool:
            is_over = threading.Event()

            def client(_: int) -> list[str]:
                answers: list[str] = []
                with Client(sidecar.outbound_port) as connection:
                    while not is_over.is_set() or len(answers) < 50:
                        connection.get("/", host="shop")
                        response = connection.response()
                        assert response.status == 200, response
                        answers.append(response.body.decode())
                return answers

            running = [pool.submit(client, number) for number in range(4)]
            eventually(lambda: sidecar.metric("sidecar_requests_total", upstream="shop") > 200, "load")
            time_of_kill = time.monotonic()
            one.send(signal.SIGKILL)
            one.process.wait()
            eventually(lambda: time.monotonic() > time_of_kill + 0.5, "half a second more of load")
            is_over.set()
            answers = [answer for each in running for answer in each.result(30)]
            assert {"one", "two"} == set(answers)
            stats = sidecar.admin("/upstreams").json()["shop"]["stats"]
            assert stats["retries"] > 0
            assert stats["retries_exhausted"] == 0
            assert stats["requests_active"] == 0


def test_a_server_that_is_stopped_costs_one_try_and_comes_back(tmp_path: Path) -> None:
    """SIGSTOP: its connections are accepted by the kernel and nothing answers, so `per_try_timeout` is what saves."""
    with ServerProcess("one") as one, ServerProcess("two") as two:
        outlier = "outlier_detection: {consecutive_5xx: 2, base_ejection_time: 300ms, interval: 1s}"
        text = two_of(one, two, "attempts: 2, on: [timeout], per_try_timeout: 500ms", outlier)
        with running_sidecar(tmp_path, text) as sidecar:
            assert {ask(sidecar).text for _ in range(4)} == {"one", "two"}
            stop(one.process.pid)
            try:
                answers = [ask(sidecar) for _ in range(12)]
                assert {(answer.status, answer.text) for answer in answers} == {(200, "two")}
                slow = [row for row in sidecar.wait_for_log_lines(16) if row["duration"] >= 500]
                assert 2 <= len(slow) <= 8, "ejected after two, and tried again by probation"
            finally:
                one.send(signal.SIGCONT)
            eventually(lambda: ask(sidecar).text == "one", "its return")
            assert all(answer.status == 200 for answer in (ask(sidecar) for _ in range(10)))


def test_without_a_policy_a_server_that_went_costs_no_request_that_was_not_sent(tmp_path: Path) -> None:
    """Connects that are refused go to the other one, a POST as well."""
    with ServerProcess("one") as one, ServerProcess("two") as two:
        text = two_of(one, two, "").replace(", retry: {}", "")
        with running_sidecar(tmp_path, text) as sidecar:
            one.send(signal.SIGKILL)
            one.process.wait()
            for _ in range(10):
                answer = sidecar.outbound("/", host="shop", method="POST", body=b"order")
                assert (answer.status, answer.text) == (200, "two")
            stats = sidecar.admin("/upstreams").json()["shop"]["stats"]
            assert (stats["retries"], stats["retries_successful"]) == (5, 5)


class Closing:
    """A server that closes each connection some time after its last answer, in the middle of whatever comes then."""

    def __init__(self, idle_s: float) -> None:
        self._idle_s = idle_s
        self.closed = self.served = 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Closing:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(ServerConnection(sock),), daemon=True).start()

    def _serve(self, connection: ServerConnection) -> None:
        with contextlib.suppress(OSError, CutError):
            while True:
                connection.request()
                self.served += 1
                connection.answer()
                connection.sock.settimeout(self._idle_s)
        self.closed += 1
        connection.close()


def test_a_keep_alive_race_is_lost_by_nobody(tmp_path: Path) -> None:
    """A server whose keep-alive ends about when the next request comes: 150 GETs, all answered."""
    with Closing(0.02) as server:
        text = f"""
            service: x
            outbound: {{listen: "127.0.0.1:${{OUTBOUND_PORT}}"}}
            upstreams: {{shop: {{endpoints: ["127.0.0.1:{server.port}"]}}}}
        """
        with running_sidecar(tmp_path, text) as sidecar, Client(sidecar.outbound_port) as client:
            for number in range(150):
                client.get("/", host="shop")
                assert client.response().status == 200
                until = time.monotonic() + 0.019 + (number % 20) * 0.0002
                eventually(lambda until=until: time.monotonic() >= until, "the moment of the race")  # type: ignore[misc]
            assert server.closed > 0
            lines = sidecar.wait_for_log_lines(150)
            assert json.dumps([row for row in lines if row["response_code"] != 200]) == "[]"
