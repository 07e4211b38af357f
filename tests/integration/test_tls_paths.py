"""What goes by TLS besides the first attempt of a request: checks of health, retries, mirrors, workers, successors."""

from __future__ import annotations

import contextlib
import signal
import socket
import ssl
import threading
from pathlib import Path

import pytest

from tests.integration.test_tls import (
    CATALOG,
    STOREFRONT,
    TlsServer,
    catalog,
    lines,
    metric,
    server_context,
    storefront,
)
from tests.support.certificates import DAY, HOUR, NOW, Authority, identity_of
from tests.support.origin import Origin
from tests.support.process import SidecarProcess, running_sidecar
from tests.support.wait import eventually
from tests.support.wire import Stream


@pytest.fixture(scope="module")
def root() -> Authority:
    """Whom the mesh believes."""
    return Authority("shop root")


class Mute:
    """A server that takes connections, and says nothing; what it is told is kept."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                taken, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._hear, args=(taken,), daemon=True).start()

    def _hear(self, taken: socket.socket) -> None:
        with taken, contextlib.suppress(OSError):
            self.seen.append(taken.recv(65536))
            while taken.recv(65536):
                pass

    def close(self) -> None:
        """Take no more."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()


def test_health_is_asked_by_tls_and_of_whom_we_want(tmp_path: Path, root: Authority) -> None:
    """By a verified server, with a reason of the table where it is not; nothing of a check ever leaves in clear."""
    other = Authority("other root")
    wrong = {
        "upstream_certificate_expired": root.workload(CATALOG, begins=NOW - 2 * DAY, ends=NOW - HOUR),
        "upstream_certificate_untrusted": other.workload(CATALOG),
        "upstream_identity_mismatch": root.workload("spiffe://shop/payments"),
        "upstream_tls_alpn": root.workload(CATALOG),
        "upstream_refused_certificate": root.workload(CATALOG),
    }
    servers: dict[str, TlsServer | Mute] = {"upstream_tls_timeout": Mute()}
    for reason, leaf in wrong.items():
        believed = other if reason == "upstream_refused_certificate" else root
        context = server_context(tmp_path / reason, leaf, believed)
        if reason != "upstream_tls_alpn":
            context.set_alpn_protocols(["sidecar-http/1.1"])
        servers[reason] = TlsServer(context)
    checked = f"tls: {{identities: '{CATALOG}'}}, health_check: {{path: /live, interval: 300ms, timeout: TIMEOUT}}"
    identity = identity_of(tmp_path / "storefront", root.workload(STOREFRONT), root)
    with Origin("v1") as app, catalog(tmp_path, root, app, "strict") as inbound:
        ports = {reason.replace("_", "-"): server.port for reason, server in servers.items()}
        upstreams = "".join(
            f"\n              {name}: {{endpoints: ['127.0.0.1:{port}'], "
            f"{checked.replace('TIMEOUT', '2s' if 'timeout' in name else '20s')}}}"
            for name, port in {**ports, "catalog": inbound.inbound_port}.items()
        )
        text = f"""
            service: storefront
            identity: {identity}
            outbound: {{listen: "127.0.0.1:${{OUTBOUND_PORT}}"}}
            upstreams:{upstreams}
        """
        with running_sidecar(tmp_path / "a", text) as outbound:
            for reason, server in servers.items():
                name = reason.replace("_", "-")
                eventually(
                    lambda: f"endpoint_unhealthy upstream={name} " in outbound.stderr(),  # noqa: B023
                    f"{reason} to be found",
                )
                line = next(one for one in outbound.stderr().splitlines() if f"_unhealthy upstream={name} " in one)
                assert f"problem='{reason}: 127.0.0.1:{server.port}" in line or f"problem='{reason}: no answer" in line
                assert server.seen
                assert all(first[:1] == b"\x16" for first in server.seen), "every connection begins as TLS"
            eventually(lambda: "endpoint_healthy upstream=catalog " in outbound.stderr(), "a good answer")
            assert "endpoint_unhealthy upstream=catalog " not in outbound.stderr()
            good = 'upstream="catalog"', 'result="success"'
            eventually(lambda: metric(outbound, "sidecar_upstream_health_checks_total", *good) >= 3, "three checks")
        asked = inbound.access_log()
        assert {line["peer_identity"] for line in asked} == {STOREFRONT}
        # The last one was asked when the asking sidecar ended.
        assert {(line["path"], line["response_code"], line["response_flags"]) for line in asked[:-1]} == {
            ("/live", 200, "-")
        }
    for server in servers.values():
        server.close()


def test_what_no_server_has_read_is_sent_to_another_and_never_in_clear(tmp_path: Path, root: Authority) -> None:
    """Whatever was wrong with the first: it is asked for nothing, also where it is found wrong only by its alert."""
    other = Authority("other root")
    wrong = {
        "upstream-certificate-expired": root.workload(CATALOG, begins=NOW - 2 * DAY, ends=NOW - HOUR),
        "upstream-identity-mismatch": root.workload("spiffe://shop/payments"),
        "upstream-refused-certificate": root.workload(CATALOG),
    }
    servers = {}
    for name, leaf in wrong.items():
        context = server_context(tmp_path / name, leaf, other if name == "upstream-refused-certificate" else root)
        context.set_alpn_protocols(["sidecar-http/1.1"])
        servers[name] = TlsServer(context)
    tls = f"tls: {{identities: '{CATALOG}'}}, load_balancing: round_robin"
    identity = identity_of(tmp_path / "storefront", root.workload(STOREFRONT), root)
    with Origin("v1") as app, catalog(tmp_path, root, app, "strict") as inbound:
        upstreams = "".join(
            f"\n              {name}: {{endpoints: ['127.0.0.1:{server.port}', '127.0.0.1:{inbound.inbound_port}'],"
            f" {tls}}}"
            for name, server in servers.items()
        )
        routes = "".join(
            f"\n                - {{match: {{host: {name}, path: /kept}}, to: {name}, retry: {{on: connect_failure}}}}"
            for name in servers
        )
        text = f"""
            service: storefront
            identity: {identity}
            outbound:
              listen: "127.0.0.1:${{OUTBOUND_PORT}}"
              routes:{routes}
            upstreams:{upstreams}
        """
        with running_sidecar(tmp_path / "a", text) as outbound:
            for name, server in servers.items():
                for turn in range(8):
                    method = "POST" if turn % 2 else "GET"
                    answer = outbound.outbound("/bare", host=name, method=method)
                    assert (answer.status, answer.text) == (200, "v1"), (name, answer.text)
                    kept = outbound.outbound("/kept", host=name, method="POST", body=b"twice")
                    assert kept.status == 200, (name, kept.text)
                assert server.connections >= 1, f"{name}: nobody has tried it"
                assert all(first[:1] == b"\x16" for first in server.seen), "every connection begins as TLS"
                assert metric(outbound, "sidecar_upstream_retries_total", f'upstream="{name}"') >= 1
        assert len(app.requests) == 3 * 16, "no request was served twice"
    for server in servers.values():
        server.close()


def test_refusal_of_a_connection_that_nobody_waits_for_is_told(tmp_path: Path, root: Authority) -> None:
    """The client left during the handshake, behind which TLS 1.3 has it: the connection is in the pool by then."""
    context = server_context(tmp_path / "catalog", root.workload(CATALOG), Authority("other root"))
    context.set_alpn_protocols(["sidecar-http/1.1"])
    identity = identity_of(tmp_path / "storefront", root.workload(STOREFRONT), root)
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        storefront(tmp_path, identity, server.getsockname()[1], more=", connect_timeout: 30s") as sidecar,
    ):
        client = Stream(socket.create_connection(("127.0.0.1", sidecar.outbound_port), 30))
        client.send(b"GET / HTTP/1.1\r\nHost: catalog\r\n\r\n")
        taken, _ = server.accept()
        client.reset()
        (line,) = lines(sidecar, 1)
        assert line["response_code_details"] == "client_left"
        with taken, pytest.raises(ssl.SSLCertVerificationError):
            context.wrap_socket(taken, server_side=True)

        def told() -> float:
            return metric(sidecar, "sidecar_tls_handshake_failures_total", 'reason="upstream_refused_certificate"')

        eventually(lambda: told() == 1, "the refusal to be told")
        assert metric(sidecar, "sidecar_tls_handshake_failures_total") == 1


def test_copies_go_by_tls_and_never_in_clear(tmp_path: Path, root: Authority) -> None:
    """To who proves to be the mirror; where nobody does, there is no copy and the request does not notice."""
    stranger = TlsServer(server_context(tmp_path / "stranger", Authority("other root").workload(CATALOG)))
    identity = identity_of(tmp_path / "storefront", root.workload(STOREFRONT), root)
    with Origin("v1") as app, Origin("shadow") as shadow, catalog(tmp_path, root, shadow, "strict") as inbound:
        tls = f"tls: {{identities: '{CATALOG}'}}"
        text = f"""
            service: storefront
            identity: {identity}
            outbound:
              listen: "127.0.0.1:${{OUTBOUND_PORT}}"
              routes:
                - {{match: {{path: /good}}, to: v1, mirror: shadow}}
                - {{match: {{path: /bad}}, to: v1, mirror: stranger}}
            upstreams:
              v1: {{endpoints: ["127.0.0.1:{app.port}"]}}
              shadow: {{endpoints: ["127.0.0.1:{inbound.inbound_port}"], {tls}}}
              stranger: {{endpoints: ["127.0.0.1:{stranger.port}"], {tls}}}
        """
        with running_sidecar(tmp_path / "a", text) as outbound:
            assert outbound.outbound("/good", host="v1", method="POST", body=b"copied").text == "v1"
            assert outbound.outbound("/bad", host="v1", method="POST", body=b"copied").text == "v1"
            eventually(lambda: shadow.requests == [("POST", "/good")], "the copy")
            eventually(lambda: stranger.seen, "the other mirror's connection")
            failed = 'reason="upstream_certificate_untrusted"'
            eventually(lambda: metric(outbound, "sidecar_tls_handshake_failures_total", failed), "its failure")
            assert all(first[:1] == b"\x16" for first in stranger.seen), "every connection begins as TLS"
        line = lines(inbound, 1)[0]
        assert (line["path"], line["peer_identity"]) == ("/good", STOREFRONT)
    stranger.close()


def test_a_reload_that_is_refused_changes_nobodys_identity(tmp_path: Path, root: Authority) -> None:
    """What it would have had was read and was good; a port that it wanted was not to be had."""
    here = identity_of(tmp_path / "catalog", root.workload(CATALOG), root)
    other = identity_of(tmp_path / "other", root.workload("spiffe://shop/other"), root)
    root.leaf(["a.example"]).write(tmp_path)
    with Origin("v1") as app, socket.create_server(("127.0.0.1", 0)) as taken:
        text = f"""
            service: catalog
            identity: {here}
            inbound: {{listen: "127.0.0.1:${{INBOUND_PORT}}", app: "127.0.0.1:{app.port}", tls: strict}}
        """
        refused = f"""
            service: catalog
            identity: {other}
            inbound:
              app: "127.0.0.1:{app.port}"
              tls: permissive
              listen:
                - "127.0.0.1:${{INBOUND_PORT}}"
                - address: "127.0.0.1:{taken.getsockname()[1]}"
                  name: taken
                  tls: {{certificate: {tmp_path}/tls.crt, key: {tmp_path}/tls.key}}
        """
        with running_sidecar(tmp_path / "s", text) as sidecar:
            before = sidecar.admin("/certs").json()
            sidecar.rewrite(refused)
            eventually(lambda: "config_refused" in sidecar.stderr(), "the refusal")
            after = sidecar.admin("/certs").json()
            assert (after["identity"]["id"], after["listeners"]) == (CATALOG, [])
            assert after["identity"]["source"] == before["identity"]["source"]
            assert after["identity"]["replaced"] == 0
            context = ssl.create_default_context(cadata=root.pem.decode())
            context.check_hostname = False
            context.set_alpn_protocols(["sidecar-http/1.1"])
            context.load_cert_chain(tmp_path / "catalog" / "tls.crt", tmp_path / "catalog" / "tls.key")
            raw = socket.create_connection(("127.0.0.1", sidecar.inbound_port))
            with context.wrap_socket(raw) as secure:
                shown = secure.getpeercert() or {}
                assert ("URI", CATALOG) in shown["subjectAltName"]
            sidecar.rewrite(refused.replace(str(taken.getsockname()[1]), "0"))
            eventually(lambda: sidecar.admin("/certs").json()["identity"]["id"] == "spiffe://shop/other", "the other")
            assert sidecar.metrics("/ready").status == 200


def shown_at(port: int, folder: Path, *roots: Authority) -> int:
    """Serial number of what a listener of the mesh shows to who has what is in this folder."""
    context = ssl.create_default_context(cadata="".join(one.pem.decode() for one in roots))
    context.check_hostname = False
    context.set_alpn_protocols(["sidecar-http/1.1"])
    context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    with context.wrap_socket(socket.create_connection(("127.0.0.1", port))) as secure:
        return int(str((secure.getpeercert() or {})["serialNumber"]), 16)


class Asking:
    """Clients that ask one after the other through a sidecar, until they are told to stop."""

    def __init__(self, sidecar: SidecarProcess) -> None:
        self.statuses: list[int] = []
        self._is_over = threading.Event()
        self._sidecar = sidecar
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(3)]
        for one in self._threads:
            one.start()

    def _ask(self) -> None:
        while not self._is_over.is_set():
            self.statuses.append(self._sidecar.outbound("/x", host="catalog").status)

    def wait_for_more(self, count: int) -> None:
        """So many further answers."""
        before = len(self.statuses)
        eventually(lambda: len(self.statuses) >= before + count, "answers")

    def stop(self) -> set[int]:
        """All statuses that there were."""
        self._is_over.set()
        for one in self._threads:
            one.join(60)
        return set(self.statuses)


@pytest.mark.long
@pytest.mark.parametrize("workers", [1, 2], ids=["one process", "two workers"])
def test_a_rotation_and_a_successor_reach_all_and_lose_nothing(tmp_path: Path, root: Authority, workers: int) -> None:
    """Each worker is somebody; a successor without files takes over nothing, one with them under load."""
    folder = tmp_path / "catalog"
    identity = identity_of(folder, root.workload(CATALOG), root)
    with Origin("v1") as app, contextlib.ExitStack() as stack:
        text = f"""
            service: catalog
            workers: {workers}
            identity: {identity}
            inbound: {{listen: "127.0.0.1:${{INBOUND_PORT}}", app: "127.0.0.1:{app.port}", tls: strict}}
        """
        first = SidecarProcess(tmp_path / "b")
        first.rewrite(text)
        first.start()
        stack.callback(first.kill)
        first.wait_ready()
        outside = identity_of(tmp_path / "storefront", root.workload(STOREFRONT), root)
        outbound = stack.enter_context(storefront(tmp_path, outside, first.inbound_port, more=", max_age: 1s"))
        asking = Asking(outbound)

        leaf = root.workload(CATALOG)
        leaf.write(folder)
        for number in range(workers):
            page = f"/certs?worker={number}" if workers > 1 else "/certs"
            eventually(lambda page=page: first.admin(page).json()["identity"]["replaced"] == 1, f"it in {number}")  # type: ignore[misc]
        for _ in range(6):
            assert shown_at(first.inbound_port, tmp_path / "storefront", root) == leaf.certificate.serial_number
        asking.wait_for_more(20)

        def succeed(name: str, file: str) -> SidecarProcess:
            found = SidecarProcess(tmp_path / name, env=first.env)
            found.admin_port, found.metrics_port = first.admin_port, first.metrics_port
            found.inbound_port = first.inbound_port
            found.rewrite(file)
            found.start("--takeover")
            stack.callback(found.kill)
            return found

        nobody = succeed("nobody", text.replace("tls.crt", "missing.crt"))
        assert nobody.wait() == 1
        assert "is not taken over, and goes on: this one has no identity yet" in nobody.stderr()
        asking.wait_for_more(20)
        assert first.metrics("/ready").status == 200

        second = succeed("second", text)
        assert first.wait() == 0
        eventually(lambda: "live version" in second.stderr(), "the successor")
        asking.wait_for_more(20)
        assert asking.stop() == {200}
        assert second.metrics("/ready").status == 200
        assert shown_at(second.inbound_port, tmp_path / "storefront", root) == leaf.certificate.serial_number
        assert second.stop() == 0


LIMITED = "}\n        limits: {header_timeout: 8s"


def test_a_permissive_port_reads_the_hello_before_it_answers(tmp_path: Path, root: Authority) -> None:
    """However it is parted; what is not a sidecar's is refused by an alert and named, what never ends has a limit."""
    with Origin("v1") as app, catalog(tmp_path, root, app, more=LIMITED) as inbound:
        identity_of(tmp_path / "storefront", root.workload(STOREFRONT), root)

        def context(*protocols: str) -> ssl.SSLContext:
            made = ssl.create_default_context(cadata=root.pem.decode())
            made.check_hostname = False
            made.set_alpn_protocols(protocols)
            made.load_cert_chain(tmp_path / "storefront" / "tls.crt", tmp_path / "storefront" / "tls.key")
            return made

        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        secure = context("sidecar-tcp", "sidecar-http/1.1").wrap_bio(incoming, outgoing)
        with contextlib.suppress(ssl.SSLWantReadError):
            secure.do_handshake()
        hello = outgoing.read()
        with socket.create_connection(("127.0.0.1", inbound.inbound_port)) as parted:
            parted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for place in range(0, len(hello), 60):
                parted.sendall(hello[place : place + 60])
            while secure.version() is None or outgoing.pending:
                incoming.write(parted.recv(65536))
                with contextlib.suppress(ssl.SSLWantReadError):
                    secure.do_handshake()
                parted.sendall(outgoing.read())
                if secure.selected_alpn_protocol():
                    break
            assert secure.selected_alpn_protocol() == "sidecar-http/1.1"

        for protocols in (["h2", "http/1.1"], []):
            own = context(*protocols) if protocols else context("x")
            raw = socket.create_connection(("127.0.0.1", inbound.inbound_port))
            with raw, pytest.raises(ssl.SSLError, match=r"(?i)no.application.protocol"):
                own.wrap_socket(raw, server_hostname="shop.example")
        told = lines(inbound, 2)
        assert {line["response_code_details"] for line in told} == {"client_tls_alpn"}
        assert "offers 'h2', 'http/1.1', for shop.example: no sidecar" in told[0]["detail"]

        with socket.create_connection(("127.0.0.1", inbound.inbound_port)) as wrong:
            wrong.sendall(b"\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00")
            assert wrong.recv(100)[:1] == b"\x15"
        with socket.create_connection(("127.0.0.1", inbound.inbound_port)) as slow:
            slow.settimeout(60)
            slow.sendall(hello[:100])
            assert slow.recv(100) == b""
        told = lines(inbound, 4)
        assert [line["response_code_details"] for line in told[2:]] == ["client_tls_failed", "client_tls_timeout"]
        assert inbound.inbound("/x").status == 200


def test_a_child_begins_when_its_sidecar_is_somebody(tmp_path: Path, root: Authority) -> None:
    """What it asks of others at its start would fail before. The app itself is asked in clear, and so is readiness."""
    folder = tmp_path / "catalog"
    identity = identity_of(folder, root.workload(CATALOG), root)
    key = (folder / "tls.key").read_bytes()
    (folder / "tls.key").unlink()
    begun = tmp_path / "begun"
    with Origin("v1") as app:
        text = f"""
            service: catalog
            identity: {identity}
            inbound:
              listen: "127.0.0.1:${{INBOUND_PORT}}"
              app: "127.0.0.1:{app.port}"
              tls: strict
              health_check: {{path: /live, interval: 300ms}}
        """
        for is_ended in (True, False):
            sidecar = SidecarProcess(tmp_path / f"s{is_ended}")
            sidecar.rewrite(text)
            sidecar.start(command="exec", trailing=("--", "sh", "-c", f"echo > {begun}; exec sleep 600"))
            try:
                eventually(lambda: 'app_waits reason="no identity yet' in sidecar.stderr(), "the wait")  # noqa: B023
                eventually(lambda: ("GET", "/live") in app.requests, "the app to be asked")
                assert sidecar.metrics("/ready").status == 503
                if is_ended:
                    sidecar.signal(signal.SIGTERM)
                    assert sidecar.wait() == 0
                    assert not begun.exists()
                else:
                    (folder / "tls.key").write_bytes(key)
                    eventually(begun.exists, "the child to begin")
                    assert sidecar.metrics("/ready").status == 200
                    eventually(lambda: sidecar.metrics("/app-health").status == 200, "the app to be well")  # noqa: B023
                    assert metric(sidecar, "sidecar_tls_handshake_failures_total") == 0
            finally:
                sidecar.stop()
                sidecar.kill()
