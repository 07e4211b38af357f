"""A shell, for pages of the documentation that are typed as somebody would."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class Shell:
    """
    One bash, into which blocks are typed one after the other.

    Args:
        directory: Where it begins. It knows `sidecar` as a command: that of this tree.
        environment: Beyond this process's.
    """

    def __init__(self, directory: Path, environment: Mapping[str, str] | None = None) -> None:
        programs = directory / "bin"
        programs.mkdir()
        program = programs / "sidecar"
        program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m sidecar "$@"\n')
        program.chmod(0o755)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SIDECAR_")}
        sources = [os.environ["PYTHONPATH"]] if "PYTHONPATH" in os.environ else []
        paths = {"PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": ":".join([*sources, str(ROOT)])}
        self._bash = subprocess.Popen(
            ["bash"], cwd=directory, env={**kept, **paths, **(environment or {})}, text=True, start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def type(self, text: str) -> str:
        """Run it, and return what it printed."""
        assert self._bash.stdin is not None
        assert self._bash.stdout is not None
        mark = uuid.uuid4().hex
        self._bash.stdin.write(f"{text}\necho {mark}\n")
        self._bash.stdin.flush()
        lines: list[str] = []
        for line in self._bash.stdout:
            if line.endswith(f"{mark}\n"):
                break
            lines.append(line)
        else:
            raise AssertionError(f"the shell ended: {''.join(lines)}")
        return "".join(lines)

    def close(self) -> None:
        """End whatever still runs, by any means."""
        os.killpg(self._bash.pid, signal.SIGKILL)
        self._bash.communicate()
