"""The two ways to load: as fast as the subject answers (wrk), and at a fixed rate (steady.py)."""

from __future__ import annotations

import json
import os
import random
import resource
import subprocess
import sys
import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .evidence import WrongWorkError
from .site import HERE, tool
from .sleepers import Stalls
from .tls_client import TlsClient, handshakes_of
from .traffic import Traffic

BEGUN_WITHIN_S = 30.0


@dataclass(frozen=True, slots=True)
class Load:
    """How a round loads at saturation."""

    seconds: int  # wrk takes no fractions
    traffic: Traffic
    folder: Path  # where the traffic is written
    cpus: tuple[int, ...]
    connections: int = 32
    resumes: bool = False  # each connection by TLS takes up an earlier session, once there is one
    calls: Calls | None = None  # over HTTP/2, instead of the traffic


@dataclass(frozen=True, slots=True)
class Calls:
    """How `calls.py` loads, instead of wrk and `steady.py`."""

    streams: int  # of each connection
    body_bytes: int
    has_trailers: bool = True  # answers have, for upstreams speak HTTP/2 too

    def order(self, port: int, load: Load, client: TlsClient | None, seed: int) -> dict[str, Any]:
        """What `calls.py` is told."""
        order: dict[str, Any] = {
            "port": port,
            "seconds": load.seconds,
            "connections": load.connections,
            "streams": self.streams,
            "body_bytes": self.body_bytes,
            "has_trailers": self.has_trailers,
            "seed": seed,
        }
        if client is not None:
            order["tls"] = client.order()
        return order


def pin(cpus: tuple[int, ...]) -> Callable[[], None] | None:
    """What a child process runs before its program, to stay on these cores."""
    return (lambda: os.sched_setaffinity(0, cpus)) if cpus else None


def missing_wrk() -> str | None:
    return None if tool("wrk") else "wrk (apt-get install wrk)"


def saturate(port: int, load: Load, seconds: int = 0, client: TlsClient | None = None) -> dict[str, int]:
    """
    Load with wrk, for so many seconds or as long as the load says.

    Returns:
        What load.lua reports, and `cpu_us` of wrk; by TLS also `handshakes`, and how many of them were `resumed`.

    Raises:
        WrongWorkError: Another version, cipher suite or protocol was agreed on than the client's.
    """
    seconds = seconds or load.seconds
    if load.calls is not None:
        order = load.calls.order(port, replace(load, seconds=seconds), client, seed=1)
        return _result([sys.executable, str(HERE / "calls.py"), json.dumps(order)], load, seconds)[0]
    file = load.traffic.write(load.folder, seed=1)
    argv = [tool("wrk") or "wrk", "-t1", f"-c{load.connections}", f"-d{seconds}s", "--timeout", "10s"]
    argv += ["-s", str(HERE / "load.lua"), f"http{'s' if client else ''}://127.0.0.1:{port}/"]
    argv += ["--", str(file)]
    argv += [str(random.randrange(load.traffic.users))]
    env = client.environment(resumes=load.resumes) if client else None
    result, stderr = _result(argv, load, seconds, env)
    if client:
        made = handshakes_of(stderr)
        if made.count and made.kind != client.kind:
            raise WrongWorkError(f"port {port}: expected {client.kind}, got {made.kind}")
        result |= {"handshakes": made.count, "resumed": made.resumed}
    return result


def _result(argv: list[str], load: Load, seconds: int, env: dict[str, str] | None = None) -> tuple[dict[str, int], str]:
    """Run a generator; gives what it reports, with its `cpu_us`, and what else it said."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=seconds + 60, check=False, preexec_fn=pin(load.cpus), env=env
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    for line in done.stdout.splitlines():
        if line.startswith("RESULT "):
            result: dict[str, int] = json.loads(line.removeprefix("RESULT "))
            cpu_s = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
            result["cpu_us"] = round(cpu_s * 1e6)
            return result, done.stderr
    raise RuntimeError(f"{Path(argv[0]).name} ended with code {done.returncode}:\n{done.stdout}{done.stderr}")


@dataclass(frozen=True, slots=True)
class Stream:
    """What came of a load of fixed rate."""

    latencies_s: list[float]  # by the order in which they were due; NaN: failed
    start_ns: int  # of the monotonic clock
    period_ns: int
    failed: int
    unanswered: int
    reopened: int
    cpu_s: float  # of the generator
    lag_p50_s: float  # how late the generator woke
    lag_p99_s: float
    lag_max_s: float

    @property
    def rate(self) -> float:
        return 1e9 / self.period_ns

    @property
    def end_ns(self) -> int:
        """When the last request was due."""
        return self.start_ns + len(self.latencies_s) * self.period_ns

    def awake_max_ms(self, stalls: Stalls) -> float | None:
        """The longest latency of a request that ran while no core stood still; None if there is none."""
        found = None
        for number, latency_s in enumerate(self.latencies_s):
            due_ns = self.start_ns + number * self.period_ns
            is_longer = found is None or latency_s > found
            if is_longer and latency_s == latency_s and not stalls.touch(due_ns, due_ns + latency_s * 1e9):
                found = latency_s
        return None if found is None else found * 1000

    def within(self, windows: Sequence[tuple[int, int]]) -> tuple[list[float], list[float]]:
        """
        The latencies of what was due in any of these windows, and those of the rest.

        Args:
            windows: From and to, in nanoseconds of the monotonic clock, in order.
        """
        around: list[float] = []
        rest: list[float] = []
        at = 0
        for from_ns, to_ns in windows:
            first = max(at, (from_ns - self.start_ns) // self.period_ns)
            last = max(first, (to_ns - self.start_ns) // self.period_ns)
            rest += self.latencies_s[at:first]
            around += self.latencies_s[first:last]
            at = last
        return around, rest + self.latencies_s[at:]


class SteadyLoad:
    """A load of fixed rate in a process of its own; `finish` waits for its end."""

    def __init__(self, port: int, load: Load, rate: float, client: TlsClient | None = None) -> None:
        self._out = load.folder / "latencies"
        self._out.unlink(missing_ok=True)
        program = "steady.py"
        order: dict[str, Any]
        if load.calls is not None:
            program, order = "calls.py", load.calls.order(port, load, client, seed=2)
        else:
            traffic = str(load.traffic.write(load.folder, seed=2))
            order = {"port": port, "seconds": load.seconds, "connections": load.connections, "traffic": traffic}
            if client is not None:
                order["tls"] = client.order()
        order |= {"rate": rate, "out": str(self._out)}
        self._seconds = load.seconds
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / program), json.dumps(order)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=pin(load.cpus),
        )

    def wait_begun(self) -> None:
        """Wait until requests become due: connections may take their time to open."""
        deadline = time.monotonic() + BEGUN_WITHIN_S
        while not self._out.exists() and self._process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)

    def stop(self) -> None:
        """Send no more than what is due by now; `finish` then gives what came of that."""
        self._process.terminate()

    def finish(self) -> Stream:
        """Wait for the last answer."""
        out, problems = self._process.communicate(timeout=self._seconds + 90)
        if self._process.returncode != 0:
            raise RuntimeError(f"the generator ended with code {self._process.returncode}:\n{problems}")
        report = json.loads(out)
        del report["requests"]
        latencies = array("d")
        latencies.frombytes(self._out.read_bytes())
        return Stream(latencies_s=latencies.tolist(), **report)
