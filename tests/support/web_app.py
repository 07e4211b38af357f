"""
An app as browsers know them, by aiohttp in a thread: a page, uploads, events, a WebSocket, downloads that wait.

    with WebApp() as app:
        app.port, app.release()
"""

from __future__ import annotations

import asyncio
import threading
from hashlib import sha256

from aiohttp import WSMsgType, web

CROWD = 100
"""Requests for `/crowd` that are answered when all are there."""
HALF_BYTES = 3 << 20
_MOST_BYTES = 64 << 20


class WebApp:
    """
    `/` is a page, `/digest` the SHA-256 of what is sent, `/empty` 204, `/cached` 304 for who has it, `/events` an event
    at once and another when it is released, `/held` a download likewise, `/echo` a WebSocket, `/crowd` as above.

    Attributes:
        port: Where it listens.
    """

    def __init__(self) -> None:
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._released = asyncio.Event()
        self._crowd = asyncio.Barrier(CROWD)

    def __enter__(self) -> WebApp:
        self._thread.start()
        assert self._ready.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)

    def hold(self) -> None:
        """Let events and downloads wait."""
        self._loop.call_soon_threadsafe(self._released.clear)

    def release(self) -> None:
        """Let events and downloads go on."""
        self._loop.call_soon_threadsafe(self._released.set)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(self._runner.cleanup())
        self._loop.close()

    async def _serve(self) -> None:
        app = web.Application(client_max_size=_MOST_BYTES)
        app.router.add_get("/", self._page)
        app.router.add_post("/digest", self._digest)
        app.router.add_get("/empty", self._empty)
        app.router.add_get("/cached", self._cached)
        app.router.add_get("/events", self._events)
        app.router.add_get("/held", self._held)
        app.router.add_get("/echo", self._echo)
        app.router.add_get("/crowd", self._in_crowd)
        self._runner = web.AppRunner(app, shutdown_timeout=0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = int(self._runner.addresses[0][1])

    async def _page(self, request: web.Request) -> web.Response:
        page = '<!doctype html><title>app</title><link rel="icon" href="data:,"><p>hello'
        return web.Response(text=page, content_type="text/html")

    async def _digest(self, request: web.Request) -> web.Response:
        digest = sha256()
        async for piece in request.content.iter_any():
            digest.update(piece)
        return web.Response(text=digest.hexdigest())

    async def _empty(self, request: web.Request) -> web.Response:
        return web.Response(status=204)

    async def _cached(self, request: web.Request) -> web.Response:
        fields = {"etag": '"one"', "cache-control": "no-cache"}
        if request.headers.get("if-none-match") == '"one"':
            return web.Response(status=304, headers=fields)
        return web.Response(text="kept", headers=fields)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await answer.prepare(request)
        await answer.write(b"data: first\n\n")
        await self._released.wait()
        await answer.write(b"data: last\n\n")
        return answer

    async def _held(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        await answer.write(bytes(HALF_BYTES))
        await self._released.wait()
        await answer.write(bytes(HALF_BYTES))
        return answer

    async def _echo(self, request: web.Request) -> web.WebSocketResponse:
        answer = web.WebSocketResponse(max_msg_size=_MOST_BYTES)
        await answer.prepare(request)
        async for message in answer:
            if message.type is WSMsgType.TEXT:
                await answer.send_str(message.data)
            elif message.type is WSMsgType.BINARY:
                await answer.send_bytes(message.data)
        return answer

    async def _in_crowd(self, request: web.Request) -> web.Response:
        await self._crowd.wait()
        return web.Response(text="here")
