"""A small ASGI application, run by uvicorn as the app behind a sidecar."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable
from typing import Any

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """
    `/echo` answers with the request as JSON; `/digest` with the SHA-256 of the body, read as it streams in; `/stream`
    streams a hundred chunks of a KiB; anything else is `ok`.
    """
    path = scope["path"]
    if path == "/stream":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for number in range(100):
            piece = bytes([number]) * 1024
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        return
    digest, size = hashlib.sha256(), 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        digest.update(message.get("body", b""))
        size += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    if path == "/digest":
        body = digest.hexdigest().encode()
    elif path == "/echo":
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        client = list(scope["client"] or ())
        said = {"method": scope["method"], "path": path, "query": scope["query_string"].decode(), "headers": headers}
        body = json.dumps({**said, "size": size, "client": client}).encode()
    else:
        body = b"ok"
    fields = [(b"content-length", str(len(body)).encode()), (b"x-app", b"asgi")]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": body})
