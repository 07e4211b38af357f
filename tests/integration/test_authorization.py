"""Rules of authorization at a real sidecar: who comes through, who does not, and who is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.origin import Origin
from tests.support.process import SidecarProcess, running_sidecar
from tests.support.wait import eventually
from tests.unit.security.authorization.test_readings import TRICKS

TEXT = """
    service: shop
    workers: {workers}
    inbound:
      listen: ["127.0.0.1:${{INBOUND_PORT}}", "unix:{directory}/in.sock"]
      app: "127.0.0.1:{port}"
      forwarded: {{trusted_networks: [127.0.0.1]}}
      authorization: {authorization}
"""

RULES = """{{mode: {mode}, default: {default}, rules: [
        {{name: probes, allow: {{from: anyone, path: /ready}}}},
        {{name: no-internals, deny: {{path: {{prefix: /internal}}}}}},
        {{name: no-admins, deny: {{headers: {{x-role: admin}}}}}},
        {{name: near, allow: {{from: {{networks: [10.0.0.0/8, unix]}}, methods: [GET, POST]}}}},
        {{name: ops, allow: {{from: "spiffe://shop/ns/ops/*"}}}}]}}"""


@pytest.fixture
def app() -> Iterator[Origin]:
    """Counts what reaches it."""
    with Origin("app") as origin:
        yield origin


def text(app: Origin, directory: Path, *, mode: str = "enforce", default: str = "deny", workers: int = 1) -> str:
    rules = RULES.format(mode=mode, default=default)
    return TEXT.format(port=app.port, directory=directory, workers=workers, authorization=rules)


def status_of(sidecar: SidecarProcess, octets: bytes) -> int:
    """Of the first response on a connection of its own."""
    with sidecar.connect(sidecar.inbound_port) as client:
        client.sendall(octets)
        received = b""
        while b"\r\n" not in received:
            received += client.recv(4096)
        return int(received.split(b" ", 2)[1])


def as_client(address: str) -> dict[str, str]:
    """The header by which the one before us names its client."""
    return {"X-Forwarded-For": address}


def test_who_is_allowed_comes_through_and_who_is_not_is_refused(app: Origin, tmp_path: Path) -> None:
    """By path, network and method; the app sees nothing of what is refused, log and metrics see all of it."""
    with running_sidecar(tmp_path, text(app, tmp_path)) as sidecar:
        assert sidecar.inbound("/ready").status == 200
        assert sidecar.inbound("/v1", headers=as_client("10.1.2.3")).status == 200
        refused = sidecar.inbound("/v1", headers=as_client("192.0.2.7"))
        assert sidecar.inbound("/v1", method="DELETE", headers=as_client("10.1.2.3")).status == 403
        assert sidecar.inbound("/internal", headers=as_client("10.1.2.3"), method="POST", body=b"x" * 9).status == 403
        lines = sidecar.wait_for_log_lines(5)
        assert sidecar.metric("sidecar_authorization_total", outcome="denied", rule="default") == 2
        assert sidecar.metric("sidecar_authorization_total", outcome="denied", source="unidentified") == 3
        assert sidecar.metric("sidecar_authorization_total", outcome="allowed", rule="probes") == 1
        assert sidecar.metric("sidecar_requests_total", code="403", flag="UAEX") == 3
    assert [path for _, path in app.requests] == ["/ready", "/v1"]
    assert refused.status == 403
    assert refused.headers["proxy-status"] == 'sidecar; error=http_request_denied; details="authorization_denied"'
    assert refused.json()["error"] == "authorization_denied"
    assert "rule" not in refused.json()
    assert [(line["authorization"], line["rule"]) for line in lines] == [
        ("allowed", "probes"), ("allowed", "near"), ("denied", "default"), ("denied", "default"),
        ("denied", "no-internals"),
    ]  # fmt: skip
    assert lines[0]["rule_at"] == f"{sidecar.config}:8"
    assert lines[2]["response_flags"] == "UAEX"
    assert lines[2]["detail"].startswith("192.0.2.7 without an identity is allowed by no rule; the nearest is")
    assert lines[3]["detail"].endswith(f"`near` ({sidecar.config}:11): methods: expected GET or POST")
    assert lines[4]["detail"] == "10.1.2.3 without an identity is denied by `no-internals`"


@pytest.mark.parametrize("workers", [1, 2])
def test_in_audit_everything_comes_through_and_is_told(app: Origin, tmp_path: Path, workers: int) -> None:
    """Until a reload enforces the rules, also on connections that are open."""
    with running_sidecar(tmp_path, text(app, tmp_path, mode="audit", workers=workers)) as sidecar:
        with sidecar.connect(sidecar.inbound_port) as client:
            client.sendall(b"GET /internal HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
            sidecar.rewrite(text(app, tmp_path, workers=workers))
            sidecar.wait_for_generation(2)
            client.sendall(b"GET /internal HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.recv(65536).startswith(b"HTTP/1.1 403 ")
        lines = sidecar.wait_for_log_lines(2)
    assert [(line["authorization"], line["rule"]) for line in lines] == [
        ("audit_denied", "no-internals"), ("denied", "no-internals"),
    ]  # fmt: skip
    assert lines[0]["detail"] == "127.0.0.1 without an identity is denied by `no-internals`"


def test_no_trick_with_a_path_gets_past_a_rule_that_denies(app: Origin, tmp_path: Path) -> None:
    """Encoding, dots, slashes, parameters, absolute form: what reaches the app is never below `/internal`."""
    with running_sidecar(tmp_path, text(app, tmp_path, default="allow")) as sidecar:
        for target in TRICKS:
            octets = f"GET {target} HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n".encode()
            assert status_of(sidecar, octets) == 403, target
        for target in ("/x/..\\internal", "/internal%00", "/%zz/internal"):
            assert status_of(sidecar, f"GET {target} HTTP/1.1\r\nHost: web\r\n\r\n".encode()) == 400, target
        for method in ("POST", "get", "OPTIONS", "TRACE", "PURGE"):
            octets = (
                f"{method} /internal HTTP/1.1\r\nHost: web\r\nMax-Forwards: 0\r\nConnection: close\r\n\r\n".encode()
            )
            assert status_of(sidecar, octets) == 403, method
        assert status_of(sidecar, b"GET /other HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n") == 200
    assert app.requests == [("GET", "/other")]


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (b"x-role: admin\r\n", 403),
        (b"X-ROLE:admin\r\n", 403),
        (b"x-role: user\r\nx-role: admin\r\n", 403),
        (b"x-role: admin\r\nX-Role: user\r\n", 403),
        (b"x-role: admin\r\nConnection: x-role\r\n", 200),
        (b"x-role: user\r\nx-role: guest\r\n", 200),
        (b"Host: other\r\n", 400),
    ],
)
def test_no_trick_with_headers_gets_past_one_either(app: Origin, tmp_path: Path, lines: bytes, status: int) -> None:
    """Names in any case, several fields of a name, and those that `Connection` names, which go no further."""
    with running_sidecar(tmp_path, text(app, tmp_path, default="allow")) as sidecar:
        assert status_of(sidecar, b"GET / HTTP/1.1\r\nHost: web\r\n" + lines + b"\r\n") == status


def test_a_pipelined_request_is_judged_by_itself(app: Origin, tmp_path: Path) -> None:
    """One that is refused between two that are not."""
    with running_sidecar(tmp_path, text(app, tmp_path, default="allow")) as sidecar:
        with sidecar.connect(sidecar.inbound_port) as client:
            one, last = (
                b"GET %b HTTP/1.1\r\nHost: web\r\n\r\n",
                b"GET /z HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n",
            )
            client.sendall(one % b"/a" + one % b"//internal" + last)
            received = b""
            while piece := client.recv(65536):
                received += piece
        assert [int(part[:3]) for part in received.split(b"HTTP/1.1 ")[1:]] == [200, 403, 200]
    assert [path for _, path in app.requests] == ["/a", "/z"]


def test_a_file_that_would_open_more_than_it_says_is_refused(app: Origin, tmp_path: Path) -> None:
    """A bad reload changes nothing: the old rules stay in force."""
    with running_sidecar(tmp_path, text(app, tmp_path)) as sidecar:
        sidecar.rewrite(text(app, tmp_path).replace("default: deny, ", ""))
        assert sidecar.admin("/reload", method="POST").status >= 400
        assert sidecar.inbound("/v1", headers=as_client("192.0.2.7")).status == 403
        eventually(lambda: "the key `default` is missing" in sidecar.stderr(), "the line that says what is wrong")
