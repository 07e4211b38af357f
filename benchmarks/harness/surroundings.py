"""The machine and the versions, without which figures say nothing."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from .site import HERE, Subject


def _command(*argv: str) -> str:
    try:
        return subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False, cwd=HERE).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def surroundings(subjects: Sequence[Subject]) -> dict[str, object]:
    """Processor, kernel, Python, commit, and the version of every subject."""
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    wrk = _command("wrk", "--version").splitlines()
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "virtual": _command("systemd-detect-virt") or "unknown",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "commit": _command("git", "describe", "--always", "--dirty", "--exclude", "*"),
        "load_average": round(os.getloadavg()[0], 2),
        "versions": {subject.name: subject.version() for subject in subjects} | {"wrk": wrk[0] if wrk else "unknown"},
    }
