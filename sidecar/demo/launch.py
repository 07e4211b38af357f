"""
Starts a child of the demonstration so that it ends with it: `python -m sidecar.demo.launch PARENT MODULE ARGUMENT...`

A demonstration that is killed outright cannot clean up; on Linux the kernel then ends its children for it
(prctl(2), PR_SET_PDEATHSIG, which is kept across execve(2)). Elsewhere this only executes the module.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Become `python -m MODULE ARGUMENT...`; never returns."""
    parent, module, *rest = arguments
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
        if os.getppid() != int(parent):
            sys.exit(1)  # it was gone before we asked
    os.execv(sys.executable, [sys.executable, "-m", module, *rest])


if __name__ == "__main__":
    main(sys.argv[1:])
