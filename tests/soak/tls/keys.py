"""New keys in the middle of a connection (RFC 8446, 4.6.3), by OpenSSL itself: Python's `ssl` has no method for it."""

from __future__ import annotations

import asyncio
import ctypes
import functools
import ssl
import sys
from pathlib import Path

_OF_SSL = 2 * ctypes.sizeof(ctypes.c_void_p) + ctypes.sizeof(ctypes.c_void_p)
"""Where CPython's `_ssl._SSLSocket` has its `SSL *`: behind the head of an object and one pointer."""
_REQUESTED = 1  # SSL_KEY_UPDATE_REQUESTED


@functools.cache
def _library() -> ctypes.CDLL | None:
    """The very OpenSSL that `ssl` uses, or None where it cannot be found."""
    has_lock = getattr(sys, "_is_gil_enabled", lambda: True)()
    if sys.implementation.name != "cpython" or not has_lock or ssl.OPENSSL_VERSION_INFO < (1, 1, 1):
        return None
    paths = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "libssl" in line}
    for path in (*paths, None):
        library = ctypes.CDLL(path)
        if hasattr(library, "SSL_key_update"):
            library.SSL_key_update.argtypes = [ctypes.c_void_p, ctypes.c_int]
            return library
    return None


def can_update() -> bool:
    """Whether it can be done here."""
    return _library() is not None


def update(connection: ssl.SSLObject | ssl.SSLSocket) -> None:
    """Have the next octets that are sent be preceded by new keys, and the peer asked for new ones of its own."""
    library = _library()
    inner = connection._sslobj  # type: ignore[union-attr]
    if library is not None and inner is not None and connection.version() == "TLSv1.3":
        library.SSL_key_update(ctypes.c_void_p.from_address(id(inner) + _OF_SSL), _REQUESTED)


def update_of(writer: asyncio.StreamWriter) -> None:
    """As `update`, of a stream; nothing if it is none by TLS."""
    connection = writer.get_extra_info("ssl_object")
    if connection is not None:
        update(connection)
