"""Real sidecars of the mesh, each with clients of its own that send at a fixed rate and count."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness.load import Load, SteadyLoad, Stream
from benchmarks.harness.processes import Process, free_ports, tree_pss_mib
from benchmarks.harness.subjects import compiled_command, missing_compiled
from benchmarks.harness.traffic import Traffic

from .control import SOURCE
from .figures import Happened, Sent, by_event, summary

FORMS = ("interpreted", "compiled")
CONNECTIONS = 8  # of the clients of one sidecar
USERS = 200
READY_S = 300.0  # that many begin at once, and on a machine that is busy

LOCAL = """\
inbound: {{listen: "127.0.0.1:{inbound}", app: "127.0.0.1:{app}"}}
outbound: {{listen: "127.0.0.1:{outbound}"}}
admin: {{listen: "127.0.0.1:{admin}"}}
telemetry: {{metrics: {{listen: "127.0.0.1:{metrics}"}}, access_log: {{format: off}}}}
"""


def missing(form: str) -> str | None:
    """What is to be done before sidecars of this form can run."""
    return missing_compiled() if form == "compiled" else None


def command(form: str) -> tuple[list[str], dict[str, str]]:
    """What starts one, and its environment."""
    if form == "compiled":
        return [str(compiled_command())], {}
    return [sys.executable, "-m", "sidecar"], SOURCE


@dataclass(frozen=True, slots=True)
class Place:
    """Where sidecars run, and what stands behind them."""

    folder: Path
    control: int  # port
    app: int  # port
    form: str
    cpus: tuple[int, ...] = ()


class RealSidecar:
    """
    One process of `sidecar run --control`.

    Attributes:
        service: Of the mesh.
        instance: Its name.
        outbound: The port for its app.
        process: It.
    """

    def __init__(self, place: Place, service: str, instance: str) -> None:
        self.service, self.instance = service, instance
        self.folder = place.folder / instance
        self.folder.mkdir()
        self.outbound, inbound, self._admin, metrics = free_ports(4)
        local = self.folder / "local.yaml"
        local.write_text(
            LOCAL.format(inbound=inbound, app=place.app, outbound=self.outbound, admin=self._admin, metrics=metrics)
        )
        argv, env = command(place.form)
        argv += [
            "run", "--config", str(local), "--control", f"http://127.0.0.1:{place.control}", "--service", service,
            "--version", "v1", "--instance", instance, "--state-dir", str(self.folder / "state"),
        ]  # fmt: skip
        self.process = Process("sidecar", argv, self.folder, place.cpus, env)

    def wait_ready(self) -> None:
        """Until it has a file in force."""
        self.process.wait_for(self._admin, "/ready", timeout_s=READY_S)


class Clients:
    """
    A load of fixed rate for each of some ports, in processes of their own.

    Args:
        ports: With a name for each, which is that of a folder below.
    """

    def __init__(
        self, folder: Path, ports: dict[str, int], hosts: Sequence[str], rate: float, seconds: float,
        cpus: tuple[int, ...] = (),
    ) -> None:  # fmt: skip
        traffic = Traffic(users=USERS, prefix="", hosts=tuple(hosts))
        self._loads: dict[str, SteadyLoad] = {}
        for name, port in ports.items():
            own = folder / f"clients-{name}"
            own.mkdir()
            load = Load(int(seconds), traffic, own, cpus, CONNECTIONS)
            self._loads[name] = SteadyLoad(port, load, rate)

    def finish(self) -> dict[str, Stream]:
        """Let them end; what they saw."""
        for load in self._loads.values():
            load.stop()
        return {name: load.finish() for name, load in self._loads.items()}


def start_many(place: Place, services: Sequence[str], started: ExitStack) -> list[RealSidecar]:
    """Start one for each of these, all at once, and wait until all are ready."""
    found: list[RealSidecar] = []
    started.callback(_stop, found)
    for number, service in enumerate(services):
        found.append(RealSidecar(place, service, f"real-{number}"))
    for one in found:
        one.wait_ready()
    return found


def _stop(sidecars: Sequence[RealSidecar]) -> None:
    """All at once, without the drain for which each would wait."""
    for one in sidecars:
        if one.process.is_running():
            one.process.signal(signal.SIGINT)
    for one in sidecars:
        one.process.stop()


def traffic_figures(streams: Sequence[Stream], happened: Happened) -> dict[str, object]:
    """What the clients saw by what happened meanwhile, and how late they themselves woke."""
    sent = [Sent(one.latencies_s, one.start_ns, one.period_ns) for one in streams]
    return {
        "requests": sum(len(one.latencies_s) for one in streams),
        "failed": sum(one.failed for one in streams),
        "unanswered": sum(one.unanswered for one in streams),
        "clients_late_p99_ms": round(1e3 * max(one.lag_p99_s for one in streams), 2),
        "by_event": {kind: summary(found) for kind, found in sorted(by_event(sent, happened).items())},
    }


def memory_mib(sidecars: Sequence[RealSidecar]) -> float:
    """Proportional set size of all of them."""
    return sum(tree_pss_mib(one.process.pid) for one in sidecars)


def available_mib() -> float:
    """Memory that processes of this machine can still have."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) / 1024
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**20
