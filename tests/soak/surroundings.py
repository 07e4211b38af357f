"""A sidecar in a storm's surroundings: names of its own, and what the kernel and it itself tell of it."""

from __future__ import annotations

import copy
import os
import re
import resource
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.process import SidecarProcess

NAME = "named.sidecar.test"
_GAUGES = (
    "sidecar_requests_active",
    "sidecar_upstream_requests_active",
    "sidecar_upstream_requests_pending",
    "sidecar_downstream_connections_active",
    "sidecar_upstream_connections_idle",
)


def can_have_names() -> bool:
    """Whether a process here may see an `/etc/hosts` of its own: that needs root and a mount namespace."""
    unshare = shutil.which("unshare")
    if unshare is None:
        return False
    probe = [unshare, "--mount", "sh", "-c", "mount --bind /etc/hosts /etc/hosts"]
    return subprocess.run(probe, capture_output=True, timeout=30).returncode == 0


class StormSidecar(SidecarProcess):
    """
    Attributes:
        has_names: Whether `know` has an effect.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.has_names = can_have_names()
        self._hosts = directory / "hosts"
        self._resolv = directory / "resolv.conf"
        self._resolv.write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
        self.know()

    def know(self, *addresses: str) -> None:
        """What NAME means from now on; without addresses it is unknown."""
        self._hosts.write_text("".join(["127.0.0.1 localhost\n", *(f"{address} {NAME}\n" for address in addresses)]))

    def start(self, *arguments: str) -> None:
        """As the base class; in a mount namespace if one may be made."""
        if not self.has_names:
            super().start(*arguments)
            return
        mounts = f"mount --bind {shlex.quote(str(self._hosts))} /etc/hosts"
        mounts += f" && mount --bind {shlex.quote(str(self._resolv))} /etc/resolv.conf"
        run = shlex.join([sys.executable, "-m", "sidecar", "run", "--config", str(self.config), *arguments])
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "SIDECAR_"))}
        with open(self.directory / "stderr.log", "ab") as err:
            self.process = subprocess.Popen(
                ["unshare", "--mount", "sh", "-c", f"{mounts} && exec {run}"],
                stdin=subprocess.DEVNULL,
                stdout=err,
                stderr=err,
                env={**environment, **self.env},
                start_new_session=True,
            )

    def successor(self) -> StormSidecar:
        """A second one with the same file, ports and logs; not started."""
        other = copy.copy(self)
        other.process = None
        return other

    # --- what the kernel says of it ------------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        """Of the process."""
        assert self.process is not None
        return self.process.pid

    def descriptors(self) -> int:
        """How many it has open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def peak_memory_kib(self) -> int:
        """The most that was ever resident."""
        found = re.search(r"^VmHWM:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text(), re.MULTILINE)
        assert found is not None
        return int(found[1])

    def cpu_s(self) -> float:
        """Processor time so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def limit_descriptors(self, count: int) -> None:
        """Let it open no descriptor whose number is `count` or above."""
        hard = resource.prlimit(self.pid, resource.RLIMIT_NOFILE)[1]
        resource.prlimit(self.pid, resource.RLIMIT_NOFILE, (min(count, hard), hard))

    # --- what it says of itself ----------------------------------------------------------------------------------

    def gauges(self) -> dict[str, float]:
        """What must be zero when nothing goes on."""
        found: dict[str, float] = dict.fromkeys(_GAUGES, 0.0)
        for line in self.metrics().text.splitlines():
            name = re.split(r"[{ ]", line, maxsplit=1)[0]
            if name in found:
                found[name] += float(line.rpartition(" ")[2])
        return found

    def gauge_lines(self) -> list[str]:
        """Which of these are not."""
        lines = self.metrics().text.splitlines()
        return [line for line in lines if line.startswith(_GAUGES) and not line.endswith(" 0")]

    def by_label(self, name: str, label: str, **labels: str) -> dict[str, int]:
        """The samples of this name with these labels, summed up by another label."""
        found: dict[str, int] = {}
        for line in self.metrics().text.splitlines():
            if line.startswith(f"{name}{{"):
                have = dict(re.findall(r'(\w+)="([^"]*)"', line))
                if labels.items() <= have.items():
                    found[have[label]] = found.get(have[label], 0) + int(float(line.rpartition(" ")[2]))
        return found

    def log_lines(self) -> int:
        """Whole lines of the access log."""
        path = self._access_log_path
        return path.read_bytes().count(b"\n") if path.exists() else 0
