"""
The apps of the demonstration, one process each: `python -m sidecar.demo.apps storefront | recommendations VERSION MS`.

They say `listening PORT` on standard output and end with 0 on SIGTERM. `storefront` answers with what
`http://recommendations/` gave it, asked through `HTTP_PROXY`; it hands on the trace headers, the request id and the
cookies, which is all that an app does for its traces to be whole. `recommendations` answers who it is.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from collections.abc import Mapping
from urllib.parse import urlsplit

from sidecar.demo.http11 import Client, Handler, HTTPError, Request, Response, listen
from sidecar.runtime.loop import run_in_loop

HANDED_ON = ("traceparent", "tracestate", "x-request-id", "cookie")
JSON_HEADERS = {"content-type": "application/json"}


def storefront(environment: Mapping[str, str]) -> Handler:
    """The app: every path is a page that needs recommendations."""
    proxy = urlsplit(environment["HTTP_PROXY"])
    assert proxy.port is not None
    client = Client(proxy.port, timeout_s=8.0)

    async def answer(request: Request) -> Response:
        headers = {name: request.headers[name] for name in HANDED_ON if name in request.headers}
        try:
            reply = await client.get("http://recommendations/", {**headers, "host": "recommendations"})
        except HTTPError as error:
            return _json(502, {"app": "storefront", "error": str(error)})
        try:
            answer = json.loads(reply.body)
        except ValueError:
            answer = reply.body.decode("latin-1")
        # A page without recommendations is not what was asked for; the demonstration wants to see it.
        return _json(200 if reply.status == 200 else 502, {"app": "storefront", "recommendations": answer})

    return answer


def recommendations(version: str, delay_ms: float) -> Handler:
    """The service; takes about so long, so that latencies of the versions differ."""

    async def answer(request: Request) -> Response:
        await asyncio.sleep(delay_ms / 1000 * random.uniform(0.5, 1.5))
        return _json(200, {"app": "recommendations", "version": version})

    return answer


def _json(status: int, value: object) -> Response:
    return Response(status, json.dumps(value).encode() + b"\n", JSON_HEADERS)


async def serve(handler: Handler) -> int:
    """Serve until SIGTERM."""
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    server = await listen(handler)
    sys.stdout.write(f"listening {server.port}\n")
    sys.stdout.flush()
    await stopped.wait()
    server.close()
    return 0


def main(arguments: list[str]) -> int:
    """Run the app that the arguments name; returns the exit code."""
    if arguments == ["storefront"]:
        handler = storefront(os.environ)
    else:
        _, version, delay_ms = arguments
        handler = recommendations(version, float(delay_ms))
    return run_in_loop(lambda: serve(handler))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
