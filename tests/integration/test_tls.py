"""TLS at real sidecars: between two of them, with clients outside, with servers outside, and all that can be wrong."""

from __future__ import annotations

import contextlib
import http.client
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tests.support.certificates import DAY, HOUR, NOW, Authority, Leaf, identity_of
from tests.support.origin import Origin, large
from tests.support.process import SidecarProcess, request, running_sidecar
from tests.support.wait import eventually

CATALOG, STOREFRONT = "spiffe://shop/catalog", "spiffe://shop/storefront"


@pytest.fixture(scope="module")
def root() -> Authority:
    """Whom the mesh believes."""
    return Authority("shop root")


@contextlib.contextmanager
def catalog(
    tmp_path: Path, root: Authority, app: Origin, tls: str = "permissive", more: str = ""
) -> Iterator[SidecarProcess]:
    """The called service's sidecar."""
    identity = identity_of(tmp_path / "catalog", root.workload(CATALOG), root)
    text = f"""
        service: catalog
        identity: {identity}
        inbound: {{listen: "127.0.0.1:${{INBOUND_PORT}}", app: "127.0.0.1:{app.port}", tls: {tls}{more}}}
    """
    with running_sidecar(tmp_path / "b", text) as sidecar:
        yield sidecar


@contextlib.contextmanager
def storefront(
    tmp_path: Path, identity: str, port: int, tls: str = f'{{identities: "{CATALOG}"}}', more: str = ""
) -> Iterator[SidecarProcess]:
    """The caller's sidecar."""
    text = f"""
        service: storefront
        identity: {identity}
        outbound: {{listen: "127.0.0.1:${{OUTBOUND_PORT}}"}}
        upstreams:
          catalog: {{endpoints: ["127.0.0.1:{port}"], tls: {tls}{more}}}
    """
    with running_sidecar(tmp_path / "a", text) as sidecar:
        yield sidecar


def lines(sidecar: SidecarProcess, count: int) -> list[dict[str, Any]]:
    """Lines of the log, as soon as there are so many."""
    eventually(lambda: len(sidecar.access_log()) >= count, f"{count} log lines")
    return sidecar.access_log()


def metric(sidecar: SidecarProcess, name: str, *labels: str) -> float:
    """The sum of the series of this name that have these labels."""
    text = sidecar.metrics("/metrics").text
    return sum(
        float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if line.startswith(name + "{") and all(label in line for label in labels)
    )


def test_two_sidecars_speak_mutual_tls(tmp_path: Path, root: Authority) -> None:
    """Both know the other one; the app is told; all goes by one connection of HTTP/2, also large bodies both ways."""
    with Origin("v1") as app, catalog(tmp_path, root, app) as inbound:
        identity = identity_of(tmp_path / "storefront", root.workload(STOREFRONT), root)
        with storefront(tmp_path, identity, inbound.inbound_port) as outbound:
            seen = outbound.outbound("/echo", host="catalog").json()
            fields = {name.lower(): value for name, value in seen["headers"]}
            assert fields["x-forwarded-client-cert"].startswith(f"By={CATALOG};Hash=")
            assert fields["x-forwarded-client-cert"].endswith(f";URI={STOREFRONT}")
            assert outbound.outbound("/large/tag", host="catalog").body == large("tag")
            body = large("up")
            assert (
                outbound.outbound("/digest", host="catalog", method="POST", body=body).text == sha256(body).hexdigest()
            )
            told = lines(inbound, 3)[0]
            assert (told["tls_version"], told["peer_identity"], told["protocol"]) == ("1.3", STOREFRONT, "HTTP/2")
            told = lines(outbound, 3)[0]
            assert (told["upstream_tls_version"], told["upstream_peer_identity"]) == ("1.3", CATALOG)
            assert metric(inbound, "sidecar_tls_handshakes_total", 'side="client"', 'version="1.3"') == 1
            ends_s = metric(inbound, "sidecar_certificate_expiry_timestamp_seconds", 'which="leaf"')
            assert ends_s > time.time()


def test_permissive_takes_both_and_strict_only_what_it_names(tmp_path: Path, root: Authority) -> None:
    """By the first octet, on one port; a refused request is answered, and its connection closed."""
    with Origin("v1") as app:
        with catalog(tmp_path, root, app) as inbound:
            assert inbound.inbound("/x").status == 200
            spoofed = inbound.inbound("/echo", headers={"x-forwarded-client-cert": "By=me"}).json()
            assert "x-forwarded-client-cert" not in {name.lower() for name, _ in spoofed["headers"]}
        strict = "{mode: strict, clear: [{methods: [GET], path: /live, networks: 127.0.0.0/8}]}"
        with catalog(tmp_path, root, app, strict) as inbound:
            assert inbound.inbound("/live").status == 200
            refused = inbound.inbound("/x")
            assert (refused.status, refused.headers["connection"]) == (403, "close")
            assert refused.json()["error"] == "clear_refused"
            assert inbound.inbound("/live", method="POST").status == 403
            identity = identity_of(tmp_path / "storefront", root.workload(STOREFRONT), root)
            with storefront(tmp_path, identity, inbound.inbound_port) as outbound:
                assert outbound.outbound("/x", host="catalog").status == 200
        with (
            catalog(tmp_path, root, app, "strict") as inbound,
            socket.create_connection(("127.0.0.1", inbound.inbound_port)) as plain,
        ):
            plain.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert plain.recv(100) == b""


OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class TlsServer:
    """A server by Python's `ssl` that answers each connection's first octets with these, and closes as it is told."""

    def __init__(
        self,
        context: ssl.SSLContext,
        answer: bytes = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
        *,
        ends: bool = True,
    ) -> None:
        self.seen: list[bytes] = []
        self.connections = 0
        self._context, self._answer, self._ends = context, answer, ends
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            first = plain.recv(3, socket.MSG_PEEK)
            self.seen.append(first)
            # What was sent and not read must not make the kernel take back an alert with a reset.
            with plain, plain.dup() as rest, contextlib.suppress(OSError):
                rest.settimeout(10)
                try:
                    secure = self._context.wrap_socket(plain, server_side=True)
                except OSError:
                    rest.shutdown(socket.SHUT_WR)
                    while rest.recv(65536):
                        pass
                    continue
                with secure:
                    secure.recv(65536)
                    secure.sendall(self._answer)
                    if self._ends:
                        secure.unwrap().close()
                    else:
                        secure.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Take no more."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()


def server_context(folder: Path, leaf: Leaf, trust: Authority | None = None) -> ssl.SSLContext:
    """Of a server outside, or of one that says that it is a sidecar."""
    folder.mkdir(exist_ok=True)
    leaf.write(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    if trust is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=trust.pem.decode())
    return context


def test_a_server_that_is_not_whom_we_want_gets_no_request_and_nothing_in_clear(
    tmp_path: Path, root: Authority
) -> None:
    """Each way to be wrong has its reason; whatever fails, no octet of a request ever leaves in clear."""
    other = Authority("other root")
    wrong = {
        "upstream_certificate_expired": root.workload(CATALOG, begins=NOW - 2 * DAY, ends=NOW - HOUR),
        "upstream_certificate_not_yet_valid": root.workload(CATALOG, begins=NOW + DAY, ends=NOW + 2 * DAY),
        "upstream_certificate_untrusted": other.workload(CATALOG),
        "upstream_identity_mismatch": root.workload("spiffe://shop/payments"),
        "upstream_tls_alpn": root.workload(CATALOG),
    }
    identity = identity_of(tmp_path / "storefront", root.workload(STOREFRONT), root)
    servers = {}
    for reason, leaf in wrong.items():
        context = server_context(tmp_path / reason, leaf, root)
        if reason != "upstream_tls_alpn":
            context.set_alpn_protocols(["sidecar-http/1.1"])
        servers[reason] = TlsServer(context)
    tls = f"tls: {{identities: '{CATALOG}'}}"
    upstreams = "".join(
        f"\n          {reason.replace('_', '-')}: {{endpoints: ['127.0.0.1:{server.port}'], {tls}}}"
        for reason, server in servers.items()
    )
    text = f"""
        service: storefront
        identity: {identity}
        outbound: {{listen: "127.0.0.1:${{OUTBOUND_PORT}}"}}
        upstreams:{upstreams}
    """
    with running_sidecar(tmp_path / "a", text) as outbound:
        for reason, server in servers.items():
            answer = outbound.outbound("/secret", host=reason.replace("_", "-"))
            assert (answer.status, answer.json()["error"]) == (503, reason)
            assert server.connections >= 1
            assert all(first[:1] == b"\x16" for first in server.seen), "every connection begins as TLS"
        details = {line["response_code_details"]: line["detail"] for line in lines(outbound, len(servers))}
        assert "the clock here says 20" in details["upstream_certificate_expired"]
        assert (
            "spiffe://shop/payments, signed by CN=shop root; expected spiffe://shop/catalog"
            in details["upstream_identity_mismatch"]
        )
        for reason in wrong:
            assert metric(outbound, "sidecar_tls_handshake_failures_total", f'reason="{reason}"', 'side="server"') >= 1
    for server in servers.values():
        server.close()


def test_a_server_that_speaks_no_tls_is_told_nothing(tmp_path: Path, root: Authority) -> None:
    """It answers a hello in clear, as a web server does: nothing but hellos ever comes, whatever is asked."""
    recorded: list[bytes] = []

    def serve(listening: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                taken, _ = listening.accept()
                with taken, contextlib.suppress(OSError):
                    recorded.append(taken.recv(65536))
                    taken.sendall(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
                    while data := taken.recv(65536):
                        recorded.append(data)

    identity = identity_of(tmp_path / "storefront", root.workload(STOREFRONT), root)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=serve, args=(listening,), daemon=True).start()
        port = int(listening.getsockname()[1])
        with storefront(tmp_path, identity, port) as outbound:
            for method in ("GET", "POST"):
                answer = outbound.outbound("/secret", host="catalog", method=method)
                assert (answer.status, answer.json()["error"]) == (503, "upstream_tls_failed")
        assert len(recorded) >= 2
        assert {one[:1] for one in recorded} <= {b"\x16", b"\x15"}, "hellos and alerts"
        assert not any(word in one for one in recorded for word in (b"secret", b"HTTP/"))
        listening.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(("ends", "outcome"), [(True, b"all of it"), (False, None)])
def test_a_body_that_ends_by_closing_is_whole_only_with_close_notify(
    tmp_path: Path, root: Authority, ends: bool, outcome: bytes | None
) -> None:
    """What was cut reaches the client as cut."""
    server = TlsServer(
        server_context(tmp_path / "server", root.leaf(["localhost"])), b"HTTP/1.1 200 OK\r\n\r\nall of it", ends=ends
    )
    text = f"""
        service: storefront
        outbound: {{listen: "127.0.0.1:${{OUTBOUND_PORT}}"}}
        upstreams:
          outside: {{endpoints: ["localhost:{server.port}"], tls: {{trust: {tmp_path}/root.pem}}}}
    """
    (tmp_path / "root.pem").write_bytes(root.pem)
    with running_sidecar(tmp_path / "a", text) as outbound:
        if outcome is not None:
            assert outbound.outbound("/", host="outside").body == outcome
        else:
            with pytest.raises((http.client.HTTPException, OSError)):
                outbound.outbound("/", host="outside")
            assert lines(outbound, 1)[0]["response_code_details"] == "response_cut"
    server.close()


def test_servers_outside_are_known_by_name(tmp_path: Path, root: Authority) -> None:
    """The endpoint's, or the one that the file says; unless it says that nobody is to be verified."""
    server = TlsServer(server_context(tmp_path / "server", root.leaf(["api.example"])))
    (tmp_path / "root.pem").write_bytes(root.pem)
    at = f"endpoints: ['127.0.0.1:{server.port}']"
    text = f"""
        service: storefront
        outbound: {{listen: "127.0.0.1:${{OUTBOUND_PORT}}"}}
        upstreams:
          named: {{{at}, tls: {{trust: {tmp_path}/root.pem, server_name: api.example}}}}
          unnamed: {{{at}, tls: {{trust: {tmp_path}/root.pem}}}}
          machine: {{{at}, tls: {{server_name: api.example}}}}
          anybody: {{{at}, tls: {{verify: "off"}}}}
    """
    with running_sidecar(tmp_path / "a", text) as outbound:
        assert outbound.outbound("/", host="named").text == "ok"
        assert outbound.outbound("/", host="unnamed").json()["error"] == "upstream_identity_mismatch"
        assert outbound.outbound("/", host="machine").json()["error"] == "upstream_certificate_untrusted"
        assert outbound.outbound("/", host="anybody").text == "ok"
        eventually(lambda: "upstream_not_verified upstream=anybody" in outbound.stderr(), "a line that says it")
    server.close()


def openssl(*arguments: str, sent: bytes = b"") -> str:
    """What `openssl s_client` has to say."""
    ended = subprocess.run(["openssl", "s_client", *arguments], input=sent, capture_output=True, timeout=30)
    return (ended.stdout + ended.stderr).decode("utf-8", "replace")


def test_clients_outside_see_the_certificate_that_they_ask_for(tmp_path: Path, root: Authority) -> None:
    """TLS 1.3 unless the file says otherwise, the names by SNI, their own certificate where it is asked for."""
    for name in ("a", "b", "client"):
        (tmp_path / name).mkdir()
        root.leaf([f"{name}.example"], common_name=name).write(tmp_path / name)
    (tmp_path / "root.pem").write_bytes(root.pem)
    pairs = ", ".join(f"{{certificate: {tmp_path}/{name}/tls.crt, key: {tmp_path}/{name}/tls.key}}" for name in "ab")
    with Origin("v1") as app:
        text = f"""
            service: catalog
            inbound:
              app: "127.0.0.1:{app.port}"
              listen:
                - {{address: "127.0.0.1:${{INBOUND_PORT}}", tls: {{certificates: [{pairs}]}}}}
                - address: "127.0.0.1:${{OUTBOUND_PORT}}"
                  name: old
                  tls: {{certificates: [{pairs}], min_version: "1.2", client_trust: {tmp_path}/root.pem}}
        """
        with running_sidecar(tmp_path / "s", text) as sidecar:
            at = f"127.0.0.1:{sidecar.inbound_port}"
            for name in "ab":
                context = ssl.create_default_context(cadata=root.pem.decode())
                raw = socket.create_connection(("127.0.0.1", sidecar.inbound_port))
                with context.wrap_socket(raw, server_hostname=f"{name}.example") as secure:
                    assert secure.version() == "TLSv1.3"
                    secure.sendall(b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                    assert b"HTTP/1.1 200" in secure.recv(65536)
            assert "alert" in openssl("-connect", at, "-tls1_2")
            old = f"127.0.0.1:{sidecar.outbound_port}"
            shown = (
                "-cert",
                f"{tmp_path}/client/tls.crt",
                "-key",
                f"{tmp_path}/client/tls.key",
                "-CAfile",
                f"{tmp_path}/root.pem",
            )
            said = openssl("-connect", old, "-tls1_2", *shown, sent=b"Q\n")
            assert "Protocol  : TLSv1.2" in said
            assert "Secure Renegotiation IS supported" in said
            assert "alert" in openssl("-connect", old, "-tls1_1", "-cipher", "ALL:@SECLEVEL=0", *shown)
            curl = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--cacert", f"{tmp_path}/root.pem"]
            curl += [
                "--resolve",
                f"a.example:{sidecar.outbound_port}:127.0.0.1",
                f"https://a.example:{sidecar.outbound_port}/",
            ]
            with_one = ["--cert", f"{tmp_path}/client/tls.crt", "--key", f"{tmp_path}/client/tls.key"]
            assert subprocess.run([*curl, *with_one], capture_output=True, timeout=30).stdout == b"200"
            assert subprocess.run(curl, capture_output=True, timeout=30).returncode != 0
            assert metric(sidecar, "sidecar_tls_handshake_failures_total", 'reason="client_certificate_missing"') >= 1


def test_a_session_is_taken_up_again_by_openssl(tmp_path: Path, root: Authority) -> None:
    """The ticket of one connection makes the next one cheaper, and its identity is the same."""
    with Origin("v1") as app, catalog(tmp_path, root, app) as inbound:
        identity_of(tmp_path / "storefront", root.workload(STOREFRONT), root)
        folder = tmp_path / "storefront"
        common = [
            "-connect",
            f"127.0.0.1:{inbound.inbound_port}",
            "-cert",
            f"{folder}/tls.crt",
            "-key",
            f"{folder}/tls.key",
        ]
        common += ["-CAfile", f"{folder}/ca.crt", "-alpn", "sidecar-http/1.1", "-ign_eof"]
        asked = b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        assert "HTTP/1.1 200" in openssl(*common, "-sess_out", f"{tmp_path}/session", sent=asked)
        said = openssl(*common, "-sess_in", f"{tmp_path}/session", sent=asked)
        assert "Reused, TLSv1.3" in said
        assert [line["peer_identity"] for line in lines(inbound, 2)] == [STOREFRONT] * 2
        assert metric(inbound, "sidecar_tls_handshakes_total", 'resumed="true"', 'side="client"') == 1


@pytest.mark.long
def test_certificates_are_exchanged_under_load_and_nothing_is_lost(tmp_path: Path, root: Authority) -> None:
    """New ones for both sides, again and again; half a file, and a key of another, change nothing and are told."""
    with Origin("v1") as app, catalog(tmp_path, root, app) as inbound:
        identity = identity_of(tmp_path / "storefront", root.workload(STOREFRONT), root)
        with storefront(tmp_path, identity, inbound.inbound_port, more=", max_age: 1s") as outbound:
            statuses: list[int] = []
            is_over = threading.Event()

            def call() -> None:
                while not is_over.is_set():
                    statuses.append(request(outbound.outbound_port, "/x", headers={"Host": "catalog"}).status)

            callers = [threading.Thread(target=call) for _ in range(4)]
            for one in callers:
                one.start()
            for turn in range(1, 3):
                for folder, name, sidecar in (("catalog", CATALOG, inbound), ("storefront", STOREFRONT, outbound)):
                    root.workload(name).write(tmp_path / folder)
                    eventually(lambda: sidecar.admin("/certs").json()["identity"]["replaced"] >= turn, "a rotation")  # noqa: B023
            served = len(statuses)
            eventually(lambda: len(statuses) > served + 50, "traffic by the new ones")
            certificate = tmp_path / "catalog" / "tls.crt"
            certificate.write_bytes(certificate.read_bytes()[:200])
            eventually(lambda: inbound.admin("/certs").json()["identity"]["last_error"], "half a file to be told")
            assert inbound.metrics("/ready").status == 200
            served = len(statuses)
            eventually(lambda: len(statuses) > served + 50, "traffic by the old one")
            is_over.set()
            for one in callers:
                one.join()
            assert set(statuses) == {200}


def test_a_file_whose_certificates_cannot_be_used_is_refused_and_the_one_in_force_goes_on(
    tmp_path: Path, root: Authority
) -> None:
    """With its place; at a start as at a reload."""
    root.leaf(["a.example"]).write(tmp_path)
    shutil.copy(tmp_path / "tls.crt", tmp_path / "good.crt")
    with Origin("v1") as app:
        text = f"""
            service: catalog
            inbound:
              app: "127.0.0.1:{app.port}"
              listen:
                - address: "127.0.0.1:${{INBOUND_PORT}}"
                  tls: {{certificate: {tmp_path}/CRT, key: {tmp_path}/tls.key}}
        """
        with running_sidecar(tmp_path / "s", text.replace("CRT", "good.crt")) as sidecar:
            sidecar.rewrite(text.replace("CRT", "missing.crt"))
            eventually(lambda: "missing.crt" in sidecar.stderr(), "the refusal")
            context = ssl.create_default_context(cadata=root.pem.decode())
            raw = socket.create_connection(("127.0.0.1", sidecar.inbound_port))
            with context.wrap_socket(raw, server_hostname="a.example") as secure:
                assert secure.version() == "TLSv1.3"
