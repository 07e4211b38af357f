"""
Where a connection was meant to go that the kernel has led to us instead (docs/capture.md). *Once a connection.*
"""

from __future__ import annotations

import socket
import struct
from typing import Any, Final, Protocol

_SO_ORIGINAL_DST: Final = 80
"""The same number for both kinds (linux/netfilter_ipv4.h, linux/netfilter_ipv6/ip6_tables.h)."""
_V4: Final = struct.Struct("!2xH4s8x")  # struct sockaddr_in
_V6: Final = struct.Struct("!2xH4x16s4x")  # struct sockaddr_in6


class Connected(Protocol):
    """A socket, or what an event loop shows of one."""

    @property
    def family(self) -> int: ...

    def getsockopt(self, level: int, name: int, size: int, /) -> bytes: ...

    def getsockname(self) -> Any: ...


def original_destination(connected: Connected) -> tuple[str, int] | None:
    """
    The address and port that the client has dialled; None if that is this very socket's.

    The kernel says it of connections that it translates. Of all others it says that there is no entry, or gives our
    own address back, when somebody else's rules make it keep track of connections.
    """
    is_v6 = connected.family == socket.AF_INET6
    level, layout = (socket.IPPROTO_IPV6, _V6) if is_v6 else (socket.IPPROTO_IP, _V4)
    try:
        raw = connected.getsockopt(level, _SO_ORIGINAL_DST, layout.size)
        port, packed = layout.unpack(raw)
    except (OSError, struct.error):  # not TCP, no such entry, or a kernel without connection tracking
        return None
    found = socket.inet_ntop(connected.family, packed), port
    return None if found == connected.getsockname()[:2] else found
