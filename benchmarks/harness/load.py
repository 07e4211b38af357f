"""The two ways to load: as fast as the subject answers (wrk), and at a fixed rate (steady.py)."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .site import HERE, tool
from .sleepers import Stalls
from .traffic import Traffic


@dataclass(frozen=True, slots=True)
class Load:
    """How a round loads at saturation."""

    seconds: int  # wrk takes no fractions
    traffic: Traffic
    folder: Path  # where the traffic is written
    cpus: tuple[int, ...]
    connections: int = 32


def pin(cpus: tuple[int, ...]) -> Callable[[], None] | None:
    """What a child process runs before its program, to stay on these cores."""
    return (lambda: os.sched_setaffinity(0, cpus)) if cpus else None


def missing_wrk() -> str | None:
    return None if tool("wrk") else "wrk (apt-get install wrk)"


def saturate(port: int, load: Load, seconds: int = 0) -> dict[str, int]:
    """Load with wrk, for so many seconds or as long as the load says; gives what load.lua reports."""
    seconds = seconds or load.seconds
    file = load.traffic.write(load.folder, seed=1)
    argv = [tool("wrk") or "wrk", "-t1", f"-c{load.connections}", f"-d{seconds}s", "--timeout", "10s"]
    argv += ["-s", str(HERE / "load.lua"), f"http://127.0.0.1:{port}/", "--", str(file)]
    argv += [str(random.randrange(load.traffic.users))]
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=seconds + 60, check=False, preexec_fn=pin(load.cpus)
    )
    for line in done.stdout.splitlines():
        if line.startswith("RESULT "):
            result: dict[str, int] = json.loads(line.removeprefix("RESULT "))
            return result
    raise RuntimeError(f"wrk ended with code {done.returncode}:\n{done.stdout}{done.stderr}")


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

    def between(self, from_ns: int, to_ns: int) -> tuple[list[float], list[float]]:
        """The latencies of what was due between two moments of the monotonic clock, and those of the rest."""
        first = max(0, (from_ns - self.start_ns) // self.period_ns)
        last = max(first, (to_ns - self.start_ns) // self.period_ns)
        return self.latencies_s[first:last], self.latencies_s[:first] + self.latencies_s[last:]


class SteadyLoad:
    """A load of fixed rate in a process of its own; `finish` waits for its end."""

    def __init__(self, port: int, load: Load, rate: float) -> None:
        self._out = load.folder / "latencies"
        order: dict[str, Any] = {
            "port": port,
            "rate": rate,
            "seconds": load.seconds,
            "connections": load.connections,
            "traffic": str(load.traffic.write(load.folder, seed=2)),
            "out": str(self._out),
        }
        self._seconds = load.seconds
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "steady.py"), json.dumps(order)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=pin(load.cpus),
        )

    def stop(self) -> None:
        """Send no more than what is due by now; `finish` then gives what came of that."""
        self._process.terminate()

    def finish(self) -> Stream:
        """Wait for the last answer."""
        out, problems = self._process.communicate(timeout=self._seconds + 30)
        if self._process.returncode != 0:
            raise RuntimeError(f"steady.py ended with code {self._process.returncode}:\n{problems}")
        report = json.loads(out)
        del report["requests"]
        latencies = array("d")
        latencies.frombytes(self._out.read_bytes())
        return Stream(latencies_s=latencies.tolist(), **report)
