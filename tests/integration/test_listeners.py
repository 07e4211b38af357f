"""Where the sidecar listens and where it connects to: families, Unix sockets, ports of one dependency, CONNECT."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.origin import Origin
from tests.support.peers import require_ipv6
from tests.support.process import SidecarProcess, running_sidecar
from tests.support.wait import free_port, refusing_port
from tests.support.wire import Client, Upstream


def ask(where: int | tuple[str, int] | Path, host: str, path: str = "/") -> tuple[int, bytes]:
    """One request; status and body."""
    with Client(where) as client:
        client.get(path, host=host, fields="Connection: close\r\n")
        response = client.response()
        return response.status, response.body


def test_ipv6_on_both_sides(tmp_path: Path) -> None:
    """Listener, endpoint, the client's address in the log and in `x-forwarded-for`."""
    require_ipv6()
    port = free_port()
    with Upstream(("::1", 0)) as app:
        text = f"""
            service: x
            inbound: {{listen: "[::1]:{port}", app: "[::1]:{app.port}"}}
            outbound: {{listen: "127.0.0.1:${{OUTBOUND_PORT}}", unmatched: passthrough}}
        """
        with running_sidecar(tmp_path, text) as sidecar:
            with Client(("::1", port)) as client:
                client.get("/", host=f"[::1]:{port}")
                request = app.accept().serve(b"six")
                assert request.get("host") == f"[::1]:{port}"
                assert request.get("x-forwarded-for") == "::1"
                assert client.response().body == b"six"
            with Client(sidecar.outbound_port) as client:
                client.get("/", host=f"[::1]:{app.port}")
                app.accept().serve(b"by literal")
                assert client.response().body == b"by literal"
            lines = sidecar.wait_for_log_lines(2)
            assert lines[0]["downstream_remote_address"].startswith("[::1]:")
            assert {line["upstream_host"] for line in lines} == {f"[::1]:{app.port}"}


def test_several_listeners_and_one_port_per_dependency(tmp_path: Path) -> None:
    """On a dependency's own port every request is for it, whatever it says, and the upstream is told its name."""
    ports = [free_port() for _ in range(4)]
    unix = tmp_path / "out.sock"
    with Origin("web") as web, Origin("other") as other:
        text = f"""
            service: x
            inbound: {{listen: ["127.0.0.1:{ports[0]}", "127.0.0.1:{ports[1]}"], app: "127.0.0.1:{web.port}"}}
            outbound:
              listen:
                - "127.0.0.1:{ports[2]}"
                - "unix:{unix}"
                - {{address: "127.0.0.1:{ports[3]}", host: other}}
            upstreams:
              web: {{endpoints: ["127.0.0.1:{web.port}"]}}
              other: {{endpoints: ["127.0.0.1:{other.port}"]}}
        """
        with running_sidecar(tmp_path, text):
            assert ask(ports[0], "x") == ask(ports[1], "y") == (200, b"web")
            assert ask(ports[2], "other") == ask(unix, "other") == (200, b"other")
            assert ask(ports[2], "x")[0] == 404
            for host in ("web", "127.0.0.1", f"127.0.0.1:{ports[3]}"):
                assert ask(ports[3], host) == (200, b"other")
            assert b'["host", "other"]' in ask(ports[3], "web", "/echo")[1]


def test_unix_sockets_as_app_and_as_listener(tmp_path: Path) -> None:
    """Both ways, kept alive, and named in the log."""
    inbound, behind = tmp_path / "in.sock", tmp_path / "app.sock"
    text = f'service: x\ninbound: {{listen: "unix:{inbound}", app: "unix:{behind}"}}\n'
    with Upstream(behind) as app, running_sidecar(tmp_path / "run", text) as sidecar, Client(inbound) as client:
        client.get("/1", host="x")
        server = app.accept()
        request = server.serve(b"one")
        assert request.get("x-forwarded-for") is None
        assert client.response().body == b"one"
        client.get("/2", host="x")
        server.serve(b"two")
        assert client.response().body == b"two"
        assert sidecar.wait_for_log_lines(2)[1]["upstream_host"] == f"unix:{behind}"


# --- CONNECT -------------------------------------------------------------------------------------------------------


@pytest.fixture
def tunnels(tmp_path: Path, upstream: Upstream) -> Iterator[SidecarProcess]:
    """A sidecar that allows CONNECT to `db` and to `dead`, and denies the rest."""
    text = f"""
        service: x
        inbound: {{listen: "127.0.0.1:${{INBOUND_PORT}}", app: "{upstream.authority}"}}
        outbound: {{listen: "127.0.0.1:${{OUTBOUND_PORT}}"}}
        upstreams: {{db: {{endpoints: ["{upstream.authority}"]}}, dead: {{endpoints: ["127.0.0.1:{refusing_port()}"]}}}}
    """
    with running_sidecar(tmp_path, text) as sidecar:
        yield sidecar


def test_connect_to_what_the_configuration_allows(tunnels: SidecarProcess, upstream: Upstream) -> None:
    """A tunnel of bytes, half-closed each way on its own, with bytes that came ahead of the answer."""
    with Client(tunnels.outbound_port) as client:
        client.send(b"CONNECT db:5432 HTTP/1.1\r\nHost: db:5432\r\n\r\n", b"ahead")
        server = upstream.accept()
        assert client.response("HEAD").status == 200
        assert server.read_exactly(5) == b"ahead"
        server.send(b"\x00\xff binary")
        assert client.read_exactly(9) == b"\x00\xff binary"
        client.finish_sending()
        assert server.is_ended()
        server.send(b"last words")
        server.close()
        assert client.read_to_end() == b"last words"
    (line,) = tunnels.wait_for_log_lines(1)
    assert (line["method"], line["response_code"], line["response_flags"]) == ("CONNECT", 200, "-")
    assert (line["bytes_received"], line["bytes_sent"]) == (5, 19)


def test_connect_to_anything_else_is_refused(tunnels: SidecarProcess) -> None:
    """404 for a stranger, 503 where nothing listens, 405 on an inbound listener."""
    cases = [("outbound", "stranger:443", 404), ("outbound", "dead:443", 503), ("inbound", "db:5432", 405)]
    for side, target, status in cases:
        with Client(tunnels.inbound_port if side == "inbound" else tunnels.outbound_port) as client:
            client.send(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
            assert client.response().status == status


def test_connect_passes_through_where_that_is_configured(proxy: SidecarProcess, upstream: Upstream) -> None:
    """To the authority itself; a tunnel's connection is its own and is never pooled."""
    for _ in range(2):
        with Client(proxy.outbound_port) as client:
            client.send(f"CONNECT {upstream.authority} HTTP/1.1\r\nHost: {upstream.authority}\r\n\r\n".encode())
            server = upstream.accept()
            assert client.response("HEAD").status == 200
            client.send(b"ping")
            assert server.read_exactly(4) == b"ping"
        assert server.is_ended()
    assert not upstream.has_waiting()


def test_a_tunnel_whose_end_dies_is_cut(proxy: SidecarProcess, upstream: Upstream) -> None:
    """A reset on either side reaches the other."""
    for is_client_first in (True, False):
        with Client(proxy.outbound_port) as client:
            client.send(f"CONNECT {upstream.authority} HTTP/1.1\r\nHost: {upstream.authority}\r\n\r\n".encode())
            server = upstream.accept()
            client.response("HEAD")
            client.send(b"x")
            server.read_exactly(1)
            (client if is_client_first else server).reset()
            assert (server if is_client_first else client).is_ended()
