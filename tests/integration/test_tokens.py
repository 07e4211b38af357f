"""Rules that ask for tokens, at a real sidecar: keys from a file and an address, and what is never told of a token."""

from __future__ import annotations

import http.server
import json
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.certificates import Authority
from tests.support.origin import Origin
from tests.support.process import SidecarProcess, running_sidecar
from tests.support.tokens import jwk, jwks, signed
from tests.support.wait import eventually

TEXT = """
    service: shop
    inbound:
      app: "127.0.0.1:{port}"
      listen: "127.0.0.1:${{INBOUND_PORT}}"
      authorization:
        default: deny
        rules:
          - {{name: public, allow: {{path: [/ready, {{prefix: /public}}]}}}}
          - name: readers
            allow:
              from: {{jwt: {{issuer: "https://id.example.com", audience: shop, claims: {{scope: read}}, keys: {keys}}}}}
              methods: [GET]
"""
SECRET = "someone-nobody-may-see"


class Issuer(http.server.ThreadingHTTPServer):
    """Has a set of keys at `/jwks.json`, by TLS of an authority of its own."""

    def __init__(self, directory: Path) -> None:
        self.keys = jwks(jwk("p256", "1"))
        self.status = 200
        self.asked: list[str] = []
        authority = Authority("issuer's root")
        (directory / "roots.pem").write_bytes(authority.pem)
        authority.leaf(["localhost"]).write(directory)
        super().__init__(("127.0.0.1", 0), _Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(directory / "tls.crt", directory / "tls.key")
        self.socket = context.wrap_socket(self.socket, server_side=True)

    @property
    def url(self) -> str:
        return f"https://localhost:{self.server_address[1]}/jwks.json"

    def handle_error(self, request: object, client_address: object) -> None:
        """Who does not believe it hangs up."""


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Issuer

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.send_response(self.server.status)
        if self.server.status == 302:
            self.send_header("location", self.server.url)
        self.send_header("content-length", str(len(self.server.keys)))
        self.end_headers()
        self.wfile.write(self.server.keys)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def app() -> Iterator[Origin]:
    with Origin("app") as origin:
        yield origin


@pytest.fixture
def issuer(tmp_path: Path) -> Iterator[Issuer]:
    with Issuer(tmp_path) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def token(kind: str = "p256", kid: str = "1", age_s: float = 0, **some: object) -> str:
    """Of the issuer, made so long ago, for an hour."""
    now = int(time.time() - age_s)
    claims = {"iat": now, "exp": now + 3600, "scope": "read write", "sub": SECRET, **some}
    return signed(kind, "ES256", kid, **claims).decode()


def ask(sidecar: SidecarProcess, bearer: str = "", path: str = "/v1", method: str = "GET") -> int:
    headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
    return sidecar.inbound(path, method=method, headers=headers).status


def await_keys(sidecar: SidecarProcess) -> None:
    """A busy machine may need longer for the first ones than a start waits."""
    eventually(lambda: sidecar.metric("sidecar_authorization_jwt_key_sources", state="fresh") == 1, "keys")


def libraries_of(sidecar: SidecarProcess) -> str:
    """What is mapped into the process; `cryptography` is one of those that cannot hide."""
    assert sidecar.process is not None
    return Path(f"/proc/{sidecar.process.pid}/maps").read_text()


@pytest.mark.long
def test_keys_from_a_file(app: Origin, tmp_path: Path) -> None:
    """Good tokens pass, others do not and the log says why; a new key is taken, and nothing of a token is shown."""
    path = tmp_path / "keys.json"
    path.write_bytes(jwks(jwk("p256", "1")))
    good = token()
    refused = {
        token("p256-2"): "signature",
        token(age_s=3700): "expired",
        token(aud="other"): "unmatched",
        token(scope="write"): "unmatched",
        token(iss="https://evil.example.com"): "issuer",
        token(kid="2"): "unknown_key",
        "x" * 9000: "too_long",
        "garbage": "malformed",
    }
    with running_sidecar(tmp_path, TEXT.format(port=app.port, keys=path)) as sidecar:
        await_keys(sidecar)
        assert ask(sidecar, path="/ready") == ask(sidecar, path="/public/x") == 200
        assert ask(sidecar) == 403
        assert [ask(sidecar, good) for _ in range(3)] == [200, 200, 200]
        assert ask(sidecar, good, method="DELETE") == 403
        for bearer in refused:
            assert ask(sidecar, bearer) == 403
        lines = sidecar.wait_for_log_lines(7 + len(refused))
        for outcome in refused.values():
            wanted = 2 if outcome == "unmatched" else 1
            assert sidecar.metric("sidecar_authorization_jwt_total", outcome=outcome) == wanted
        assert sidecar.metric("sidecar_authorization_jwt_total", outcome="accepted") == 4
        path.write_bytes(jwks(jwk("p256-2", "2")))
        new = token("p256-2", "2")
        eventually(lambda: ask(sidecar, new) == 200, "the new key")
        assert ask(sidecar, good) == 403
        path.write_bytes(b"{}")
        eventually(
            lambda: sidecar.metric("sidecar_authorization_jwt_key_sources", state="last_good") == 1, "the trouble"
        )
        assert ask(sidecar, new) == 200
        # A thread writes the log, and may not have come to it yet.
        eventually(lambda: "token_keys_failed" in sidecar.stderr(), "the trouble in the log")
        (shown,) = sidecar.admin("/certs").json()["token_keys"]
        assert (shown["source"], shown["state"], shown["last_error"]["code"]) == (str(path), "last_good", "malformed")
        pages = "".join(sidecar.admin(page).text for page in ("/certs", "/config_dump", "/server_info"))
        everything = (
            pages + sidecar.stdout() + sidecar.stderr() + json.dumps(sidecar.access_log()) + sidecar.metrics().text
        )
        assert sidecar.is_ready()
    assert SECRET not in everything
    for one in (good, new, *refused):
        if one != "garbage":
            assert all(part not in everything for part in one.split(".") if len(part) > 20)
    assert [line.get("jwt") for line in lines[:7]] == [None, None, None, "accepted", "accepted", "accepted", "accepted"]
    assert [line["jwt"] for line in lines[7:]] == list(refused.values())
    issuers = [line.get("jwt_issuer") for line in lines[6:]]
    assert issuers == ["https://id.example.com", None, *["https://id.example.com"] * 3, *[None] * 4]
    assert lines[6]["detail"] == (
        "127.0.0.1 without an identity, with a token of https://id.example.com, is allowed by no rule; the nearest is"
        f" `readers` ({sidecar.config}:9): methods: expected GET"
    )
    assert "whose token has expired" in lines[8]["detail"]


@pytest.mark.long
def test_keys_from_an_address(app: Origin, issuer: Issuer, tmp_path: Path) -> None:
    """Asked at the start and when a key is unknown; by a server that the file's roots do not know nothing is taken."""
    keys = f'{{url: "{issuer.url}", trust: {tmp_path / "roots.pem"}}}'
    with running_sidecar(tmp_path, TEXT.format(port=app.port, keys=keys)) as sidecar:
        await_keys(sidecar)
        assert ask(sidecar, token()) == 200
        issuer.keys = jwks(jwk("p256", "1"), jwk("p256-2", "2"))
        # The first such token has the address asked, at most ten seconds after it was asked before.
        eventually(lambda: ask(sidecar, token("p256-2", "2")) == 200, "the new key", timeout_s=60.0)
        assert ask(sidecar, token()) == 200
        assert set(issuer.asked) == {"/jwks.json"}
        assert sidecar.metric("sidecar_authorization_jwt_key_sources", state="fresh") == 1
        asked = len(issuer.asked)
        sidecar.rewrite(TEXT.format(port=app.port, keys=f'{{url: "{issuer.url}"}}'))
        sidecar.wait_for_generation(2)
        eventually(lambda: "its certificate is not believed" in sidecar.stderr(), "the trouble in the log")
        assert ask(sidecar, token()) == 403
        assert ask(sidecar, path="/ready") == 200
        assert sidecar.is_ready()
        assert len(issuer.asked) == asked


@pytest.mark.parametrize("status", [302, 500])
def test_an_address_that_answers_otherwise_holds_nobody_up(
    app: Origin, issuer: Issuer, tmp_path: Path, status: int
) -> None:
    """The sidecar is ready, its other rules are in force, and tokens prove something as soon as keys have come."""
    issuer.status = status
    keys = f'{{url: "{issuer.url}", trust: {tmp_path / "roots.pem"}}}'
    with running_sidecar(tmp_path, TEXT.format(port=app.port, keys=keys)) as sidecar:
        assert ask(sidecar, path="/ready") == 200
        assert ask(sidecar, token()) == 403
        eventually(lambda: f"answered {status}" in sidecar.stderr(), "the trouble in the log")
        issuer.status = 200
        eventually(lambda: ask(sidecar, token()) == 200, "keys", timeout_s=60.0)


def test_a_process_whose_rules_ask_for_no_token_never_loads_what_verifies_them(app: Origin, tmp_path: Path) -> None:
    """Some 11 MiB that only those pay who asked for it, when they do."""
    plain = TEXT.format(port=app.port, keys="x").partition("          - name: readers")[0]
    (tmp_path / "keys.json").write_bytes(jwks(jwk("p256", "1")))
    with running_sidecar(tmp_path, plain) as sidecar:
        assert ask(sidecar, token(), path="/ready") == 200
        assert ask(sidecar, token()) == 403
        assert "cryptography" not in libraries_of(sidecar)
        assert "token_keys" not in sidecar.admin("/certs").json()
        sidecar.rewrite(TEXT.format(port=app.port, keys=tmp_path / "keys.json"))
        sidecar.wait_for_generation(2)
        await_keys(sidecar)
        assert ask(sidecar, token()) == 200
        assert "cryptography" in libraries_of(sidecar)
