"""Rules of authorization by who a client is by mutual TLS, at a real sidecar with certificates from files."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.config import tls_rules
from tests.support.certificates import Authority
from tests.support.origin import Origin
from tests.support.process import SidecarProcess, running_sidecar
from tests.unit.security.authorization.test_readings import CLIMBS, TRICKS

pytestmark = pytest.mark.skipif(
    hasattr(tls_rules, "_refuse_what_nobody_keeps"), reason="a file with `identity` is not run yet, only checked"
)

ROOT = Authority("shop root")
ISSUER = ROOT.authority("shop issuer")

TEXT = """
    service: recommendations
    identity:
      from: {{files: {{certificate: {directory}/own/tls.crt, key: {directory}/own/tls.key, trust: {directory}/ca.pem}}}}
      trust_domain: shop
    inbound:
      listen: "127.0.0.1:${{INBOUND_PORT}}"
      app: "127.0.0.1:{port}"
      tls: {tls}
      authorization:
        default: deny
        rules:
          - {{name: probes, allow: {{path: /ready}}}}
          - {{name: no-internals, deny: {{path: {{prefix: /internal}}}}}}
          - {{name: ops, allow: {{from: "spiffe://shop/ns/ops/*"}}}}
          - {{name: callers, allow: {{from: [storefront, search], methods: GET}}}}
"""


@pytest.fixture
def app() -> Iterator[Origin]:
    """Counts what reaches it."""
    with Origin("app") as origin:
        yield origin


def text(app: Origin, directory: Path, tls: str) -> str:
    (directory / "ca.pem").write_bytes(ROOT.pem)
    (directory / "own").mkdir(exist_ok=True)
    ISSUER.workload("spiffe://shop/recommendations").write(directory / "own")
    return TEXT.format(port=app.port, directory=directory, tls=tls)


def connected(sidecar: SidecarProcess, directory: Path, identity: str) -> socket.socket:
    """By mutual TLS as this workload, or in clear."""
    connection = sidecar.connect(sidecar.inbound_port)
    if not identity:
        return connection
    folder = directory / identity.rpartition("/")[2]
    if not folder.exists():
        folder.mkdir()
        ISSUER.workload(identity).write(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(str(directory / "ca.pem"))
    context.load_cert_chain(str(folder / "tls.crt"), str(folder / "tls.key"))
    context.set_alpn_protocols(["sidecar-http/1.1"])
    return context.wrap_socket(connection)


def answer(sidecar: SidecarProcess, directory: Path, identity: str, head: str) -> int:
    """The status of the response to a request of this head, on a connection of its own."""
    with connected(sidecar, directory, identity) as connection:
        connection.sendall(head.encode("latin-1") + b"\r\n\r\n")
        received = b""
        while b"\r\n" not in received:
            received += connection.recv(65536)
        return int(received.split(b" ", 2)[1])


def asked(sidecar: SidecarProcess, directory: Path, identity: str, *targets: str, method: str = "GET") -> list[bytes]:
    """The responses to requests on one connection."""
    found = []
    with connected(sidecar, directory, identity) as connection:
        for target in targets:
            connection.sendall(f"{method} {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            received = b""
            while b"\r\n\r\n" not in received:
                received += connection.recv(65536)
            head, _, body = received.partition(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            while len(body) < length:
                body += connection.recv(65536)
            found.append(head.split(b" ", 2)[1] + b" " + body)
    return found


def statuses(answers: list[bytes]) -> list[int]:
    return [int(one[:3]) for one in answers]


def test_who_a_client_is_decides_what_it_may(app: Origin, tmp_path: Path) -> None:
    """By service, by pattern, on each request of a connection; a known client is told the rule."""
    with running_sidecar(tmp_path, text(app, tmp_path, "strict")) as sidecar:
        paths = ("/v1", "/internal", "/ready")
        assert statuses(asked(sidecar, tmp_path, "spiffe://shop/storefront", *paths)) == [200, 403, 200]
        assert statuses(asked(sidecar, tmp_path, "spiffe://shop/ns/ops/sa/deployer", "/v1", method="DELETE")) != [403]
        refused = asked(sidecar, tmp_path, "spiffe://shop/fourth", "/v1", "/ready", "/x/..%2finternal")
        assert statuses(refused) == [403, 200, 403]
        assert json.loads(refused[0][4:])["rule"] == "callers"
        assert statuses(asked(sidecar, tmp_path, "spiffe://shop/storefront", "/v1", method="POST")) == [403]
        lines = sidecar.wait_for_log_lines(8)
        source = "spiffe://shop/fourth"
        assert sidecar.metric("sidecar_authorization_total", rule="callers", outcome="denied", source=source) >= 1
    told = next(line for line in lines if line["path"] == "/v1" and line["authorization"] == "denied")
    assert told["detail"].startswith("spiffe://shop/fourth is allowed by no rule; the nearest is")


def test_while_permissive_who_comes_in_clear_passes_callers_and_is_counted(app: Origin, tmp_path: Path) -> None:
    """Who is known and not named is refused already; what people's rules deny is denied to everybody."""
    with running_sidecar(tmp_path, text(app, tmp_path, "permissive")) as sidecar:
        assert statuses(asked(sidecar, tmp_path, "", "/v1", "/internal", "/ready")) == [200, 403, 200]
        assert statuses(asked(sidecar, tmp_path, "spiffe://shop/fourth", "/v1")) == [403]
        assert statuses(asked(sidecar, tmp_path, "spiffe://shop/search", "/v1")) == [200]
        assert sidecar.metric("sidecar_authorization_unidentified_total") == 1


def test_with_unidentified_deny_nobody_passes_unknown(app: Origin, tmp_path: Path) -> None:
    """Also while clear text is still taken, for rules that are for anyone."""
    rules = text(app, tmp_path, "permissive").replace("default: deny", "unidentified: deny\n        default: deny")
    with running_sidecar(tmp_path, rules) as sidecar:
        assert statuses(asked(sidecar, tmp_path, "", "/v1", "/ready")) == [403, 200]
        assert sidecar.metric("sidecar_authorization_unidentified_total") == 0


RULES = """rules:
          - {name: no-internals, deny: {from: storefront, path: {prefix: /internal}}}
          - {name: no-admins, deny: {from: storefront, host: admin.shop}}
          - {name: below, allow: {from: fourth, path: {prefix: /public}}}
          - {name: callers, allow: {from: [storefront, search]}}
"""
STOREFRONT, SEARCH, FOURTH = "spiffe://shop/storefront", "spiffe://shop/search", "spiffe://shop/fourth"
REFUSED = (
    "/x/..\\internal", "\\internal", "/internal%00", "/internal%0d", "/%zz/internal", "/internal#", "internal",
    "https://x/internal", "http:/internal", "http:///internal", "//x@/internal\\", "/internal\t", "/internal x",
)  # fmt: skip
FIELDS = {
    "GET /y HTTP/1.1\r\nHost: admin.shop": 403,
    "GET /y HTTP/1.1\r\nHost: ADMIN.shop.:80": 403,
    "GET http://admin.shop/y HTTP/1.1\r\nHost: x": 403,
    "GET HTTP://Admin.Shop.:80/y HTTP/1.1\r\nHost: x": 403,
    "GET http://admin.shop?/y HTTP/1.1\r\nHost: x": 403,
    "GET http://admin.shop HTTP/1.1\r\nHost: x": 403,
    "GET http://x/internal HTTP/1.1\r\nHost: admin.shop": 403,
    "GET /y HTTP/1.1\r\nHost: x\r\nHost: admin.shop": 400,
    "GET /y HTTP/1.1\r\nHost: admin.shop\r\nHost: x": 400,
    "GET /y HTTP/1.1\r\nHost: x\r\nHost : admin.shop": 400,
    "GET /y HTTP/1.1\r\nHost: x\r\n Host: admin.shop": 400,
    "GET http://x@admin.shop/y HTTP/1.1\r\nHost: x": 400,
    "GET http://admin.shop/y HTTP/1.1\r\nHost: x\r\nHost: x": 400,
    "get /internal HTTP/1.1\r\nHost: x": 403,
    "TRACE /internal HTTP/1.1\r\nHost: x\r\nMax-Forwards: 0": 403,
    "OPTIONS /internal HTTP/1.1\r\nHost: x\r\nMax-Forwards: 0": 403,
    "GET /internal HTTP/1.0\r\nHost: x": 403,
    "GET /internal HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: upgrade": 403,
    "GET /internal HTTP/1.1\r\nHost: x\r\nX-HTTP-Method-Override: PUT\r\nX-Original-URL: /public": 403,
    "POST /internal HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1": 403,
}


def test_no_trick_gets_past_a_rule_about_an_identity(app: Origin, tmp_path: Path) -> None:
    """However path, host and method are written: what is refused as it is written plainly, reaches no app."""
    begun = text(app, tmp_path, "strict")
    with running_sidecar(tmp_path, begun[: begun.index("rules:")] + RULES) as sidecar:
        found = asked(sidecar, tmp_path, STOREFRONT, *TRICKS)
        assert dict(zip(TRICKS, statuses(found), strict=True)) == dict.fromkeys(TRICKS, 403)
        assert {json.loads(one[4:])["rule"] for one in found} == {"no-internals"}
        found = asked(sidecar, tmp_path, FOURTH, *CLIMBS)
        assert dict(zip(CLIMBS, statuses(found), strict=True)) == dict.fromkeys(CLIMBS, 403)
        for target in REFUSED:
            assert answer(sidecar, tmp_path, STOREFRONT, f"GET {target} HTTP/1.1\r\nHost: x") == 400, target
        for octets, status in FIELDS.items():
            assert answer(sidecar, tmp_path, STOREFRONT, octets) == status, octets
        assert not app.requests
        assert statuses(asked(sidecar, tmp_path, STOREFRONT, "/internals", "/x")) == [200, 200]
        assert statuses(asked(sidecar, tmp_path, SEARCH, "/internal", "http://admin.shop/x")) == [200, 200]
        assert statuses(asked(sidecar, tmp_path, FOURTH, "/public/a%2F..%2Fb", "/x")) == [200, 403]
    assert [path for _, path in app.requests] == ["/internals", "/x", "/internal", "/x", "/public/a%2F..%2Fb"]
