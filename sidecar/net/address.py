"""
Addresses as the configuration writes them: `host:port`, `[v6]:port`, `unix:/path`. *Pure, cold.*
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address

MAX_UNIX_PATH_BYTES = 107
"""Bytes of a socket's path: `sun_path` of Linux has 108 with the closing NUL (unix(7))."""

MAX_HOST_BYTES = 253
"""Characters of a name (RFC 1035, 2.3.4: 255 octets on the wire, which are 253 characters and the root's dot)."""

_DIGITS = frozenset("0123456789")
_HOST_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._")
"""Letters, digits and hyphen of RFC 1123, and the underscore that Compose and service registries put into names."""


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """
    A host and a port.

    Attributes:
        host: A name or an IP address, without brackets.
        port: 0 to 65535; 0 asks a listener for any free port and is no destination.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return join_host_port(self.host, self.port)


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """
    A Unix socket.

    Attributes:
        path: Absolute path of the socket.
    """

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


Address = TcpAddress | UnixAddress


def join_host_port(host: str, port: int) -> str:
    """`host:port`, with brackets round an IPv6 address (RFC 3986, 3.2.2): the opposite of `parse_address`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_address(text: str) -> Address:
    """
    Read an address.

    Args:
        text: `host:port`, `[v6]:port` or `unix:/path`, without white space around it.

    Returns:
        The address; `str()` of it parses to an equal one.

    Raises:
        ValueError: It is none of the three; the message says what was expected and what was found.
    """
    if text.startswith("unix:"):
        return _parse_unix(text)
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or not rest.startswith(":"):
            raise ValueError(f"expected [v6]:port, found {text!r}")
        if not _is_ipv6(host):
            raise ValueError(f"expected an IPv6 address between the brackets, found {host!r}")
        return TcpAddress(host, _parse_port(rest[1:], text))
    host, colon, port = text.rpartition(":")
    if not colon:
        raise ValueError(f"expected host:port, [v6]:port or unix:/path, found {text!r}; add a port")
    if ":" in host:
        raise ValueError(f"expected host:port, found {text!r}; write an IPv6 address in brackets, as [::1]:8080")
    if not host:
        raise ValueError(f"expected host:port, found {text!r}; for every interface write 0.0.0.0 or [::]")
    if len(host) > MAX_HOST_BYTES or not _HOST_CHARACTERS.issuperset(host) or host.startswith("."):
        raise ValueError(f"expected a host name or an IP address before the port, found {host!r}")
    return TcpAddress(host, _parse_port(port, text))


def is_ip_address(host: str) -> bool:
    """Whether a host, without brackets, is an address and no name that must be resolved."""
    if ":" in host:
        return _is_ipv6(host)
    if not host[-1:].isdigit():
        return False
    try:
        IPv4Address(host)
    except AddressValueError:
        return False  # "127.1" is an address to `getaddrinfo` only.
    return True


def _parse_port(port: str, text: str) -> int:
    # Not int() alone: it takes signs, spaces, underscores and the digits of other scripts.
    if not port or len(port) > 5 or not _DIGITS.issuperset(port) or int(port) > 65535:
        raise ValueError(f"expected a port from 0 to 65535, found {port!r} in {text!r}")
    return int(port)


def _parse_unix(text: str) -> UnixAddress:
    path = text.removeprefix("unix:")
    if not path.startswith("/") or path.endswith("/"):
        raise ValueError(f"expected unix:/path with an absolute path of a socket, found {text!r}")
    if "\0" in path:
        raise ValueError(f"expected a path without NUL, found {text!r}")
    size = len(path.encode("utf-8", "surrogateescape"))
    if size > MAX_UNIX_PATH_BYTES:
        raise ValueError(f"expected a path of at most {MAX_UNIX_PATH_BYTES} bytes, found {size} bytes in {text!r}")
    return UnixAddress(path)


def _is_ipv6(host: str) -> bool:
    try:
        IPv6Address(host)
    except AddressValueError:
        return False
    return True
