"""
The routes of both listeners: reviews by HTTPS, probes and scrapers in clear. *On the loop; large bodies in a thread.*

Whatever happens, the API gets an answer before its own time is over, for what it does without one is not ours to
choose. It says how long it waits (`?timeout=5s`); nine tenths of that are ours.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from aiohttp import web

from sidecar.control.fleet import FleetError
from sidecar.control.server.access import peer_of, problem
from sidecar.control.server.bodies import as_json, read_body
from sidecar.process_log import BoundedStream
from sidecar.webhook.counts import Counts
from sidecar.webhook.known import PATH
from sidecar.webhook.review import Answer, Policy, ReviewError, answer

logger = logging.getLogger(__name__)

MAX_BODY_BYTES: Final = 3 * 1024 * 1024
"""As much as the API server takes of an object itself (`MaxRequestBodyBytes`)."""
IN_A_THREAD_BYTES: Final = 64 * 1024
"""A review of this size is decided in a thread: it would hold up all others for milliseconds."""
MOST_IN_THREADS: Final = 4
"""Of such reviews at once: read, one of 3 MiB takes ten times as much memory."""
MOST_S: Final = 4.5
"""For one review, where the API does not say that it waits for less."""
_SHARE: Final = 0.9
_TIMEOUT: Final = re.compile(r"([0-9]{1,4})s")


class Desk:
    """
    Args:
        policy: What is decided by.
        counts: Of what was decided.
        lines: Where a line of JSON is written for each review; None: nowhere.
        is_ending: Whether who asks is to go elsewhere: connections end with their next answer.
    """

    def __init__(
        self, policy: Policy, counts: Counts, lines: BoundedStream | None, is_ending: Callable[[], bool] = bool
    ) -> None:
        self._policy = policy
        self._counts = counts
        self._lines = lines
        self._is_ending = is_ending
        self._threads = asyncio.Semaphore(MOST_IN_THREADS)

    async def inject(self, request: web.Request) -> web.StreamResponse:
        """`POST /inject`."""
        began_s = time.perf_counter()
        try:
            async with asyncio.timeout(_deadline_s(request.query.get("timeout", ""))):
                decided = await self._decided(request)
        except (ReviewError, web.HTTPException, FleetError, TimeoutError) as error:
            return self._refused(request, *_refusal(error), began_s)
        except Exception:
            logger.exception("review_broken")
            return self._refused(request, 500, "a fault of the webhook; its log has more", began_s)
        duration_s = time.perf_counter() - began_s
        self._counts.decided(decided.decision, duration_s)
        facts = {"decision": decided.decision, **decided.facts, "added": decided.added, "why": decided.why}
        self._write(request, duration_s, 200, facts)
        response = as_json(decided.body)
        if self._is_ending():
            response.force_close()
        return response

    async def _decided(self, request: web.Request) -> Answer:
        if request.content_type != "application/json":
            raise web.HTTPUnsupportedMediaType(reason="expected application/json")
        raw = await read_body(request)
        if len(raw) > IN_A_THREAD_BYTES:
            async with self._threads:
                return await asyncio.to_thread(answer, raw, self._policy)
        return answer(raw, self._policy)

    def _refused(self, request: web.Request, status: int, why: str, began_s: float) -> web.Response:
        self._counts.refused(status)
        self._write(request, time.perf_counter() - began_s, status, {"why": why})
        return problem(status, why)

    def _write(self, request: web.Request, duration_s: float, status: int, facts: dict[str, Any]) -> None:
        if self._lines is None:
            return
        line = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "event": "review",
            "peer": peer_of(request),
            "status": status,
            "duration_ms": round(duration_s * 1000, 1),
        }
        line |= {name: one[:1000] if isinstance(one, str) else one for name, one in facts.items() if one != ""}
        self._lines.write(json.dumps(line) + "\n")


def _deadline_s(asked: str) -> float:
    found = _TIMEOUT.fullmatch(asked)
    return min(MOST_S, max(0.1, int(found[1]) * _SHARE)) if found else MOST_S


def _refusal(error: Exception) -> tuple[int, str]:
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return 413, f"expected at most {MAX_BODY_BYTES} octets"
    if isinstance(error, web.HTTPException):
        return error.status, error.reason
    if isinstance(error, FleetError):
        return error.status, str(error)
    if isinstance(error, TimeoutError):
        return 504, "it took longer than the API waits"
    return 400, str(error)


def review_app(desk: Desk) -> web.Application:
    """What the API server reaches."""
    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app.add_routes([web.post(PATH, desk.inject)])
    return app


def ops_app(counts: Counts, why_not_ready: Callable[[], str]) -> web.Application:
    """What probes and scrapers reach."""

    async def ready(request: web.Request) -> web.Response:
        why = why_not_ready()
        return web.Response(status=503 if why else 200, text=(why or "ready") + "\n")

    async def live(request: web.Request) -> web.Response:
        return web.Response(text="live\n")

    async def scrape(request: web.Request) -> web.Response:
        body, content_type = counts.written(request.headers.get("accept", ""))
        return web.Response(body=body, headers={"content-type": content_type})

    app = web.Application()
    app.add_routes([web.get("/ready", ready), web.get("/live", live), web.get("/metrics", scrape)])
    return app
