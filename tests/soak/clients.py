"""
Clients under a steady clock: each request has an id, and each answer must be its own, whole and right.

The clock is open: requests begin when it is their time, however slow the answers are. Connections are kept and used
again like an app's pool does, so a broken one would be noticed by those behind it too.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from typing import Any

from tests.soak.http2.clients import Links
from tests.soak.outcome import Kind, Outcome
from tests.soak.tls import keys
from tests.support.tagged import framed, read_body, read_head, tagged

PATIENCE_S = 20.0
"""An answer that takes longer counts as lost for ever."""
SLOW_PATIENCE_S = 55.0
"""The same of those that take their time."""
KEY_UPDATES = 0.1
"""Share of requests of clients by TLS that come with new keys."""

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Clients:
    """
    All clients, on an event loop in a thread of its own.

    Attributes:
        outcomes: Of every request that is over.
        begun: Requests begun.
        contexts: Of clients by TLS, by caller; each new connection is made by what is there then.
        speaks_with: Whom they must find at the other end.
        handshakes: How many of theirs are over.
        links: Those that speak HTTP/2.
    """

    def __init__(self, seed: str) -> None:
        self.outcomes: list[Outcome] = []
        self.begun = 0
        self.contexts: Mapping[str, ssl.SSLContext] = {}
        self.speaks_with = ""
        self.handshakes = 0
        self._chance = random.Random(seed)
        self.links = Links(random.Random(f"{seed}/links"), lambda: self.contexts, self._greet)
        self._pools: dict[tuple[int, str], list[Connection]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Clients:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.do(self._cancel_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(15)
        self._loop.close()

    async def _cancel_all(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._hang_up()

    def do(self, work: Coroutine[Any, Any, Any], timeout_s: float | None = 120.0) -> Any:
        """Run it on the clients' loop and wait for its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout_s)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run it on the clients' loop, and wait for nothing."""

        def begin() -> None:
            # Held, for a task that waits for a stream is referred to by nothing else.
            task = self._loop.create_task(work)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        self._loop.call_soon_threadsafe(begin)

    def hang_up(self) -> None:
        """Close the connections that are idle."""
        self.do(self._hang_up())

    async def _hang_up(self) -> None:
        for pool in self._pools.values():
            for _, writer in pool:
                writer.transport.abort()
            pool.clear()
        self.links.hang_up()
        await asyncio.sleep(0)

    def next_id(self) -> str:
        """An id that nobody had."""
        self.begun += 1
        return f"i{self.begun}"

    # --- steady load ---------------------------------------------------------------------------------------------

    async def steady(self, per_second: float, choose: Callable[[random.Random], tuple[Kind, int]], leaves: float,
                     until: Callable[[], bool]) -> None:  # fmt: skip
        """
        Begin so many requests a second until `until()`; returns when all of them are over.

        Args:
            choose: The kind of the next request, and the port to send it to.
            leaves: Share of the requests whose client leaves in the middle.
            until: Asked before each.
        """
        tasks: set[asyncio.Task[None]] = set()
        next_s = time.monotonic()
        while not until():
            kind, port = choose(self._chance)
            task = asyncio.ensure_future(self._one(kind, port, is_leaving=self._chance.random() < leaves))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            next_s = max(next_s + self._chance.expovariate(per_second), time.monotonic() - 0.1)
            await asyncio.sleep(max(0.0, next_s - time.monotonic()))
        await asyncio.gather(*tasks)

    def crowd(self, kinds: Sequence[Kind], port: int, count: int) -> None:
        """So many at once, each on a connection of its own."""
        for number in range(count):
            self.spawn(self._one(kinds[number % len(kinds)], port, is_leaving=False, is_fresh=True))

    async def one(self, kind: Kind, port: int) -> None:
        """One, whatever the clock says."""
        await self._one(kind, port, is_leaving=False)

    async def _one(self, kind: Kind, port: int, *, is_leaving: bool, is_fresh: bool = False) -> None:
        async with self._outcome(kind, PATIENCE_S) as outcome:
            if kind.version == 2:
                await self.links.ask(outcome, port, is_leaving=is_leaving)
            else:
                await self._ask(outcome, port, is_leaving=is_leaving, is_fresh=is_fresh)

    @contextlib.asynccontextmanager
    async def _outcome(self, kind: Kind, patience_s: float) -> AsyncIterator[Outcome]:
        """Of what is done within, which has so much time."""
        outcome = Outcome(self.next_id(), kind, time.monotonic())
        try:
            async with asyncio.timeout(patience_s):
                yield outcome
        except TimeoutError:
            outcome.failure = "hung"
        except (OSError, asyncio.IncompleteReadError) as error:
            outcome.failure, outcome.detail = "unanswered", repr(error)
        finally:
            outcome.ended_s = time.monotonic()
            self.outcomes.append(outcome)

    async def _ask(self, outcome: Outcome, port: int, *, is_leaving: bool, is_fresh: bool) -> None:
        pool = self._pools.setdefault((port, outcome.kind.caller if outcome.kind.is_secured else ""), [])
        connection = None
        while pool and not is_fresh and connection is None:
            connection = pool.pop()
            if connection[0].at_eof() or connection[1].transport.is_closing():
                connection[1].transport.abort()
                connection = None
        try:
            connection = connection or await self._open(outcome.kind, host="127.0.0.1", port=port)
        except OSError as error:
            outcome.failure, outcome.detail = "refused", str(error)
            return
        is_kept = False
        try:
            is_kept = await self._talk(connection, outcome, is_leaving=is_leaving)
        finally:
            if is_kept and not is_fresh:
                pool.append(connection)
            elif is_kept:
                connection[1].close()
            else:
                connection[1].transport.abort()  # by TLS this is an end without a close_notify

    async def _open(self, kind: Kind, **where: Any) -> Connection:
        if not kind.is_secured:
            return await asyncio.open_connection(**where)
        connection = await asyncio.open_connection(**where, ssl=self.contexts[kind.caller], server_hostname="storm")
        self._greet(connection[1].transport)
        return connection

    def _greet(self, transport: asyncio.Transport) -> None:
        """A handshake is over: see whom it was with."""
        self.handshakes += 1
        names = transport.get_extra_info("peercert").get("subjectAltName", ())
        if names != (("URI", self.speaks_with),):
            raise OSError(f"expected {self.speaks_with} at the other end, found {names}")

    async def _talk(self, connection: Connection, outcome: Outcome, *, is_leaving: bool) -> bool:
        reader, writer = connection
        chance = self._chance
        is_post = outcome.kind.method == "POST"
        sent = chance.choice((0, 10, 2000, 30_000) if outcome.kind.is_keyed else (0, 10, 2000, 200_000)) * is_post
        size = chance.choice((0, 10, 10, 2000, 2000, 100_000))
        framing = chance.choice(("length", "length", "length", "chunked", "chunked", "close"))
        request = request_bytes(outcome, sent, size, framing, chance.choice(("length", "chunked")))
        if is_leaving:
            outcome.failure = "left"
            writer.write(request[: chance.randint(1, len(request))] if chance.random() < 0.5 else request)
            with contextlib.suppress(OSError):
                await asyncio.sleep(chance.random() * 0.02)
                await asyncio.wait_for(reader.read(chance.randint(1, 5000)), 0.05)
            return False
        if outcome.kind.is_secured and chance.random() < KEY_UPDATES:
            keys.update_of(writer)
        try:
            writer.write(request)
            await writer.drain()
        except OSError:
            pass  # An answer may have come all the same.
        return await receive(reader, outcome, size)

    # --- the slow ------------------------------------------------------------------------------------------------

    async def slow_reader(self, kind: Kind, port: int, size: int, pause_s: float, pieces: int) -> None:
        """Take an answer of so many bytes in so many pieces with a pause before each."""
        async with self._outcome(kind, SLOW_PATIENCE_S) as outcome:
            if kind.version == 2:
                await self.links.slow_reader(outcome, port, size, pause_s, pieces)
            else:
                await self._read_slowly(outcome, port, size, pause_s, pieces)

    async def _read_slowly(self, outcome: Outcome, port: int, size: int, pause_s: float, pieces: int) -> None:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        reader, writer = await self._open(outcome.kind, sock=sock, limit=4096)
        writer.write(request_bytes(outcome, 0, size, "length", "length"))
        _, fields = await read_head(reader)
        body = b""
        while len(body) < size:
            await asyncio.sleep(pause_s)
            data = await reader.read(max(1, size // pieces))
            if not data:
                break
            body += data
        outcome.status = 200
        if fields.get("x-id") != outcome.id or body != tagged(outcome.id, len(body)):
            outcome.failure = "wrong"
        elif len(body) != size:
            outcome.failure, outcome.detail = "cut", f"{len(body)} of {size}"
        writer.transport.abort()

    async def slow_writer(self, kind: Kind, port: int, size: int, pause_s: float, pieces: int) -> None:
        """Send a head, then a body in so many pieces with a pause before each."""
        async with self._outcome(kind, SLOW_PATIENCE_S) as outcome:
            if kind.version == 2:
                await self.links.slow_writer(outcome, port, size, pause_s, pieces)
                return
            reader, writer = await self._open(kind, host="127.0.0.1", port=port)
            request = request_bytes(outcome, size, 10, "length", "length")
            step = max(1, len(request) // pieces)
            for at in range(0, len(request), step):
                writer.write(request[at : at + step])
                await asyncio.sleep(pause_s)
            await receive(reader, outcome, 10)
            writer.transport.abort()

    async def stall(self, kind: Kind, port: int, size: int) -> None:
        """Ask for so much by HTTP/2 and never open the window for it."""
        async with self._outcome(kind, SLOW_PATIENCE_S) as outcome:
            await self.links.stall(outcome, port, size)

    async def talk(self, kind: Kind, port: int, seconds: float) -> None:
        """A call of gRPC with messages both ways for so long."""
        async with self._outcome(kind, seconds + PATIENCE_S) as outcome:
            await self.links.talk(outcome, port, seconds)


def request_bytes(outcome: Outcome, sent: int, size: int, answer_framing: str, framing: str) -> bytes:
    """The whole request of this outcome."""
    kind, tag = outcome.kind, outcome.id
    outcome.sent = sent
    field, data = framed(tagged(tag, sent), framing) if kind.method == "POST" else ("", b"")
    key = f"Idempotency-Key: {tag}\r\n" if kind.is_keyed else ""
    # Who connects cannot say who he is.
    key += "" if kind.host else f"X-Forwarded-Client-Cert: By=me;URI=spiffe://shop/{tag}\r\n"
    return (
        f"{kind.method} /{tag} HTTP/1.1\r\nHost: {kind.host or 'app'}\r\nX-Id: {tag}\r\nX-Request-Id: {tag}\r\n"
        f"X-Sent: {sent}\r\nX-Size: {size}\r\nX-Framing: {answer_framing}\r\n{key}{field}\r\n"
    ).encode() + data


async def receive(reader: asyncio.StreamReader, outcome: Outcome, size: int) -> bool:
    """Read the answer and judge it; returns whether the connection can be used again."""
    try:
        line, fields = await read_head(reader)
    except (OSError, asyncio.IncompleteReadError) as error:
        partial = getattr(error, "partial", b"")
        outcome.failure, outcome.detail = ("cut" if partial else "unanswered"), f"{error!r} {partial[:80]!r}"
        return False
    outcome.status = int(line.split(" ")[1])
    outcome.server = fields.get("x-server", "")
    try:
        body = await read_body(reader, fields, is_response=True)
    except (OSError, asyncio.IncompleteReadError, ValueError) as error:
        outcome.failure, outcome.detail = "cut", repr(error)
        return False
    if outcome.status == 408 and not body:
        outcome.failure, outcome.flag = "status", "408"  # of a server that was about to close as the request came
    elif "x-id" not in fields:
        outcome.failure = "status"
        with contextlib.suppress(ValueError):
            said = json.loads(body)
            outcome.flag, outcome.detail = said.get("flag", ""), json.dumps(said)
        if not outcome.flag:
            outcome.failure, outcome.detail = "wrong", f"{line} {fields} {body[:80]!r}"
    elif fields["x-id"] != outcome.id or body != tagged(outcome.id, size):
        outcome.failure, outcome.detail = "wrong", f"{line} {fields} {len(body)} of {size}: {body[:80]!r}"
    elif outcome.status != 200:
        outcome.failure = "status"
    return fields.get("connection", "") != "close"
