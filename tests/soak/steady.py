"""
Many small requests under a steady clock, each counted: what `clients.py` does with every shape of message, at a rate
that a machine of two cores still has room for.

The clock is open: requests begin when it is their time, however slow the answers are, on connections that are kept.
The one exception is told: with `MAX_CONNECTIONS` busy, further ones are put off, and the rate that is reported falls.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import cast

import uvloop

MAX_CONNECTIONS = 256
PATIENCE_S = 30.0
"""An answer that takes longer counts as lost for ever."""
TICK_S = 0.005


@dataclass(slots=True)
class Asked:
    """
    One request, and what became of it.

    Attributes:
        id: `METHOD PATH`; no two are the same.
        said: `200` if the answer was its own, else the status with the sidecar's flag, or what went wrong.
        by: Name of the app that answered.
    """

    id: str
    began_s: float
    ended_s: float = 0.0
    said: str = ""
    by: str = ""


@dataclass(frozen=True)
class Trouble:
    """Something that was killed, and the time in which a request may have been hurt by it."""

    what: str
    began_s: float
    ended_s: float


@dataclass
class Tally:
    """
    What came of a load.

    Attributes:
        requests: All of them.
        rate: Per second, as it was.
        put_off: Requests that did not begin in time, for all connections were busy.
        excused: Failures of POSTs which might have reached what was killed at that moment, by what was said and killed.
        lost: Other failures.
        twice: POSTs that reached an app more than once.
        unseen: Requests that were answered and reached no app.
        slowest_s: The slowest answer.
    """

    requests: int = 0
    rate: float = 0.0
    put_off: int = 0
    by_app: Counter[str] = field(default_factory=Counter)
    excused: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)
    slowest_s: float = 0.0

    @property
    def is_good(self) -> bool:
        """Whether nothing happened that must not."""
        return not (self.lost or self.twice or self.unseen)

    def __str__(self) -> str:
        lists = {"lost": self.lost, "arrived twice": self.twice, "answered by nobody": self.unseen}
        lines = [
            f"{self.requests} requests, {self.rate:.0f} a second, {self.put_off} put off; by app {dict(self.by_app)}",
            f"slowest {self.slowest_s:.2f} s; excused {sum(self.excused.values())} {dict(self.excused)}",
        ]
        lines += [f"{name}: {len(found)}, such as {found[:10]}" for name, found in lists.items()]
        return "\n".join(lines)


class Steady:
    """
    The load; a context in which it runs, on an event loop in a thread of its own.

    Args:
        port: Of a sidecar's outbound listener.
        host: That is called.
        per_second: How many requests.
        methods: In turn.
    """

    def __init__(self, port: int, host: str, per_second: float, methods: tuple[str, ...] = ("POST",)) -> None:
        self.asked: list[Asked] = []
        self._port = port
        self._host = host
        self._per_second = per_second
        self._methods = methods
        self._idle: deque[_Connection] = deque()
        self._connections: set[_Connection] = set()
        self._put_off = 0
        self._begun = 0
        self._open = 0
        self._is_over = threading.Event()
        self._began_s = self._ended_s = 0.0
        self._thread = threading.Thread(target=lambda: uvloop.run(self._run()), daemon=True)

    def __enter__(self) -> Steady:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join(2 * PATIENCE_S)
        assert not self._thread.is_alive()

    def count(self) -> int:
        """Answers so far."""
        return len(self.asked)

    async def _run(self) -> None:
        self._began_s = time.monotonic()
        due = 0.0
        last_s = self._began_s
        while not self._is_over.is_set():
            await asyncio.sleep(TICK_S)
            now_s = time.monotonic()
            due, last_s = due + (now_s - last_s) * self._per_second, now_s
            while due >= 1.0:
                due -= 1.0
                self._begin(now_s)
            for one in tuple(self._connections):
                one.look(now_s)
        self._ended_s = time.monotonic()
        while any(one.asked is not None for one in self._connections) or self._open:
            await asyncio.sleep(TICK_S)
            for one in tuple(self._connections):
                one.look(time.monotonic())
        for one in tuple(self._connections):
            one.close()

    def _begin(self, now_s: float) -> None:
        if not self._idle and self._open + len(self._connections) >= MAX_CONNECTIONS:
            self._put_off += 1
            return
        method = self._methods[self._begun % len(self._methods)]
        self._begun += 1
        asked = Asked(f"{method} /{self._port}/{self._begun}", now_s)
        if self._idle:
            self._idle.pop().send(asked)
        else:
            self._open += 1
            asyncio.ensure_future(self._dial(asked))  # noqa: RUF006 - its connection is in `_connections`

    async def _dial(self, asked: Asked) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(lambda: _Connection(self), "127.0.0.1", self._port)
            connection.send(asked)
        except OSError as error:
            self.over(asked, f"lost: {error!r}")
        finally:
            self._open -= 1

    # --- told by connections -----------------------------------------------------------------------------------------

    def message(self, asked: Asked) -> bytes:
        """The request, whole."""
        body = asked.id if asked.id.startswith("POST") else ""
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        return f"{asked.id} HTTP/1.1\r\nHost: {self._host}\r\n{length}\r\n{body}".encode()

    def over(self, asked: Asked, said: str, by: str = "") -> None:
        """One is answered, or will not be."""
        asked.ended_s, asked.said, asked.by = time.monotonic(), said, by
        self.asked.append(asked)

    def is_there(self, connection: _Connection) -> None:
        """It is open."""
        self._connections.add(connection)

    def is_idle(self, connection: _Connection) -> None:
        """It can be used again."""
        self._idle.append(connection)

    def is_gone(self, connection: _Connection) -> None:
        """It is closed."""
        self._connections.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    # --- afterwards ----------------------------------------------------------------------------------------------

    def tally(self, arrivals: Iterable[str], troubles: Iterable[Trouble] = ()) -> Tally:
        """
        Compare what clients got with what the apps saw.

        Args:
            arrivals: `METHOD PATH` of all that reached an app, once for each time.
            troubles: What POSTs, which may not be sent twice, may have been hurt by; a GET is hurt by nothing.
        """
        return tally(self.asked, Counter(arrivals), tuple(troubles), self._ended_s - self._began_s, self._put_off)


def tally(
    asked: Iterable[Asked], seen: Mapping[str, int], troubles: Iterable[Trouble], seconds: float, put_off: int = 0
) -> Tally:
    """As `Steady.tally`. *Pure.*"""
    found = Tally(put_off=put_off)
    for one in asked:
        found.requests += 1
        found.slowest_s = max(found.slowest_s, one.ended_s - one.began_s)
        arrived = seen.get(one.id, 0)
        is_post = one.id.startswith("POST")
        if is_post and arrived > 1:
            found.twice.append(one.id)
        if one.said == "200":
            found.by_app[one.by] += 1
            if not arrived:
                found.unseen.append(one.id)
            continue
        hurt = next((each for each in troubles if one.began_s <= each.ended_s and each.began_s <= one.ended_s), None)
        if is_post and hurt is not None:
            found.excused[f"{one.said} ({hurt.what})"] += 1
        else:
            found.lost.append(f"{one.id} {one.said} after {one.ended_s - one.began_s:.2f} s, arrived {arrived} times")
    found.rate = found.requests / seconds if seconds else 0.0
    return found


class _Connection(asyncio.Protocol):
    """One to the sidecar, with one request at a time."""

    def __init__(self, load: Steady) -> None:
        self.asked: Asked | None = None
        self._load = load
        self._held = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._load.is_there(self)

    def send(self, asked: Asked) -> None:
        """Ask; the connection is idle."""
        self.asked = asked
        self._transport.write(self._load.message(asked))

    def look(self, now_s: float) -> None:
        """Give up what has waited for too long."""
        if self.asked is not None and now_s - self.asked.began_s > PATIENCE_S:
            asked, self.asked = self.asked, None
            self._load.over(asked, "hung")
            self.close()

    def close(self) -> None:
        """Now."""
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._held += data
        head, end, rest = self._held.partition(b"\r\n\r\n")
        if not end:
            return
        lines = (line.partition(b":") for line in head.split(b"\r\n")[1:])
        fields = {name.strip().lower(): value.strip() for name, _, value in lines}
        length = int(fields.get(b"content-length", b"0"))
        if len(rest) < length:
            return
        self._held = rest[length:]
        asked, self.asked = self.asked, None
        if asked is None:
            return
        status = head.split(b" ", 2)[1].decode()
        by, _, path = rest[:length].decode("latin-1").partition(" ")
        if status != "200":
            self._load.over(asked, f"{status} {_flag(rest[:length])}")
        elif not asked.id.endswith(f" {path}"):
            self._load.over(asked, f"somebody else's answer: {rest[:80]!r}")
        else:
            self._load.over(asked, "200", by)
        if fields.get(b"connection", b"").lower() == b"close":
            self.close()
        else:
            self._load.is_idle(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._load.is_gone(self)
        if self.asked is not None:
            asked, self.asked = self.asked, None
            self._load.over(asked, f"lost: {error!r}")


def _flag(body: bytes) -> str:
    try:
        return str(json.loads(body)["flag"])
    except (ValueError, KeyError, TypeError):
        return body[:60].decode("latin-1")
