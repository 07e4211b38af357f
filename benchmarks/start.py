"""
From the start of `sidecar run` to readiness, and what the process then weighs.

    .venv/bin/python benchmarks/start.py [--runs 20] [--routes 20] [--sidecar COMMAND]

A run begins with the exec of the command and ends when `/ready` answers 200, which is asked every 2 ms; the file has
`--routes` routes of several kinds, a tenth of them with regular expressions, two upstreams, an access log, metrics.
The time that the sidecar and its compiler, which run side by side, have had a CPU until then says what a quiet machine
of two cores would take at least, also where the machine is not quiet. Memory is the proportional set size of the
process when its compiler has gone. Prints each figure's median, least and most.
"""

from __future__ import annotations

import argparse
import http.client
import os
import shlex
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ASK_S = 0.002
SETTLE_S = 5.0
"""A compiler rests for three seconds."""

_KINDS = (
    "match: {{host: s{n}.local, path: {{prefix: /api/{n}}}}}, to: a",
    "match: {{path: {{prefix: /v{n}}}, headers: {{x-canary: 'yes'}}}}, to: {{a: 90, b: 10}}, timeout: 5s",
    "match: {{path: /exact/{n}, methods: [GET, POST]}}, to: b, retry: {{attempts: 3, on: [5xx]}}",
    "match: {{path: {{prefix: /p{n}}}, cookies: {{uid: u{n}}}}}, to: a, rewrite: {{prefix: /q}}",
    "match: {{path: {{regex: '/r{n}/[0-9]+'}}}}, redirect: {{path: /}}",
)


def configuration(routes: int, port: int, metrics: int, admin: int, log: Path) -> str:
    """A file of so many routes."""
    lines = ["service: start", "outbound:", f"  listen: 127.0.0.1:{port}", "  routes:"]
    for number in range(routes):
        kind = 4 if number % 10 == 9 else number % 4
        lines.append(f"    - {{name: r{number}, {_KINDS[kind].format(n=number)}}}")
    return "\n".join(
        [
            *lines,
            "upstreams:",
            "  a: {endpoints: ['127.0.0.1:1']}",
            "  b: {endpoints: ['127.0.0.1:2']}",
            f"admin: {{listen: '127.0.0.1:{admin}'}}",
            f"telemetry: {{metrics: {{listen: '127.0.0.1:{metrics}'}}, access_log: {{path: {log}}}}}",
        ]
    )


def free_port() -> int:
    """A port that nobody has at this moment."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def is_ready(port: int) -> bool:
    """Whether `/ready` is 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/ready")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def cpu_ms(pid: int) -> float:
    """Milliseconds for which the threads of a process had a CPU."""
    files = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(file.read_text().split()[0]) for file in files) / 1e6


def children(pid: int) -> list[int]:
    """Processes that this one has started."""
    files = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for file in files for child in file.read_text().split()]


def start(command: Sequence[str], metrics: int) -> tuple[float, subprocess.Popen[bytes]]:
    """Seconds until it is ready, and the process."""
    began = time.perf_counter()
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    while not is_ready(metrics):
        if process.poll() is not None:
            raise SystemExit(f"the sidecar ended with {process.returncode}: {shlex.join(command)}")
        time.sleep(ASK_S)
    return time.perf_counter() - began, process


def pss_mib(pid: int) -> float:
    """Proportional set size of one process, in MiB."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise SystemExit("the kernel does not tell the proportional set size")


def stop(process: subprocess.Popen[bytes]) -> None:
    """End it at once and wait for its end."""
    process.send_signal(signal.SIGINT)
    process.wait(30)


def shown(name: str, values: Sequence[float], unit: str) -> str:
    """Median, least and most."""
    return (
        f"{name:16} {statistics.median(values):7.1f} {unit} ({min(values):.1f} to {max(values):.1f}, n={len(values)})"
    )


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--routes", type=int, default=20)
    parser.add_argument("--sidecar", default=f"{sys.executable} -m sidecar", help="the command without `run`")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        port, metrics, admin = free_port(), free_port(), free_port()
        path = Path(folder) / "sidecar.yaml"
        path.write_text(configuration(options.routes, port, metrics, admin, Path(folder) / "access.log"))
        command = [*shlex.split(options.sidecar), "run", "-c", str(path)]
        times_ms: list[float] = []
        own_ms: list[float] = []
        compilers_ms: list[float] = []
        for _ in range(options.runs):
            took_s, process = start(command, metrics)
            own_ms.append(cpu_ms(process.pid))
            compilers_ms += (cpu_ms(child) for child in children(process.pid))
            times_ms.append(took_s * 1000)
            stop(process)
        _, process = start(command, metrics)
        time.sleep(SETTLE_S)
        memory = pss_mib(process.pid)
        stop(process)
    print(f"{options.routes} routes, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}")
    print(shown("start to ready", times_ms, "ms"))
    print(shown("sidecar's CPU", own_ms, "ms"))
    if compilers_ms:
        print(shown("compiler's CPU", compilers_ms, "ms"))
    print(shown("memory, PSS", [memory], "MiB"))


if __name__ == "__main__":
    main()
