"""What the conversations about retries have in common."""

from __future__ import annotations

import re
from collections.abc import Callable

from sidecar.upstream.retry import CONDITIONS, RetryPolicy
from tests.support.fakes import Client, Server, World

A, B = "10.0.0.1:80", "10.0.0.2:80"
TWO = (A, B)
GET = b"GET / HTTP/1.1\r\nHost: web\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 5\r\n\r\nhello"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
AT_ONCE = RetryPolicy(attempts=3, on=CONDITIONS, backoff_base_s=0, backoff_max_s=0)  # type: ignore[arg-type]
"""Everything is retried, without waiting."""

Make = Callable[..., World]


def answer(status: int, *lines: str, body: bytes = b"") -> bytes:
    """A response."""
    head = "\r\n".join((f"HTTP/1.1 {status} x", f"Content-Length: {len(body)}", *lines, "", ""))
    return head.encode() + body


def requests_seen(world: World) -> list[bytes]:
    """Method of each request of which a byte reached a server."""
    return [method for server in world.servers for method in re.findall(rb"(\w+) /\S* HTTP/1\.1\r\n", server.received)]


def status_of(client: Client) -> int:
    """Of the last response that the client has."""
    return client.responses()[-1].status


def fail(world: World, server: Server, how: str) -> None:
    """Let a try fail."""
    if how == "reset":
        server.reset()
    elif how == "status":
        _ = server >> answer(503)
    elif how == "garbage":
        _ = server >> b"\x00\r\n\r\n"
    else:
        world.advance(1.2)


def put(body: bytes, is_chunked: bool, pieces: int = 1) -> bytes:
    """A PUT."""
    head = b"PUT / HTTP/1.1\r\nHost: web\r\n"
    if not is_chunked:
        return head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    size = max(1, -(-len(body) // pieces))
    chunks = [body[at : at + size] for at in range(0, len(body), size)]
    framed = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return head + b"Transfer-Encoding: chunked\r\n\r\n%b0\r\n\r\n" % framed


def unframed(request: bytes, is_chunked: bool) -> bytes:
    """The body of a request."""
    rest = request.partition(b"\r\n\r\n")[2]
    if not is_chunked:
        return rest
    body = b""
    while True:
        line, _, rest = rest.partition(b"\r\n")
        if not int(line, 16):
            assert rest == b"\r\n"
            return body
        body, rest = body + rest[: int(line, 16)], rest[int(line, 16) + 2 :]


def warm_both(world: World) -> None:
    """An idle connection to either endpoint."""
    client = world.client()
    for _ in TWO:
        client.get()
        server = world.accept()
        _ = server >> OK
    client.take()


def busy(world: World) -> Server:
    """The one connection with an exchange."""
    (server,) = [server for server in world.servers if server.connection.sink is not None]
    return server
