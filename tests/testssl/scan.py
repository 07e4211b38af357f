"""
testssl.sh at each of our listeners that speaks TLS: `make testssl`. It takes a quarter of an hour, so `make test`
leaves it out.

    outside-1.3       inbound.listen.tls, as it is by default
    outside-1.2       the same with min_version: "1.2"
    outside-client    the same, for clients with a certificate
    permissive        the inbound port of a mesh member that takes clear and TLS, as a sidecar sees it
    strict            the inbound port of one that takes TLS alone, as a stranger sees it
    control           15010 of a control plane

The names are those of `pytest -k`. What was found is kept in build/testssl, for people (.log) and machines (.json).
"""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.test_tls import CATALOG, STOREFRONT
from tests.support.certificates import DAY, NOW, Authority, identity_of
from tests.support.control import running_control
from tests.support.origin import Origin
from tests.support.peers import require
from tests.support.process import running_sidecar
from tests.support.wait import free_port
from tests.testssl.findings import judge, read_findings

KEPT = Path(__file__).resolve().parents[2] / "build" / "testssl"
NAME = "shop.example"
LIMIT_S = 1500
ALPN = "sidecar-http/1.1"
NEXT_PROTOCOL = 'extension_next_protocol="\n          33, 74, 00, 00"'
"""What testssl.sh puts in place of ALPN into all hellos that it makes itself."""


@dataclass
class Listener:
    """
    Where to look.

    Attributes:
        port: On 127.0.0.1.
        roots: What its certificate leads to.
        shows: Arguments of `openssl s_client`, beside those of testssl.sh.
        is_mesh: Hellos offer our protocol.
    """

    port: int
    roots: Path
    shows: str = ""
    is_mesh: bool = False


@pytest.fixture(scope="module")
def listeners(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Listener]]:
    """All of them, by name."""
    folder = tmp_path_factory.mktemp("testssl")
    root = Authority("shop root")
    roots = folder / "ca.pem"
    roots.write_bytes(root.pem)
    root.leaf([NAME], common_name=NAME, ends=NOW + 90 * DAY).write(folder)
    (folder / "us").mkdir()
    root.workload(STOREFRONT).write(folder / "us")
    shown = f"-cert {folder}/us/tls.crt -key {folder}/us/tls.key"
    pair = f"certificate: {folder}/tls.crt, key: {folder}/tls.key"
    new, old, asking = (free_port() for _ in range(3))
    with contextlib.ExitStack() as stack:
        app = stack.enter_context(Origin("app"))

        def sidecar(mode: str, more: str = "") -> int:
            text = (
                f"service: catalog\nidentity: {identity_of(folder / mode, root.workload(CATALOG), root)}\n"
                f"inbound:\n  app: 127.0.0.1:{app.port}\n  tls: {mode}\n"
                f'  listen:\n    - "127.0.0.1:${{INBOUND_PORT}}"\n{more}'
            )
            return stack.enter_context(running_sidecar(folder / f"{mode}-sidecar", text)).inbound_port

        outside = (
            f'    - {{address: "127.0.0.1:{new}", name: new, tls: {{{pair}}}}}\n'
            f'    - {{address: "127.0.0.1:{old}", name: old, tls: {{{pair}, min_version: "1.2"}}}}\n'
            f'    - {{address: "127.0.0.1:{asking}", name: asking, tls: {{{pair}, client_trust: {roots}}}}}\n'
        )
        control = stack.enter_context(
            running_control(folder / "control", {"mesh.yaml": "mesh: shop\n"}, "--create-ca", "--accept", "clear,tls")
        )
        authority = folder / "authority.pem"
        authority.write_text(control.get("/v1/trust").json()["trust"])
        yield {
            "outside-1.3": Listener(new, roots),
            "outside-1.2": Listener(old, roots),
            "outside-client": Listener(asking, roots, shown),
            "permissive": Listener(sidecar("permissive", outside), roots, f"-alpn {ALPN} {shown}", is_mesh=True),
            "strict": Listener(sidecar("strict"), roots),
            "control": Listener(control.port, authority),
        }


def programs(folder: Path, listener: Listener) -> tuple[str, str]:
    """
    testssl.sh and openssl for this listener.

    testssl.sh has no option for a client's certificate, nor for what hellos offer. openssl, by which it makes whole
    handshakes, is told that by a script in between; and in the hellos that it makes itself our protocol takes the place
    of what nobody speaks any more (NPN).
    """
    testssl, openssl = require("testssl"), folder / "openssl"
    program = f"exec {require('openssl')}"
    # Where testssl.sh says itself what is offered, that is offered.
    quiet = listener.shows.replace(f"-alpn {ALPN}", "")
    openssl.write_text(
        f'#!/bin/sh\ncase "$1 $*" in\ns_client\\ *-alpn*) shift; {program} s_client {quiet} "$@";;\n'
        f's_client\\ *) shift; {program} s_client {listener.shows} "$@";;\nesac\n{program} "$@"\n'
    )
    openssl.chmod(openssl.stat().st_mode | stat.S_IXUSR)
    if not listener.is_mesh:
        return testssl, str(openssl)
    octets = [f"{octet:02x}" for octet in ALPN.encode()]
    size = len(octets)
    offered = ", ".join(["00", "10", "00", f"{size + 3:02x}", "00", f"{size + 1:02x}", f"{size:02x}", *octets])
    text = Path(testssl).read_text()
    assert text.count(NEXT_PROTOCOL) == 1, "another version of testssl.sh: see how it makes its hellos"
    copy = folder / "testssl"
    copy.write_text(text.replace(NEXT_PROTOCOL, f'extension_next_protocol="{offered}"'))
    copy.chmod(0o755)
    return str(copy), str(openssl)


@pytest.mark.timeout(2 * LIMIT_S)
@pytest.mark.parametrize("name", ["outside-1.3", "outside-1.2", "outside-client", "permissive", "strict", "control"])
def test_nothing_is_found_but_what_is_explained(listeners: dict[str, Listener], name: str, tmp_path: Path) -> None:
    """Nothing above LOW, and nothing that could not be looked at."""
    listener = listeners[name]
    testssl, openssl = programs(tmp_path, listener)
    KEPT.mkdir(parents=True, exist_ok=True)
    machines, people = KEPT / f"{name}.json", KEPT / f"{name}.log"
    for path in (machines, people):
        path.unlink(missing_ok=True)
    command = [
        testssl, "--warnings", "off", "--color", "0", "--nodns", "none", "--ip", "127.0.0.1", "--add-ca",
        str(listener.roots), "--openssl", openssl, "--jsonfile", str(machines), "--logfile", str(people),
        f"{NAME}:{listener.port}",
    ]  # fmt: skip
    # How long certificates live is their authority's; leaves of a mesh live for a week.
    environment = {**os.environ, "DAYS2WARN1": "3", "DAYS2WARN2": "2", "TERM": "dumb"}
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT_S, env=environment, cwd=tmp_path
    )
    assert machines.exists(), (done.stdout + done.stderr).decode("utf-8", "replace")
    verdict = judge(read_findings(machines), name)
    sys.stdout.write(f"\n{name}\n{verdict}\n")
    assert verdict.is_good, f"{name}:\n{verdict}\n(all of it: {people})"
