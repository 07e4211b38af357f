"""
How many descriptors the process may open, and which are kept for what must always work. *Cold: a few system calls a
connection.*

    0 ... connections, files ... | ceiling ... who is turned away ... | ... probes, admin, metrics, files ... limit

The kernel gives the lowest number that is free, so one number tells whether many are left, and nothing has to be
counted. The data path takes none from the ceiling on: it refuses clients, with an answer where there is room for that,
and dials nobody. So probes are answered and metrics are read while connections are short, a reload has its pipes, and a
rotated log is opened.
"""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

LEAST: Final = 64
"""Of fewer descriptors a sidecar with any connections cannot be had."""

MAX_RESERVE: Final = 600
"""Two listeners that serve 256 connections each, and files, pipes and lookups beside them."""

RESERVED_SHARE: Final = 4
"""Of a limit that is small, the part that is kept: one of so many."""

A_CONNECTION: Final = 2
"""Descriptors: the client's and the one to a server."""

BESIDES: Final = 32
"""Descriptors that a process has before its first connection: some 20, and a few more for a reload."""

_LOCAL: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})

_before: int | None = None
"""The soft limit with which this process was started, if `raise_limit` has changed it."""


def is_local(error: BaseException) -> bool:
    """
    Whether a connection could not be made for want of something of ours, about which the peer knows nothing.

    Descriptors of the process or the system, memory, ports (connect(2): "all port numbers in the ephemeral port range
    are currently in use").
    """
    return isinstance(error, OSError) and error.errno in _LOCAL


def are_gone() -> bool:
    """Whether not one is left; the resolver of the C library does not say why it failed."""
    try:
        os.close(os.dup(0))
    except OSError:
        return True
    return False


def raise_limit() -> None:
    """Let this process open as many as it may; a child that is started within `original_limit`, as many as before."""
    global _before
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(OSError, ValueError):  # a sandbox may not allow it
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            _before = soft


@contextmanager
def original_limit() -> Iterator[None]:
    """Whoever is started meanwhile has the limit that this process was started with."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if _before is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (_before, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Descriptors:
    """
    Args:
        limit: How many may be open; None for what the process may.

    Attributes:
        limit: The same.
        raised_from: What it was when the process started.
        ceiling: The data path takes none from this number on.
        connections: Of clients, for which there are enough, each with one to a server.
    """

    __slots__ = ("_low", "_middle", "ceiling", "connections", "limit", "raised_from")

    def __init__(self, limit: int | None = None) -> None:
        found = resource.getrlimit(resource.RLIMIT_NOFILE)[0] if limit is None else limit
        self.limit = found if found >= 0 else 1 << 30
        self.raised_from = _before if limit is None and _before is not None else self.limit
        reserve = min(MAX_RESERVE, self.limit // RESERVED_SHARE)
        self.ceiling = self.limit - reserve
        self.connections = (self.ceiling - BESIDES) // A_CONNECTION
        self._low = self.ceiling * 3 // 4
        self._middle = self.limit - reserve // 2

    def has_room(self) -> bool:
        """Whether the data path may have one more."""
        try:
            free = os.dup(0)
        except OSError:
            return False
        os.close(free)
        return free < self.ceiling

    def may_answer(self, number: int) -> bool:
        """
        Whether a client that is turned away and has this number may be answered, which keeps it for a second or two.

        Not where servers' connections should be, or those who are in could not be served for all that are not.
        """
        return number < self._low or self.ceiling <= number < self._middle
