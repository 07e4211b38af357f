"""
An app of the demonstration: `python -m sidecar.demo.apps NAME VERSION MS [CALLEE...]`.

It says `listening PORT` on standard output, answers every request in about MS milliseconds with who it is and what
each `http://CALLEE/`, asked through `HTTP_PROXY`, answered it, and ends with 0 on SIGTERM. A callee that is written
`grpc:CALLEE` is asked for a price by gRPC (`prices`). It hands on the trace headers, the request id and the cookies,
which is all that an app does for its traces to be whole.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from sidecar.demo.http11 import Client, Handler, HTTPError, Request, Response, listen
from sidecar.runtime.loop import run_in_loop

HANDED_ON = ("traceparent", "tracestate", "x-request-id", "cookie")
JSON_HEADERS = {"content-type": "application/json"}
EDITION = "x-edition"
"""Header that a route sets, which shows from when on it is in force."""
CALL_LIMIT_S = 8.0
BY_GRPC = "grpc:"
"""How a callee begins that speaks it."""


def app(name: str, version: str, delay_ms: float, callees: Sequence[str], environment: Mapping[str, str]) -> Handler:
    """What answers; every path is a page that needs all that it calls."""
    proxy = urlsplit(environment.get("HTTP_PROXY", ""))
    client = Client(proxy.port, timeout_s=CALL_LIMIT_S) if callees and proxy.port is not None else None

    async def call(callee: str, headers: Mapping[str, str]) -> tuple[bool, object]:
        assert client is not None
        if callee.startswith(BY_GRPC):
            return await quote(client.port, callee.removeprefix(BY_GRPC), headers)
        try:
            reply = await client.get(f"http://{callee}/", {**headers, "host": callee})
        except HTTPError as error:
            return False, {"error": str(error)}
        try:
            answer = json.loads(reply.body)
        except ValueError:
            answer = reply.body.decode("latin-1")
        if isinstance(answer, dict) and EDITION in reply.headers:
            answer["edition"] = reply.headers[EDITION]
        if isinstance(answer, dict) and reply.status != 200:
            answer["status"] = reply.status
        return reply.status == 200, answer

    async def answer(request: Request) -> Response:
        if delay_ms:
            await asyncio.sleep(delay_ms / 1000 * random.uniform(0.5, 1.5))
        headers = {field: request.headers[field] for field in HANDED_ON if field in request.headers}
        page: dict[str, object] = {"app": name, "version": version}
        is_whole = True
        for callee in callees:
            has_answered, page[callee.removeprefix(BY_GRPC)] = await call(callee, headers)
            is_whole = is_whole and has_answered
        # A page without all its parts is not what was asked for; the demonstration wants to see it.
        return Response(200 if is_whole else 502, json.dumps(page).encode() + b"\n", JSON_HEADERS)

    return answer


async def quote(port: int, service: str, headers: Mapping[str, str]) -> tuple[bool, object]:
    """Ask a service of gRPC for a price; whether there is one, and what to show."""
    # Loads a library for HTTP/2, which few apps speak.
    from sidecar.demo.prices import price_of

    try:
        return True, {"price": await price_of("book", port, service, tuple(headers.items()), CALL_LIMIT_S)}
    except HTTPError as error:
        return False, {"error": str(error)}


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
    name, version, delay_ms, *callees = arguments
    return run_in_loop(lambda: serve(app(name, version, float(delay_ms), callees, os.environ)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
