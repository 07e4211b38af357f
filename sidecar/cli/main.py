"""The entry of the command `sidecar`. Imports next to nothing, so that a compiler starts before all else does."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from sidecar.loader.spawn import Child, spawn_compiler
from sidecar.runtime import inherited

_RUNNING = frozenset({"run", "exec"})
"""Commands that start a sidecar: they need a compiler, and obey signals as soon as they know how."""
_ASKING = frozenset({"-h", "--help"})


def main() -> None:
    """Entry point of the console script; never returns."""
    inherited.put_right()
    arguments = sys.argv[1:]
    if not arguments or arguments[0] not in _RUNNING:
        inherited.obey_signals_plainly()
    compiler = _compiler(arguments)
    # Only now: what the command line and the data path import takes 200 ms, in which the compiler imports its own.
    from sidecar.cli.commands import cli

    cli(prog_name="sidecar", obj=compiler)
    sys.exit(0)


def _compiler(arguments: list[str]) -> Child | None:
    """A compiler for the first load, if this command will need one; it ends with this process if not."""
    if not arguments or arguments[0] not in _RUNNING or not _ASKING.isdisjoint(arguments):
        return None
    with suppress(OSError):  # the first load tries again, and says why not
        return spawn_compiler(os.environ)
    return None
