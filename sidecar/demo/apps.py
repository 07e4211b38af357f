"""
An app of the demonstration: `python -m sidecar.demo.apps NAME VERSION MS [CALLEE...]`.

It says `listening PORT` on standard output, answers every request in about MS milliseconds with who it is and what
each `http://CALLEE/`, asked through `HTTP_PROXY`, answered it, and ends with 0 on SIGTERM. It hands on the trace
headers, the request id and the cookies, which is all that an app does for its traces to be whole.
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


def app(name: str, version: str, delay_ms: float, callees: Sequence[str], environment: Mapping[str, str]) -> Handler:
    """What answers; every path is a page that needs all that it calls."""
    proxy = urlsplit(environment.get("HTTP_PROXY", ""))
    client = Client(proxy.port, timeout_s=CALL_LIMIT_S) if callees and proxy.port is not None else None

    async def call(callee: str, headers: Mapping[str, str]) -> tuple[bool, object]:
        assert client is not None
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
            has_answered, page[callee] = await call(callee, headers)
            is_whole = is_whole and has_answered
        # A page without all its parts is not what was asked for; the demonstration wants to see it.
        return Response(200 if is_whole else 502, json.dumps(page).encode() + b"\n", JSON_HEADERS)

    return answer


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
