"""
Load whose every byte says which request it belongs to, so that a byte in the wrong place is found.

The body of a message of tag `t17` is `t17 t17 t17 ...` up to its size; `TaggedServer` checks what it gets, answers in
kind with a size and a framing that the request asks for (`x-size`, `x-framing`), and notes everything that is wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections.abc import Awaitable
from dataclasses import dataclass, field

_CHUNK_BYTES = 8192


def tagged(tag: str, size: int) -> bytes:
    """A body of this tag."""
    piece = f"{tag} ".encode()
    return (piece * (size // len(piece) + 1))[:size]


async def read_head(reader: asyncio.StreamReader) -> tuple[str, dict[str, str]]:
    """First line and fields of a message, names in lower case."""
    lines = (await reader.readuntil(b"\r\n\r\n"))[:-4].decode("latin-1").split("\r\n")
    return lines[0], {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}


async def read_body(reader: asyncio.StreamReader, fields: dict[str, str], *, is_response: bool) -> bytes:
    """A body in any framing; raises IncompleteReadError where it is cut."""
    if fields.get("transfer-encoding") == "chunked":
        pieces: list[bytes] = []
        while size := int((await reader.readuntil(b"\r\n"))[:-2], 16):
            pieces.append((await reader.readexactly(size + 2))[:-2])
        while await reader.readuntil(b"\r\n") != b"\r\n":
            pass  # a trailer field
        return b"".join(pieces)
    if "content-length" in fields:
        return await reader.readexactly(int(fields["content-length"]))
    return await reader.read() if is_response else b""


def framed(body: bytes, framing: str) -> tuple[str, bytes]:
    """The field and the bytes of a body; `close` has no field."""
    if framing == "chunked":
        pieces = [body[at : at + _CHUNK_BYTES] for at in range(0, len(body), _CHUNK_BYTES)]
        data = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
        return "Transfer-Encoding: chunked\r\n", data
    return ("" if framing == "close" else f"Content-Length: {len(body)}\r\n"), body


class TaggedServer:
    """
    An asyncio server in a thread of its own.

    Attributes:
        port: Where it listens on 127.0.0.1.
        connections: How many it accepted; `open` of them are open now.
        requests: How many it read whole.
        wrong: What was not as its tag said.
    """

    def __init__(self) -> None:
        self.port = 0
        self.connections = self.open = self.requests = 0
        self.wrong: list[str] = []
        self._loop = asyncio.new_event_loop()
        self._is_up = threading.Event()
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._run()), daemon=True)

    def __enter__(self) -> TaggedServer:
        self._thread.start()
        assert self._is_up.wait(15)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(15)
        self._loop.close()

    async def _run(self) -> None:
        self._stop = asyncio.Event()
        tasks: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.ensure_future(self._serve(reader, writer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        server = await asyncio.start_server(accept, "127.0.0.1", 0, backlog=4096)
        self.port = server.sockets[0].getsockname()[1]
        self._is_up.set()
        await self._stop.wait()
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        try:
            while await self._exchange(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open -= 1
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        line, fields = await read_head(reader)
        tag = fields["x-tag"]
        body = await read_body(reader, fields, is_response=False)
        self.requests += 1
        if body != tagged(tag, int(fields["x-sent"])) or f"/{tag} " not in line:
            self.wrong.append(f"request {tag}: {line} {fields} {body[:100]!r}")
        framing = fields["x-framing"]
        name, data = framed(tagged(tag, int(fields["x-size"])), framing)
        writer.write(f"HTTP/1.1 200 OK\r\nX-Tag: {tag}\r\n{name}\r\n".encode() + data)
        await writer.drain()
        return framing != "close"


@dataclass
class TaggedLoad:
    """
    Clients of a tagged server through a proxy.

    Attributes:
        answered: Responses that were whole and right.
        wrong: What was not as its tag said, and what was cut.
        statuses: Of the responses, by number.
    """

    port: int
    host: str
    seed: int
    answered: int = 0
    left: int = 0
    wrong: list[str] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)

    async def run(self, clients: int, requests: int, *, leaves: float = 0.0) -> None:
        """
        Send `requests` with each of the clients, in pipelined bursts of one to four.

        Args:
            leaves: Share of bursts after which the client resets its connection while it is being answered.
        """
        jobs: list[Awaitable[None]] = [self._client(number, requests, leaves) for number in range(clients)]
        await asyncio.gather(*jobs)

    async def _client(self, number: int, requests: int, leaves: float) -> None:
        source = random.Random(f"{self.seed}/{number}")
        sent = 0
        connection = None
        while sent < requests:
            if connection is None:
                connection = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 22)
            reader, writer = connection
            tags = [f"t{self.seed}.{number}.{sent + at}" for at in range(min(source.randint(1, 4), requests - sent))]
            sent += len(tags)
            writer.write(b"".join(self._request(source, tag) for tag in tags))
            await writer.drain()
            if source.random() < leaves:
                await reader.read(source.randint(1, 3000))
                self.left += len(tags)
                writer.transport.abort()
                connection = None
                continue
            for tag in tags:
                await self._check(reader, tag)
        if connection is not None:
            connection[1].close()
            await connection[1].wait_closed()

    def _request(self, source: random.Random, tag: str) -> bytes:
        size = source.choice((0, 0, 0, 10, 1000, 20_000, 200_000))
        name, data = framed(tagged(tag, size), source.choice(("length", "chunked")))
        answer = f"X-Size: {source.choice((0, 10, 3000, 70_000, 300_000))}\r\n"
        answer += f"X-Framing: {source.choice(('length', 'length', 'chunked', 'chunked', 'close'))}\r\n"
        head = f"POST /{tag} HTTP/1.1\r\nHost: {self.host}\r\nX-Tag: {tag}\r\nX-Sent: {size}\r\n{answer}{name}\r\n"
        return head.encode() + data

    async def _check(self, reader: asyncio.StreamReader, tag: str) -> None:
        line, fields = await read_head(reader)
        status = int(line.split(" ")[1])
        self.statuses[status] = self.statuses.get(status, 0) + 1
        body = await read_body(reader, fields, is_response=True)
        if fields.get("x-tag") != tag or body != tagged(tag, len(body)):
            self.wrong.append(f"response {tag}: {line} {fields} {body[:100]!r}")
        else:
            self.answered += 1
