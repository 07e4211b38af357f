"""Signals whose effect is waited for: `kill` returns before another process has noticed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.support.wait import eventually


def stop(pid: int) -> None:
    """SIGSTOP, and wait until no thread of the process runs any more: until then one may still answer."""
    os.kill(pid, signal.SIGSTOP)
    eventually(lambda: all(map(_is_stopped, Path(f"/proc/{pid}/task").iterdir())), f"process {pid} to be stopped")


def _is_stopped(thread: Path) -> bool:
    """The state is the first word after the name, which may itself hold brackets and spaces (proc_pid_stat(5))."""
    try:
        return (thread / "stat").read_text().rpartition(")")[2].split()[0] == "T"
    except FileNotFoundError:  # ended since it was listed
        return True
