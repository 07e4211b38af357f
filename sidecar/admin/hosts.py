"""
By which names a listener on loopback may be called, against pages that rebind a name of theirs to it. *Cold, pure.*

A page of `evil.example` whose name resolves to 127.0.0.1 the second time is, to the browser, of one origin with what
listens there, and reads it. What such a request cannot choose is `Host`: it says `evil.example`. So whoever asks on
loopback calls it by an address or by a loopback name, or by one that the file allows.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence


class AllowedHosts:
    """
    What one listener lets `Host` be.

    Args:
        address: As in the file: `host:port`, `[v6]:port`.
        more: Hosts that the file allows besides: exact, `*.example.com`, or `*`; in lower case.
    """

    __slots__ = ("_is_loopback", "_more")

    def __init__(self, address: str, more: Sequence[str] = ()) -> None:
        host = address.rpartition(":")[0].lower()
        self._is_loopback = _is_loopback(host)
        # Who listens by a name is called by it.
        self._more = (*more, host.removesuffix("."))

    def refuses(self, authority: str, local: str) -> bool:
        """
        Whether a request must not be answered.

        Args:
            authority: Value of `Host`, or the authority of an absolute target; empty for none, as HTTP/1.0 may.
            local: IP address at which the connection arrived: what a listener's own name stands for.
        """
        is_loopback = _is_loopback(local) if self._is_loopback is None else self._is_loopback
        if not is_loopback or not authority:
            return False
        host = _host_of(authority)
        if _ip(host) is not None or host == "localhost" or host.endswith(".localhost"):
            return False
        return not any(_matches(pattern, host) for pattern in self._more)


def _is_loopback(host: str) -> bool | None:
    """Of an address; None for a name, which may be either."""
    found = _ip(host)
    return found.is_loopback if found is not None else True if host == "localhost" else None


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None


def _host_of(authority: str) -> str:
    """Lower case, without port and without a dot at the end, as hosts are compared everywhere."""
    authority = authority.strip().lower()
    if authority.startswith("["):
        return authority.partition("]")[0] + "]"
    return authority.partition(":")[0].removesuffix(".")


def _matches(pattern: str, host: str) -> bool:
    if pattern.startswith("*."):
        return host.endswith(pattern[1:]) and len(host) > len(pattern) - 1
    return pattern in ("*", host)
