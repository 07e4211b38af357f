"""Waiting for conditions, never for time."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_PORTS = range(20000, 32000)
"""Below the range from which the kernel takes ports of outgoing connections (ip_local_port_range, from 32768)."""

_given: set[int] = set()
_held: list[socket.socket] = []


def eventually(condition: Callable[[], T], what: str, timeout_s: float = 10.0) -> T:
    """
    Ask `condition` until it is true, and return what it returned.

    Raises:
        AssertionError: It did not become true in time; the message says `what` was waited for.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_s} s in vain for {what}; last value {value!r}")
        time.sleep(0.01)


def free_port() -> int:
    """A TCP port that nobody listens on, not given before in this test run."""
    while True:
        port = random.choice(_PORTS)
        if port in _given:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("0.0.0.0", port))
            except OSError:
                continue
        _given.add(port)
        return port


def refusing_port() -> int:
    """A TCP port that refuses connections until the test run ends: it is bound, so that nobody can begin to listen."""
    holder = socket.socket()
    holder.bind(("127.0.0.1", 0))
    _held.append(holder)
    port: int = holder.getsockname()[1]
    return port
