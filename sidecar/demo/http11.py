"""
A small HTTP/1.1 server and client for the demonstration's apps, framed by llhttp. *Not for the data path.*

Deliberately not the proxy's own code, so that what the demonstration claims was seen by another implementation.
Bodies are held whole. Names of headers are lower case.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import cast

import httptools

MAX_BODY_BYTES = 8 * 1024 * 1024
"""A batch of spans has at most about 1 MiB; nothing else here has a body worth mentioning."""
MAX_QUEUED = 64
"""Pipelined requests that wait on one connection."""


class HTTPError(Exception):
    """The other side did not answer as HTTP asks, or not at all."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request; `target` as sent, names of `headers` lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Response:
    """One response; names of `headers` lower case, of a field that comes several times the last one."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


Handler = Callable[[Request], Awaitable[Response]]


class Server(asyncio.Protocol):
    """One connection of a server; requests are answered in order, one at a time."""

    def __init__(self, handler: Handler, connections: set[Server]) -> None:
        self._handler = handler
        self._connections = connections
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[tuple[Request, bool]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport | None = None
        self._begin()

    def _begin(self) -> None:
        self._target = b""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._body_bytes = 0

    # --- asyncio.Protocol ----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Accepted."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are, but do not inherit from it
        self._connections.add(self)

    def data_received(self, data: bytes) -> None:
        """Feed the parser; complete requests queue up."""
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.close()

    def connection_lost(self, error: Exception | None) -> None:
        """The client has left; what it asked for is not finished."""
        self._transport = None
        self._connections.discard(self)
        if self._task is not None:
            self._task.cancel()

    def close(self) -> None:
        """End the connection."""
        if self._transport is not None:
            self._transport.close()

    # --- httptools -----------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A new request."""
        self._begin()

    def on_url(self, url: bytes) -> None:
        """A part of the target."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One field; several of a name are joined, cookies as RFC 6265 writes them."""
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        if key in self._headers:
            text = self._headers[key] + ("; " if key == "cookie" else ", ") + text
        self._headers[key] = text

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._body_bytes += len(body)
        if self._body_bytes > MAX_BODY_BYTES:
            self.close()
            return
        self._body.append(body)

    def on_message_complete(self) -> None:
        """Answer the request, after those before it."""
        method = self._parser.get_method().decode("latin-1")
        request = Request(method, self._target.decode("latin-1"), self._headers, b"".join(self._body))
        if len(self._waiting) >= MAX_QUEUED:
            self.close()
            return
        self._waiting.append((request, self._parser.should_keep_alive()))
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._answer_all())

    async def _answer_all(self) -> None:
        try:
            while self._waiting:
                request, keep_alive = self._waiting.popleft()
                response = await self._handler(request)
                if self._transport is None:
                    return
                self._transport.write(_encode(request.method, response, keep_alive))
                if not keep_alive:
                    self._transport.close()
                    return
        except Exception:
            self.close()
            raise
        finally:
            self._task = None


def _encode(method: str, response: Response, keep_alive: bool) -> bytes:
    headers = dict(response.headers)
    headers["content-length"] = str(len(response.body))
    if not keep_alive:
        headers["connection"] = "close"
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    phrase = HTTPStatus(response.status).phrase
    head = f"HTTP/1.1 {response.status} {phrase}\r\n{lines}\r\n".encode("latin-1")
    return head if method == "HEAD" else head + response.body


class Listening:
    """A server that listens on 127.0.0.1; `port` was chosen by the kernel."""

    def __init__(self, server: asyncio.Server, connections: set[Server]) -> None:
        self.port: int = server.sockets[0].getsockname()[1]
        self._server = server
        self._connections = connections

    def close(self) -> None:
        """Stop listening and end all connections."""
        self._server.close()
        for connection in tuple(self._connections):
            connection.close()


async def listen(handler: Handler) -> Listening:
    """Serve on a free port of 127.0.0.1."""
    connections: set[Server] = set()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Server(handler, connections), "127.0.0.1", 0)
    return Listening(server, connections)


class _Connection(asyncio.Protocol):
    """One connection of a client: one request at a time."""

    def __init__(self) -> None:
        self.is_open = False
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._answer: asyncio.Future[Response] | None = None
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []

    def ask(self, octets: bytes) -> asyncio.Future[Response]:
        """Send one request; the future is its response."""
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(octets)
        return self._answer

    def close(self) -> None:
        self.is_open = False
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are, but do not inherit from it
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(f"a response that is not HTTP: {error}")
            self.close()

    def connection_lost(self, error: Exception | None) -> None:
        self.is_open = False
        self._fail(f"the connection was lost: {error or 'closed by the other side'}")

    def on_message_begin(self) -> None:
        self._headers, self._body = {}, []

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:
            return  # an interim response; the real one follows
        if not self._parser.should_keep_alive():
            self.is_open = False
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_result(Response(status, b"".join(self._body), self._headers))

    def _fail(self, what: str) -> None:
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_exception(HTTPError(what))


class Client:
    """
    Requests to one address on 127.0.0.1, over connections that are kept.

    Nothing is ever sent twice: what the sidecar loses, a caller sees.

    Args:
        port: Where to.
        timeout_s: Of a whole request, the connection included.
    """

    def __init__(self, port: int, timeout_s: float = 10.0) -> None:
        self.port = port
        self._timeout_s = timeout_s
        self._idle: list[_Connection] = []

    async def get(self, target: str, headers: Mapping[str, str] | None = None) -> Response:
        """
        GET a target, in origin or, to use the address as a forward proxy, in absolute form.

        Raises:
            HTTPError: No connection, no answer in time, or an answer that is not HTTP.
        """
        return await self._send("GET", target, headers or {}, b"")

    async def post(self, target: str, body: bytes) -> Response:
        """POST JSON to a target; raises as `get`."""
        headers = {"content-type": "application/json", "content-length": str(len(body))}
        return await self._send("POST", target, headers, body)

    async def _send(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Response:
        fields = {"host": f"127.0.0.1:{self.port}", **headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._ask(f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + body)
        except TimeoutError:
            raise HTTPError(f"no answer within {self._timeout_s:g} s") from None
        except OSError as error:
            raise HTTPError(f"cannot connect to 127.0.0.1:{self.port}: {error}") from None

    def close(self) -> None:
        """End the connections that are not in use."""
        while self._idle:
            self._idle.pop().close()

    async def _ask(self, octets: bytes) -> Response:
        connection = self._take()
        if connection is None:
            _, connection = await asyncio.get_running_loop().create_connection(_Connection, "127.0.0.1", self.port)
        try:
            response = await connection.ask(octets)
        except BaseException:
            connection.close()
            raise
        if connection.is_open:
            self._idle.append(connection)
        else:
            connection.close()
        return response

    def _take(self) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open:
                return connection
        return None


async def is_ready(port: int) -> bool:
    """Whether whoever listens on this port of 127.0.0.1 says that it is ready."""
    client = Client(port, timeout_s=2.0)
    try:
        return (await client.get("/ready")).status == 200
    except HTTPError:
        return False
    finally:
        client.close()
