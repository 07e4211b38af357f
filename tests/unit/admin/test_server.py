"""The admin server's HTTP: keep-alive, limits, refusals and clean ends, over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
import uvloop

from sidecar.admin import server as admin_server
from sidecar.admin.endpoints import Endpoints
from sidecar.admin.hosts import AllowedHosts
from sidecar.admin.server import AdminServer
from tests.unit.admin.process import FakeProcess

Conversation = Callable[[asyncio.StreamReader, asyncio.StreamWriter, AdminServer], Awaitable[None]]


def converse(conversation: Conversation, process: FakeProcess | None = None, hosts: AllowedHosts | None = None) -> None:
    """Run a conversation with a server of its own, which must be left without connections."""

    async def run() -> None:
        admin = AdminServer(Endpoints.everything(process or FakeProcess()), hosts)
        server = await asyncio.get_running_loop().create_server(admin.protocol, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        try:
            async with asyncio.timeout(10):
                await conversation(reader, writer, admin)
        finally:
            writer.close()
            admin.abort()
            server.close()
            async with asyncio.timeout(10):
                while admin.connection_count:
                    await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


async def read_reply(reader: asyncio.StreamReader, is_head: bool = False) -> tuple[int, dict[str, str], bytes]:
    """Status, fields by lower-case name, and body of the next response."""
    lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    fields = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
    body = b"" if is_head else await reader.readexactly(int(fields["content-length"]))
    return int(lines[0].split()[1]), fields, body


def get(path: str, method: str = "GET", extra: str = "") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\n{extra}\r\n".encode()


def test_a_connection_serves_one_request_after_the_other() -> None:
    """Keep-alive, and two pipelined requests answered in order."""

    async def conversation(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: AdminServer) -> None:
        writer.write(get("/ready"))
        assert (await read_reply(reader))[::2] == (200, b"ready\n")
        writer.write(get("/live") + get("/nowhere"))
        assert (await read_reply(reader))[::2] == (200, b"live\n")
        assert (await read_reply(reader))[0] == 404

    converse(conversation)


def test_head_has_the_length_and_no_body() -> None:
    """RFC 9110, 9.3.2."""

    async def conversation(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: AdminServer) -> None:
        writer.write(get("/metrics", "HEAD") + get("/live"))
        status, fields, _body = await read_reply(reader, is_head=True)
        assert (status, fields["content-length"]) == (200, str(len(FakeProcess().body)))
        assert fields["content-type"].startswith("text/plain; version=0.0.4")
        assert (await read_reply(reader))[2] == b"live\n"

    converse(conversation)


def test_a_post_with_a_body_is_answered_and_the_connection_goes_on() -> None:
    """The body is dropped, also after `Expect: 100-continue`."""

    async def conversation(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: AdminServer) -> None:
        writer.write(get("/reload", "POST", "Content-Length: 3\r\nExpect: 100-continue\r\n"))
        assert b" 100 " in await reader.readuntil(b"\r\n\r\n")
        writer.write(b"abc" + get("/live"))
        assert (await read_reply(reader))[0] == 200
        assert (await read_reply(reader))[2] == b"live\n"

    converse(conversation)


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /live HTTP/1.1\r\nHost: x\r\nbig: " + b"a" * admin_server.MAX_HEAD_BYTES + b"\r\n\r\n", 431),
        (get("/reload", "POST", "Content-Length: 70000\r\n") + b"a" * 70000, 413),
        (b"nonsense\r\n\r\n", 400),
        (b"GET /live HTTP/1.1\r\n\r\n", 400),
        (b"GET /live HTTP/1.1\r\nHost : x\r\n\r\n", 400),
    ],
    ids=["head too large", "body too large", "no HTTP", "no Host", "space before colon"],
)
def test_bad_requests_are_refused_and_the_connection_closed(request_bytes: bytes, status: int) -> None:
    """A status that says what was wrong, then the end."""

    async def conversation(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, admin: AdminServer) -> None:
        writer.write(request_bytes)
        answered, fields, _ = await read_reply(reader)
        assert (answered, fields["connection"]) == (status, "close")
        assert await reader.read() == b""
        writer.close()
        while admin.connection_count:
            await asyncio.sleep(0)

    converse(conversation)


@pytest.mark.parametrize(
    "asked", [b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"nonsense\r\n\r\n"]
)
def test_a_last_answer_arrives_whatever_the_client_sends_behind_its_request(asked: bytes) -> None:
    """A close with octets unread resets the connection, and the answer with it."""
    process = FakeProcess()

    async def many(*_: object, **__: object) -> bytes:
        return b"x" * 3_000_000

    process.metrics = many  # type: ignore[method-assign]

    async def conversation(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: AdminServer) -> None:
        writer.write(asked + b"y" * 3_000_000)
        status, fields, _ = await read_reply(reader)
        assert (status, fields["connection"]) in ((200, "close"), (400, "close"))
        assert await reader.read() == b""

    converse(conversation, process)


def test_whoever_does_not_close_behind_its_last_answer_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while, for the connection is of no use."""
    monkeypatch.setattr(admin_server, "LINGER_S", 0.01)

    async def conversation(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, admin: AdminServer) -> None:
        writer.write(get("/live", extra="Connection: close\r\n"))
        assert (await read_reply(reader))[0] == 200
        while admin.connection_count:
            await asyncio.sleep(0)

    converse(conversation)


def test_a_handler_that_fails_is_a_500_and_a_logged_exception(caplog: pytest.LogCaptureFixture) -> None:
    """No exception text reaches the client."""
    process = FakeProcess()

    async def broken(*_: object, **__: object) -> bytes:
        raise RuntimeError("internal detail")

    process.metrics = broken  # type: ignore[method-assign]

    async def conversation(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: AdminServer) -> None:
        writer.write(get("/metrics"))
        status, _fields, body = await read_reply(reader)
        assert status == 500
        assert b"internal detail" not in body

    converse(conversation, process)
    assert "admin_request_failed" in caplog.text


def test_a_slow_head_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that sends half a head holds a connection only for the request timeout."""
    monkeypatch.setattr(admin_server, "REQUEST_TIMEOUT_S", 0.01)

    async def conversation(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: AdminServer) -> None:
        writer.write(b"GET /live HT")
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await reader.readexactly(1)

    converse(conversation)


def test_an_idle_connection_is_closed_after_the_idle_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between requests the idle timeout counts."""
    monkeypatch.setattr(admin_server, "IDLE_TIMEOUT_S", 0.01)

    async def conversation(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: AdminServer) -> None:
        writer.write(get("/live"))
        await read_reply(reader)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await reader.readexactly(1)

    converse(conversation)


def test_too_many_connections_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one above the limit is cut, those below go on."""
    monkeypatch.setattr(admin_server, "MAX_CONNECTIONS", 1)

    async def conversation(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: AdminServer) -> None:
        writer.write(get("/live"))
        await read_reply(reader)
        host, port = writer.get_extra_info("peername")[:2]
        other_reader, other_writer = await asyncio.open_connection(host, port)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await other_reader.readexactly(1)
        other_writer.close()
        writer.write(get("/live"))
        assert (await read_reply(reader))[0] == 200

    converse(conversation)


def test_draining_closes_idle_connections_and_says_close_on_the_others() -> None:
    """An answer that is on its way is still given."""
    process = FakeProcess()
    gate = asyncio.Event()
    entered = asyncio.Event()
    reload = process.reload

    async def slow_reload(*, is_forced: bool = False) -> object:
        entered.set()
        await gate.wait()
        return await reload()

    process.reload = slow_reload  # type: ignore[method-assign,assignment]

    async def conversation(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, admin: AdminServer) -> None:
        host, port = writer.get_extra_info("peername")[:2]
        idle_reader, idle_writer = await asyncio.open_connection(host, port)
        writer.write(get("/reload", "POST"))
        await entered.wait()
        while admin.connection_count < 2:
            await asyncio.sleep(0)
        admin.close_idle()
        assert await idle_reader.read() == b""
        idle_writer.close()
        gate.set()
        status, fields, _ = await read_reply(reader)
        assert (status, fields["connection"]) == (200, "close")
        assert await reader.read() == b""

    converse(conversation, process)


def test_a_client_that_half_closes_still_gets_its_answer() -> None:
    """As `nc` and some probes do."""

    async def conversation(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: AdminServer) -> None:
        writer.write(get("/live"))
        writer.write_eof()
        assert (await read_reply(reader))[2] == b"live\n"
        assert await reader.read() == b""

    converse(conversation)


@pytest.mark.parametrize(
    ("request_bytes", "line"),
    [
        (get("/live"), b"HTTP/1.1 200 OK"),
        (get("/nowhere"), b"HTTP/1.1 404 Not Found"),
        (get("/reload"), b"HTTP/1.1 405 Method Not Allowed"),
        (get("/tap?limit=x"), b"HTTP/1.1 400 Bad Request"),
        (b"nonsense\r\n\r\n", b"HTTP/1.1 400 Bad Request"),
        (get("/tap"), b"HTTP/1.1 200 OK"),
    ],
)
def test_every_status_line_has_a_phrase(request_bytes: bytes, line: bytes) -> None:
    """RFC 9112, 4; also where an answer has no end."""

    async def conversation(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: AdminServer) -> None:
        writer.write(request_bytes)
        assert await reader.readline() == line + b"\r\n"

    converse(conversation)


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /config HTTP/1.1\r\nHost: evil.example:9901\r\n\r\n", 421),
        (b"POST /quitquitquit HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421),
        (b"GET http://evil.example/config HTTP/1.1\r\nHost: localhost\r\n\r\n", 421),
        (b"GET http://localhost/live HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421),
        (b"GET /live HTTP/1.1\r\nHost: localhost:9901\r\n\r\n", 200),
        (b"GET /live HTTP/1.1\r\nHost: [::1]\r\n\r\n", 200),
        (b"GET /live HTTP/1.1\r\nHost:\r\n\r\n", 200),
        (b"GET /live HTTP/1.0\r\n\r\n", 200),
        (b"GET /live HTTP/1.1\r\nHost: allowed\r\n\r\n", 200),
    ],
)
def test_a_page_that_rebinds_its_name_is_refused(request_bytes: bytes, status: int) -> None:
    """DNS rebinding: `Host` is the page's own, wherever it resolves to."""
    process = FakeProcess()

    async def conversation(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: AdminServer) -> None:
        writer.write(request_bytes)
        answered, _fields, body = await read_reply(reader)
        assert answered == status
        if status == 421:
            assert b"'evil.example" in body
            assert b"admin.hosts" in body

    converse(conversation, process, AllowedHosts("127.0.0.1:0", ["allowed"]))
    assert process.calls == []


@pytest.mark.parametrize(
    ("field", "status"),
    [
        ("Origin: http://localhost:9901\r\n", 403),
        ("Origin: null\r\n", 403),
        ("Sec-Fetch-Site: cross-site\r\n", 403),
        ("Sec-Fetch-Site: same-site\r\n", 403),
        ("Sec-Fetch-Site: same-origin\r\n", 403),
        ("Sec-Fetch-Site: none\r\n", 200),
        ("", 200),
    ],
)
@pytest.mark.parametrize("path", ["/reload", "/drain", "/quitquitquit", "/logging?level=debug"])
def test_no_page_makes_a_browser_change_anything(path: str, field: str, status: int) -> None:
    """Browsers that send no Origin with a form say by another field where it came from."""
    process = FakeProcess()

    async def conversation(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: AdminServer) -> None:
        writer.write(get(path, "POST", field + "Content-Length: 0\r\n"))
        assert (await read_reply(reader))[0] == status

    converse(conversation, process)
    assert status == 200 or process.calls == []
