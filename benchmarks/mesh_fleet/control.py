"""A control plane as a process, and what it costs."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness.processes import descendants, free_ports, get, tree_cpu_s, tree_pss_mib
from benchmarks.harness.site import HERE

START_S = 300.0
SOURCE = {"PYTHONPATH": str(HERE.parent)}
"""What is measured is the source beside the benchmarks, wherever the environment has its own."""


class Control:
    """
    One that runs, with the engine `files`.

    Args:
        folder: Has the mesh in `mesh`, and gets state and log.
        cpus: Cores for it and what it starts; none: all.
        options: Further ones of `sidecar control`.

    Attributes:
        port: For sidecars and people.
        options: Of its next start.
    """

    def __init__(self, folder: Path, cpus: Sequence[int], options: Sequence[str]) -> None:
        self.port, self._ops_port = free_ports(2)
        self.options = list(options)
        self._folder = folder
        self._cpus = set(cpus)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> float:
        """Start it; seconds until it is ready."""
        began = time.monotonic()
        command = [
            sys.executable, "-m", "sidecar", "control", "--mesh", str(self._folder / "mesh"),
            "--state", str(self._folder / "state"), "--listen", f"127.0.0.1:{self.port}",
            "--ops-listen", f"127.0.0.1:{self._ops_port}", "--accept", "clear", "--no-access-log", *self.options,
        ]  # fmt: skip
        cpus = self._cpus
        with (self._folder / "control.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **SOURCE},
                preexec_fn=(lambda: os.sched_setaffinity(0, cpus)) if cpus else None,
            )  # fmt: skip
        while time.monotonic() < began + START_S:
            if self._process.poll() is not None:
                raise RuntimeError((self._folder / "control.log").read_text()[-3000:])
            try:
                if get(self._ops_port, "/ready", {})[0] == 200:
                    return time.monotonic() - began
            except (OSError, http.client.HTTPException):
                pass
            time.sleep(0.02)
        raise RuntimeError(f"the control plane was not ready within {START_S:.0f} s")

    def kill(self) -> None:
        """SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """SIGTERM, and SIGKILL if that does not end it; nothing if it does not run."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()

    def restart(self, options: Sequence[str]) -> float:
        """End it in order, and start it with other options; seconds until it is ready."""
        self.stop()
        self.options = list(options)
        return self.start()

    def cpu_s(self) -> float:
        """What all its processes have used, those that ended too."""
        return tree_cpu_s(self._pid)

    def pss_mib(self) -> float:
        """Proportional set size of all its processes, the compiling one included."""
        return tree_pss_mib(self._pid)

    def peak_rss_mib(self) -> float:
        """The most that each of its processes ever had, summed: no less than they had at any one time."""
        total_kib = 0
        for pid in descendants(self._pid):
            try:
                lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            except OSError:
                continue
            total_kib += sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
        return total_kib / 1024

    def processes(self) -> int:
        """How many they are."""
        return len(descendants(self._pid))

    def shown(self) -> Any:
        """`/v1/mesh`."""
        return json.loads(get(self.port, "/v1/mesh", {}, timeout_s=30)[2])

    def metric(self, name: str, label: str = "") -> float:
        """Sum of the samples of this name, those that have this text among their labels."""
        text = get(self._ops_port, "/metrics", {}, timeout_s=30)[2].decode()
        return sum_of_samples(text, name, label)

    @property
    def _pid(self) -> int:
        assert self._process is not None
        return self._process.pid


def sum_of_samples(text: str, name: str, label: str = "") -> float:
    """Of an exposition of Prometheus's form: samples of the name whose labels contain the text. *Pure.*"""
    total = 0.0
    for line in text.splitlines():
        series, _, value = line.rpartition(" ")
        own, _, labels = series.partition("{")
        if own == name and label in labels:
            total += float(value)
    return total
