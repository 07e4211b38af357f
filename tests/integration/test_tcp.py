"""What is no HTTP, at listeners that take it: through one sidecar, and through two by mutual TLS."""

from __future__ import annotations

import contextlib
import signal
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.certificates import Authority, identity_of
from tests.support.http2 import GET, HELLO, headers
from tests.support.mesh import running_mesh
from tests.support.origin import Origin
from tests.support.process import SidecarProcess, free_port, running_sidecar
from tests.support.streams import dial, echo, greets, on_loopback, read_all, says
from tests.support.wait import eventually

DB, STOREFRONT = "spiffe://shop/db", "spiffe://shop/storefront"


@pytest.fixture(scope="module")
def root() -> Authority:
    """Whom the mesh believes."""
    return Authority("shop root")


@contextlib.contextmanager
def database(
    tmp_path: Path, root: Authority, app: int, tls: str = "strict", protocol: str = "tcp", more: str = ""
) -> Iterator[SidecarProcess]:
    """The called service's sidecar."""
    text = f"""
        service: db
        identity: {identity_of(tmp_path / "db", root.workload(DB), root)}
        inbound:
          listen: {{address: "127.0.0.1:${{INBOUND_PORT}}", name: db, protocol: {protocol}}}
          app: "127.0.0.1:{app}"
          tls: {tls}
          {more}
    """
    with running_sidecar(tmp_path / "b", text) as sidecar:
        yield sidecar


@contextlib.contextmanager
def storefront(tmp_path: Path, root: Authority, port: int, protocol: str = "tcp") -> Iterator[SidecarProcess]:
    """The caller's sidecar: one port for its dependency."""
    text = f"""
        service: storefront
        identity: {identity_of(tmp_path / "storefront", root.workload(STOREFRONT), root)}
        outbound:
          listen: {{address: "127.0.0.1:${{OUTBOUND_PORT}}", host: "db:5432", protocol: {protocol}}}
        upstreams:
          db:
            hosts: "db:5432"
            protocol: tcp
            endpoints: ["127.0.0.1:{port}"]
            tls: {{identities: "{DB}"}}
    """
    with running_sidecar(tmp_path / "a", text) as sidecar:
        yield sidecar


def lines(sidecar: SidecarProcess, count: int) -> list[dict[str, Any]]:
    """Lines of the log, as soon as there are so many."""
    eventually(lambda: len(sidecar.access_log()) >= count, f"{count} log lines")
    return sidecar.access_log()


def metric(sidecar: SidecarProcess, name: str, *labels: str) -> float:
    """The sum of the series of this name that have these labels."""
    return sum(
        float(line.rpartition(" ")[2])
        for line in sidecar.metrics("/metrics").text.splitlines()
        if line.startswith(name + "{") and all(label in line for label in labels)
    )


def test_a_port_for_a_dependency_that_speaks_first(tmp_path: Path) -> None:
    """No wait, no name, no kernel's help: one port, one upstream; both halves close by themselves."""
    with on_loopback(greets) as port:
        text = f"""
            service: storefront
            outbound: {{listen: {{address: "127.0.0.1:${{OUTBOUND_PORT}}", host: "mail:25", protocol: tcp}}}}
            upstreams: {{mail: {{hosts: "mail:25", endpoints: ["127.0.0.1:{port}"]}}}}
        """
        with running_sidecar(tmp_path, text) as sidecar:
            with dial(sidecar.outbound_port) as client:
                assert client.recv(100) == b"220 ready\r\n"
                client.sendall(b"HELO x\r\n")
                client.shutdown(socket.SHUT_WR)
                assert read_all(client) == b"HELO x\r\n"
            told = lines(sidecar, 1)[0]
            assert (told["protocol"], told["upstream_cluster"]) == ("tcp", "mail")
            assert (told["bytes_received"], told["bytes_sent"]) == (8, 19)
            assert metric(sidecar, "sidecar_detected_connections_total", 'waited="true"') == 0


def test_auto_tells_http_from_everything_else(tmp_path: Path) -> None:
    """One port for both: requests by routes, all else to the host of the listener."""
    with Origin("v1") as origin, on_loopback(echo) as port:
        text = f"""
            service: storefront
            outbound:
              listen: {{address: "127.0.0.1:${{OUTBOUND_PORT}}", host: "db:5432", protocol: auto}}
              routes: [{{match: {{path: {{prefix: /}}}}, to: web}}]
            upstreams:
              web: {{endpoints: ["127.0.0.1:{origin.port}"]}}
              db: {{hosts: "db:5432", endpoints: ["127.0.0.1:{port}"]}}
        """
        with running_sidecar(tmp_path, text) as sidecar:
            assert sidecar.outbound("/x", host="whoever").status == 200
            with dial(sidecar.outbound_port) as client:
                client.sendall(b"\x00\x01\x02")
                assert client.recv(100) == b"\x00\x01\x02"
            assert metric(sidecar, "sidecar_detected_connections_total", 'protocol="http"') == 1
            assert metric(sidecar, "sidecar_detected_connections_total", 'protocol="tcp"') == 1


def test_tls_of_the_app_goes_by_its_name(tmp_path: Path, root: Authority) -> None:
    """Nothing is decrypted: `auto` without a host reads the name that the client asks for, and no more."""
    leaf = root.leaf(["pay.example"])
    leaf.write(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")

    def answer(accepted: socket.socket) -> None:
        with context.wrap_socket(accepted, server_side=True) as secured:
            secured.sendall(secured.recv(100))

    trusting = ssl.create_default_context(cadata=root.pem.decode())
    with on_loopback(answer) as port:
        text = f"""
            service: storefront
            outbound: {{listen: {{address: "127.0.0.1:${{OUTBOUND_PORT}}", protocol: auto}}}}
            upstreams: {{pay: {{hosts: pay.example, endpoints: ["127.0.0.1:{port}"]}}}}
        """
        with running_sidecar(tmp_path, text) as sidecar:
            with dial(sidecar.outbound_port) as raw, trusting.wrap_socket(raw, server_hostname="pay.example") as client:
                client.sendall(b"secret")
                assert client.recv(100) == b"secret"
            told = lines(sidecar, 1)[0]
            assert (told["protocol"], told["authority"], told["upstream_cluster"]) == ("tls", "pay.example", "pay")
            with contextlib.suppress(ConnectionError), dial(sidecar.outbound_port) as nameless:
                nameless.sendall(b"\x00\x01")
                assert nameless.recv(1) == b""
            assert lines(sidecar, 2)[1]["response_code_details"] == "no_route"


def test_routes_of_hosts_share_connections_out(tmp_path: Path) -> None:
    """A route that asks for nothing but a host holds for connections, too: all of them to the side with the weight."""
    with on_loopback(says(b"old")) as old, on_loopback(says(b"new")) as new:
        text = f"""
            service: storefront
            outbound:
              listen: {{address: "127.0.0.1:${{OUTBOUND_PORT}}", host: "db:5432", protocol: tcp}}
              routes: [{{name: moved, match: {{host: "db:5432"}}, to: {{db: 0, db.new: 100}}}}]
            upstreams:
              db: {{hosts: "db:5432", protocol: tcp, endpoints: ["127.0.0.1:{old}"]}}
              db.new: {{hosts: [], protocol: tcp, endpoints: ["127.0.0.1:{new}"]}}
        """
        with running_sidecar(tmp_path, text) as sidecar:
            for _ in range(3):
                with dial(sidecar.outbound_port) as client:
                    assert read_all(client) == b"new"
            assert {told["route_name"] for told in lines(sidecar, 3)} == {"moved"}


def test_two_sidecars_carry_tcp_by_mutual_tls(tmp_path: Path, root: Authority) -> None:
    """The server speaks first; both know the other one; large payloads and half-closes come through whole."""
    payload = bytes(range(256)) * 8192
    with (
        on_loopback(greets) as app,
        database(tmp_path, root, app) as inbound,
        storefront(tmp_path, root, inbound.inbound_port) as outbound,
    ):
        with dial(outbound.outbound_port) as client:
            assert client.recv(11) == b"220 ready\r\n"
            got = bytearray()
            for start in range(0, len(payload), 65536):
                piece = payload[start : start + 65536]
                client.sendall(piece)
                while len(got) < start + len(piece):
                    got += client.recv(65536)
            client.shutdown(socket.SHUT_WR)
            assert read_all(client) == b""
            assert bytes(got) == payload
        told = lines(inbound, 1)[0]
        assert (told["protocol"], told["tls_version"], told["peer_identity"]) == ("tcp", "1.3", STOREFRONT)
        told = lines(outbound, 1)[0]
        assert (told["upstream_tls_version"], told["upstream_peer_identity"]) == ("1.3", DB)


def test_who_is_not_admitted_is_refused_by_who_he_is(tmp_path: Path, root: Authority) -> None:
    """The rules ask for the identity, which the handshake has proved; not one octet reaches the app."""
    rules = 'authorization: {default: deny, rules: [{name: others, allow: {from: "spiffe://shop/other"}}]}'
    with (
        on_loopback(greets) as app,
        database(tmp_path, root, app, more=rules) as inbound,
        storefront(tmp_path, root, inbound.inbound_port) as outbound,
    ):
        with contextlib.suppress(ConnectionError), dial(outbound.outbound_port) as client:
            assert client.recv(100) == b""
        told = lines(inbound, 1)[0]
        assert told["response_code_details"] == "authorization_denied"
        assert told["peer_identity"] == STOREFRONT


def test_permissive_takes_both_and_strict_takes_no_connection_in_clear(tmp_path: Path, root: Authority) -> None:
    """A client in clear is carried if it may be; who speaks TLS of its own to the app is passed by untouched."""
    with on_loopback(echo) as app:
        with database(tmp_path, root, app, "permissive") as inbound:
            with dial(inbound.inbound_port) as client:
                client.sendall(b"*1\r\n$4\r\nPING\r\n")
                assert client.recv(100) == b"*1\r\n$4\r\nPING\r\n"
            with dial(inbound.inbound_port) as client:
                outgoing = ssl.MemoryBIO()
                own = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="db.example")
                with pytest.raises(ssl.SSLWantReadError):
                    own.do_handshake()
                hello = outgoing.read()
                client.sendall(hello)
                assert client.recv(65536) == hello
            with storefront(tmp_path, root, inbound.inbound_port) as outbound, dial(outbound.outbound_port) as client:
                client.sendall(b"x")
                assert client.recv(1) == b"x"
        with database(tmp_path, root, app, "strict") as inbound:
            with contextlib.suppress(ConnectionError), dial(inbound.inbound_port) as client:
                client.sendall(b"*1\r\n$4\r\nPING\r\n")
                assert client.recv(100) == b""
            eventually(lambda: inbound.access_log()[-1]["response_code_details"] == "client_tls_failed", "the refusal")


def test_requests_that_come_as_tcp_are_judged_as_requests(tmp_path: Path, root: Authority) -> None:
    """A sidecar that is not ours may call anything a connection: where HTTP may come, what comes is looked at."""
    routes = "routes: [{match: {path: /admin}, respond: {status: 403}}]"
    with (
        Origin("v1") as app,
        database(tmp_path, root, app.port, protocol="auto", more=routes) as inbound,
        storefront(tmp_path, root, inbound.inbound_port) as outbound,
    ):
        for path, status in (("/admin", b"403"), ("/", b"200")):
            with dial(outbound.outbound_port) as client:
                client.sendall(f"GET {path} HTTP/1.1\r\nHost: db\r\nConnection: close\r\n\r\n".encode())
                assert read_all(client).startswith(b"HTTP/1.1 " + status)
        told = lines(inbound, 2)
        assert [(one["protocol"], one["peer_identity"], one["path"]) for one in told] == [
            ("HTTP/1.1", STOREFRONT, "/admin"), ("HTTP/1.1", STOREFRONT, "/"),
        ]  # fmt: skip
        with dial(outbound.outbound_port) as client:
            client.sendall(HELLO + headers(1, [*GET[:2], (b":path", b"/admin"), (b":authority", b"db")]))
            told = lines(inbound, 3)[2]
        assert (told["protocol"], told["path"], told["response_code"]) == ("HTTP/2", "/admin", 403)


def test_a_port_for_http_refuses_a_sidecar_that_sends_tcp(tmp_path: Path, root: Authority) -> None:
    """They agree on no protocol, so the caller's sidecar sends nothing, and tells why."""
    with (
        Origin("v1") as app,
        database(tmp_path, root, app.port, protocol="http") as inbound,
        storefront(tmp_path, root, inbound.inbound_port) as outbound,
    ):
        with contextlib.suppress(ConnectionError), dial(outbound.outbound_port) as client:
            assert client.recv(100) == b""
        told = lines(outbound, 1)[0]
        assert told["response_code_details"] == "upstream_tls_alpn"


def test_a_reload_and_a_drain_let_a_connection_live_on(tmp_path: Path, root: Authority) -> None:
    """Both ends are given other files, then told to end: what is under way ends in its own time."""
    with (
        on_loopback(echo) as app,
        database(tmp_path, root, app) as inbound,
        storefront(tmp_path, root, inbound.inbound_port) as outbound,
        dial(outbound.outbound_port) as client,
    ):
        client.sendall(b"a")
        assert client.recv(1) == b"a"
        for sidecar in (inbound, outbound):
            generation = sidecar.generation()
            sidecar.rewrite(sidecar.config.read_text() + "\nlimits: {max_connections: 500}\n")
            sidecar.wait_for_generation(generation + 1)
        client.sendall(b"b")
        assert client.recv(1) == b"b"
        for sidecar in (inbound, outbound):
            sidecar.signal(signal.SIGTERM)
        client.sendall(b"c")
        assert client.recv(1) == b"c"


@pytest.mark.long
def test_a_mesh_carries_tcp_for_apps_that_dial_a_port_of_their_own(tmp_path: Path) -> None:
    """
    The mesh's files say `protocol: tcp` and `calls.db.listen`; the control plane signs, tells the endpoint, and the
    callee's rule knows the caller. The server speaks first. Whoever is not among `callers` is refused.
    """
    listen, other = free_port(), free_port()
    files = {
        "mesh.yaml": "mesh: shop\nauthorization: {mode: enforce}\ndefaults: {inbound: {tls: strict}}\n",
        "db.yaml": 'service: db\nports: {db: {app: "127.0.0.1:5432", protocol: tcp}}\ncallers: [front]\ncalls: {}\n',
        "front.yaml": f'service: front\ncalls: {{db: {{listen: "127.0.0.1:{listen}"}}}}\n',
        "other.yaml": f'service: other\ncalls: {{db: {{listen: "127.0.0.1:{other}"}}}}\n',
    }
    with on_loopback(greets) as app, running_mesh(tmp_path, files, "--create-ca") as mesh:
        mesh.delay = "1s"
        for caller, port in (("front", listen), ("other", other)):
            member = mesh.join(caller, begins=False)
            local = 'outbound: {listen: ["127.0.0.1:${OUTBOUND_PORT}", %s]}'
            entry = f'{{address: "127.0.0.1:{port}", host: "db:5432", protocol: tcp}}'
            old = 'outbound: {listen: "127.0.0.1:${OUTBOUND_PORT}"}'
            member.config.write_text(member.config.read_text().replace(old, local % entry))
            member.begin()
        db = mesh.join("db", app, begins=False)
        old = 'listen: "127.0.0.1:${INBOUND_PORT}"'
        new = 'listen: {address: "127.0.0.1:${INBOUND_PORT}", name: db, protocol: tcp}'
        db.config.write_text(db.config.read_text().replace(old, new))
        db.begin()
        mesh.wait_settled()
        for member in mesh.members.values():
            if member is not db:
                member.wait_knows("db", db)
        with dial(listen) as client:
            assert client.recv(100) == b"220 ready\r\n"
            client.sendall(b"hello")
            assert client.recv(100) == b"hello"
        with contextlib.suppress(ConnectionError), dial(other) as client:
            assert client.recv(100) == b""
        counted = 'sidecar_authorization_total{outcome="%s",rule="%s",source="%s"}'
        page = db.metrics("/metrics").text
        assert counted % ("allowed", "callers", "spiffe://shop/front") in page, page
        mesh.end()
