"""
Clients by HTTP/2 under the storm's clock: connections that carry many requests at once, and are left in every way.

A request that the sidecar has not looked at, since it was told so by a GOAWAY or REFUSED_STREAM, is asked again on
another connection, as any client does; its outcome is that of the last.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import ssl
import time
from collections.abc import Callable, Mapping
from urllib.parse import unquote

from sidecar import errors
from sidecar.errors import Reason
from tests.soak.http2 import link
from tests.soak.http2.link import Fields, Lane, Link, message
from tests.soak.outcome import Kind, Outcome
from tests.support.tagged import tagged

GRPC = "application/grpc"
MOST_LANES = 40
"""Streams of one connection of ours; beyond, another is opened."""
MOST_SLOW_LANES = 80
SLOW_WINDOW = 2000
"""Of streams that are read slowly."""
GO_AWAYS = 0.01
"""Share of requests whose connection takes leave behind them, and goes on with what it carries."""
GAMES = 0.02
"""Share of requests before which other settings are said."""
TRAILERS = 0.2
"""Share of the bodies of no call behind which a field stands."""
CUTS = 0.1
"""Share of the clients that leave that hang up, with all that the connection carries."""
LEAVING_TALKS = 0.1
"""Share of the talks that are given up in the middle."""
_TRIES = 6
_FLAGS = {one.name: one.flag for one in vars(errors).values() if isinstance(one, Reason)}


class Links:
    """
    Args:
        chance: Decides.
        greet: Told of each connection by TLS, to see whom it leads to.

    Attributes:
        wrong: Rules that the sidecar has broken.
        opened: Connections.
        again: Requests that were not looked at and asked again.
        most: Requests that one connection carried at once.
    """

    def __init__(
        self, chance: random.Random, contexts: Callable[[], Mapping[str, ssl.SSLContext]],
        greet: Callable[[asyncio.Transport], None],
    ) -> None:  # fmt: skip
        self.wrong: list[str] = []
        self.opened = self.again = self.most = 0
        self._chance, self._contexts, self._greet = chance, contexts, greet
        self._pools: dict[tuple[int, str, int], list[Link]] = {}
        self._cut: set[Link] = set()

    # --- connections ---------------------------------------------------------------------------------------------

    async def _link(self, kind: Kind, port: int, window: int = link.DEFAULT_WINDOW) -> Link:
        """One that has room; raises OSError."""
        caller = kind.caller if kind.is_secured else ""
        pool = self._pools.setdefault((port, caller, window), [])
        for one in list(pool):
            if one.room() <= 0:
                self._drop(pool, one)
        most = MOST_LANES if window == link.DEFAULT_WINDOW else MOST_SLOW_LANES
        for one in pool:
            if len(one.lanes) < min(most, one.room() + len(one.lanes)):
                return one
        made = Link(is_client=True, settings={2: 0, link.INITIAL_WINDOW: window}, on_wrong=self.wrong.append)
        loop = asyncio.get_running_loop()
        if caller:
            # Contexts are by caller, and those that speak HTTP/2 beside them.
            context = self._contexts()[f"{caller} 2"]
            transport, _ = await loop.create_connection(
                lambda: made, "127.0.0.1", port, ssl=context, server_hostname="storm"
            )
            self._greet(transport)
        else:
            await loop.create_connection(lambda: made, "127.0.0.1", port)
        self.opened += 1
        pool.append(made)
        return made

    def _drop(self, pool: list[Link], one: Link) -> None:
        """It takes nothing further now; for good, or because it is full."""
        if one.is_lost or one.goaway is not None or one.is_leaving:
            if not one.lanes and one.transport is not None:
                one.transport.close()
            if not one.lanes or one.is_lost:
                pool.remove(one)

    def hang_up(self) -> None:
        """Close all of them; nothing is under way."""
        for pool in self._pools.values():
            for one in pool:
                one.abort()
            pool.clear()
        self._cut.clear()

    # --- a request -----------------------------------------------------------------------------------------------

    async def ask(self, outcome: Outcome, port: int, *, is_leaving: bool) -> None:
        """One, again and again if nobody looks at it."""
        chance, kind = self._chance, outcome.kind
        is_post = kind.method == "POST"
        outcome.sent = chance.choice((0, 10, 2000, 30_000) if kind.is_keyed else (0, 10, 2000, 200_000)) * is_post
        size = chance.choice((0, 10, 10, 2000, 2000, 100_000))
        fields = fields_of(outcome, size, is_sized=chance.random() < 0.5)
        body = tagged(outcome.id, outcome.sent)
        body = message(body) if kind.is_call else body
        for _ in range(_TRIES):
            try:
                on = await self._link(kind, port)
            except OSError as error:
                outcome.failure, outcome.detail = "refused", str(error)
                return
            lane = on.open(fields, ends=not body)
            self.most = max(self.most, len(on.lanes))
            if chance.random() < GO_AWAYS:
                on.go_away(0)
            if chance.random() < GAMES:
                window = chance.choice((16_384, link.DEFAULT_WINDOW, 1 << 20))
                on.say({link.TABLE_SIZE: chance.choice((0, 100, 4096, 65536)), link.INITIAL_WINDOW: window})
            if is_leaving:
                await self._leave(on, lane, outcome, body)
                return
            if body and not kind.is_call and chance.random() < TRAILERS:
                if await on.send(lane, body, ends=False) and not lane.is_over:
                    on.head(lane, [("x-end", outcome.id)], ends=True)
            elif body:
                await on.send(lane, body, ends=True)
            if await self._answered(on, lane, outcome, size):
                return
        outcome.failure, outcome.detail = "refused", f"{_TRIES} times not looked at"

    async def _leave(self, on: Link, lane: Lane, outcome: Outcome, body: bytes) -> None:
        outcome.failure = "left"
        chance = self._chance
        sending = asyncio.ensure_future(on.send(lane, body[: chance.randint(0, len(body))], ends=False))
        await asyncio.sleep(chance.random() * 0.02)
        if chance.random() < CUTS:
            self._cut.add(on)
            on.abort()
        else:
            on.reset(lane, chance.choice((link.CANCEL, *link.CODES)))
        await sending

    async def _answered(self, on: Link, lane: Lane, outcome: Outcome, size: int) -> bool:
        """Await the answer and judge it; returns whether somebody looked at the request."""
        if not await lane.until(lambda: lane.is_ended):
            if on in self._cut:
                outcome.failure = "left"
            elif lane.is_untaken:
                self.again += 1
                return False
            else:
                outcome.failure = "cut" if lane.fields else "unanswered"
                outcome.detail = f"reset by {lane.code}" if lane.code is not None else "connection lost"
            return True
        fields = lane.fields
        outcome.status, outcome.server = int(fields[":status"]), fields.get("x-server", "")
        if outcome.kind.is_call:
            self._judge_call(lane, outcome, message(tagged(outcome.id, size)))
        elif "x-id" not in fields:
            self._judge_own(lane, outcome)
        elif fields["x-id"] != outcome.id or lane.body != tagged(outcome.id, size):
            outcome.failure, outcome.detail = "wrong", f"{fields} {len(lane.body)} of {size}: {lane.body[:80]!r}"
        elif outcome.status != 200:
            outcome.failure = "status"
        return True

    def _judge_own(self, lane: Lane, outcome: Outcome) -> None:
        outcome.failure = "status"
        try:
            said = json.loads(bytes(lane.body))
            outcome.flag, outcome.detail = said["flag"], json.dumps(said)
        except (ValueError, KeyError):
            outcome.failure, outcome.detail = "wrong", f"{lane.fields} {lane.body[:80]!r}"

    def _judge_call(self, lane: Lane, outcome: Outcome, wanted: bytes) -> None:
        fields, last = lane.fields, lane.fields if lane.trailers is None else lane.trailers
        outcome.call_status = int(last.get("grpc-status", "2"))
        said = unquote(last.get("grpc-message", ""))
        found = re.search(r"\((\w+);", said) if said.startswith("sidecar: ") else None
        if found is not None:
            # In trailers of an answer that had begun, or alone.
            outcome.failure = "cut" if "x-id" in fields else "status"
            outcome.flag, outcome.detail = _FLAGS[found[1]], said
        elif fields.get("x-id") != outcome.id:
            outcome.failure, outcome.detail = "wrong", f"{fields} {lane.trailers}"
        elif outcome.call_status or outcome.status != 200:
            outcome.failure, outcome.detail = "status", f"{fields} {lane.trailers}"
        elif lane.body != wanted:
            outcome.failure, outcome.detail = "wrong", f"{len(lane.body)} of {len(wanted)}: {lane.body[:80]!r}"

    # --- those that take their time ------------------------------------------------------------------------------

    async def slow_reader(self, outcome: Outcome, port: int, size: int, pause_s: float, pieces: int) -> None:
        """Open the window by so much at a time, with a pause before each."""
        step = max(1, size // pieces)

        async def read(on: Link, lane: Lane) -> None:
            lane.is_stingy = True
            while not lane.is_ended and not lane.is_over:
                await asyncio.sleep(pause_s)
                if not lane.is_over and not lane.is_ended:
                    on.grant(lane, step)

        await self._slowly(outcome, port, size, read)

    async def slow_writer(self, outcome: Outcome, port: int, size: int, pause_s: float, pieces: int) -> None:
        """Send a body in so many pieces, with a pause before each."""
        outcome.sent = size
        body = tagged(outcome.id, size)
        body = message(body) if outcome.kind.is_call else body
        step = max(1, len(body) // pieces)

        async def write(on: Link, lane: Lane) -> None:
            for at in range(0, len(body), step):
                await asyncio.sleep(pause_s)
                if not await on.send(lane, body[at : at + step], ends=at + step >= len(body)):
                    return

        await self._slowly(outcome, port, 10, write)

    async def _slowly(self, outcome: Outcome, port: int, size: int, act: Callable[[Link, Lane], object]) -> None:
        fields = fields_of(outcome, size, is_sized=True)
        for _ in range(_TRIES):
            try:
                on = await self._link(outcome.kind, port, SLOW_WINDOW)
            except OSError as error:
                outcome.failure, outcome.detail = "refused", str(error)
                return
            lane = on.open(fields, ends=not outcome.sent)
            self.most = max(self.most, len(on.lanes))
            await act(on, lane)  # type: ignore[misc]
            if await self._answered(on, lane, outcome, size):
                return
        outcome.failure, outcome.detail = "refused", f"{_TRIES} times not looked at"

    async def stall(self, outcome: Outcome, port: int, size: int) -> None:
        """Never open the window, until the sidecar ends it; who reads on all the same has not been held up."""
        try:
            on = await self._link(outcome.kind, port, SLOW_WINDOW)
        except OSError as error:
            outcome.failure, outcome.detail = "refused", str(error)
            return
        lane = on.open(fields_of(outcome, size, is_sized=True), ends=True)
        lane.is_stingy = True
        await lane.until(lambda: lane.is_ended)
        outcome.failure = "wrong" if lane.is_ended else "left"
        outcome.detail = f"stalled, {len(lane.body)} of {size}, code {lane.code}"

    async def talk(self, outcome: Outcome, port: int, seconds: float) -> None:
        """A stream of messages both ways for so long, each of which must come back before the next is sent."""
        until_s, chance = time.monotonic() + seconds, self._chance
        leaves = chance.random() < LEAVING_TALKS
        fields = [*fields_of(outcome, 0, is_sized=False), ("x-talk", "1")]
        for _ in range(_TRIES):
            try:
                on = await self._link(outcome.kind, port)
            except OSError as error:
                outcome.failure, outcome.detail = "refused", str(error)
                return
            lane = on.open(fields, ends=False)
            said: list[bytes] = []
            while time.monotonic() < until_s and not lane.is_over and not lane.is_ended:
                said.append(tagged(f"{outcome.id}.{len(said)}", chance.choice((0, 10, 2000, 20_000))))
                await on.send(lane, message(said[-1]), ends=False)
                await lane.until(lane.has_message)
                if lane.next_message() != said[-1] and not lane.is_over and not lane.is_ended:
                    outcome.failure, outcome.detail = "wrong", f"message {len(said)} of the talk"
                    on.reset(lane, link.CANCEL)
                    return
                await asyncio.sleep(chance.random() * 0.3)
            if leaves and not lane.is_over:
                outcome.failure = "left"
                on.reset(lane, chance.choice((link.CANCEL, *link.CODES)))
                return
            if not lane.is_over:
                await on.send(lane, b"", ends=True)
            if await self._answered_talk(on, lane, outcome, said):
                return
        outcome.failure, outcome.detail = "refused", f"{_TRIES} times not looked at"

    async def _answered_talk(self, on: Link, lane: Lane, outcome: Outcome, said: list[bytes]) -> bool:
        if await lane.until(lambda: lane.is_ended):
            outcome.status = int(lane.fields[":status"])
            self._judge_call(lane, outcome, b"".join(map(message, said)))
            return True
        return await self._answered(on, lane, outcome, 0)


def fields_of(outcome: Outcome, size: int, *, is_sized: bool) -> Fields:
    """The head of this outcome's request."""
    kind, tag = outcome.kind, outcome.id
    fields = [
        (":method", kind.method),
        (":scheme", "http"),
        (":authority", kind.host or "app"),
        (":path", f"/storm.Service/{tag}" if kind.is_call else f"/{tag}"),
        ("x-id", tag),
        ("x-request-id", tag),
        ("x-sent", str(outcome.sent)),
        ("x-size", str(size)),
        ("x-framing", "length" if is_sized else "chunked"),
    ]
    if kind.is_call:
        fields += [("content-type", GRPC), ("te", "trailers")]
    elif outcome.sent and is_sized:
        fields.append(("content-length", str(outcome.sent)))
    if kind.is_keyed:
        fields.append(("idempotency-key", tag))
    if not kind.host:
        # Who connects cannot say who he is.
        fields.append(("x-forwarded-client-cert", f"By=me;URI=spiffe://shop/{tag}"))
    return fields
