"""Peers that send without reading, in every place where bytes could pile up; and answers that come in spite of it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.process import SidecarProcess, running_sidecar
from tests.support.wait import eventually
from tests.support.wire import Client, CutError, Stream, Upstream

MIB = 1 << 20
GROWTH_KIB = 16 * 1024


@contextlib.contextmanager
def answering(directory: Path, idle_timeout: str) -> Iterator[SidecarProcess]:
    """A sidecar that answers by itself, with a body of 10 KiB."""
    text = f"""
        service: x
        outbound:
          listen: "127.0.0.1:${{OUTBOUND_PORT}}"
          routes: [{{name: teapot, match: {{host: teapot}}, respond: {{status: 200, body: {"x" * 10240}}}}}]
        limits: {{idle_timeout: {idle_timeout}}}
    """
    with running_sidecar(directory, text) as sidecar:
        yield sidecar


def fill(stream: Stream, data: bytes, limit: int) -> int:
    """Send `data` again and again until nothing is taken for half a second; returns how many bytes were taken."""
    stream.sock.settimeout(0.5)
    taken, at = 0, 0
    try:
        while taken < limit:
            sent = stream.sock.send(data[at:])
            taken, at = taken + sent, (at + sent) % len(data)
    except TimeoutError:
        pass
    stream.sock.settimeout(15)
    return taken


def pump(stream: Stream, size: int) -> threading.Thread:
    """Send so many bytes from a thread, whoever stops reading."""

    def run() -> None:
        try:
            for _ in range(size // MIB):
                stream.sock.sendall(bytes(MIB))
        except OSError:
            pass

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


# --- pipelines -----------------------------------------------------------------------------------------------------


def test_a_pipeline_whose_answers_nobody_reads_is_paused(tmp_path: Path) -> None:
    """Our own answers pile up no more than an upstream's; when the client reads on, each request has its answer."""
    request = b"GET /pile HTTP/1.1\r\nHost: teapot\r\n\r\n"
    with answering(tmp_path, "60s") as teapot, Client(teapot.outbound_port, receive_buffer=16384) as client:
        before = teapot.memory_kib()
        taken = fill(client, request, 64 * MIB)
        assert taken < 32 * MIB
        assert teapot.memory_kib() - before < GROWTH_KIB
        client.finish_sending()
        for _ in range(min(taken // len(request), 2000)):
            response = client.response()
            assert (response.status, len(response.body)) == (200, 10240)


def test_a_pipeline_that_is_abandoned_is_cut(tmp_path: Path) -> None:
    """After `limits.idle_timeout` without a byte read, and nothing is left of it."""
    with answering(tmp_path, "2s") as teapot, Client(teapot.outbound_port, receive_buffer=16384) as client:
        with contextlib.suppress(ConnectionError):  # on a busy machine it may come while we still send
            fill(client, b"GET /left HTTP/1.1\r\nHost: teapot\r\n\r\n", 64 * MIB)
        eventually(
            lambda: teapot.metric("sidecar_downstream_connections_active", direction="outbound") == 0, "the cut", 15
        )


def test_what_follows_a_last_request_is_not_read(client: Client, upstream: Upstream) -> None:
    """Behind `Connection: close` nothing is a request (RFC 9112, 9.6)."""
    host = upstream.authority
    client.send(
        f"GET /last HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode(),
        f"GET /after HTTP/1.1\r\nHost: {host}\r\n\r\n".encode(),
    )
    server = upstream.accept()
    assert server.serve(b"last").target == "/last"
    assert client.response().body == b"last"
    assert client.read_to_end() == b""
    with Client(_port_of(client)) as other:
        other.get("/other", host=host)
        assert server.serve().target == "/other"
    assert not upstream.has_waiting()


def _port_of(client: Client) -> int:
    return int(client.sock.getpeername()[1])


def test_requests_sent_far_ahead_wait_at_the_client(proxy: SidecarProcess, upstream: Upstream) -> None:
    """While the first is not answered, no more than a little is taken of what follows."""
    before = proxy.memory_kib()
    head = f"POST /ahead HTTP/1.1\r\nHost: {upstream.authority}\r\nContent-Length: 60000\r\n\r\n".encode()
    with Client(proxy.outbound_port) as client:
        client.get("/first", host=upstream.authority)
        server = upstream.accept()
        server.request()
        assert fill(client, head + bytes(60000), 64 * MIB) < 32 * MIB
        assert proxy.memory_kib() - before < GROWTH_KIB
        server.answer(b"first")
        assert client.response().body == b"first"
        for _ in range(10):
            assert len(server.serve().body) == 60000
            assert client.response().body == b"ok"


# --- tunnels -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_download", [True, False])
@pytest.mark.parametrize("kind", ["connect", "upgrade"])
def test_a_tunnel_waits_for_its_slower_end(
    proxy: SidecarProcess, upstream: Upstream, kind: str, is_download: bool
) -> None:
    """64 MiB are not taken while the other end does not read, and all arrive when it does, end of file included."""
    host, size = upstream.authority, 64 * MIB
    with Client(proxy.outbound_port, receive_buffer=65536) as client:
        if kind == "connect":
            client.send(f"CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            server = upstream.accept()
        else:
            client.get("/", host=host, fields="Connection: upgrade\r\nUpgrade: websocket\r\n")
            server = upstream.accept()
            server.request()
            server.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
        assert client.head().status in (200, 101)
        before = proxy.memory_kib()
        source, sink = (server, client) if is_download else (client, server)
        taken = fill(source, bytes(65536), size)
        assert taken < 32 * MIB
        assert proxy.memory_kib() - before < GROWTH_KIB
        source.finish_sending()
        left = taken
        while data := sink.receive():
            left -= len(data)
        assert left == 0
        sink.send(b"thanks")
        sink.close()
        assert source.read_to_end() == b"thanks"


def test_bytes_behind_an_upgrade_wait_for_its_answer(client: Client, upstream: Upstream) -> None:
    """They go into the tunnel if there is one, and are the next request if there is none."""
    fields = "Connection: upgrade\r\nUpgrade: websocket\r\n"
    client.get("/", host=upstream.authority, fields=fields)
    client.get("/next", host=upstream.authority)
    server = upstream.accept()
    assert server.serve(b"no", status="400 Bad Request").target == "/"
    assert client.response().body == b"no"
    assert server.serve(b"next").target == "/next"
    assert client.response().body == b"next"

    client.get("/", host=upstream.authority, fields=fields)
    client.send(b"early bytes")
    server.request()
    server.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nhello")
    assert client.head().status == 101
    assert client.read_exactly(5) == b"hello"
    assert server.read_exactly(11) == b"early bytes"


# --- answers that come early ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("framing", [f"Content-Length: {64 * MIB}", "Transfer-Encoding: chunked"])
def test_an_answer_survives_the_reset_behind_it(proxy: SidecarProcess, framing: str) -> None:
    """A server that refuses a large upload and closes with unread bytes resets; its answer arrives, every time."""
    for _ in range(10):
        with Upstream(receive_buffer=65536) as upstream, Client(proxy.outbound_port) as client:
            head = f"POST /large HTTP/1.1\r\nHost: {upstream.authority}\r\n{framing}\r\n\r\n"
            client.send(head.encode(), b"4000000\r\n" if "chunked" in framing else b"")
            sending = pump(client, 64 * MIB)
            server = upstream.accept()
            server.head()
            server.read_exactly(200_000)
            server.answer(b"too large", status="413 Content Too Large", fields="Connection: close\r\n")
            server.close()
            response = client.response()
            assert (response.status, response.body) == (413, b"too large")
            client.close()
            sending.join(10)
            assert not sending.is_alive()


def test_a_cut_upload_is_never_complete_for_the_upstream(proxy: SidecarProcess, upstream: Upstream) -> None:
    """A client that resets in a large chunked upload: what was held is not sent with an end that it did not have."""
    client = Client(proxy.outbound_port)
    client.send(f"POST / HTTP/1.1\r\nHost: {upstream.authority}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
    client.send(b"%x\r\n%b\r\n" % (MIB, bytes(MIB)))
    server = upstream.accept()
    client.reset()
    message = server.head()
    with pytest.raises(CutError):
        server.chunked_body(message)


def test_large_heads_pass_in_both_directions(tmp_path: Path, upstream: Upstream) -> None:
    """60 KiB of fields each way, octets trickling in, under the default limits."""
    text = f"""
        service: x
        outbound: {{listen: "127.0.0.1:${{OUTBOUND_PORT}}"}}
        upstreams: {{web: {{endpoints: ["{upstream.authority}"]}}}}
    """
    fields = "".join(f"X-{number}: {'v' * 990}\r\n" for number in range(60))
    with running_sidecar(tmp_path, text) as sidecar, Client(sidecar.outbound_port) as client:
        data = f"GET / HTTP/1.1\r\nHost: web\r\n{fields}\r\n".encode()
        for at in range(0, len(data), 100):
            client.send(data[at : at + 100])
        server = upstream.accept()
        assert server.request().get("x-59") == "v" * 990
        data = f"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{fields}\r\n".encode()
        for at in range(0, len(data), 100):
            server.send(data[at : at + 100])
        assert client.response().get("x-59") == "v" * 990
