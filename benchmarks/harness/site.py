"""What a subject is, and what surrounds it while it is measured."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .processes import Process

HERE = Path(__file__).resolve().parent.parent
SERVICES = [f"/service-{number:02d}" for number in range(1, 19)]


@dataclass(frozen=True, slots=True)
class Site:
    """What surrounds the subject under test: where it writes, what it may use, whom it talks to."""

    folder: Path
    cpus: tuple[int, ...]  # cores for the subject; empty: not pinned
    v1_port: int
    beta_port: int
    sink_port: int  # this subject's port of the collector


@dataclass(frozen=True, slots=True)
class Running:
    """A subject that answers."""

    process: Process
    port: int
    log: Path | None = None  # JSON lines, one a request
    has_spans: bool = False
    scrape: tuple[int, str] | None = None  # port and path of its metrics
    reads_http: bool = True


@dataclass(frozen=True, slots=True)
class Subject:
    """One column of the comparison."""

    name: str
    missing: Callable[[], str | None]  # what to install, if it cannot run here
    version: Callable[[], str]
    start: Callable[[Site, bool], Running]  # the flag: full


def output_of(*argv: str) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as problem:
        return f"unknown ({problem})"
    return (done.stdout + done.stderr).strip()


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path
