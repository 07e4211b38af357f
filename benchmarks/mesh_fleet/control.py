"""A control plane as a process, and what it costs (Linux /proc)."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Control:
    """
    One that runs.

    Attributes:
        port: For sidecars.
    """

    def __init__(self, folder: Path, port: int, ops_port: int, cpu: int | None, options: list[str]) -> None:
        self.port = port
        self._ops_port = ops_port
        self._folder = folder
        self._cpu = cpu
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> float:
        """Start it; seconds until it is ready."""
        began = time.monotonic()
        command = [
            sys.executable, "-m", "sidecar", "control", "--mesh", str(self._folder / "mesh"),
            "--state", str(self._folder / "state"), "--listen", f"127.0.0.1:{self.port}",
            "--ops-listen", f"127.0.0.1:{self._ops_port}", "--no-access-log", *self._options,
        ]  # fmt: skip
        cpu = self._cpu
        with (self._folder / "control.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                preexec_fn=(lambda: os.sched_setaffinity(0, {cpu})) if cpu is not None else None,
            )  # fmt: skip
        while time.monotonic() < began + 120:
            if self._process.poll() is not None:
                raise RuntimeError((self._folder / "control.log").read_text()[-3000:])
            if self._get(self._ops_port, "/ready")[0] == 200:
                return time.monotonic() - began
            time.sleep(0.02)
        raise RuntimeError("the control plane was not ready within 120 s")

    def kill(self) -> None:
        """SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """SIGTERM."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(30)

    def cpu_s(self) -> float:
        """What it has used, its children included, those that ended too."""
        assert self._process is not None
        return sum(_cpu_s(pid) for pid in _tree(self._process.pid))

    def memory_bytes(self) -> int:
        """Proportional set size of all its processes."""
        assert self._process is not None
        total = 0
        for pid in _tree(self._process.pid):
            try:
                for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                    if line.startswith("Pss:"):
                        total += int(line.split()[1]) * 1024
            except OSError:
                continue
        return total

    def shows(self) -> Any:
        """`/v1/mesh`."""
        return json.loads(self._get(self.port, "/v1/mesh")[1])

    def metric(self, name: str) -> float:
        """Sum of the samples of this name."""
        text = self._get(self._ops_port, "/metrics")[1].decode()
        lines = (line for line in text.splitlines() if line.partition(" ")[0].partition("{")[0] == name)
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    def _get(self, port: int, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except OSError:
            return 0, b""
        finally:
            connection.close()


def _tree(root: int) -> list[int]:
    found = [root]
    for pid in found:
        try:
            found += [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        except OSError:
            continue
    return found


def _cpu_s(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(int(fields[index]) for index in (11, 12, 13, 14)) / TICKS_PER_S
