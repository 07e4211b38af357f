"""
`GET /v1/watch`: a stream of lines, or one answer to a poll. *On the loop.*

The lines are worked out by `control.push` when they can be written: between two writes, whatever changed comes
together. A sidecar that does not read is cut after `WRITE_S`; it connects again, and is told what it has not. So is one
whose certificate ends: no stream outlives it, and who has another one by then comes back with that.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import re
import socket
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from aiohttp import web

from sidecar.control.addresses import is_loopback
from sidecar.control.fleet import FleetError
from sidecar.control.metrics import Counts
from sidecar.control.plane import Plane
from sidecar.control.push.stream import Stream
from sidecar.control.server.access import STREAMING, peer_of
from sidecar.control.server.callers import check_speaks_for, ends_s, tls_of
from sidecar.control.server.renewals import Renewals
from sidecar.link.messages import PING_PERIOD_S, Current, Ping, Watch, read_line, read_watch, write_line, write_poll

LIFE_S: Final = 1800.0
"""Of a stream, more or less a fifth: so that streams spread over replicas that come and go."""
WRITE_S: Final = 30.0
NO_WAIT_BYTES: Final = 16 * 1024
"""That are written without a look at the clock: a quarter of what a transport takes before it lets anybody wait."""
MAX_STREAMS: Final = 10_000
MAX_STREAMS_PER_PEER: Final = 2_000
"""From one address that is not loopback: a node's sidecars, or all behind a balancer that hides them."""
MAX_WAIT_S: Final = 300.0

_WAIT: Final = re.compile(r"(\d{1,4})s?")
_TYPES: Final = ((b'{"type":"config"', "config"), (b'{"type":"endpoints"', "endpoints"))


class Watching:
    """
    Args:
        ping_s: Between two pings.
        life_s: Of a stream.
        chance: From 0 to 1, for the jitter.
        renewals: Tell whose certificate is from before a change of the authority; None: there is none.
    """

    def __init__(
        self,
        plane: Plane,
        counts: Counts,
        *,
        ping_s: float = PING_PERIOD_S,
        life_s: float = LIFE_S,
        max_streams: int = MAX_STREAMS,
        chance: Callable[[], float] = random.random,
        renewals: Renewals | None = None,
    ) -> None:
        self._renewals = renewals
        self._plane = plane
        self._counts = counts
        self._ping_s = ping_s
        self._life_s = life_s
        self._max_streams = max_streams
        self._chance = chance
        self._by_peer: Counter[str] = Counter()

    async def watch(self, request: web.Request) -> web.StreamResponse:
        """The handler."""
        watch = read_watch(request.query)
        check_speaks_for(request, watch.service)
        peer = peer_of(request)
        self._check_room(watch, peer)
        if "wait" in request.query:
            return await self._poll(request, watch, peer)
        stream = self._plane.opened(watch, peer)
        if self._renewals is not None:
            self._renewals.opened(stream, request)
        self._by_peer[peer] += 1
        why = "ended"
        try:
            response = web.StreamResponse(
                headers={
                    "content-type": "application/jsonl",
                    "cache-control": "no-store",
                    "x-accel-buffering": "no",  # of proxies between that would gather lines
                }
            )
            response.enable_chunked_encoding()
            _tell_the_kernel(request)
            await response.prepare(request)
            request[STREAMING] = response.status
            why = await self._write(response, stream, request)
            return response
        except asyncio.CancelledError:
            why = "closed by the sidecar"
            raise
        except (ConnectionError, OSError) as error:
            why = f"lost: {error}"
            return response
        finally:
            self._by_peer[peer] -= 1
            if not self._by_peer[peer]:
                del self._by_peer[peer]
            self._plane.closed(stream, why)

    async def _write(self, response: web.StreamResponse, stream: Stream, request: web.Request) -> str:
        """Until the stream ends; why it does."""
        loop = asyncio.get_running_loop()
        transport, certificate_ends_s = request.transport, ends_s(tls_of(request))
        end_s = loop.time() + self._life_s * (0.8 + 0.4 * self._chance())
        ping_s = 0.0
        with _Alarm(loop, stream.wake) as alarm:
            while True:
                now_s = loop.time()
                # By the clock of this moment: it may have been set since the last.
                left_s = certificate_ends_s - self._plane.now_s()
                if left_s <= 0:
                    stream.end(moves=False)
                elif now_s >= end_s:
                    stream.end(moves=True)
                lines = self._plane.hub.take(stream)
                if now_s >= ping_s:
                    # The first comes at once: who asks knows that the stream stands, and the revision.
                    lines.append(write_line(Ping(self._plane.rollouts.revision)))
                    ping_s = now_s + self._ping_s
                if lines:
                    self._count(lines)
                    octets = b"".join(lines)
                    try:
                        if _has_room(transport, len(octets)):
                            await response.write(octets)
                        else:
                            async with asyncio.timeout(WRITE_S):
                                await response.write(octets)
                    except TimeoutError:
                        return "it does not read"
                if stream.is_over:
                    if left_s <= 0:
                        response.force_close()
                    with suppress(ConnectionError):
                        await response.write_eof()
                    return "its certificate has ended" if left_s <= 0 else "moved" if stream.moves else "replaced"
                due_s = stream.waits_s(self._plane.clock())
                next_s = min(ping_s, end_s, now_s + left_s)
                alarm.at(next_s if due_s is None else min(next_s, loop.time() + due_s))
                await stream.wake.wait()

    async def _poll(self, request: web.Request, watch: Watch, peer: str) -> web.StreamResponse:
        written = _WAIT.fullmatch(request.query["wait"])
        if written is None:
            raise FleetError(400, "wait: expected seconds such as `55s`")
        wait_s = min(float(written[1]), MAX_WAIT_S, ends_s(tls_of(request)) - self._plane.now_s())
        loop = asyncio.get_running_loop()
        until_s = loop.time() + wait_s
        stream = self._plane.opened(watch, peer)
        why = ""
        try:
            lines: list[bytes] = []
            while not lines and not stream.is_over:
                lines = self._plane.hub.take(stream)
                if request.headers.get("if-none-match") == self._tag(stream):
                    # No news to who has just this: the poll would be answered at once, again and again.
                    lines = [line for line in lines if not isinstance(read_line(line), Current)]
                left_s = until_s - loop.time()
                if lines or left_s <= 0 or "if-none-match" not in request.headers:
                    break
                due_s = stream.waits_s(self._plane.clock())
                await _woken(stream, left_s if due_s is None else min(left_s, due_s))
            tag = self._tag(stream)
            if request.headers.get("if-none-match") == tag and not lines:
                return web.Response(status=304, headers={"etag": tag})
            self._count(lines)
            headers = {"etag": tag, "cache-control": "no-store"}
            return web.Response(body=write_poll(lines), headers=headers, content_type="application/json")
        except asyncio.CancelledError:
            why = "closed by the sidecar"
            raise
        finally:
            self._plane.closed(stream, why)

    def _tag(self, stream: Stream) -> str:
        """Of all that this sidecar is to have: the same for the same, at every replica and after every restart."""
        goal = stream.goal
        parts = [f"{goal.revision} {goal.hash}" if goal is not None else stream.absent]
        for upstream, origin in sorted(stream.follows.items()):
            views = self._plane.discovery.views(origin)
            if views is not None and views.current is not None:
                parts.append(f"{upstream} {views.current.version}")
        return f'"{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]}"'

    def _check_room(self, watch: Watch, peer: str) -> None:
        if self._plane.is_draining:
            raise FleetError(503, "this control plane is going", retry_after_s=1)
        if self._plane.hub.get(watch.instance) is not None:
            return  # it takes the place of its own older one
        if len(self._plane.hub) >= self._max_streams:
            raise FleetError(503, f"more than {self._max_streams} streams", retry_after_s=10)
        if self._by_peer[peer] >= MAX_STREAMS_PER_PEER and not is_loopback(peer):
            raise FleetError(429, f"more than {MAX_STREAMS_PER_PEER} streams from one address", retry_after_s=10)

    def _count(self, lines: list[bytes]) -> None:
        for line in lines:
            kind = next((kind for start, kind in _TYPES if line.startswith(start)), "other")
            self._counts.lines[kind] += 1
            self._counts.written[kind] += len(line)


class _Alarm:
    """
    Sets an event at a time. One timer serves a stream for as long as it is not to ring earlier: a change that concerns
    a thousand of them would start and stop a thousand.
    """

    __slots__ = ("_at_s", "_event", "_loop", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
        self._loop = loop
        self._event = event
        self._at_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> _Alarm:
        return self

    def __exit__(self, *error: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def at(self, when_s: float) -> None:
        """Ring at this time, or a little before: whoever is woken looks what there is to do."""
        if self._timer is not None:
            if self._at_s <= when_s:
                return
            self._timer.cancel()
        self._at_s, self._timer = when_s, self._loop.call_at(when_s, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._event.set()


def _has_room(transport: asyncio.Transport | None, octets: int) -> bool:
    """Whether so many can be written without waiting for who reads them."""
    return transport is not None and transport.get_write_buffer_size() + octets <= NO_WAIT_BYTES


async def _woken(stream: Stream, within_s: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(max(0.0, within_s)):
            await stream.wake.wait()


def _tell_the_kernel(request: web.Request) -> None:
    """A sidecar whose machine is gone is found by what it does not acknowledge, not after a quarter of an hour."""
    found = request.transport.get_extra_info("socket") if request.transport is not None else None
    if found is not None:
        with suppress(OSError):
            found.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(WRITE_S * 1000))
