"""An independent reader of requests, and an app of it behind a real sidecar that keeps the octets of each."""

from __future__ import annotations

import contextlib
import socket
import threading

import h11

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
Seen = tuple[bytes, bytes, bytes]  # method, target, body


def requests_seen(data: bytes) -> tuple[list[Seen], list[list[tuple[bytes, bytes]]], bytes]:
    """Requests that an independent server reads, their fields, and what is left that is no whole request."""
    seen: list[Seen] = []
    fields: list[list[tuple[bytes, bytes]]] = []
    rest = data
    while rest:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        connection.receive_data(rest)
        head, body = connection.next_event(), b""
        if not isinstance(head, h11.Request):
            return seen, fields, rest
        while isinstance(event := connection.next_event(), h11.Data):
            body += bytes(event.data)
        if not isinstance(event, h11.EndOfMessage):
            return seen, fields, rest
        seen.append((head.method, head.target, body))
        fields.append([*head.headers, *event.headers])
        rest = connection.trailing_data[0]
    return seen, fields, b""


class App:
    """
    Answers each whole request, and nothing else.

    Attributes:
        port: Where it listens on 127.0.0.1.
        requests: Octets of every whole request so far.
        cut: Octets of those that ended before they were whole.
    """

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.cut: list[bytes] = []
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port = int(self._listening.getsockname()[1])
        self._connections: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def __enter__(self) -> App:
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)

    def take(self) -> list[bytes]:
        """Whole requests since it was last asked."""
        taken = self.requests[:]
        del self.requests[: len(taken)]
        return taken

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self._connections.append(connection)
            self._threads.append(threading.Thread(target=self._serve, args=(connection,), daemon=True))
            self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        data = b""
        with connection, contextlib.suppress(OSError):
            while more := connection.recv(256 * 1024):
                data += more
                seen, _, rest = requests_seen(data)
                if seen:
                    assert len(seen) == 1, "a sidecar sends nothing ahead of an answer"
                    self.requests.append(data[: len(data) - len(rest)])
                    data = rest
                    connection.sendall(OK)
        if data:
            self.cut.append(data)
