"""
What a process gets from whoever started it, put right before anything else: standard streams, signals. *Cold.*

Imports next to nothing, because every entry calls it first: `cli.main`, and the boot of a worker.
"""

from __future__ import annotations

import io
import os
import signal
import sys

HELD = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1})
"""
Signals that mean something here. Until they have handlers the kernel would end the process by them, or, of process 1,
drop them (pid_namespaces(7)); of a signal that is blocked it does neither.
"""

_STREAMS = (("stdin", os.O_RDONLY), ("stdout", os.O_WRONLY), ("stderr", os.O_WRONLY))
"""By their descriptors."""


def put_right() -> None:
    """The first thing that a process does: see `open_standard_streams` and `hold_signals`."""
    hold_signals()
    open_standard_streams()


def open_standard_streams() -> None:
    """
    Open what is missing of descriptors 0 to 2 on /dev/null, for this process and its children.

    Else the next socket gets such a number, and what is written to standard output goes to somebody's connection. POSIX
    lets execve(2) do the same for set-user-ID programs, and Go's runtime does it for all.
    """
    for descriptor, (name, flags) in enumerate(_STREAMS):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, flags)  # gets the lowest that is free, and all below this one are open by now
            os.set_inheritable(descriptor, True)
        if getattr(sys, name) is None:  # as Python has it where the descriptor was closed
            raw = io.FileIO(descriptor, "r" if flags == os.O_RDONLY else "w", closefd=False)
            buffered = io.BufferedReader(raw) if flags == os.O_RDONLY else io.BufferedWriter(raw)
            setattr(sys, name, io.TextIOWrapper(buffered, write_through=True))


def hold_signals() -> None:
    """Let signals wait, until `obey_signals`."""
    signal.pthread_sigmask(signal.SIG_BLOCK, HELD)


def obey_signals(numbers: frozenset[signal.Signals] = HELD) -> None:
    """Let signals come from now on, those first that have waited; what they do is settled."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)


def obey_signals_plainly() -> None:
    """
    As `obey_signals`, for a command that has no handlers of its own.

    Process 1 gets one for SIGTERM, which else only the kernel's default would end it by, and that is not for process 1.
    """
    if os.getpid() == 1 and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    obey_signals()
