"""
Both ends of the sidecar as plain sockets, so that a test says what goes over the wire and when.

    with Upstream() as upstream, Client(sidecar.outbound_port) as client:
        client.get("/a", host=upstream.authority)
        server = upstream.accept()
        assert server.request().target == "/a"
        server.send(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nhi")
        assert client.response().body == b"hi"

Nothing here repairs or hides anything: a message that ends before its end raises `CutError`, and the few
lines that read messages are independent of the sidecar's own.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass, field
from pathlib import Path

TIMEOUT_S = 15.0
_RECEIVE_BYTES = 256 * 1024


class CutError(Exception):
    """The peer closed or reset the connection in the middle of a message; `received` is what there was of it."""

    def __init__(self, received: bytes) -> None:
        super().__init__(f"cut after {received[-200:]!r}")
        self.received = received


@dataclass
class Message:
    """A request or a response as it came; `fields` in order, names in lower case."""

    start: str
    fields: list[tuple[str, str]]
    body: bytes = b""
    trailers: list[tuple[str, str]] = field(default_factory=list)
    chunks: list[bytes] | None = None

    def get(self, name: str) -> str | None:
        """The field's value, None if it is absent; there may be one only."""
        values = [value for have, value in self.fields if have == name]
        assert len(values) <= 1, self.fields
        return values[0] if values else None

    @property
    def method(self) -> str:
        """Of a request."""
        return self.start.split(" ")[0]

    @property
    def target(self) -> str:
        """Of a request."""
        return self.start.split(" ")[1]

    @property
    def status(self) -> int:
        """Of a response."""
        return int(self.start.split(" ")[1])


class Stream:
    """A connected socket that can be read by line, by count and to its end."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.settimeout(TIMEOUT_S)
        self.unread = b""

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, *data: bytes) -> None:
        """Send it all."""
        self.sock.sendall(b"".join(data))

    def finish_sending(self) -> None:
        """Half-close: send no more, and go on reading."""
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close."""
        self.sock.close()

    def reset(self) -> None:
        """Close with RST, as a process that is killed with unread data."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def receive(self) -> bytes:
        """Whatever comes next, waiting for it; empty at the end of the stream or after a reset."""
        if self.unread:
            data, self.unread = self.unread, b""
            return data
        try:
            return self.sock.recv(_RECEIVE_BYTES)
        except ConnectionResetError:
            return b""

    def read_until(self, mark: bytes) -> bytes:
        """Up to and with `mark`."""
        data = b""
        while mark not in data:
            more = self.receive()
            if not more:
                raise CutError(data)
            data += more
        end = data.index(mark) + len(mark)
        self.unread = data[end:] + self.unread
        return data[:end]

    def read_exactly(self, count: int) -> bytes:
        """So many bytes."""
        pieces: list[bytes] = []
        left = count
        while left:
            data = self.receive()
            if not data:
                raise CutError(b"".join(pieces))
            if len(data) > left:
                data, self.unread = data[:left], data[left:]
            pieces.append(data)
            left -= len(data)
        return b"".join(pieces)

    def read_to_end(self) -> bytes:
        """Everything until the peer closes."""
        return b"".join(iter(self.receive, b""))

    def is_ended(self) -> bool:
        """Wait for the next event and say whether it is the end of the stream."""
        data = self.receive()
        self.unread = data
        return not data

    def head(self) -> Message:
        """The next head."""
        lines = self.read_until(b"\r\n\r\n")[:-4].decode("latin-1").split("\r\n")
        return Message(lines[0], [_pair(line) for line in lines[1:]])

    def chunked_body(self, message: Message) -> None:
        """Read a chunked body into the message."""
        message.chunks = []
        while True:
            size = int(self.read_until(b"\r\n")[:-2].split(b";")[0], 16)
            if not size:
                break
            chunk = self.read_exactly(size)
            assert self.read_exactly(2) == b"\r\n"
            message.chunks.append(chunk)
        while line := self.read_until(b"\r\n")[:-2]:
            message.trailers.append(_pair(line.decode("latin-1")))
        message.body = b"".join(message.chunks)


def _pair(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.lower(), value.strip(" \t")


class Client(Stream):
    """
    A client's connection.

    Args:
        where: Port on 127.0.0.1, or `(host, port)`, or path of a Unix socket.
        receive_buffer: Size of the kernel's receive buffer, for clients that shall be slow.
    """

    def __init__(self, where: int | tuple[str, int] | Path, receive_buffer: int | None = None) -> None:
        if isinstance(where, Path):
            sock = socket.socket(socket.AF_UNIX)
            address: str | tuple[str, int] = str(where)
        else:
            address = ("127.0.0.1", where) if isinstance(where, int) else where
            assert isinstance(address, tuple)
            sock = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(TIMEOUT_S)
        sock.connect(address)
        super().__init__(sock)

    def __enter__(self) -> Client:
        return self

    def get(self, path: str, *, host: str, method: str = "GET", fields: str = "", body: bytes = b"") -> None:
        """
        Send a request.

        Args:
            fields: Further lines, each with its CRLF.
            body: With this a `Content-Length` is sent, too.
        """
        if body:
            fields += f"Content-Length: {len(body)}\r\n"
        self.send(f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n".encode("latin-1"), body)

    def response(self, method: str = "GET") -> Message:
        """
        The next response, whole; 1xx are responses, too.

        Args:
            method: Of the request that it answers.

        Raises:
            CutError: It has no end.
        """
        message = self.head()
        length = message.get("content-length")
        if method == "HEAD" or message.status < 200 or message.status in (204, 304):
            return message
        if message.get("transfer-encoding") is not None:
            assert message.get("transfer-encoding") == "chunked"
            assert length is None
            self.chunked_body(message)
        elif length is not None:
            message.body = self.read_exactly(int(length))
        else:
            message.body = self.read_to_end()
        return message


class ServerConnection(Stream):
    """One connection that the sidecar opened."""

    def __enter__(self) -> ServerConnection:
        return self

    def request(self) -> Message:
        """The next request, whole."""
        message = self.head()
        length = message.get("content-length")
        if message.get("transfer-encoding") is not None:
            assert length is None
            self.chunked_body(message)
        elif length is not None:
            message.body = self.read_exactly(int(length))
        return message

    def answer(self, body: bytes = b"ok", *, status: str = "200 OK", fields: str = "") -> None:
        """Send a response of known length."""
        head = f"HTTP/1.1 {status}\r\n{fields}Content-Length: {len(body)}\r\n\r\n"
        self.send(head.encode("latin-1"), body)

    def serve(self, body: bytes = b"ok", *, status: str = "200 OK", fields: str = "") -> Message:
        """Read a request, answer it, and return it."""
        message = self.request()
        self.answer(body, status=status, fields=fields)
        return message

    def is_open(self) -> bool:
        """Whether the sidecar has neither closed it nor sent anything, as far as the kernel knows now."""
        self.sock.setblocking(False)
        try:
            self.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            pass
        finally:
            self.sock.settimeout(TIMEOUT_S)
        return False


class Upstream:
    """
    A listening socket whose connections the test plays by hand; they are closed with it.

    Attributes:
        accepted: Every connection so far.
    """

    def __init__(self, address: tuple[str, int] | Path = ("127.0.0.1", 0), receive_buffer: int | None = None) -> None:
        if isinstance(address, Path):
            self._sock = socket.socket(socket.AF_UNIX)
            self._sock.bind(str(address))
        else:
            self._sock = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._sock.bind(address)
        if receive_buffer is not None:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._sock.listen(1024)
        self._sock.settimeout(TIMEOUT_S)
        self.port = 0 if isinstance(address, Path) else int(self._sock.getsockname()[1])
        self.authority = f"127.0.0.1:{self.port}"
        self.accepted: list[ServerConnection] = []

    def __enter__(self) -> Upstream:
        return self

    def __exit__(self, *_: object) -> None:
        for connection in self.accepted:
            connection.close()
        self._sock.close()

    def accept(self) -> ServerConnection:
        """The next connection, waiting for it."""
        connection = ServerConnection(self._sock.accept()[0])
        self.accepted.append(connection)
        return connection

    def has_waiting(self) -> bool:
        """Whether a connection that was not accepted is there now."""
        self._sock.setblocking(False)
        try:
            self.accepted.append(ServerConnection(self._sock.accept()[0]))
        except BlockingIOError:
            return False
        finally:
            self._sock.settimeout(TIMEOUT_S)
        return True

    def stop_listening(self) -> None:
        """Refuse further connections."""
        self._sock.close()
