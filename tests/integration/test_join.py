"""A real `sidecar control` with an authority of its own: joining, TLS and clear on one port, who may do what."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from sidecar.control.authority import certificates as pki
from sidecar.control.authority import record as steps
from sidecar.link.messages import Absent, Config, Move, Ping, Renew, Watch, read_line
from sidecar.mesh.told import LANGUAGE
from tests.support.authority import new_key, read, request, request_der, signature
from tests.support.commands import sidecar_command
from tests.support.control import SHOP, Control, Peer, running_control
from tests.support.etcd import etcd
from tests.support.kept_state import authority_of
from tests.support.wait import eventually


@dataclass(frozen=True)
class Answer:
    status: int
    said: Any
    headers: dict[str, str]


class Mesh:
    """A control plane with `--create-ca`, and clients of TLS that know its roots."""

    def __init__(self, control: Control, folder: Path, roots: str = "") -> None:
        self.control = control
        self.folder = folder
        if not roots:
            told = sidecar_command("mesh", "ca", "roots", "--state", str(control.state))
            assert told.returncode == 0, told.stderr
            roots = told.stdout
        self.roots = roots
        self.trust = folder / "roots.pem"
        self.trust.write_text(self.roots)

    def context(self, chain: str = "", key: Any = None) -> ssl.SSLContext:
        """Of a client, with a certificate or without."""
        context = ssl.create_default_context(cadata=self.roots)
        context.check_hostname = False
        if chain:
            pair = self.folder / "pair.pem"
            pair.write_text(chain + pki.text_of_key(key))
            context.load_cert_chain(pair)
        return context

    def ask(
        self, method: str, path: str, body: Any = None, context: ssl.SSLContext | None = None, token: str = ""
    ) -> Answer:
        """By TLS."""
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self.control.port, timeout=15, context=context or self.context()
        )
        headers = {"authorization": f"Bearer {token}"} if token else {}
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            answer = connection.getresponse()
            raw = answer.read()
        finally:
            connection.close()
        try:
            said = json.loads(raw)
        except ValueError:
            said = raw
        return Answer(answer.status, said, {name.lower(): value for name, value in answer.getheaders()})

    def token(self, service: str = "storefront", *more: str) -> str:
        """As an operator makes one on this machine."""
        made = sidecar_command(
            "mesh", "token", "create", service, "--control", f"http://127.0.0.1:{self.control.port}", *more
        )
        assert made.returncode == 0, made.stderr
        return made.stdout.strip()

    def join(self, proof: dict[str, Any], key: Any, context: ssl.SSLContext | None = None, **more: Any) -> Answer:
        """`POST /v1/join`."""
        body = {"csr": request(key), "service": "storefront", "instance": "i-1", "proof": proof} | more
        return self.ask("POST", "/v1/join", body, context)


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """One for those tests that leave it as it was."""
    folder = tmp_path_factory.mktemp("join")
    with running_control(folder, SHOP, "--create-ca") as control:
        eventually(lambda: "own_certificate" in control.log(), "the control plane's own certificate")
        yield Mesh(control, folder)


def test_control_plane_proves_to_be_one_of_this_mesh(mesh: Mesh) -> None:
    """Its only name is `spiffe://shop/control`, by TLS 1.3."""
    with (
        socket.create_connection(("127.0.0.1", mesh.control.port), 15) as raw,
        mesh.context().wrap_socket(raw) as secured,
    ):
        shown: Any = secured.getpeercert()
        assert shown["subjectAltName"] == (("URI", "spiffe://shop/control"),)
        assert secured.version() == "TLSv1.3"


def test_sidecar_joins_by_a_token_and_renews_by_its_certificate(mesh: Mesh) -> None:
    """The token names the root by which the control plane is known; openssl takes what is given."""
    token, _, pin = mesh.token().partition("#")
    trusted = mesh.ask("GET", "/v1/trust").said
    assert pin == f"sha256:{trusted['roots'][0]}"
    key = new_key()
    joined = mesh.join({"token": token}, key)
    assert joined.status == 200, joined.said
    assert joined.said["identity"] == "spiffe://shop/storefront"
    leaf = read(joined.said["certificate"])[0]
    (mesh.folder / "leaf.pem").write_text(pki.text_of([leaf]))
    (mesh.folder / "chain.pem").write_text(joined.said["certificate"])
    checked = subprocess.run(
        ["openssl", "verify", "-x509_strict", "-CAfile", str(mesh.trust), "-untrusted", str(mesh.folder / "chain.pem"),
         str(mesh.folder / "leaf.pem")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stderr

    mine = mesh.context(joined.said["certificate"], key)
    again = mesh.join({"certificate": True}, new_key(), mine)
    assert again.status == 200, again.said
    nonce = mesh.ask("GET", "/v1/join/nonce").said["nonce"]
    fresh = new_key()
    csr = request(fresh)
    signed = {
        "certificate": joined.said["certificate"], "nonce": nonce,
        "signature": signature(key, nonce, request_der(csr)),
    }  # fmt: skip
    renewed = mesh.join(signed, fresh, csr=csr)
    assert renewed.status == 200, renewed.said


def test_what_goes_wrong_has_a_code(mesh: Mesh) -> None:
    """By which the sidecar acts."""
    token = mesh.token()
    for proof, more, status, code in (
        ({"token": "sct_" + "A" * 43}, {}, 403, "token_unknown"),
        ({"token": token}, {"service": "payments"}, 403, "service_mismatch"),
        ({"token": token}, {"csr": "x"}, 400, "csr_invalid"),
        ({}, {}, 400, "request_invalid"),
        ({"certificate": True}, {}, 403, "certificate_invalid"),
    ):
        answer = mesh.join(proof, new_key(), **more)
        assert (answer.status, answer.said["code"]) == (status, code), answer.said
    assert mesh.join({"token": token}, new_key(), csr="x" * 200_000).status == 413


def test_nobody_joins_in_clear(mesh: Mesh) -> None:
    """A token that was shown in clear may have been read; the rest of the port serves clear as before."""
    body = {"csr": request(new_key()), "service": "storefront", "proof": {"token": mesh.token()}}
    answer = mesh.control.post("/v1/join", json.dumps(body).encode())
    assert (answer.status, answer.json()["code"]) == (403, "clear_refused")
    assert mesh.control.get("/v1/mesh").status == 200


def test_sidecar_speaks_for_its_own_service_alone(mesh: Mesh) -> None:
    """By its certificate: stream and reports of that service, and nothing that operators ask."""
    key = new_key()
    chain = mesh.join({"token": mesh.token()}, key).said["certificate"]
    mine = mesh.context(chain, key)
    report = {"service": "storefront", "instance": "by-tls", "ports": {}, "health": "starting", "seq": 1}
    assert mesh.ask("POST", "/v1/report", report, mine).status == 200
    assert mesh.ask("POST", "/v1/report", report | {"service": "catalog"}, mine).status == 403
    polled = mesh.ask("GET", "/v1/watch?service=storefront&instance=by-tls&wait=1s&language=1", None, mine)
    assert polled.status == 200
    assert mesh.ask("GET", "/v1/watch?service=catalog&instance=x&wait=1s", None, mine).status == 403
    for method, path in (("GET", "/v1/mesh"), ("POST", "/v1/push"), ("GET", "/v1/here/summary"), ("GET", "/v1/tokens")):
        assert mesh.ask(method, path, {} if method == "POST" else None, mine).status == 403, path


def test_certificate_of_another_authority_is_no_handshake(mesh: Mesh) -> None:
    """TLS refuses it, as an alert at the first read (RFC 8446, 4.4.2.4)."""
    other = steps.made("shop", time.time())
    key = new_key()
    signer = other.intermediate
    now_s = other.created_s
    leaf = pki.make_leaf("spiffe://shop/storefront", "i", key.public_key(), signer.own, signer.private_key, now_s, 3600)
    forged = mesh.context(pki.text_of([leaf, signer.own]), key)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        mesh.ask("GET", "/v1/trust", None, forged)
    assert mesh.ask("GET", "/v1/trust").status == 200


def test_stream_ends_with_the_certificate_that_opened_it(mesh: Mesh) -> None:
    """Not before, and with its connection; nothing that was told is taken back, and it is not told to go elsewhere."""
    key, signer, now_s = new_key(), authority_of(mesh.control).intermediate, time.time()
    leaf = pki.make_leaf("spiffe://shop/storefront", "", key.public_key(), signer.own, signer.private_key, now_s, 3)
    mine = mesh.context(pki.text_of([leaf]) + signer.certificate, key)
    connection = http.client.HTTPSConnection("127.0.0.1", mesh.control.port, timeout=15, context=mine)
    with closing(connection):
        watch = Watch("storefront", "i-ends", language=LANGUAGE)
        connection.request("GET", watch.to_target())
        answer = connection.getresponse()
        assert answer.status == 200
        lines = []
        while line := answer.readline():
            lines.append(read_line(line))
            assert time.time() < pki.ends(leaf) + 20, "pings come on"
        assert time.time() >= pki.ends(leaf)
        assert {type(line) for line in lines} >= {Config, Ping}
        assert not any(isinstance(line, Move | Absent) for line in lines)
        assert connection.sock.recv(1) == b""
    told = 'stream_closed service=storefront instance=i-ends reason="its certificate has ended"'
    eventually(lambda: told in mesh.control.log(), "the line that says why")


def test_revoked_instance_is_not_renewed(mesh: Mesh) -> None:
    """By an operator; it keeps what it has until that ends, and may join anew."""
    key = new_key()
    joined = mesh.join({"token": mesh.token()}, key, instance="i-lost")
    # What begins in the same second as the revocation counts as issued before it.
    mine = mesh.context(joined.said["certificate"], key)
    answer = mesh.control.post("/v1/revoke", b'{"name": "storefront/i-lost"}')
    assert answer.status == 200, answer.text
    refused = mesh.join({"certificate": True}, new_key(), mine)
    assert (refused.status, refused.said["code"]) == (403, "revoked")
    assert mesh.ask("GET", "/v1/watch?service=storefront&instance=i-lost&wait=0s", None, mine).status in (200, 304)


def test_status_says_when_what_ends(mesh: Mesh) -> None:
    """Root, intermediate, the control plane's own; long before."""
    status = sidecar_command("mesh", "status", "--control", f"http://127.0.0.1:{mesh.control.port}")
    assert "authority of shop: root CN=shop root" in status.stdout
    assert "ends in 3650d" in status.stdout
    authority = mesh.control.shown()["authority"]
    assert [one["which"] for one in authority["certificates"]] == ["root", "issuer", "leaf"]
    assert authority["why_not"] is None


def test_token_is_in_no_log_and_what_was_issued_is(mesh: Mesh) -> None:
    """Who, which certificate, by which proof."""
    text = mesh.token()
    token = text.partition("#")[0]
    joined = mesh.join({"token": text}, new_key(), instance="i-logged")
    serial = f"{read(joined.said['certificate'])[0].serial_number:x}"
    eventually(lambda: serial in mesh.control.log(), "the log line of what was issued")
    written = mesh.control.log() + mesh.control.stdout_path.read_text()
    assert token not in written
    assert "PRIVATE KEY" not in written
    line = next(line for line in written.splitlines() if serial in line and "certificate_issued" in line)
    assert "identity=spiffe://shop/storefront" in line
    assert "proof=token:" in line
    assert mesh.control.metric('sidecar_control_certificates_issued_total{proof="token"}') >= 1


def test_stream_in_clear_goes_on_beside_tls(mesh: Mesh) -> None:
    """The transition: those that have no certificate yet are served as before."""
    with Peer(mesh.control, "catalog", "in-clear") as peer:
        assert peer.wait_for(Config).file


def test_tls_alone_is_answered_in_clear_by_a_hint(tmp_path: Path) -> None:
    """`--accept tls`: on loopback reading is open, writing needs an operator's token; replicas' ways need their own."""
    tokens = tmp_path / "alice"
    tokens.write_text("alice-has-a-long-token\n")
    reader = tmp_path / "bob"
    reader.write_text("bob-has-a-long-token-too\n")
    arguments = ["--create-ca", "--accept", "tls", "--operator", f"alice:write:{tokens}",
                 "--operator", f"bob:read:{reader}"]  # fmt: skip
    with running_control(tmp_path, SHOP, *arguments) as control:
        eventually(lambda: "own_certificate" in control.log(), "the control plane's own certificate")
        mesh = Mesh(control, tmp_path)
        with socket.create_connection(("127.0.0.1", control.port), 15) as raw:
            raw.sendall(b"GET /v1/mesh HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert b"ask https://" in raw.recv(1000)
        assert mesh.ask("GET", "/v1/mesh").status == 401
        assert mesh.ask("GET", "/v1/mesh", token="bob-has-a-long-token-too").status == 200
        refused = mesh.ask("POST", "/v1/tokens", {"service": "storefront"}, token="bob-has-a-long-token-too")
        assert (refused.status, "`write`" in refused.said["error"]) == (403, True)
        made = mesh.ask("POST", "/v1/tokens", {"service": "storefront"}, token="alice-has-a-long-token")
        assert made.status == 200
        listed = sidecar_command(
            "mesh", "token", "list", "--control", f"https://127.0.0.1:{control.port}", "--token-file", str(tokens),
            "--trust", str(mesh.trust),
        )  # fmt: skip
        assert made.said["id"] in listed.stdout, listed.stderr
        assert made.said["token"].partition("#")[0] not in listed.stdout
        untrusted = sidecar_command(
            "mesh", "token", "list", "--control", f"https://127.0.0.1:{control.port}", "--token-file", str(tokens)
        )
        assert untrusted.returncode == 2
        assert mesh.join({"token": made.said["token"]}, new_key()).status == 200
        revoked = mesh.ask("DELETE", f"/v1/tokens/{made.said['id']}", token="alice-has-a-long-token")
        assert revoked.status == 200
        assert mesh.join({"token": made.said["token"]}, new_key()).said["code"] == "token_unknown"


@pytest.mark.long
def test_authority_outlives_a_restart_and_is_rotated_beside_it(tmp_path: Path) -> None:
    """Made by hand, rotated by commands while the control plane runs: it takes up each step within seconds."""
    control = Control(tmp_path, SHOP)
    state = ["--state", str(control.state)]
    made = sidecar_command("mesh", "ca", "init", "--trust-domain", "shop", *state)
    assert made.returncode == 0, made.stderr
    assert sidecar_command("mesh", "ca", "init", "--trust-domain", "shop", *state).returncode == 1
    with running_control(tmp_path / "a", SHOP, *state, "--accept", "clear,tls") as first:
        first.state = control.state
        eventually(lambda: "own_certificate" in first.log(), "the control plane's own certificate")
        mesh = Mesh(first, tmp_path)
        (old,) = mesh.ask("GET", "/v1/trust").said["roots"]
        key = new_key()
        assert mesh.join({"token": mesh.token()}, key).status == 200
        with Peer(first, "catalog", "told") as peer:
            peer.wait_for(Config)
            assert sidecar_command("mesh", "ca", "rotate", "add", *state).returncode == 0
            assert peer.wait_for(Renew).within_s >= 1
        eventually(lambda: len(mesh.ask("GET", "/v1/trust").said["roots"]) == 2, "two roots")
        assert sidecar_command("mesh", "ca", "rotate", "sign", *state).returncode == 0
        # Who knows the old root alone still trusts the control plane, whose certificate the new one signs.
        eventually(lambda: first.log().count("own_certificate") >= 3, "the certificate by the new root")
        assert mesh.ask("GET", "/v1/trust").status == 200

        def is_refused() -> bool:
            dropped = sidecar_command("mesh", "ca", "rotate", "drop", *state)
            return dropped.returncode == 1 and "1 live certificate chains" in dropped.stderr

        eventually(is_refused, "the record of what was issued")
        joined = mesh.join({"token": mesh.token()}, key)
        assert joined.status == 200
        (new,) = set(mesh.ask("GET", "/v1/trust").said["roots"]) - {old}
        assert pki.fingerprint(read(joined.said["trust"])[1]) == new
    # What was issued was written when it ended.
    dropped = sidecar_command("mesh", "ca", "rotate", "drop", *state)
    assert dropped.returncode == 0, dropped.stderr
    status = json.loads(sidecar_command("mesh", "ca", "status", "--json", *state).stdout)
    assert [one["fingerprint"] for one in status["roots"]] == [new]
    assert [one["name"] for one in status["issued"]] == ["storefront/i-1"]


@pytest.mark.long
def test_replicas_ask_each_other_by_their_certificates(tmp_path: Path) -> None:
    """TLS alone, no token between them: one authority by the engine, and each sees what the other's sidecars do."""
    tokens = tmp_path / "alice"
    tokens.write_text("alice-has-a-long-token\n")
    with etcd(tmp_path) as cluster, ExitStack() as stack:
        url = cluster.url + "/joined/"
        made = sidecar_command("mesh", "ca", "init", "--engine", url, "--trust-domain", "shop")
        assert made.returncode == 0, made.stderr
        controls = []
        for name in ("r1", "r2"):
            control = Control(tmp_path / name, SHOP)
            control.keeps = ["--engine", url, "--name", name, "--spread", "0s",
                             "--advertise", f"https://127.0.0.1:{control.port}"]  # fmt: skip
            control.start("--accept", "tls", "--operator", f"alice:write:{tokens}", is_ready=False)
            stack.callback(control.stop)
            controls.append(control)
        roots = sidecar_command("mesh", "ca", "roots", "--engine", url).stdout
        meshes = [Mesh(control, control.directory, roots) for control in controls]
        asked = ["--control", f"https://127.0.0.1:{controls[0].port}", "--trust", str(meshes[0].trust),
                 "--token-file", str(tokens)]  # fmt: skip

        def is_pushed() -> bool:
            return sidecar_command("mesh", "push", controls[0].mesh, *asked).returncode == 0

        eventually(is_pushed, f"a push: {controls[0].log()}", 60)
        key = new_key()
        token = meshes[1].ask("POST", "/v1/tokens", {"service": "storefront"}, token="alice-has-a-long-token")
        joined = meshes[1].join({"token": token.said["token"]}, key)
        assert joined.status == 200, joined.said
        mine = meshes[0].context(joined.said["certificate"], key)
        report = {"service": "storefront", "instance": "i-1", "ports": {}, "health": "starting", "seq": 1}
        assert meshes[0].ask("POST", "/v1/report", report, mine).status == 200

        def is_seen() -> bool:
            shown = meshes[1].ask("GET", "/v1/mesh", token="alice-has-a-long-token").said
            return [one["id"] for one in shown["instances"]] == ["i-1"]

        eventually(is_seen, f"what the other replica knows: {controls[1].log()}", 60)
        for control in controls:
            assert "Traceback" not in control.log(), control.log()


def test_tls_is_refused_to_start_without_an_authority(tmp_path: Path) -> None:
    """It says how to have one."""
    control = Control(tmp_path, SHOP)
    control.start("--accept", "tls", is_ready=False)
    assert control.process is not None
    assert control.process.wait(30) == 1
    assert "mesh ca init" in control.log()


def test_leaf_carries_no_name_of_the_request(mesh: Mesh) -> None:
    """Only the key of it."""
    key = new_key()
    joined = mesh.join({"token": mesh.token()}, key, csr=request(key, "evil", "spiffe://shop/control"))
    leaf = read(joined.said["certificate"])[0]
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://shop/storefront"]
