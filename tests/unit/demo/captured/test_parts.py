"""What runs on the hosts of the demonstration of captured traffic, and what it reads, without any host."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TypeVar, cast

import pytest

from sidecar.config.load import load_text
from sidecar.demo.captured.app import Counter
from sidecar.demo.captured.bank import Bank
from sidecar.demo.captured.bank import Server as BankServer
from sidecar.demo.captured.customers import ask
from sidecar.demo.captured.door import Door
from sidecar.demo.captured.files import BANK, HOSTS, KNOWN_AS, OUTSIDE, SERVICES, local_file, mesh_files
from sidecar.demo.captured.make_certificate import make
from sidecar.demo.captured.store import Server, Store
from sidecar.demo.namespaces import Host
from sidecar.mesh.compile.service import compile_service
from sidecar.mesh.read import read_mesh
from tests.support.wait import free_port

T = TypeVar("T")


@pytest.fixture
def store() -> Iterator[int]:
    """The double of Redis; its port."""
    Store.counts.clear()
    with Server(("127.0.0.1", 0), Store) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_store_counts_as_redis_does(store: int) -> None:
    """One number after the other, over a connection that stays; another one goes on from there."""
    first, second = Counter("127.0.0.1", store), Counter("127.0.0.1", store)
    assert [first.next(), first.next(), second.next()] == [1, 2, 3]
    first.close()
    assert first.next() == 4
    first.close()
    second.close()


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        (b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n"),
        (b"*2\r\n$4\r\nincr\r\n$1\r\na\r\n*2\r\n$4\r\nINCR\r\n$1\r\na\r\n", b":1\r\n:2\r\n"),
        (b"*1\r\n$5\r\nHELLO\r\n", b"-ERR unknown command\r\n"),
        (b"GET / HTTP/1.1\r\n\r\n", b""),
        (b"*x\r\n", b""),
        (b"*1\r\nPING\r\n", b""),
    ],
    ids=["ping", "incr", "unknown", "http", "no number", "no bulk"],
)
def test_store_answers_what_it_knows_and_hangs_up_on_what_is_no_command(store: int, said: bytes, answer: bytes) -> None:
    """In the words of its protocol (RESP)."""
    with socket.create_connection(("127.0.0.1", store), 10) as client:
        client.sendall(said)
        client.shutdown(socket.SHUT_WR)
        assert b"".join(iter(lambda: client.recv(100), b"")) == answer


def test_files_of_the_mesh_are_good() -> None:
    """What every caller gets compiles; names and hosts are those that there are."""
    texts = mesh_files({name: f"198.51.100.{number}" for number, name in enumerate(OUTSIDE, 1)})
    mesh = read_mesh({name: text.encode() for name, text in texts.items()})
    compiled = compile_service(mesh, "storefront")
    for upstream in ("recommendations.stable", "recommendations.beta", *OUTSIDE):
        assert f"{upstream}:" in compiled.text
    assert set(KNOWN_AS) <= set(HOSTS)
    names = {name for names in KNOWN_AS.values() for name in names}
    assert {url.split("/")[2].partition(":")[0] for service in SERVICES for url in service.calls} <= names
    config = load_text(("service: x\n" + local_file()).encode(), "sidecar.yaml", {})
    assert config.inbound is not None


class _Here(Host):
    """A host that is this machine's own network."""

    def __init__(self) -> None:
        super().__init__("here", "127.0.0.1", "::1")

    def do(self, action: Callable[[], T], user: int | None = None) -> T:
        return action()


def test_door_passes_octets_and_ends_of_both_sides() -> None:
    """Also when nobody is there, and when it is closed while something passes."""

    async def main() -> None:
        async def upper(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write((await reader.read()).upper())
            await writer.drain()
            writer.close()

        port = free_port()
        server = await asyncio.start_server(upper, "127.0.0.1", port)
        door = Door(None, "127.0.0.2", _Here(), port)
        await door.open()
        reader, writer = await asyncio.open_connection("127.0.0.2", port)
        writer.write(b"octets")
        writer.write_eof()
        assert await reader.read() == b"OCTETS"
        writer.close()
        lasting, kept = await asyncio.open_connection("127.0.0.2", port)
        kept.write(b"more")
        await kept.drain()
        server.close()
        refused, late = await asyncio.open_connection("127.0.0.2", port)
        assert await refused.read() == b""
        await door.close()
        assert await lasting.read() == b""
        for one in (kept, late):
            one.close()

    asyncio.run(main())


def test_bank_shows_the_certificate_that_was_made_for_it(tmp_path: Path) -> None:
    """Whoever trusts that file believes its name, and only that; the key is nobody else's."""
    certificate, key = tmp_path / "bank.crt", tmp_path / "bank.key"
    make(BANK, certificate, key)
    assert key.stat().st_mode & 0o777 == 0o600
    server = BankServer(("127.0.0.1", 0), Bank)
    server.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.context.load_cert_chain(certificate, key)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    trusting = ssl.create_default_context(cafile=certificate)
    try:
        address = cast("tuple[str, int]", server.server_address)
        with trusting.wrap_socket(socket.create_connection(address, 10), server_hostname=BANK) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: bank\r\nConnection: close\r\n\r\n")
            assert b"".join(iter(lambda: client.recv(1000), b"")).endswith(b'{"balance": "enough"}\n')
        with socket.create_connection(address, 10) as plain, pytest.raises(ssl.SSLCertVerificationError):
            trusting.wrap_socket(plain, server_hostname="other.example")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_customers_tell_what_they_were_answered() -> None:
    """A page, a status, or why there was none."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b'{"app": "x"}' if self.path == "/" else b"no"
            self.send_response(200 if self.path == "/" else 502)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        at = f"http://127.0.0.1:{server.server_address[1]}"
        assert ask(f"{at}/") == (200, {"app": "x"})
        assert ask(f"{at}/bad") == (502, "no")
        server.shutdown()
        thread.join()
    status, why = ask(f"{at}/")
    assert (status, "refused" in str(why)) == (0, True)
