"""
A whole mesh of processes: `sidecar control`, `sidecar run --control` beside each app, and clients that count answers.

    with running_mesh(tmp_path, {"front.yaml": ..., "back.yaml": ...}) as mesh, Origin("back-1") as app:
        front, back = mesh.join("front"), mesh.join("back", app.port)
        mesh.wait_settled()
        with Load(front, "back") as load:
            load.wait_for(100)
            mesh.edit({"back.yaml": ...})
        assert load.phases == [["200"]] * 2

Sidecars are started side by side, and what is waited for is what the control plane shows and the sidecars say.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.support.control import Control
from tests.support.process import SidecarProcess
from tests.support.wait import eventually

SETTLE_S = 40.0

LOCAL = """\
{inbound}outbound: {{listen: "127.0.0.1:${{OUTBOUND_PORT}}"}}
admin: {{listen: "127.0.0.1:${{ADMIN_PORT}}"}}
telemetry: {{{metrics}access_log: {{path: /dev/null}}}}
drain: {{timeout: 60s, delay: {delay}}}
"""
INBOUND = 'inbound: {{listen: "127.0.0.1:${{INBOUND_PORT}}", app: "127.0.0.1:{app}", health_check: {{{check}}}}}\n'
METRICS = 'metrics: {listen: "127.0.0.1:${METRICS_PORT}"}, '
DELAY = "50s"
"""Of a drain: far longer than anybody waits, so that one that is over sooner was told `left`."""
CHECK = "interval: 100ms, timeout: 1s, healthy_threshold: 1"
"""Of the app, quicker than by default."""
PAUSE_S = 0.01
"""Of a client of a load between two requests, so that whoever starts meanwhile has CPU."""


class Member(SidecarProcess):
    """
    A sidecar of a mesh.

    Attributes:
        service: Its service.
        id: Its instance's name.
        own_arguments: Options that say who it is; where the control plane is, is said by others.
    """

    def __init__(self, directory: Path, url: str, service: str, id_: str, version: str) -> None:
        super().__init__(directory / id_)
        self.service = service
        self.id = id_
        self.own_arguments = (
            "--service", service, "--version", version, "--instance", id_,
            "--state-dir", str(directory / id_ / "state"),
        )  # fmt: skip
        self._arguments = (*(part for one in url.split() for part in ("--control", one)), *self.own_arguments)

    @property
    def address(self) -> str:
        """By which others reach its app."""
        return f"127.0.0.1:{self.inbound_port}"

    def write_local(self, app: int, check: str, metrics: str = METRICS, delay: str = DELAY, more: str = "") -> None:
        """The file of this machine; `app` 0 for none."""
        inbound = INBOUND.format(app=app, check=check) if app else ""
        self.config.write_text(LOCAL.format(inbound=inbound, metrics=metrics, delay=delay) + more)

    def join_by(self, token: str) -> None:
        """Join by this at the next start, and be known by what that gives; in clear without."""
        path = self.config.with_name("token")
        path.write_text(token)
        self._arguments = (*self._arguments, "--control-token-file", str(path))

    def begin(self) -> None:
        """Start it, again if it has ended; does not wait."""
        self.start(*self._arguments)

    def is_ready(self) -> bool:
        """By the admin listener, which is always there."""
        try:
            return self.admin("/ready").status == 200
        except (OSError, http.client.HTTPException):
            return False

    @property
    def is_running(self) -> bool:
        """Whether its process is there; fails if it has ended otherwise than by a signal that a test sent."""
        assert self.process is not None
        code = self.process.poll()
        assert code in (None, 0, -signal.SIGKILL), f"{self.id} ended with {code}: {self.stderr()}"
        return code is None

    def knows(self, upstream: str) -> set[str]:
        """Addresses that it has of an upstream, in force."""
        page = self.admin("/upstreams").json()
        return {one["address"] for one in page[upstream]["endpoints"]} if upstream in page else set()

    def wait_knows(self, upstream: str, *others: Member) -> None:
        """Until it has exactly these of an upstream."""
        wanted = {other.address for other in others}
        eventually(lambda: self.knows(upstream) == wanted, f"{self.id} to know of {wanted}: {self.stderr()}", SETTLE_S)

    def control_page(self) -> dict[str, Any]:
        """`control` of `/server_info`."""
        page: dict[str, Any] = self.admin("/server_info").json()["control"]
        return page


class MeshOfProcesses:
    """
    The control plane and all sidecars that were started.

    Attributes:
        control: The control plane.
        members: By instance.
        delay: Of their drains.
    """

    delay = DELAY

    def __init__(self, directory: Path, control: Control) -> None:
        self.control = control
        self.members: dict[str, Member] = {}
        self._directory = directory

    def join(
        self,
        service: str,
        app: int = 0,
        *,
        version: str = "",
        check: str = CHECK,
        url: str = "",
        metrics: str = METRICS,
        more: str = "",
        begins: bool = True,
    ) -> Member:
        """
        Start one more sidecar; does not wait.

        Args:
            app: Port of its app; 0 for none.
            check: What its local file says of `inbound.health_check`.
            url: Of the control plane, if not the direct one; several are parted by spaces.
            metrics: What its local file says of them, within `telemetry`; empty to leave them to the mesh.
            more: Further lines of its local file.
            begins: Whether it is started now, and not by `begin` later.
        """
        id_ = next(name for n in itertools.count(1) if (name := f"{service}-{n}") not in self.members)
        has_identity = self.control.has_identity and not url
        url = url or f"http{'s' if has_identity else ''}://127.0.0.1:{self.control.port}"
        member = self.members[id_] = Member(self._directory, url, service, id_, version)
        member.write_local(app, check, metrics, self.delay, more)
        if has_identity:
            member.join_by(self.control.join_token(service))
        if begins:
            member.begin()
        return member

    def wait_settled(self, revision: int = 0, timeout_s: float = SETTLE_S) -> None:
        """Until all that run have what is wanted, of this revision or a later one, and know of each other."""
        deadline = time.monotonic() + timeout_s
        while unsettled := self._unsettled(revision):
            assert time.monotonic() < deadline, unsettled
            time.sleep(0.2)

    def _unsettled(self, revision: int) -> list[str]:
        """What is still to come."""
        shown = self.control.shown()
        seen = {one["id"]: one for one in shown["instances"]}
        running = [one for one in self.members.values() if one.is_running]
        found = [f"revision {shown['revision']}: {shown['source']}"] if shown["revision"] < revision else []
        found += [f"{one}" for one in shown["rollouts"] if one["state"] not in ("done", "superseded")]
        found += [
            f"{seen.get(one.id, one.id)}" for one in running if one.id not in seen or not _is_current(seen[one.id])
        ]
        found += [f"{one.id} is not ready" for one in running if not one.is_ready()]
        return found

    def edit(self, files: Mapping[str, str], *, removed: tuple[str, ...] = ()) -> None:
        """Change the mesh's files, and wait until all have what follows."""
        before = self.control.shown()["revision"]
        self.control.write(files)
        for name in removed:
            (self.control.mesh / name).unlink()
        self.wait_settled(before + 1)

    def scale_down(self, *members: Member) -> None:
        """SIGTERM to all at once; each ends in order, and sooner than its delay because all concerned let go of it."""
        for member in members:
            member.signal(signal.SIGTERM)
        for member in members:
            assert member.wait() == 0, member.stderr()
            assert "drain_left" in member.stderr(), member.stderr()

    def end(self, *kept: Member) -> None:
        """End what runs, but for these; none may have logged what nobody handled."""
        ending = [member for member in self.members.values() if member.is_running and member not in kept]
        for member in ending:
            member.signal(signal.SIGTERM)
        for member in ending:
            assert member.wait() == 0, member.stderr()
        for member in self.members.values():
            assert "Traceback" not in member.stderr(), member.stderr()
            assert "unhandled_exception" not in member.stderr(), member.stderr()

    def kill(self, *kept: Member) -> None:
        """End all but these, whatever they do."""
        for member in self.members.values():
            if member not in kept:
                member.kill()


def _is_current(shown: Mapping[str, Any]) -> bool:
    return bool(
        shown["connected"]
        and shown["config"]["hash"]
        and shown["config"]["hash"] == shown["wanted"]["hash"]
        and not shown["endpoints_behind"]
        and shown["state"] == "healthy"
    )


@contextlib.contextmanager
def running_mesh(directory: Path, files: Mapping[str, str], *arguments: str) -> Iterator[MeshOfProcesses]:
    """
    A control plane that is ready, and whatever joins it; on leaving all must end in order.

    Args:
        files: Of the mesh, by name; `mesh.yaml` is there if nothing else is said, and denies what nobody knows.
        arguments: Further ones of `sidecar control`.
    """
    control = Control(directory / "control", {"mesh.yaml": "mesh: shop\nunmatched: deny\n", **files})
    mesh = MeshOfProcesses(directory, control)
    control.start(*arguments)
    try:
        yield mesh
        mesh.end()
        assert control.stop() == 0, control.log()
        assert "Traceback" not in control.log(), control.log()
    finally:
        mesh.kill()
        assert control.process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(control.process.pid, signal.SIGKILL)
        control.process.wait()


class Load:
    """
    Clients that call a host by a sidecar's outbound listener, one request after the other, and count every answer.

    Attributes:
        answers: How often each came: `200 BODY`, `503 UH`, or what went wrong with the connection.
        phases: For each client what it was answered, in order, each once as long as it was the same: `200`, `503 UH`.
        sent: Paths of all requests; no two are the same.
    """

    def __init__(self, caller: Member, host: str, *, method: str = "GET", clients: int = 2) -> None:
        self.answers: Counter[str] = Counter()
        self.phases: list[list[str]] = [[] for _ in range(clients)]
        self.sent: list[tuple[str, str]] = []
        self._caller = caller
        self._host = host
        self._method = method
        self._is_over = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive(), "a client that waits for its answer"

    def count(self) -> int:
        """Answers so far."""
        with self._lock:
            return self.answers.total()

    def wait_for(self, more: int = 50) -> Counter[str]:
        """Until so many more were answered; these."""
        with self._lock:
            before = Counter(self.answers)
        eventually(lambda: self.count() >= before.total() + more, f"{more} answers after {before}", SETTLE_S)
        with self._lock:
            return self.answers - before

    def wait_until(self, condition: Callable[[Counter[str]], bool], what: str) -> None:
        """Until the answers of a moment are like this."""
        eventually(lambda: condition(self.wait_for(20)), f"{what}, after {self.answers}", SETTLE_S)

    def _run(self, client: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._caller.outbound_port, timeout=30)
        for number in itertools.count():
            if self._is_over.is_set():
                break
            path = f"/{client}/{number}"
            try:
                connection.request(self._method, path, headers={"host": self._host})
                answer = connection.getresponse()
                body = answer.read()
                kind, said = _kind(answer.status, body)
            except (OSError, http.client.HTTPException) as error:
                kind = said = f"lost: {error!r}"
                connection.close()
            with self._lock:
                self.sent.append((self._method, path))
                self.answers[said] += 1
                if self.phases[client][-1:] != [kind]:
                    self.phases[client].append(kind)
            time.sleep(PAUSE_S)
        connection.close()


def _kind(status: int, body: bytes) -> tuple[str, str]:
    if status == 200:
        return "200", f"200 {body.decode()}"
    try:
        flag = json.loads(body)["flag"]
    except (ValueError, KeyError, TypeError):
        flag = body[:80].decode("latin-1")
    return f"{status} {flag}", f"{status} {flag}"
