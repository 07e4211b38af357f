"""How many data-path processes there are to be: a number, or as many as this machine lets us use. *Cold.*"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Final

from sidecar.config.values.base import Reads, expected
from sidecar.config.values.units import value_of
from sidecar.config.yaml.scalars import Spelled

MAX_WORKERS: Final = 64
"""As many sockets for each address; a machine with more CPUs has more than one pod."""

_CGROUPS: Final = Path("/sys/fs/cgroup")


def usable_cpus(own: Path = Path("/proc/self/cgroup"), root: Path = _CGROUPS) -> int:
    """
    CPUs that this process may use at once, at least 1: its affinity, or less if its control group has a quota.

    A quota of one and a half CPUs counts as two: less would leave half a CPU unused.

    Args:
        own: Where the kernel says which control group this process is in (cgroups(7)).
        root: Where control groups are mounted.
    """
    count = len(os.sched_getaffinity(0))
    for quota in _quotas(own, root):
        count = min(count, max(1, -(-quota // 1000)))
    return max(1, count)


def parse_workers(written: object) -> int:
    """Read a number of processes, or `auto`."""
    value = value_of(written)
    if written == "auto" and not isinstance(written, Spelled):
        return min(MAX_WORKERS, usable_cpus())
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_WORKERS:
        raise expected(f"an integer from 1 to {MAX_WORKERS}, or `auto`")
    return value


def _quotas(own: Path, root: Path) -> list[int]:
    """Quotas of our control group and of those above it, in thousandths of a CPU; versions 2 and 1."""
    found = []
    for line in _read(own).splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        parts = [part for part in path.split("/") if part and part != ".."]
        for depth in range(len(parts), -1, -1):
            below = "/".join(parts[:depth])
            if not controllers:
                found.append(_thousandths(*_read(root / below / "cpu.max").split()))
            elif "cpu" in controllers.split(","):
                group = root / "cpu" / below
                found.append(_thousandths(_read(group / "cpu.cfs_quota_us"), _read(group / "cpu.cfs_period_us")))
    return [quota for quota in found if quota]


def _thousandths(quota: str = "", period: str = "", *_: str) -> int:
    """0 for none: `max` in version 2, -1 in version 1, no such file for the root."""
    try:
        return max(0, int(quota) * 1000 // int(period))
    except (ValueError, ZeroDivisionError):
        return 0


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


Workers = Annotated[
    int, Reads(parse_workers, {"anyOf": [{"type": "integer", "minimum": 1, "maximum": MAX_WORKERS}, {"const": "auto"}]})
]
