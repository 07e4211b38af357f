"""Processes on loopback: start, pin, wait for, stop, and read what a whole tree of them has cost (Linux /proc)."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from .tls_client import TlsClient

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PORTS = range(12_000, 20_000)
_ports = itertools.cycle(random.sample(_PORTS, len(_PORTS)))


class StartError(Exception):
    """A process ended, or did not answer in time; the text has the end of what it printed."""


class Process:
    """A started process, its output in a file beside its configuration."""

    def __init__(self, name: str, argv: Sequence[str], folder: Path, cpus: Iterable[int], env: dict[str, str]) -> None:
        self.name = name
        self.output = folder / f"{name}.out"
        chosen = set(cpus)
        self.ready_s: float | None = None  # from the start to the first good answer, as `wait_for` saw it
        self._began = time.monotonic()
        with self.output.open("ab") as out:  # appending: what a subject logs here is cut to nothing between rounds
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env={**os.environ, **env},
                preexec_fn=(lambda: os.sched_setaffinity(0, chosen)) if chosen else None,
            )
        self.pid = self._process.pid

    def wait_for(
        self,
        port: int,
        path: str | None,
        host: str = "localhost",
        timeout_s: float = 20.0,
        client: TlsClient | None = None,
    ) -> None:
        """Wait until `port` accepts and, when a path is given, answers GET with 200; sets `ready_s`, good to 5 ms."""
        deadline = time.monotonic() + timeout_s
        while True:
            if self._process.poll() is not None:
                raise StartError(f"{self.name} ended with code {self._process.returncode}:\n{self.tail()}")
            try:
                if path is None:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                if path is None or get(port, path, {"Host": host}, client=client)[0] == 200:
                    self.ready_s = time.monotonic() - self._began
                    return
            except (OSError, http.client.HTTPException):
                pass
            if time.monotonic() > deadline:
                self.stop()
                raise StartError(f"{self.name} did not answer on port {port} in {timeout_s:g} s:\n{self.tail()}")
            time.sleep(0.005)

    def tail(self) -> str:
        """The end of what it printed."""
        return self.output.read_text(errors="replace")[-2000:]

    def is_running(self) -> bool:
        return self._process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def stop(self, timeout_s: float = 5.0) -> None:
        """SIGTERM, then SIGKILL for it and what it started."""
        tree = descendants(self.pid)
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        for pid in tree[1:]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def free_ports(count: int) -> list[int]:
    """
    Ports that nobody listens on, each given once by this process. They are below those that the kernel gives to
    connections, one of which would sit on the port of a sidecar that is about to listen.
    """
    found: list[int] = []
    while len(found) < count:
        port = next(_ports)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("0.0.0.0", port))
            found.append(port)
    return found


def connection_to(port: int, client: TlsClient | None = None, timeout_s: float = 5.0) -> http.client.HTTPConnection:
    """By TLS if there is a client for it."""
    if client is None:
        return http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    return http.client.HTTPSConnection("127.0.0.1", port, timeout=timeout_s, context=client.context())


def get(
    port: int, path: str, headers: dict[str, str], timeout_s: float = 5.0, client: TlsClient | None = None
) -> tuple[int, dict[str, str], bytes]:
    """One GET on a connection of its own; names of the answer's headers are lower case."""
    connection = connection_to(port, client, timeout_s)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def _stat(pid: int) -> list[str] | None:
    """Fields of /proc/PID/stat from the third on (proc(5)); the name, which may hold spaces, is cut off."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def descendants(root: int) -> list[int]:
    """The process and all below it, parents first."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (fields := _stat(int(entry))) is not None:
            children.setdefault(int(fields[1]), []).append(int(entry))
    tree = [root]
    for pid in tree:
        tree.extend(children.get(pid, ()))
    return tree


def tree_cpu_s(root: int) -> float:
    """CPU seconds, user and system, of the tree: the living with all their threads, and dead children waited for."""
    ticks = 0
    for pid in descendants(root):
        if (fields := _stat(pid)) is not None:
            ticks += sum(int(value) for value in fields[11:15])  # utime stime cutime cstime
    return ticks / TICKS_PER_S


def tree_pss_mib(root: int) -> float:
    """Memory of the tree in MiB, shared pages split among those that share them (PSS)."""
    total_kib = 0
    for pid in descendants(root):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total_kib += int(line.split()[1])
    return total_kib / 1024


def _machine_busy_s() -> tuple[float, float]:
    """CPU seconds that the whole machine has spent working, and those that the hypervisor took away (steal)."""
    fields = [int(value) for value in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    user, nice, system, _idle, _iowait, irq, softirq, steal = fields
    return (user + nice + system + irq + softirq) / TICKS_PER_S, steal / TICKS_PER_S


class Others:
    """What processes outside of the comparison did since this was made: where that is not near 0, measure again."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._busy_s, self._steal_s = _machine_busy_s()
        self._ours_s = tree_cpu_s(os.getpid())

    def cores(self) -> tuple[float, float]:
        """Cores that others kept busy, and cores that the hypervisor took away. Children must have been waited for."""
        elapsed = time.monotonic() - self._began
        busy_s, steal_s = _machine_busy_s()
        foreign_s = (busy_s - self._busy_s) - (tree_cpu_s(os.getpid()) - self._ours_s)
        return max(foreign_s, 0.0) / elapsed, (steal_s - self._steal_s) / elapsed
