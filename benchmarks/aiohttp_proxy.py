"""A reverse proxy as one writes it in Python with aiohttp: what most would have instead of a sidecar in Python.

One application with a handler, one client session, bodies streamed both ways, headers of one hop dropped, aiohttp's own
router for the prefixes, uvloop. Routing is as with the other subjects: prefixes to `v1`, `/v1` by cookie and by weight.
With LOG it appends one line of JSON a request, through `logging` as a service would.

    python benchmarks/aiohttp_proxy.py PORT V1_PORT BETA_PORT HOST SERVICES_FILE [LOG]
"""

from __future__ import annotations

import json
import logging
import random
import sys
import time
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import uvloop
from aiohttp import web

HOP_BY_HOP = frozenset(
    ("connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade")
)
log = logging.getLogger("access")


class Proxy:
    """Forwards to one of two upstreams."""

    def __init__(self, v1_port: int, beta_port: int, is_logging: bool) -> None:
        self._v1 = f"http://127.0.0.1:{v1_port}"
        self._beta = f"http://127.0.0.1:{beta_port}"
        self._is_logging = is_logging
        self._session: aiohttp.ClientSession | None = None

    async def session(self, _app: web.Application) -> AsyncIterator[None]:
        """The client's life, which is the application's."""
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None, connect=1),
        ) as self._session:
            yield

    async def service(self, request: web.Request) -> web.StreamResponse:
        return await self._forward(request, self._v1)

    async def split(self, request: web.Request) -> web.StreamResponse:
        is_beta = request.cookies.get("BETA_USER") == "true" or random.random() < 0.05
        return await self._forward(request, self._beta if is_beta else self._v1)

    async def _forward(self, request: web.Request, upstream: str) -> web.StreamResponse:
        assert self._session is not None
        began = time.perf_counter()
        headers = request.headers.copy()
        for name in HOP_BY_HOP:
            headers.popall(name, None)
        request_id = headers.setdefault("X-Request-Id", str(uuid.uuid4()))
        headers["X-Forwarded-For"] = request.remote or "unknown"
        headers["X-Forwarded-Proto"] = request.scheme
        async with self._session.request(
            request.method,
            upstream + request.path_qs,
            headers=headers,
            data=request.content if request.can_read_body else None,
            allow_redirects=False,
        ) as answer:
            kept = [(name, value) for name, value in answer.headers.items() if name.lower() not in HOP_BY_HOP]
            response = web.StreamResponse(status=answer.status, reason=answer.reason, headers=kept)
            await response.prepare(request)
            sent = 0
            async for chunk in answer.content.iter_any():
                sent += len(chunk)
                await response.write(chunk)
            await response.write_eof()
        if self._is_logging:
            self._log(request, request_id, upstream, answer.status, sent, time.perf_counter() - began)
        return response

    def _log(
        self, request: web.Request, request_id: str, upstream: str, status: int, sent: int, duration_s: float
    ) -> None:
        line = {
            "start_time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "method": request.method,
            "path": request.path_qs,
            "protocol": f"HTTP/{request.version.major}.{request.version.minor}",
            "response_code": status,
            "upstream_host": upstream,
            "bytes_received": request.content_length or 0,
            "bytes_sent": sent,
            "duration": round(duration_s * 1000, 3),
            "request_id": request_id,
            "authority": request.host,
            "user_agent": request.headers.get("User-Agent", ""),
            "downstream_remote_address": request.remote,
        }
        log.info(json.dumps(line, separators=(",", ":")))


def application(proxy: Proxy, host: str, services: list[str]) -> web.Application:
    """The application: the routes of one host; whatever else is asked for gets 404."""
    mesh = web.Application()
    for path in services:
        mesh.router.add_route("*", path + "/{tail:.*}", proxy.service)
    mesh.router.add_route("*", "/v1/{tail:.*}", proxy.split)
    app = web.Application()
    app.cleanup_ctx.append(proxy.session)
    app.add_domain(host, mesh)
    return app


def main(port: str, v1_port: str, beta_port: str, host: str, services: str, log_path: str = "") -> None:
    """Serve until the process is ended."""
    if log_path:
        handler = logging.FileHandler(log_path)
        handler.setFormatter(logging.Formatter("%(message)s"))
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        log.propagate = False
    uvloop.install()
    app = application(Proxy(int(v1_port), int(beta_port), bool(log_path)), host, Path(services).read_text().split())
    # No limit of an upload: it is passed on, not kept. No access log of aiohttp's: `_log` writes ours.
    web.run_app(
        app, host="127.0.0.1", port=int(port), backlog=4096, access_log=None, print=None, keepalive_timeout=3600
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
