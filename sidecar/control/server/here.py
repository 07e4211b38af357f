"""What this replica knows at first hand, for the others: `/v1/here/...`. *On the loop.* Nobody else is asked for it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from aiohttp import web

from sidecar.control import shown
from sidecar.control.asks import AskError, NotHereError
from sidecar.control.calls.counted import Packed, Tally
from sidecar.control.calls.edges import AskedKey, Pair
from sidecar.control.fleet import FleetError
from sidecar.control.plane import Plane
from sidecar.control.replicas.hours import AT_ONCE
from sidecar.control.replicas.tallies import asked_rows, tally_rows
from sidecar.control.server.access import problem
from sidecar.control.server.bodies import as_json, read_body
from sidecar.link.fields import decode


class Here:
    """The handlers."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane

    async def summary(self, request: web.Request) -> web.Response:
        """`GET /v1/here/summary?since=`: its sidecars, as the difference from what was told as `since`."""
        return as_json(shown.summary(self._plane, request.query.get("since", "")))

    async def edges(self, request: web.Request) -> web.Response:
        """`GET /v1/here/edges`: what its sidecars counted of their calls and of who asked in the last minute."""
        edges, asked = self._plane.edges.window("outbound"), self._plane.edges.asked()
        return await asyncio.to_thread(_rows, [(key[:4], tally) for key, tally in edges.items()], asked)

    async def instances(self, request: web.Request) -> web.Response:
        """`GET /v1/here/instances?service=`: what a service's instances answered in the last minute."""
        found = self._plane.edges.of_instances(request.query.get("service", ""))
        return await asyncio.to_thread(_rows, [((instance,), tally) for instance, tally in found.items()])

    async def history(self, request: web.Request) -> web.Response:
        """`GET /v1/here/history?first=&last=`: pairs of services by minutes since the Unix epoch."""
        said = [request.query.get(name, "") for name in ("first", "last")]
        if not all(one.isascii() and one.isdigit() and len(one) < 12 for one in said):
            raise FleetError(400, "expected `first` and `last`, two minutes")
        first, last = map(int, said)
        if last - first >= AT_ONCE:
            raise FleetError(400, f"expected at most {AT_ONCE} minutes at once")
        edges = self._plane.edges
        told, asked = edges.minutes(first, last), edges.asked_minutes(first, last)
        return await asyncio.to_thread(lambda: as_json({"rows": _by_minute(told), "asked": _by_minute(asked)}))

    async def goodbyes(self, request: web.Request) -> web.Response:
        """`POST /v1/here/goodbyes`: which of those that said goodbye nobody here sends requests to any more."""
        return as_json(self._plane.leaving.answer(decode(await read_body(request))))

    async def ask(self, request: web.Request) -> web.Response:
        """`POST /v1/here/ask`: a question to a sidecar that is connected here; 404 if it is not."""
        said = decode(await read_body(request))
        body = {key: value for key, value in said.all().items() if key not in ("instance", "id", "type")}
        try:
            answer = await self._plane.asks.ask(said.text("instance"), said.text("kind"), body)
        except NotHereError as error:
            return problem(NotHereError.STATUS, str(error))
        except AskError as error:
            return as_json({"error": str(error)})
        return as_json({"answer": answer})


def _rows(
    tallies: Iterable[tuple[tuple[str, ...], Tally]], asked: Mapping[AskedKey, int] | None = None
) -> web.Response:
    """To be made in a thread: they are some megabytes."""
    return as_json({"rows": tally_rows(tallies), **({"asked": asked_rows(asked)} if asked else {})})


def _by_minute(minutes: Mapping[int, Packed[Pair]]) -> list[list[Any]]:
    return tally_rows(
        ((*pair, str(minute)), tally) for minute, packed in minutes.items() for pair, tally in packed.tallies()
    )
