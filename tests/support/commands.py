"""
Commands of `sidecar` that read files or ask others, in the test's own process: to start one costs up to a second.

That the program's own entry runs them is `tests/integration/test_lifecycle.py`'s, `test_mesh_start.py`'s and of others.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping

from click.testing import CliRunner

from sidecar.cli.commands import cli


def sidecar_command(*arguments: object, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """
    What a process of `sidecar ARGUMENTS` would have said. What it does not catch itself is raised here.

    Args:
        env: Added to the environment.
    """
    words = [str(argument) for argument in arguments]
    result = CliRunner(env=env).invoke(cli, words, prog_name="sidecar", catch_exceptions=False)
    return subprocess.CompletedProcess(words, result.exit_code, result.stdout, result.stderr)
