"""What is told of requests that cannot be read: never an octet of them."""

from __future__ import annotations

import asyncio
import logging

import pytest
from aiohttp import web

from sidecar.control.server.unread import logger

TOKEN = b"s3cret-token-of-somebody"
FIELD = b"Authorization: Bearer " + TOKEN


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\n%b\x00\r\n\r\n" % FIELD,
        b"GET / HTTP/1.1\r\nHost: a\r\n%b\r\nX\r\n\r\n" % FIELD,
        b"GET / HTTP/1.1\r\nHost: a\r\n%b%b\r\n\r\n" % (FIELD, b"x" * 9000),
        b"GET /?%b HTTP/9.x\r\n\r\n" % TOKEN,
        b"%b\r\n\r\n" % FIELD,
        b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % (TOKEN * 1000),
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx%b\r\n" % TOKEN,
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %b\r\n\r\n" % TOKEN,
    ],
)
def test_nothing_of_a_request_that_cannot_be_read_is_told(caplog: pytest.LogCaptureFixture, request_: bytes) -> None:
    """In one line, at the level of a refusal."""
    caplog.set_level(logging.DEBUG)

    async def main() -> bytes:
        async def read(request: web.Request) -> web.Response:
            return web.Response(body=await request.read())

        app = web.Application()
        app.add_routes([web.post("/", read), web.get("/", read)])
        runner = web.AppRunner(app, access_log=None, logger=logger)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            reader, writer = await asyncio.open_connection(*runner.addresses[0])
            writer.write(request_)
            answer = await reader.read()
            writer.close()
            return answer
        finally:
            await runner.cleanup()

    assert asyncio.run(main()).startswith(b"HTTP/1.")
    told = [(record.name, record.levelname, caplog.handler.format(record)) for record in caplog.records]
    assert TOKEN.decode()[:12] not in str(told)
    assert "Traceback" not in str(told)
    (line,) = [text for name, _, text in told if name == logger.name]
    assert "request_unreadable peer=127.0.0.1 status=400 why=" in line
    assert {level for name, level, _ in told if name == logger.name} == {"INFO"}


def test_mistakes_of_our_own_are_told_as_ever(caplog: pytest.LogCaptureFixture) -> None:
    """With where they happened."""
    try:
        raise ZeroDivisionError
    except ZeroDivisionError as error:
        logger.error("Error handling request from %s", "10.0.0.1", exc_info=error)
    assert "Traceback" in caplog.text
    assert "ERROR" in caplog.text
