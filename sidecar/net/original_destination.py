"""
Where a connection was meant to go that the kernel has led to us instead (docs/capture.md). *Once a connection.*
"""

from __future__ import annotations

import socket
import struct
from typing import Any, Final, Protocol

PROOF_PORT: Final = 15002
"""
One of the kernel's rules takes this port of `PROOF_HOSTS` from every user, the sidecar's own included: who dials it and
hears `PROOF_LINE` is captured. Nothing may ever be passed on to it, for it would come back.
"""
PROOF_HOSTS: Final = ("192.0.2.1", "2001:db8::1")
"""Of networks for documentation (RFC 5737 and 3849), where nobody is."""
PROOF_LINE: Final = b"captured by sidecar\r\n"

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


def is_proof(host: str, port: int) -> bool:
    """Whether somebody asks there whether he is captured; the address as text, without brackets."""
    return port == PROOF_PORT and host in PROOF_HOSTS
