"""Each row of the table of reasons that is about TLS, provoked through a real sidecar: its log line says it."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sidecar.errors import CLIENT_REFUSED_CERTIFICATE, REASONS, UPSTREAM_REFUSED_CERTIFICATE, Phase, Reason
from sidecar.net.tls.handshakes import MAX_UNDER_WAY
from tests.integration.test_tls import CATALOG, STOREFRONT, TlsServer, server_context
from tests.integration.test_tls_paths import Mute
from tests.support.certificates import DAY, HOUR, NOW, Authority, Leaf, identity_of
from tests.support.origin import Origin
from tests.support.process import SidecarProcess, running_sidecar
from tests.support.wait import eventually

LONG_AGO = {"begins": NOW - 2 * DAY, "ends": NOW - HOUR}
TOMORROW = {"begins": NOW + DAY, "ends": NOW + 2 * DAY}
ALPN = ["sidecar-http/1.1"]


@dataclass
class Place:
    """
    Who is there.

    Attributes:
        sidecar: Strict inbound, and upstreams of which each is wrong in one way.
        bare: One whose certificate has not come yet.
    """

    folder: Path
    root: Authority
    other: Authority
    sidecar: SidecarProcess
    bare: SidecarProcess

    def client(self, leaf: Leaf | None, *, trust: Authority | None = None) -> ssl.SSLContext:
        """As a sidecar speaks TLS, with another certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(cadata=(trust or self.root).pem.decode())
        context.set_alpn_protocols(ALPN)
        if leaf is not None:
            self.folder.mkdir(exist_ok=True)
            leaf.write(self.folder)
            context.load_cert_chain(self.folder / "tls.crt", self.folder / "tls.key")
        return context

    def knock(self, context: ssl.SSLContext) -> None:
        """A handshake that one of both refuses."""
        with (
            socket.create_connection(("127.0.0.1", self.sidecar.inbound_port), 30) as raw,
            contextlib.suppress(OSError),
            context.wrap_socket(raw) as secured,
        ):
            secured.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            secured.recv(100)

    def ask(self, upstream: str) -> None:
        """A request of the app, which is answered with the reason."""
        self.sidecar.outbound("/", host=upstream)


def _upstreams(folder: Path, root: Authority, other: Authority) -> dict[str, TlsServer | Mute]:
    """Servers by the reason for which none is spoken to."""
    leaves = {
        "upstream_certificate_expired": root.workload(CATALOG, **LONG_AGO),
        "upstream_certificate_not_yet_valid": root.workload(CATALOG, **TOMORROW),
        "upstream_certificate_untrusted": other.workload(CATALOG),
        "upstream_identity_mismatch": root.workload("spiffe://shop/payments"),
        "upstream_refused_certificate": root.workload(CATALOG),
        "upstream_tls_alpn": root.workload(CATALOG),
        "upstream_tls_failed": root.workload(CATALOG),
    }
    servers: dict[str, TlsServer | Mute] = {"upstream_tls_timeout": Mute()}
    for reason, leaf in leaves.items():
        context = server_context(folder / reason, leaf, other if reason == "upstream_refused_certificate" else root)
        if reason != "upstream_tls_alpn":
            context.set_alpn_protocols(ALPN)
        if reason == "upstream_tls_failed":
            context.maximum_version = ssl.TLSVersion.TLSv1_2
        servers[reason] = TlsServer(context)
    return servers


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """All that the rows need."""
    folder = tmp_path_factory.mktemp("reasons")
    root, other = Authority("shop root"), Authority("other root")
    servers = _upstreams(folder, root, other)
    wanted = f"tls: {{identities: '{CATALOG}'}}"
    upstreams = "".join(
        f"\n  {name}: {{hosts: [{name.replace('_', '-')}], endpoints: ['127.0.0.1:{server.port}'], {wanted},"
        f" connect_timeout: {'1s' if 'timeout' in name else '20s'}}}"
        for name, server in servers.items()
    )
    bank = TlsServer(server_context(folder / "bank", root.leaf(["localhost"]), root))
    upstreams += (
        f"\n  bank: {{endpoints: ['127.0.0.1:{bank.port}'],"
        f" tls: {{server_name: localhost, trust: '{folder}/own/ca.crt'}}}}"
    )
    strict = "{mode: strict, clear: [{path: /live}]}"
    inbound = 'inbound: {listen: "127.0.0.1:${INBOUND_PORT}", app: "127.0.0.1:APP", tls: TLS}'.replace("TLS", strict)
    with contextlib.ExitStack() as stack:
        app = stack.enter_context(Origin("app"))
        for server in (*servers.values(), bank):
            stack.callback(server.close)
        text = (
            f"service: storefront\nidentity: {identity_of(folder / 'own', root.workload(STOREFRONT), root)}\n"
            f"{inbound.replace('APP', str(app.port))}\nlimits: {{header_timeout: 5s}}\n"
            f'outbound: {{listen: "127.0.0.1:${{OUTBOUND_PORT}}"}}\nupstreams:{upstreams}\n'
        )
        sidecar = stack.enter_context(running_sidecar(folder / "a", text))
        nothing = {name: f"{folder}/none/{name}" for name in ("certificate", "key", "trust")}
        bare = SidecarProcess(folder / "b")
        bare.config.write_text(
            f"service: bare\nidentity: {{from: {{files: {nothing}}}}}\n{inbound.replace('APP', str(app.port))}\n"
            f'outbound: {{listen: "127.0.0.1:${{OUTBOUND_PORT}}"}}\n'
            'admin: {listen: "127.0.0.1:${ADMIN_PORT}"}\n'
            'telemetry: {metrics: {listen: "127.0.0.1:${METRICS_PORT}"}, '
            f"access_log: {{path: '{folder}/b/access.log'}}}}\n"
            f"upstreams: {{server: {{endpoints: ['127.0.0.1:1'], {wanted}}}}}\n"
        )
        stack.callback(bare.kill)
        yield Place(folder / "client", root, other, sidecar, bare)


def _stay_silent(place: Place) -> None:
    """Begin a handshake, and say no more."""
    with socket.create_connection(("127.0.0.1", place.sidecar.inbound_port), 30) as raw:
        raw.sendall(b"\x16\x03\x01\x00\xf0\x01")
        while raw.recv(4096):
            pass


def _crowd(place: Place) -> None:
    """More handshakes than may be under way."""
    with contextlib.ExitStack() as stack:
        for _ in range(MAX_UNDER_WAY + 20):
            raw = stack.enter_context(socket.create_connection(("127.0.0.1", place.sidecar.inbound_port), 30))
            raw.sendall(b"\x16\x03\x01\x00\xf0\x01")
        eventually(lambda: "handshakes_overloaded" in str(place.sidecar.access_log()), "one that is refused")


def _old(place: Place) -> ssl.SSLContext:
    context = place.client(place.root.workload(CATALOG))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


def _foreign(place: Place) -> ssl.SSLContext:
    context = place.client(place.root.workload(CATALOG))
    context.set_alpn_protocols(["h2"])
    return context


KNOCKS: dict[str, Callable[[Place], ssl.SSLContext]] = {
    "client_certificate_missing": lambda place: place.client(None),
    "client_certificate_expired": lambda place: place.client(place.root.workload(CATALOG, **LONG_AGO)),
    "client_certificate_not_yet_valid": lambda place: place.client(place.root.workload(CATALOG, **TOMORROW)),
    "client_certificate_untrusted": lambda place: place.client(place.other.workload(CATALOG)),
    "client_identity_mismatch": lambda place: place.client(place.root.workload("spiffe://elsewhere/catalog")),
    "client_refused_certificate": lambda place: place.client(place.root.workload(CATALOG), trust=place.other),
    "client_tls_failed": _old,
    "client_tls_alpn": _foreign,
}
OTHERS: dict[str, Callable[[Place], object]] = {
    "client_tls_timeout": _stay_silent,
    "handshakes_overloaded": _crowd,
    "clear_refused": lambda place: place.sidecar.inbound("/"),
}
ASKED = (
    "upstream_certificate_expired", "upstream_certificate_not_yet_valid", "upstream_certificate_untrusted",
    "upstream_identity_mismatch", "upstream_refused_certificate", "upstream_tls_alpn", "upstream_tls_failed",
    "upstream_tls_timeout",
)  # fmt: skip
BARE = ("no_certificate", "identity_missing")
PROVOKED = {*KNOCKS, *OTHERS, *ASKED, *BARE}
"""What `test_reasons` need not provoke."""


def test_every_row_about_tls_is_here() -> None:
    """None is only a word."""
    assert {reason.name for reason in REASONS if reason.phase is Phase.TLS} <= PROVOKED


def has_none(sidecar: SidecarProcess) -> bool:
    """Whether it is up, and says that nothing is held yet."""
    try:
        return "identity" in sidecar.admin("/ready").text
    except (OSError, http.client.HTTPException):
        return False


def line_of(sidecar: SidecarProcess, reason: Reason) -> dict[str, Any]:
    """The first log line of a reason."""
    found = eventually(
        lambda: [one for one in sidecar.access_log() if one["response_code_details"] == reason.name],
        f"the log line of {reason.name}",
    )
    return dict(found[0])


@pytest.mark.parametrize("reason", [one for one in REASONS if one.name in PROVOKED], ids=lambda row: row.name)
def test_a_reason_as_the_log_has_it(place: Place, reason: Reason) -> None:
    """With its flag, and with more than its name for whoever has to do something about it."""
    sidecar = place.sidecar
    if reason.name in KNOCKS:
        place.knock(KNOCKS[reason.name](place))
    elif reason.name in OTHERS:
        OTHERS[reason.name](place)
    elif reason.name in ASKED:
        place.ask(reason.name.replace("_", "-"))
    else:
        sidecar = place.bare
        if sidecar.process is None:
            sidecar.start()
            eventually(lambda: has_none(sidecar), "one that has nothing yet")
        if reason.name == "no_certificate":
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", sidecar.inbound_port), 30) as raw:
                place.client(None).wrap_socket(raw)
        else:
            sidecar.outbound("/", host="server")
    line = line_of(sidecar, reason)
    assert line["response_flags"] == reason.flag
    assert line["detail"]
    if reason.phase is Phase.TLS:
        side = "server" if reason.name.startswith(("upstream", "identity")) else "client"
        assert sidecar.metric("sidecar_tls_handshake_failures_total", reason=reason.name, side=side) >= 1
    if reason in (CLIENT_REFUSED_CERTIFICATE, UPSTREAM_REFUSED_CERTIFICATE):
        shown = f"shown was the certificate of {STOREFRONT}, signed by CN=shop root, until 20"
        assert f"alert: unknown ca; {shown}" in line["detail"]
        assert "have it trust that root" in line["detail"]


def test_server_that_wants_a_certificate_says_so_where_none_is_shown(place: Place) -> None:
    """After the handshake, in TLS 1.3: the sentence is of the request that met it."""
    place.sidecar.outbound("/", host="bank")
    line = eventually(
        lambda: [one for one in place.sidecar.access_log() if one["upstream_cluster"] == "bank"], "the line of the bank"
    )[0]
    assert line["response_code_details"] == UPSTREAM_REFUSED_CERTIFICATE.name
    assert line["detail"].startswith("alert: certificate required; no certificate was shown; ")
