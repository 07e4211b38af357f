"""
The customers of the demonstration: requests to the storefront through its sidecar, at a steady rate.

One in ten is a beta user (cookie `BETA_USER=true` among others), one in ten nearly is one. A request is sent when it
is due, whether or not those before it are answered, so that a slow answer is seen as it is.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
import uuid
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Protocol

from sidecar.demo.http11 import Client, HTTPError, Response

BETA_COOKIE = "BETA_USER=true"
BETA_SHARE = 0.1
NEAR_MISS_SHARE = 0.1
NEAR_MISSES = ("BETA_USER=false", "NOT_BETA_USER=true", 'BETA_USER="true2"', "theme=BETA_USER=true")
MAX_IN_FLIGHT = 256
"""Further requests are not sent while so many are unanswered."""
KEPT_LATENCIES = 4096


class Book(Protocol):
    """Who wants to know of each request; `ledger.Ledger` is one."""

    def send(self, request_id: str, has_cookie: bool) -> None:
        """It is about to be sent."""
        ...

    def forgive(self, request_id: str) -> None:
        """It failed and was counted so."""
        ...


class NoBook:
    """Nobody does."""

    def send(self, request_id: str, has_cookie: bool) -> None:
        """Nothing is kept."""

    def forgive(self, request_id: str) -> None:
        """Nothing was kept."""


@dataclass(slots=True)
class Tally:
    """
    What became of the requests that began in one phase.

    Attributes:
        sent: All.
        ok: Answered 200 with a page.
        failed: The others, by what was wrong.
        beta: Answers to requests with the cookie, by version of the service.
        plain: Answers to the others, by version.
        latencies_s: Of the last answers, as the customer sees them.
    """

    sent: int = 0
    ok: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    beta: Counter[str] = field(default_factory=Counter)
    plain: Counter[str] = field(default_factory=Counter)
    latencies_s: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT_LATENCIES))


class Traffic:
    """
    Makes the traffic.

    Attributes:
        tally: Where requests that begin now are counted.
        tallies: Of all phases.
    """

    def __init__(self, port: int, per_second: float, book: Book) -> None:
        self.per_second = per_second
        self.tally = Tally()
        self.tallies = [self.tally]
        self._client = Client(port)
        self._book = book
        self._random = random.Random()
        self._in_flight: set[asyncio.Task[Response | None]] = set()

    def next_phase(self) -> Tally:
        """Count what begins from now on apart."""
        self.tally = Tally()
        self.tallies.append(self.tally)
        return self.tally

    async def run(self) -> None:
        """Send for ever; cancel it to stop, then `finish`."""
        due = time.monotonic()
        while True:
            due = max(due + 1 / self.per_second, time.monotonic() - 0.1)  # what a stalled machine missed is not made up
            await asyncio.sleep(due - time.monotonic())
            if len(self._in_flight) < MAX_IN_FLIGHT:
                task = asyncio.get_running_loop().create_task(self.send())
                self._in_flight.add(task)
                task.add_done_callback(self._in_flight.discard)

    async def finish(self) -> None:
        """Wait for the answers to what was sent."""
        while self._in_flight:
            await asyncio.wait(tuple(self._in_flight))
        self._client.close()

    def abandon(self) -> None:
        """Wait for nothing."""
        for task in self._in_flight:
            task.cancel()
        self._client.close()

    async def send(self) -> Response | None:
        """Send one request and count what comes of it; returns the response, if any."""
        tally, chance = self.tally, self._random.random()
        has_cookie = chance < BETA_SHARE
        cookie = f"uid={self._random.randrange(1000)}; "
        if has_cookie:
            cookie += f"{BETA_COOKIE}; "
        elif chance < BETA_SHARE + NEAR_MISS_SHARE:
            cookie += f"{self._random.choice(NEAR_MISSES)}; "
        request_id = str(uuid.uuid4())
        headers = {"x-request-id": request_id, "user-agent": "demo-customer", "cookie": f"{cookie}lang=en"}
        tally.sent += 1
        self._book.send(request_id, has_cookie)
        began = time.perf_counter()
        try:
            response = await self._client.get("/", headers)
        except HTTPError as error:
            self._fail(tally, request_id, str(error))
            return None
        tally.latencies_s.append(time.perf_counter() - began)
        version = _version(response)
        if response.status != 200 or version is None:
            self._fail(tally, request_id, _what_failed(response))
            return response
        tally.ok += 1
        (tally.beta if has_cookie else tally.plain)[version] += 1
        return response

    def _fail(self, tally: Tally, request_id: str, what: str) -> None:
        tally.failed[what] += 1
        self._book.forgive(request_id)


def _version(response: Response) -> str | None:
    try:
        version = json.loads(response.body)["recommendations"]["version"]
    except (ValueError, KeyError, TypeError):
        return None
    return version if isinstance(version, str) else None


def _what_failed(response: Response) -> str:
    return f"status {response.status}: {response.body[:200].decode('latin-1').strip()}"


def percentile(values: list[float], share: float) -> float:
    """The value below which this share of the sorted `values` lies; 0.0 if there are none."""
    return values[min(len(values) - 1, int(len(values) * share))] if values else 0.0
