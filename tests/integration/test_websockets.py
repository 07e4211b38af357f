"""WebSocket connections through the sidecar, with the library `websockets` at both ends."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.sync.server import Server, ServerConnection, serve
from websockets.typing import Subprotocol

from tests.support.h2_peer import H2Client
from tests.support.process import SidecarProcess, running_sidecar
from tests.support.wait import eventually
from tests.support.wire import Upstream

LIMIT = 4 << 20
CHAT = Subprotocol("chat")


def _handle(connection: ServerConnection) -> None:
    assert connection.request is not None
    if connection.request.path == "/close":
        connection.close(4001, "because")
        return
    try:
        for message in connection:
            connection.send(message)
    except ConnectionClosed:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """An echo that closes with 4001 at `/close`."""
    running = serve(_handle, "127.0.0.1", 0, max_size=LIMIT, subprotocols=[CHAT])
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    yield running
    running.shutdown()
    thread.join(15)


@pytest.fixture(scope="module")
def sidecar(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SidecarProcess]:
    """The server as app, as upstream, and behind the sidecar once more, which is spoken to by HTTP/2 (RFC 8441)."""
    port = server.socket.getsockname()[1]
    text = f"""
        service: x
        inbound: {{listen: "127.0.0.1:${{INBOUND_PORT}}", app: "127.0.0.1:{port}"}}
        outbound: {{listen: "127.0.0.1:${{OUTBOUND_PORT}}"}}
        upstreams:
          chat: {{endpoints: ["127.0.0.1:{port}"]}}
          twice: {{endpoints: ["127.0.0.1:${{INBOUND_PORT}}"], protocol: http2}}
    """
    with running_sidecar(tmp_path_factory.mktemp("websockets"), text) as running:
        yield running


def dial(host: str, port: int, path: str = "/room", **options: Any) -> ClientConnection:
    """A WebSocket to `host`, over the listener at `port`."""
    sock = socket.create_connection(("127.0.0.1", port), 15)
    return connect(f"ws://{host}{path}", sock=sock, proxy=None, max_size=LIMIT, subprotocols=[CHAT], **options)


def urls(sidecar: SidecarProcess) -> list[tuple[str, int]]:
    """What to connect to: the URL's host, and the listener's port."""
    return [("app", sidecar.inbound_port), ("chat", sidecar.outbound_port), ("twice", sidecar.outbound_port)]


def test_an_answer_that_is_no_tunnel_is_not_taken_for_one(tmp_path: Path) -> None:
    """
    To an extended CONNECT every 2xx says that the tunnel stands (RFC 8441, 5): what a server that knows no `Upgrade`,
    or a route, answers to the GET that it becomes must not be passed on as that.
    """
    with Upstream() as plain:
        text = f"""
            service: x
            outbound:
              listen: "127.0.0.1:${{OUTBOUND_PORT}}"
              routes:
                - {{name: teapot, match: {{path: /here}}, respond: {{status: 200, body: x}}}}
                - {{name: plain, match: {{host: plain}}, to: plain}}
            upstreams: {{plain: {{endpoints: ["127.0.0.1:{plain.port}"]}}}}
        """
        with running_sidecar(tmp_path, text) as sidecar, H2Client(sidecar.outbound_port) as client:
            wish = [(":protocol", "websocket"), ("sec-websocket-version", "13")]
            by_route = client.ask("CONNECT", "/here", wish, authority="plain", body=None)
            by_server = client.ask("CONNECT", "/there", wish, authority="plain", body=None)
            assert plain.accept().serve(b"hello").get("upgrade") == "websocket"
            assert [client.answered(one).status for one in (by_route, by_server)] == [405, 502]


def test_messages_of_all_sizes_pass_both_ways(sidecar: SidecarProcess) -> None:
    """Text and binary, up to a MiB, inbound and outbound, with the subprotocol that was agreed on."""
    for host, port in urls(sidecar):
        with dial(host, port) as client:
            assert client.subprotocol == CHAT
            for message in ("hello", "", "x" * 1_000_000, b"", os.urandom(125), os.urandom(65536), os.urandom(1 << 20)):
                client.send(message)
                assert client.recv(timeout=15) == message


def test_the_close_handshake_passes_both_ways(sidecar: SidecarProcess) -> None:
    """Code and reason arrive, whoever begins."""
    for host, port in urls(sidecar):
        with dial(host, port, "/close") as client:
            with pytest.raises(ConnectionClosed) as closed:
                client.recv(timeout=15)
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4001, "because")
        with dial(host, port) as client:
            client.close(4002, "enough")
            assert client.protocol.close_code == 4002


def test_many_connections_at_the_same_time_keep_their_messages_apart(sidecar: SidecarProcess) -> None:
    """A tunnel each, and none is pooled afterwards."""
    port = sidecar.outbound_port
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(dial("chat", port)) for _ in range(30)]
        for number, client in enumerate(clients):
            client.send(f"mine {number}")
        for number, client in enumerate(clients):
            assert client.recv(timeout=15) == f"mine {number}"
    eventually(lambda: sidecar.metric("sidecar_downstream_connections_active", direction="outbound") == 0, "the end")
    eventually(lambda: sidecar.metric("sidecar_upstream_requests_active", upstream="chat") == 0, "the end behind")
    assert sidecar.metric("sidecar_upstream_connections_idle", upstream="chat") == 0


def test_a_refused_upgrade_is_an_ordinary_response(sidecar: SidecarProcess) -> None:
    """What the proxy or the server refuses, the client is told with its status."""
    with pytest.raises(InvalidStatus) as refused:
        dial("stranger", sidecar.outbound_port)
    assert refused.value.response.status_code == 404
    with pytest.raises(InvalidStatus) as refused:
        dial("chat", sidecar.outbound_port, additional_headers={"Sec-WebSocket-Version": "7"})
    assert refused.value.response.status_code in (400, 426)


def test_an_upgrade_is_recorded_with_its_bytes(tmp_path: Path, server: Server) -> None:
    """One line with 101 when the tunnel ends, and the bytes of both directions."""
    port = server.socket.getsockname()[1]
    text = f"""
        service: x
        inbound: {{listen: "127.0.0.1:${{INBOUND_PORT}}", app: "127.0.0.1:{port}"}}
    """
    with running_sidecar(tmp_path, text) as sidecar:
        with dial("app", sidecar.inbound_port) as client:
            message = os.urandom(1000)
            client.send(message)
            assert client.recv(timeout=15) == message
            assert sidecar.access_log() == []
        (line,) = sidecar.wait_for_log_lines(1)
        assert (line["response_code"], line["response_flags"]) == (101, "-")
        assert line["bytes_received"] > 1000
        assert line["bytes_sent"] > 1000
