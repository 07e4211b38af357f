"""
Listening sockets: what `host:port`, `[v6]:port` and `unix:/path` mean to the operating system. *Cold.*

Sockets are made here and only handed to the event loop afterwards, so that every option is explicit and a port
that is taken is known before anything changes hands.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import socket
import stat
import struct

from sidecar.net.address import TcpAddress, UnixAddress, join_host_port, parse_address

BACKLOG = 4096
"""Handshakes that may wait for `accept`; the kernel caps it at net.core.somaxconn, whose default is 4096."""

UNIX_MODE = 0o666
"""
Who may connect to a Unix socket: everyone who can reach its directory.

An app beside the sidecar usually runs under another user id and shares no group with it; what the two share is
a volume that nobody else mounts, so the directory is the fence.
"""


_SO_ATTACH_FILTER = 26  # asm-generic/socket.h; Python's socket module does not have it.
_INSTRUCTION_BYTES = 8
# Classic BPF on the TCP header: drop what has SYN set, which to a socket that listens is the first of a connection.
_NO_SYN = b"".join(
    struct.pack("HBBI", *instruction)
    for instruction in (
        (0x30, 0, 0, 13),  # A = the octet of the flags
        (0x45, 0, 1, 0x02),  # if A & SYN
        (0x06, 0, 0, 0),  # drop
        (0x06, 0, 0, 0xFFFFFFFF),  # else take all of it
    )
)


class BindError(Exception):
    """
    An address could not be listened on.

    Attributes:
        address: As in the file.
        why: Lower-case sentence without a full stop.
        errno: Of the operating system, or 0.
    """

    def __init__(self, address: str, why: str, number: int = 0) -> None:
        super().__init__(f"cannot listen on {address}: {why}")
        self.address = address
        self.why = why
        self.errno = number


def bind(address: str, *, reuse_port: bool = False) -> socket.socket:
    """
    A socket that is bound to `address` and listens. May block on a name that is not a literal address.

    `[::]` means IPv6 only: list `0.0.0.0` beside it for both, so that what is open is what is written.

    Args:
        address: `host:port`, `[v6]:port` or `unix:/path`; port 0 lets the kernel choose.
        reuse_port: Share the port with a socket of this process that is about to close.

    Raises:
        BindError: With a reason fit for one line.
    """
    try:
        where = parse_address(address)
        return _bind_unix(where) if isinstance(where, UnixAddress) else _bind_tcp(where, reuse_port)
    except socket.gaierror as error:
        raise BindError(address, f"the name does not resolve ({error.strerror or error})") from None
    except ValueError as error:
        raise BindError(address, str(error)) from None
    except OSError as error:
        number = error.errno or 0
        raise BindError(address, _why(number, error.strerror or str(error)), number) from None


def has_family(address: str) -> bool:
    """Whether this kernel has addresses of the kind of one that is listened on; true for names and Unix sockets."""
    where = parse_address(address)
    if not isinstance(where, TcpAddress) or ":" not in where.host:
        return True
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind((where.host, 0))
    except OSError as error:
        return error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
    return True


def _bind_tcp(where: TcpAddress, reuse_port: bool) -> socket.socket:
    infos = socket.getaddrinfo(where.host, where.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    # IPv4 first for names such as `localhost`: what an app that knows only 127.0.0.1 expects.
    family, kind, proto, _, sockaddr = min(infos, key=lambda info: info[0] != socket.AF_INET)
    sock = socket.socket(family, kind | socket.SOCK_NONBLOCK, proto)
    try:
        # A restart must not wait for TIME_WAIT of the connections before it. On Linux this does not let two
        # processes listen on one port, so a port in use is still found.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(sockaddr)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _bind_unix(where: UnixAddress) -> socket.socket:
    path = where.path
    _unlink_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.bind(path)
        os.chmod(path, UNIX_MODE)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _unlink_stale(path: str) -> None:
    """Remove the socket file that a process before us left; never one that is served, nor another kind of file."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.EEXIST, "the path exists and is not a socket")
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        probe.settimeout(1.0)
        probe.connect(path)
    except ConnectionRefusedError:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    except (TimeoutError, BlockingIOError):
        raise OSError(errno.EADDRINUSE, "") from None
    else:
        raise OSError(errno.EADDRINUSE, "")
    finally:
        probe.close()


def identity(sock: socket.socket) -> tuple[int, int] | None:
    """Device and inode of a Unix socket's file as of now, for `unlink`; None for TCP or when it is gone."""
    if sock.family != socket.AF_UNIX:
        return None
    try:
        status = os.stat(sock.getsockname())
    except OSError:
        return None
    return status.st_dev, status.st_ino


def unlink(sock: socket.socket, expected: tuple[int, int] | None) -> None:
    """Remove a Unix socket's file, unless another process has put its own there since; nothing for TCP."""
    if expected is not None and identity(sock) == expected:
        with contextlib.suppress(OSError):
            os.unlink(sock.getsockname())


def admit_no_more(sock: socket.socket) -> None:
    """
    Let nobody connect any more, but who has connected be accepted: for the moment before the socket closes.

    Whoever tries in that moment of TCP is not answered and asks again a second later, when the port is closed or
    another process's; without this, who connects after the last `accept` and before the end is reset.
    """
    with contextlib.suppress(OSError):  # then it is as it was
        if sock.family == socket.AF_UNIX:
            sock.shutdown(socket.SHUT_RDWR)
        else:
            octets = ctypes.create_string_buffer(_NO_SYN)
            count = len(_NO_SYN) // _INSTRUCTION_BYTES
            sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", count, ctypes.addressof(octets)))


def bound_address(sock: socket.socket) -> str:
    """Where a socket really listens, in the form of the file: tells what port 0 became."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return f"unix:{name}"
    return join_host_port(name[0], name[1])


_WHY = {
    errno.EADDRINUSE: "the address is already in use; is another sidecar running, or does the app own this port?",
    errno.EADDRNOTAVAIL: "this machine has no such address",
    errno.EACCES: "permission denied; ports below 1024 need CAP_NET_BIND_SERVICE, a socket file a writable directory",
    errno.ENOENT: "the directory of the socket file does not exist",
    errno.EAFNOSUPPORT: "this machine does not support the address family",
}


def _why(number: int, text: str) -> str:
    known = _WHY.get(number)
    if known is not None:
        return known
    return text[:1].lower() + text[1:] if text else f"error {number}"
