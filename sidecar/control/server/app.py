"""The routes of both listeners. *On the loop.*"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from aiohttp import web

from sidecar.control import shown
from sidecar.control.addresses import is_loopback
from sidecar.control.asks import AskError
from sidecar.control.authority.service import AuthorityService
from sidecar.control.calls.edges import HISTORY_MINUTES
from sidecar.control.fleet import FleetError
from sidecar.control.metrics import Metrics
from sidecar.control.plane import Plane
from sidecar.control.revision.compiler import CompilerError
from sidecar.control.server.access import Access, peer_of, problem
from sidecar.control.server.bodies import as_json, read_body
from sidecar.control.server.callers import check_speaks_for
from sidecar.control.server.changes import Changes
from sidecar.control.server.here import Here
from sidecar.control.server.join import JoinDesk, RevokeDesk, TokenDesk
from sidecar.control.server.watch import Watching
from sidecar.link.fields import MessageError, decode
from sidecar.link.report import MAX_REPORT_BYTES, Report, read_report
from sidecar.page.files import Page, page_file

IN_A_THREAD_BYTES: Final = 64 * 1024
"""A report of this size is read in a thread: it would hold up all others for milliseconds."""


class Desk:
    """Everything but streams, on 15010."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane

    async def report(self, request: web.Request) -> web.Response:
        """`POST /v1/report`."""
        raw = await read_body(request)
        report: Report
        if len(raw) > IN_A_THREAD_BYTES:
            report = await asyncio.to_thread(read_report, raw)
        else:
            report = read_report(raw)
        for name in ("service", "instance"):
            if not getattr(report, name):
                raise MessageError(f"{name}: expected a name, found nothing")
        check_speaks_for(request, report.service)
        peer = peer_of(request)
        return web.json_response(self._plane.reported(report, peer, is_loopback(peer)))

    async def answer(self, request: web.Request) -> web.Response:
        """`POST /v1/answer`."""
        said = decode(await read_body(request))
        if not self._plane.asks.answered(said.text("id"), said.all()):
            return problem(404, "nobody waits for this answer")
        return web.json_response({})

    async def ask(self, request: web.Request) -> web.Response:
        """`POST /v1/ask`: `{"instance", "kind", ...}` is sent to one sidecar, and what it answers is the answer."""
        said = decode(await read_body(request))
        body = {key: value for key, value in said.all().items() if key not in ("instance", "id", "type")}
        try:
            answer = await self._plane.whole.ask(said.text("instance"), said.text("kind"), body)
        except AskError as error:
            return problem(502, str(error))
        return web.json_response({"answer": answer})

    async def mesh(self, request: web.Request) -> web.Response:
        """`GET /v1/mesh`."""
        window, missing = await self._plane.whole.window()
        return as_json(shown.mesh(self._plane, window, missing))

    async def history(self, request: web.Request) -> web.Response:
        """`GET /v1/history`."""
        minutes = request.query.get("minutes", str(HISTORY_MINUTES))
        if not (minutes.isascii() and minutes.isdigit() and len(minutes) < 6):
            raise FleetError(400, "minutes: expected a number")
        told, missing = await self._plane.whole.history(int(minutes))
        return await asyncio.to_thread(as_json, told | shown.missing(missing))

    async def routes(self, request: web.Request) -> web.Response:
        """`GET /v1/routes`."""
        caller, callee = request.query.get("from", ""), request.query.get("to", "")
        if not caller or not callee:
            raise FleetError(400, "expected `from` and `to`, two services")
        try:
            routes = await self._plane.compiler.routes(caller, callee)
        except CompilerError as error:
            return problem(503, str(error))
        whole = self._plane.whole
        (window, lacks), (counted, lacks_too) = await asyncio.gather(whole.window(), whole.of_instances(callee))
        told = shown.with_shares(caller, callee, routes, window.edges)
        told["instances"] = shown.answered(self._plane, counted)[: shown.SLOWEST]
        return as_json(told | shown.missing(lacks | lacks_too))

    async def instances(self, request: web.Request) -> web.Response:
        """`GET /v1/instances`."""
        service = request.query.get("service", "")
        if not service:
            raise FleetError(400, "expected `service`")
        counted, missing = await self._plane.whole.of_instances(service)
        return as_json({"instances": shown.answered(self._plane, counted)} | shown.missing(missing))

    async def page(self, request: web.Request) -> web.Response:
        """`GET /` and what the page is made of."""
        found = page_file(Page.MESH, request.path, request.headers.get("if-none-match", ""))
        if found is None:
            return problem(404, "there is nothing here")
        status, headers, body = found
        return web.Response(status=status, headers=dict(headers), body=body)


def control_app(
    plane: Plane, watching: Watching, access: Access, service: AuthorityService | None = None
) -> web.Application:
    """What 15010 serves; without an authority nobody joins."""
    app = web.Application(middlewares=[access.middleware], client_max_size=MAX_REPORT_BYTES)
    app.on_response_prepare.append(_add_fields)
    desk, changes, here = Desk(plane), Changes(plane), Here(plane)
    app.add_routes(
        [
            web.get("/v1/watch", watching.watch, allow_head=False),
            web.post("/v1/report", desk.report),
            web.post("/v1/answer", desk.answer),
            web.post("/v1/ask", desk.ask),
            web.get("/v1/mesh", desk.mesh),
            web.get("/v1/history", desk.history),
            web.get("/v1/routes", desk.routes),
            web.get("/v1/instances", desk.instances),
            web.post("/v1/push", changes.push),
            web.post("/v1/diff", changes.diff),
            web.post("/v1/rollback", changes.rollback),
            web.post("/v1/hurry", changes.hurry),
            web.get("/v1/here/summary", here.summary),
            web.get("/v1/here/edges", here.edges),
            web.get("/v1/here/instances", here.instances),
            web.get("/v1/here/history", here.history),
            web.post("/v1/here/goodbyes", here.goodbyes),
            web.post("/v1/here/ask", here.ask),
            web.get("/", desk.page),
            web.get("/page/{name}", desk.page),
        ]
    )
    if service is not None:
        join, given = JoinDesk(service.joining, service.authority), TokenDesk(service.authority, service.tokens)
        app.add_routes(
            [
                web.post("/v1/join", join.join),
                web.get("/v1/join/nonce", join.nonce),
                web.get("/v1/trust", join.trust),
                web.get("/v1/tokens", given.list),
                web.post("/v1/tokens", given.create),
                web.delete("/v1/tokens/{id}", given.revoke),
                web.post("/v1/revoke", RevokeDesk(plane.engine.secrets, plane.now_s).revoke),
            ]
        )
    return app


def ops_app(plane: Plane, metrics: Metrics, why_not_secured: Callable[[], str] = str) -> web.Application:
    """
    What 15014 serves: nothing that tells of the mesh but numbers.

    Args:
        why_not_secured: Why nobody can come by TLS, where somebody should; empty if that is not so.
    """

    async def ready(request: web.Request) -> web.Response:
        why = plane.why_not_ready() or why_not_secured()
        return web.Response(status=503 if why else 200, text=(why or "ready") + "\n")

    async def scrape(request: web.Request) -> web.Response:
        body, content_type = metrics.written(request.headers.get("accept", ""))
        return web.Response(body=body, headers={"content-type": content_type})

    app = web.Application()
    app.on_response_prepare.append(_add_fields)
    app.add_routes([web.get("/ready", ready), web.get("/metrics", scrape)])
    return app


async def _add_fields(request: web.Request, response: web.StreamResponse) -> None:
    response.headers["server"] = "sidecar"  # whose version nobody needs to know who is not let in
    response.headers["x-content-type-options"] = "nosniff"
