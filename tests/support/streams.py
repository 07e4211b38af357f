"""Servers of no protocol in particular, in threads: for connections that are carried as they are."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

PATIENCE_S = 20.0

Serve = Callable[[socket.socket], None]


@contextlib.contextmanager
def serving(listener: socket.socket, serve: Serve) -> Iterator[int]:
    """Gives each connection to `serve`, in a thread of its own, and closes it behind that; yields the port."""

    def one(accepted: socket.socket) -> None:
        with accepted, contextlib.suppress(OSError):
            accepted.settimeout(PATIENCE_S)
            serve(accepted)

    def every() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=one, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=every, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def on_loopback(serve: Serve) -> contextlib.AbstractContextManager[int]:
    """At a free port of this machine."""
    return serving(socket.create_server(("127.0.0.1", 0)), serve)


def echo(accepted: socket.socket) -> None:
    """Gives back what it gets, to the end."""
    while data := accepted.recv(65536):
        accepted.sendall(data)


def greets(accepted: socket.socket) -> None:
    """Speaks first, then as `echo`."""
    accepted.sendall(b"220 ready\r\n")
    echo(accepted)


def says(name: bytes) -> Serve:
    """Says who it is, and ends."""

    def serve(accepted: socket.socket) -> None:
        accepted.sendall(name)

    return serve


def dial(port: int) -> socket.socket:
    """A client of this machine."""
    made = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
    made.settimeout(PATIENCE_S)
    return made


def read_all(connected: socket.socket) -> bytes:
    """To its end."""
    return b"".join(iter(lambda: connected.recv(65536), b""))
