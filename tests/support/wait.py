"""Waiting for conditions, never for time."""

from __future__ import annotations

import functools
import itertools
import socket
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

T = TypeVar("T")

FIRST_PAUSE_S = 0.01
MOST_PAUSE_S = 0.03
"""Between two questions: whoever is asked often wants the CPU for what is waited for."""

_BLOCKS = tuple(range(start, start + 1000) for start in range(20000, 32000, 1000))
"""Of ports, below those that the kernel takes for outgoing connections (ip_local_port_range, from 32768)."""

_held: list[socket.socket] = []


def eventually(condition: Callable[[], T], what: str, timeout_s: float = 30.0) -> T:
    """
    Ask `condition` until it is true, and return what it returned. The time parts what comes late on a busy machine from
    what never comes; what a test promises of time, it measures.

    Raises:
        AssertionError: It did not become true in time; the message says `what` was waited for.
    """
    deadline = time.monotonic() + timeout_s
    pause_s = FIRST_PAUSE_S
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_s} s in vain for {what}; last value {value!r}")
        time.sleep(pause_s)
        pause_s = min(MOST_PAUSE_S, 1.2 * pause_s)


def free_port() -> int:
    """
    A TCP port that nobody listens on, and that nobody else is given: neither this test run again before it has given
    as many others as a block has, nor another run beside it on this machine.
    """
    while True:
        port = next(_ports())
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("0.0.0.0", port))
            except OSError:
                continue
        return port


@functools.cache
def _ports() -> Iterator[int]:
    """The ports of a block, round and round."""
    for first, *rest in _BLOCKS:
        claim = socket.socket()
        try:
            # Whoever has a block holds its first port; the kernel lets go of it when the process ends, however it ends.
            claim.bind(("0.0.0.0", first))
        except OSError:
            claim.close()
            continue
        _held.append(claim)
        return itertools.cycle(rest)
    raise AssertionError(f"{len(_BLOCKS)} test runs are on this machine already")


def refusing_port() -> int:
    """A TCP port that refuses connections until the test run ends: it is bound, so that nobody can begin to listen."""
    holder = socket.socket()
    holder.bind(("127.0.0.1", 0))
    _held.append(holder)
    port: int = holder.getsockname()[1]
    return port
