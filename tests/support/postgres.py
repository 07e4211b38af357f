"""
A double of PostgreSQL that speaks as much of its protocol 3.0 as psql asks at its start and for a simple query.

(PostgreSQL, "Frontend/Backend Protocol", 55.2.1 and 55.2.10.) The client speaks first: it asks for TLS, by eight octets
that are no TLS, and waits for one octet of an answer.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct

_SSL_REQUEST = 80877103
_GSS_REQUEST = 80877104


class Postgres:
    """
    Serves connections: `serve` for each.

    Args:
        context: With which TLS is granted; None: it is refused.

    Attributes:
        queries: What was asked, in order.
    """

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.queries: list[str] = []
        self._context = context

    def serve(self, accepted: socket.socket) -> None:
        """One connection, to its end."""
        while True:
            (length,) = struct.unpack("!I", _exactly(accepted, 4))
            start = _exactly(accepted, length - 4)
            (code,) = struct.unpack("!I", start[:4])
            if code == _SSL_REQUEST and self._context is not None:
                accepted.sendall(b"S")
                accepted = self._context.wrap_socket(accepted, server_side=True)
            elif code in (_SSL_REQUEST, _GSS_REQUEST):
                accepted.sendall(b"N")
            else:
                break
        with accepted:
            self._session(accepted)

    def _session(self, accepted: socket.socket) -> None:
        settings = {"server_version": "15.0", "client_encoding": "UTF8", "standard_conforming_strings": "on"}
        said = _message(b"R", struct.pack("!I", 0))
        for name, value in settings.items():
            said += _message(b"S", f"{name}\0{value}\0".encode())
        accepted.sendall(said + _message(b"K", bytes(8)) + _message(b"Z", b"I"))
        while True:
            kind, length = struct.unpack("!cI", _exactly(accepted, 5))
            query = _exactly(accepted, length - 4).rstrip(b"\0")
            if kind != b"Q":
                break  # it takes leave
            self.queries.append(query.decode())
            column = b"answer\0" + struct.pack("!IhIhih", 0, 0, 25, -1, -1, 0)
            rows = _message(b"T", struct.pack("!h", 1) + column)
            rows += _message(b"D", struct.pack("!hi", 1, len(query)) + query)
            accepted.sendall(rows + _message(b"C", b"SELECT 1\0") + _message(b"Z", b"I"))
        if isinstance(accepted, ssl.SSLSocket):
            with contextlib.suppress(OSError):
                accepted.unwrap()  # what is not read would make the end a reset


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


def _exactly(accepted: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = accepted.recv(size - len(data))
        if not more:
            raise ConnectionResetError("the client has left")
        data += more
    return data
