"""
A mesh whose sidecars have identities, in which all that has to do with keys and tokens goes wrong once: nothing that
anybody writes, shows, answers or reports has a private key, a token or a ticket in it.
"""

from __future__ import annotations

import base64
import http.client
import json
import re
import ssl
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.certificates import HOUR, NOW, Authority, key_pem_of
from tests.support.commands import sidecar_command
from tests.support.mesh import Member, MeshOfProcesses, running_mesh
from tests.support.origin import Origin
from tests.support.process import SidecarProcess, request
from tests.support.tokens import jwk, jwks, signed
from tests.support.wait import eventually as soon_or_later

pytestmark = pytest.mark.long

OPERATOR = "alice-has-a-token-that-nobody-may-see"
STRANGER = "mallory-has-a-token-that-opens-nothing"
KEPT = "identity: {from: control, keep: always}\n"
LONG_S = 120.0
"""Five processes start side by side: on a busy machine it takes what it takes."""
PRIVATE = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----(.*?)(?:-----END|\Z)", re.DOTALL)
LINE = re.compile(rb"[A-Za-z0-9+/=]{40,}")
WRITTEN = ("*.log", "*.out")


def eventually(condition: Callable[[], object], what: str) -> None:
    """As `wait.eventually`, with more patience."""
    soon_or_later(condition, what, LONG_S)


def files(keys: Path) -> dict[str, str]:
    """`back` asks its callers for a token as well."""
    jwt = f"{{jwt: {{issuer: https://id.example.com, audience: shop, keys: {keys}}}}}"
    return {
        "mesh.yaml": "mesh: shop\nunmatched: deny\nauthorization: {mode: enforce}\n",
        "front.yaml": "service: front\ncalls: {back: {}}\n",
        "back.yaml": "service: back\napp: 127.0.0.1:8080\ncallers: [front]\ncalls: {}\n"
        f"authorization: {{rules: [{{name: readers, allow: {{from: [{jwt}]}}}}]}}\n",
    }


def join(mesh: MeshOfProcesses, folder: Path, service: str, token: str, app: int = 0) -> Member:
    """A sidecar that tells all that it can tell."""
    url = f"https://127.0.0.1:{mesh.control.port}"
    member = mesh.members[f"{service}-1"] = Member(folder, url, service, f"{service}-1", "")
    member.write_local(app, "interval: 100ms", delay="1s", more=KEPT)
    told = member.config.read_text().replace("/dev/null", str(member.config.with_name("access.log")))
    member.config.write_text(told)
    member.join_by(token)
    member.start(*member._arguments, "--log-level", "debug")
    return member


def bearers() -> dict[str, str]:
    """A token that is good, and of every kind that is not."""
    now = int(time.time())
    claims: dict[str, Any] = {"iat": now, "exp": now + HOUR, "sub": "somebody-whom-nobody-may-see"}
    return {
        "good": signed("p256", "ES256", **claims).decode(),
        "forged": signed("p256-2", "ES256", **claims).decode(),
        "expired": signed("p256", "ES256", **{**claims, "exp": now - HOUR}).decode(),
        "malformed": "c0ffee-is-no-token-at-all-c0ffee",
        "long": "looong" * 2000,
    }


def tickets(port: int, member: Member) -> list[bytes]:
    """What a listener gives to a client that has this member's identity, to come again by."""
    path = member.config.with_name("state") / "identity"
    eventually(path.exists, "a key that is kept")
    held = json.loads(path.read_text().partition("\n")[2])["held"]  # behind the sum of it
    pair = member.config.with_name("pair.pem")
    pair.write_text(held["certificate"] + held["key"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["sidecar-http/1.1"])
    context.load_cert_chain(pair)
    found: list[bytes] = []

    def on_message(_object: Any, direction: str, _version: Any, _content: Any, kind: Any, octets: bytes) -> None:
        # RFC 8446, 4.6.1: a header, two numbers of four octets, a nonce, the ticket.
        if direction == "read" and getattr(kind, "name", "") == "NEWSESSION_TICKET":
            at = 13 + octets[12]
            found.append(octets[at + 2 : at + 2 + int.from_bytes(octets[at : at + 2], "big")])

    context._msg_callback = on_message  # type: ignore[attr-defined]
    with context.wrap_socket(member.connect(port)) as secure:
        secure.sendall(b"GET / HTTP/1.1\r\nHost: back\r\n\r\n")
        assert secure.recv(65536).startswith(b"HTTP/1.1 200 ")
    return found


class Broken:
    """
    A sidecar that was well, until each of its files became wrong in another way.

    Attributes:
        troubles: How many it has to tell of.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._root, other = Authority("shop root"), Authority("other root")
        leaf, self._own = self._root.leaf(["localhost"]), self._root.workload("spiffe://shop/shop")
        late, whole = self._root.leaf(["localhost"], begins=NOW - 9 * HOUR, ends=NOW - HOUR), leaf.key_pem
        self._wrong = {
            "own": (self._own.key_pem, self._own.pem),
            "mismatched": (leaf.pem, other.leaf(["localhost"]).key_pem),
            "half": (leaf.pem, whole[: len(whole) * 2 // 3]),
            "expired": (late.pem, late.key_pem),
            "locked": (leaf.pem, key_pem_of(leaf.key, b"a password")),
            "garbled": (leaf.pem, whole.replace(b"\nM", b"\n!M")),
            "two-keys": (leaf.pem + whole, other.leaf(["x"]).key_pem + whole),
        }
        self.troubles = len(self._wrong)
        self._write(dict.fromkeys(self._wrong, (leaf.pem, whole)) | {"own": (self._own.pem, self._own.key_pem)})
        (folder / "root.pem").write_bytes(self._root.pem)
        paths = {name: f"certificate: {folder}/{name}.crt, key: {folder}/{name}.key" for name in self._wrong}
        upstreams = "".join(
            f"\n              {name}: {{endpoints: [localhost:9], tls: {{{paths[name]}}}}}" for name in [*paths][1:]
        )
        self.sidecar = SidecarProcess(folder / "sidecar")
        self.sidecar.rewrite(f"""
            service: shop
            identity: {{from: {{files: {{{paths["own"]}, trust: {folder}/root.pem}}}}}}
            inbound: {{app: "127.0.0.1:9", listen: "127.0.0.1:${{INBOUND_PORT}}"}}
            outbound: {{listen: "127.0.0.1:${{OUTBOUND_PORT}}"}}
            upstreams:{upstreams}
        """)
        self.sidecar.start("--log-level", "debug")

    def go_wrong(self) -> bytes:
        """Once it is ready; and what is answered to who wants the file to be read again."""
        self.sidecar.wait_ready(LONG_S)
        self._write(self._wrong)
        text = self.sidecar.config.read_text()
        self.sidecar.config.write_text(
            text.replace(f"{self._folder}/", f"{self._folder}/./")
        )  # files that nobody holds yet
        refused = self.sidecar.admin("/reload", method="POST", timeout_s=LONG_S)
        assert refused.status == 400, refused.text
        self.sidecar.config.write_text(text)
        return refused.body

    def answers(self) -> bytes:
        """What it says when all of it was found, and to who asks for what needs it."""
        told = self.sidecar.stderr
        eventually(lambda: told().count("certificate_refused") >= self.troubles, f"all: {told()}")
        asked = b"".join(self.sidecar.outbound("/", host=name).body for name in self._wrong)
        return asked + pages(self.sidecar)

    def _write(self, pairs: Mapping[str, tuple[bytes, bytes]]) -> None:
        for name, (certificate, key) in pairs.items():
            (self._folder / f"{name}.crt").write_bytes(certificate)
            (self._folder / f"{name}.key").write_bytes(key)


def says(member: Member, what: str) -> bool:
    """Whether `/ready` of its admin listener has this."""
    try:
        return what in member.admin("/ready").text
    except (OSError, http.client.HTTPException):
        return False


def pages(sidecar: SidecarProcess) -> bytes:
    """All that its admin listener shows."""
    index = sidecar.admin("/").text.split("\n")
    found = [line.split()[1] for line in index if line.startswith("GET ") and not line.endswith("/tap")]
    assert "/certs" in found
    return b"".join(sidecar.admin(path).body for path in found)


def shown(mesh: MeshOfProcesses) -> bytes:
    """All that the control plane shows, also to who may not see it."""
    control, paths = mesh.control, ("/v1/mesh", "/v1/history", "/v1/instances?service=back", "/v1/tokens", "/v1/trust")
    found = [control.get(path).body for path in (*paths, "/v1/routes?from=front&to=back", "/v1/here/instances", "/")]
    found += [request(control.ops_port, path).body for path in ("/metrics", "/ready")]
    for stranger in (STRANGER, OPERATOR[:-1]):
        found += [control.get(path, authorization=f"Bearer {stranger}").body for path in paths]
    url, file = f"http://127.0.0.1:{control.port}", str(control.directory.parent / "operator")
    for command in (("mesh", "status"), ("mesh", "token", "list")):
        run = sidecar_command(*command, "--control", url, "--token-file", file)
        assert run.returncode == 0, run.stderr
        found.append((run.stdout + run.stderr).encode())
    return b"".join(found)


def test_nobody_tells_a_key_a_token_or_a_ticket(tmp_path: Path) -> None:
    """Wrong, revoked and stolen tokens; keys that cannot be read, or are in the wrong place; and all that is well."""
    (tmp_path / "keys.json").write_bytes(jwks(jwk("p256", "1")))
    (tmp_path / "operator").write_text(OPERATOR + "\n")
    alice = ("--operator", f"alice:write:{tmp_path}/operator", "--log-level", "debug")
    exits: list[bytes] = []
    with (
        Origin("back") as app,
        running_mesh(tmp_path, files(tmp_path / "keys.json"), "--create-ca", *alice) as mesh,
    ):
        control = mesh.control
        control.token = OPERATOR
        broken = Broken(tmp_path / "broken")
        try:
            tokens = [control.join_token(service) for service in ("front", "back", "front")]
            secret, _, pin = tokens[0].partition("#")
            tokens.append(f"{secret[:4]}{secret[:3:-1]}#{pin}")
            gone = control.get("/v1/tokens").json()["tokens"][-1]["id"]
            headers = {"authorization": f"Bearer {OPERATOR}"}
            assert request(control.port, f"/v1/tokens/{gone}", method="DELETE", headers=headers).status == 200
            front = join(mesh, tmp_path, "front", tokens[3])
            back = join(mesh, tmp_path, "back", tokens[1], app.port)
            exits.append(broken.go_wrong())
            eventually(lambda: says(front, "token_unknown"), f"a wrong token to be told: {front.stderr()}")
            exits.append(pages(front))
            front.config.with_name("token").write_text(tokens[0])
            for member in (front, back):
                eventually(member.is_ready, f"{member.id}: {member.stderr()}")
            eventually(lambda: request(front.outbound_port, "/", headers={"host": "back"}).status == 200, "a call")
            given = tickets(back.inbound_port, front)
            assert given, "expected a ticket"
            shown_jwt = bearers()
            for name, bearer in shown_jwt.items():
                headers = {"host": "back", "authorization": f"Bearer {bearer}"}
                answers = [request(port, "/", headers=headers) for port in (front.outbound_port, back.inbound_port)]
                exits += [answer.body for answer in answers]
                assert answers[0].status == 200, name
            for bearer in (*tokens, *shown_jwt.values()):
                refused = control.get("/v1/mesh", authorization=f"Bearer {bearer}")
                exits.append(control.post("/v1/join", json.dumps({"token": bearer}).encode()).body)
                if refused.status != 400:  # to who sends what cannot be read its own octets are told
                    exits.append(refused.body)
            exits += [broken.answers(), *(pages(one) for one in (front, back))]
            exits.append(shown(mesh))
        finally:
            broken.sidecar.stop()
            broken.sidecar.kill()
    exits += [path.read_bytes() for pattern in WRITTEN for path in tmp_path.rglob(pattern)]
    everything = b"\n".join(exits)
    for told in (b"identity_joined", b"token_unknown", b'"jwt"', b"key_mismatch", b"half_written", b"expired"):
        assert told in everything, told
    assert b"PRIVATE KEY-----" not in everything
    for secret in (OPERATOR, STRANGER, *(token.partition("#")[0][4:] for token in tokens)):
        assert secret.encode() not in everything
    for bearer in shown_jwt.values():
        assert not [part for part in bearer.split(".") if len(part) > 20 and part[:64].encode() in everything]
    for ticket in given:
        some = ticket[:24]
        assert not [form for form in (some, some.hex().encode(), base64.b64encode(some)) if form in everything]
    keys = [
        key
        for path in tmp_path.rglob("*")
        if path.is_file()
        for key in PRIVATE.findall(path.read_bytes().replace(b"\\n", b"\n"))
    ]
    lines = {line for key in keys for line in LINE.findall(key)}
    assert len(lines) > 15
    assert not [line for line in lines if line in everything]
