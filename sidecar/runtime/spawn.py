"""
Starts a compiler process. *Cold.* Imports next to nothing, so that it can be the first thing that `sidecar run` does.

The process is spawned, not forked: a fork would copy the page tables of the data path and let every page that it
writes to fault. It gets this process's module search path, whatever made it, and nothing else of it but standard error.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping

_BOOT = "import sys; sys.path[:] = sys.argv[1:]; from sidecar.runtime.compiler import main; main()"


class Child:
    """
    A compiler process.

    Attributes:
        pid: Of it.
        stdin: Descriptor to write the request to.
        stdout: Descriptor to read frames from.
    """

    __slots__ = ("pid", "stdin", "stdout")

    def __init__(self, pid: int, stdin: int, stdout: int) -> None:
        self.pid = pid
        self.stdin = stdin
        self.stdout = stdout


def spawn_compiler(env: Mapping[str, str]) -> Child:
    """
    Start a compiler, which prepares itself and waits for its request.

    Whoever calls this must close both descriptors and wait for the process.

    Args:
        env: Its environment, and so the variables for `${NAME}`.

    Raises:
        OSError: The system does not let us.
    """
    # -P: what lies in the current directory is no module of ours.
    command = (sys.executable, "-P", "-c", _BOOT, *sys.path)
    their_stdin, stdin = os.pipe()
    stdout, their_stdout = os.pipe()
    try:
        actions = ((os.POSIX_SPAWN_DUP2, their_stdin, 0), (os.POSIX_SPAWN_DUP2, their_stdout, 1))
        # In a group of its own, so that Ctrl-C in a terminal is for the sidecar alone.
        pid = os.posix_spawn(
            sys.executable, command, env, file_actions=actions, setpgroup=0, setsigdef=(signal.SIGPIPE,)
        )
    except BaseException:
        os.close(stdin)
        os.close(stdout)
        raise
    finally:
        os.close(their_stdin)
        os.close(their_stdout)
    return Child(pid, stdin, stdout)
