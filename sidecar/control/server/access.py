"""
Who may ask, and what is written down of it: around every handler of 15010. *On the loop.*

A browser is a way in for pages of others. It cannot read a port on loopback by a name of its own (`admin.hosts`), and
what it sends for another site is refused.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final

from aiohttp import web

from sidecar.admin.hosts import AllowedHosts
from sidecar.control.fleet import FleetError
from sidecar.control.metrics import Counts
from sidecar.control.server.callers import CALLER, Callers, scope_of, tls_of
from sidecar.control.server.token import Tokens
from sidecar.link.fields import MessageError
from sidecar.process_log import BoundedStream

logger = logging.getLogger(__name__)

STREAMING: Final = web.RequestKey("streaming", int)
"""Status of a response that is being written, and has no end of its own."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

QUIET: Final = (
    "/v1/report", "/v1/here/summary", "/v1/here/goodbyes", "/v1/here/edges", "/v1/here/instances", "/v1/here/history",
)  # fmt: skip
"""What sidecars and replicas say all the time; if it went well, nothing is written of it."""
OPEN_TO_ALL: Final = ("/page/",)
"""Beginnings of paths that need no token: the page's own files, which know nothing; it asks for the token itself."""
WAY_IN: Final = frozenset({"/v1/join", "/v1/join/nonce", "/v1/trust"})
"""For who has neither token nor certificate yet."""


class AccessLog:
    """One line of JSON for each request, on standard output, which nobody waits for; but for what is `QUIET`."""

    def __init__(self, stream: BoundedStream | None) -> None:
        self._stream = stream

    def write(self, request: web.Request, status: int, duration_s: float, peer: str) -> None:
        """A request is over."""
        if self._stream is None or (request.path in QUIET and status == 200):
            return
        caller = request.get(CALLER)
        line = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "peer": peer,
            "method": request.method,
            "path": request.path[:1000],
            "status": status,
            "duration_ms": round(duration_s * 1000, 1),
            "service": request.query.get("service", "")[:100] or None,
            "instance": request.query.get("instance", "")[:100] or None,
            "caller": caller.name[:200] or None if caller is not None else None,
            "user_agent": request.headers.get("user-agent", "")[:200] or None,
        }
        self._stream.write(json.dumps({key: value for key, value in line.items() if value is not None}) + "\n")


class Access:
    """
    Args:
        tokens: None: none is needed.
        hosts: By which names this is called.
        log: Of requests.
        callers: Know who asks and what that one may, where the mesh has certificates; they have the tokens, too.
    """

    def __init__(
        self,
        tokens: Tokens | None,
        hosts: AllowedHosts,
        log: AccessLog,
        counts: Counts,
        callers: Callers | None = None,
    ) -> None:
        self._tokens = tokens
        self._callers = callers
        self._hosts = hosts
        self._log = log
        self._counts = counts

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Around every handler."""
        began_s, peer = time.perf_counter(), peer_of(request)
        status = 0
        try:
            response = self._refusal(request) or await self._answered(request, handler)
            status = response.status
            return response
        finally:
            # Who leaves in the middle is told as nginx does it, 499, but for streams, which end so.
            status = status or request.get(STREAMING, 499)
            self._counts.requests[_route(request), f"{status // 100}xx"] += 1
            self._log.write(request, status, time.perf_counter() - began_s, peer)

    def _refusal(self, request: web.Request) -> web.Response | None:
        local = _address(request, "sockname")
        if self._hosts.refuses(request.headers.get("host", ""), local):
            self._counts.refused["host"] += 1
            return problem(403, "this host is not served here; call it by an address or by localhost")
        if request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            self._counts.refused["cross_site"] += 1
            return problem(403, "a page of another site may not ask this")
        if request.path == "/" or request.path.startswith(OPEN_TO_ALL) or request.path in WAY_IN:
            return None
        if self._callers is not None:
            return self._scope_refusal(request, self._callers)
        if self._tokens is None:
            return None
        if self._tokens.admits(request.headers.get("authorization", "")):
            return None
        return self._unknown()

    def _scope_refusal(self, request: web.Request, callers: Callers) -> web.Response | None:
        authorization = request.headers.get("authorization", "")
        caller = callers.of(authorization, tls_of(request), peer_of(request))
        request[CALLER] = caller
        scope = scope_of(request.method, request.path)
        if scope in caller.scopes:
            return None
        if not caller.scopes:
            return self._unknown()
        self._counts.refused["scope"] += 1
        return problem(403, f"{caller.name or 'who shows no token'} may not do this: it needs the right `{scope}`")

    def _unknown(self) -> web.Response:
        self._counts.refused["token"] += 1
        refusal = problem(401, "expected a bearer token that is known here")
        refusal.headers["www-authenticate"] = "Bearer"
        return refusal

    async def _answered(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except FleetError as error:
            self._counts.refused[str(error.status)] += 1
            refusal = problem(error.status, str(error))
            if error.retry_after_s:
                refusal.headers["retry-after"] = str(error.retry_after_s)
            return refusal
        except MessageError as error:
            self._counts.refused["message"] += 1
            return problem(400, str(error))
        except web.HTTPException as error:
            return problem(error.status, error.reason)
        except Exception:
            logger.exception("request_broken path=%s", request.path[:100])
            return problem(500, "a fault of the control plane; its log has more")


def problem(status: int, text: str) -> web.Response:
    """An answer that says what is wrong."""
    return web.json_response({"error": text}, status=status)


def peer_of(request: web.Request) -> str:
    """IP address of whoever asks."""
    return _address(request, "peername")


def _address(request: web.Request, which: str) -> str:
    name = request.transport.get_extra_info(which) if request.transport is not None else None
    return str(name[0]) if isinstance(name, tuple) and name else ""


def _route(request: web.Request) -> str:
    """The route's own name, never what a peer wrote: a label that has no end."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "other"
