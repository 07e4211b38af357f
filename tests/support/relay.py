"""
A relay of TCP between a client and a server, which does to connections what networks and proxies do.

    with Relay(server_port) as relay:
        relay.mode = "stall"       nothing is passed on any more, nothing is closed: a machine that is gone
        relay.mode = "buffer"      answers of unknown length are kept back until they are complete
        relay.mode = "refuse"      connections that come end at once; those that are there go on
        relay.cut()                all connections end at once
"""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Literal

Mode = Literal["pass", "stall", "buffer", "refuse"]


class Relay:
    """
    Args:
        port: Of the server, on loopback.

    Attributes:
        mode: What becomes of octets from now on.
        accepted: Connections so far.
    """

    def __init__(self, port: int) -> None:
        self.mode: Mode = "pass"
        self.accepted = 0
        self._to = port
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]

    @property
    def url(self) -> str:
        """For `control.addresses`."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Relay:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        finally:
            self._listener.close()
        self.cut()

    def cut(self) -> None:
        """End every connection, both sides of it."""
        with self._lock:
            sockets = tuple(self._sockets)
        for one in sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            if self.mode == "refuse":
                client.close()
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self._to))
            except OSError:
                client.close()
                continue
            with self._lock:
                self._sockets |= {client, server}
            for source, target, is_answer in ((client, server, False), (server, client, True)):
                threading.Thread(target=self._pass, args=(source, target, is_answer), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, is_answer: bool) -> None:
        held = b""
        is_dropping = False
        try:
            while data := source.recv(1 << 16):
                is_dropping = is_dropping or self.mode == "stall"
                if is_dropping:
                    continue
                held += data
                if self.mode == "buffer" and is_answer and _is_incomplete(held):
                    # The head goes on at once, as with a proxy whose buffer is for the body.
                    head, end, rest = held.partition(b"\r\n\r\n")
                    if head.startswith(b"HTTP/1.1"):
                        target.sendall(head + end)
                        held = b"held\0" + rest
                    continue
                target.sendall(held.removeprefix(b"held\0"))
                held = b""
        except OSError:
            pass
        finally:
            if not is_dropping:
                for one in (source, target):
                    with contextlib.suppress(OSError):
                        one.shutdown(socket.SHUT_RDWR)
            with self._lock:
                self._sockets.discard(source)
            source.close()


def _is_incomplete(octets: bytes) -> bool:
    if octets.startswith(b"held\0"):
        return not octets.endswith(b"0\r\n\r\n")
    return b"transfer-encoding: chunked" in octets.partition(b"\r\n\r\n")[0].lower()
