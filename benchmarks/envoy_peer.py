"""
The sidecar and Envoy speak TLS with each other, in every way that they can and in some that they cannot.

    .venv/bin/python benchmarks/envoy_peer.py

Envoy is that of `make bench` (or $ENVOY). One of it stands on both sides of one sidecar: clients' requests come to it
in clear and go to the sidecar by TLS, and what the app calls through the sidecar comes to it by TLS. Each line of
`CASES` says what is tried and what has to come of it; it ends with 0 if all has. docs/tls-peers.md tells what to write
for it.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.harness.envoy import envoy_binary
from benchmarks.harness.processes import Process, free_ports
from benchmarks.harness.tls_certificates import Certificates, Pair, spiffe
from benchmarks.harness.tls_client import MESH_PROTOCOL

TYPES = "type.googleapis.com/envoy."
LARGE = os.urandom(3 << 20)
LIMIT_S = 20.0
ME, ENVOY, NOBODY = "storefront", "recommendations", "other"
CLIENTS = (
    "mesh", "also-h2", "only-h2", "old", "unknown", "nameless", "each-anew", "permissive", "outside", "outside-h2",
)  # fmt: skip
"""Of Envoy: ways to the sidecar."""
SERVERS = ("mesh", "also-h2", "only-h2", "other", "distrusts", "outside")
"""Of Envoy: ways in which the sidecar calls it."""


# --- what they are told --------------------------------------------------------------------------------------------


def transport(kind: str, common: dict[str, object], **more: object) -> dict[str, object]:
    """A transport socket of Envoy: `Upstream` or `Downstream`."""
    context = {"@type": TYPES + f"extensions.transport_sockets.tls.v3.{kind}TlsContext", "common_tls_context": common}
    return {"transport_socket": {"name": "tls", "typed_config": {**context, **more}}}


def common(
    pair: Pair | None, trust: Path, protocols: list[str], san: dict[str, object], *, newest: str = "TLSv1_3"
) -> dict[str, object]:
    """What both sides say: who we are, whom we believe, and what is spoken."""
    shown = []
    if pair is not None:
        certificate, key = {"filename": str(pair.certificate)}, {"filename": str(pair.key)}
        shown = [{"certificate_chain": certificate, "private_key": key}]
    return {
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": newest},
        "tls_certificates": shown,
        "alpn_protocols": protocols,
        "validation_context": {"trusted_ca": {"filename": str(trust)}, "match_typed_subject_alt_names": [san]},
    }


def uri(**matcher: str) -> dict[str, object]:
    """That a certificate has such a URI."""
    return {"san_type": "URI", "matcher": matcher}


def address(port: int) -> dict[str, object]:
    return {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}


def cluster(name: str, port: int, **more: object) -> dict[str, object]:
    """An upstream of Envoy."""
    endpoints = [{"lb_endpoints": [{"endpoint": address(port)}]}]
    load = {"cluster_name": name, "endpoints": endpoints}
    return {"name": name, "type": "STATIC", "connect_timeout": "5s", "load_assignment": load, **more}


def listener(name: str, port: int, to: str, codec: str, **more: object) -> dict[str, object]:
    """A server of Envoy, which passes all on to one upstream and tells it of the client's certificate."""
    manager = {
        "@type": TYPES + "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "codec_type": codec,
        "forward_client_cert_details": "SANITIZE_SET",
        "set_current_client_cert_details": {"uri": True},
        "route_config": {
            "virtual_hosts": [
                {"name": name, "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": to}}]}
            ]
        },
        "http_filters": [
            {"name": "router", "typed_config": {"@type": TYPES + "extensions.filters.http.router.v3.Router"}}
        ],
    }
    chain = {"filters": [{"name": "http", "typed_config": manager}], **more}
    return {"name": name, **address(port), "filter_chains": [chain]}


def protocol_options(**options: object) -> dict[str, object]:
    """Which HTTP a cluster speaks."""
    kind = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    return {"typed_extension_protocol_options": {kind: {"@type": "type.googleapis.com/" + kind, **options}}}


class Site:
    """
    The app, the sidecar, Envoy.

    Attributes:
        clients: Ports of Envoy for requests in clear, by how they go on.
        outbound: Port of the sidecar for what the app calls; `Host` says whom.
    """

    def __init__(self, folder: Path, envoy: Path) -> None:
        self.folder = folder
        self.files = Certificates(folder / "certificates")
        self.app = App()
        names = [f"to-{name}" for name in CLIENTS] + [f"of-{name}" for name in SERVERS]
        more = ["mesh", "permissive", "outside", "outbound", "metrics", "metrics-2", "admin", "admin-2", "envoy-admin"]
        self.ports = dict(zip([*names, *more], free_ports(len(names) + len(more)), strict=True))
        self.log = folder / "access.log"
        self._write_sidecar("strict", "mesh", "metrics", "admin", self._outside() + self._upstreams())
        self._write_sidecar("permissive", "permissive", "metrics-2", "admin-2", "")
        (folder / "envoy.json").write_text(json.dumps(self._envoy(), indent=1))
        self._processes: list[Process] = []
        try:
            self._start(envoy)
        except BaseException:
            self.stop()
            raise

    def _start(self, envoy: Path) -> None:
        folder = self.folder
        program = [sys.executable, "-m", "sidecar", "run", "--config"]
        source = {"PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
        for mode in ("strict", "permissive"):
            self._processes.append(Process(mode, [*program, str(folder / f"{mode}.yaml")], folder, (), source))
        for one, port in zip(self._processes, ("metrics", "metrics-2"), strict=True):
            one.wait_for(self.ports[port], "/ready", timeout_s=60)
        argv = [str(envoy), "-c", str(folder / "envoy.json"), "--concurrency", "1", "--disable-hot-restart"]
        self._processes.append(Process("envoy", [*argv, "-l", "warn"], folder, (), {}))
        self._processes[-1].wait_for(self.ports["envoy-admin"], "/ready", timeout_s=60)

    def stop(self) -> None:
        """End all."""
        for one in reversed(self._processes):
            one.stop()
        self.app.close()

    def _identity(self) -> str:
        pair = self.files.subject
        return (
            f"identity: {{from: {{files: {{certificate: {pair.certificate}, key: {pair.key}, "
            f"trust: {self.files.trust}}}}}}}\n"
        )

    def _write_sidecar(self, mode: str, port: str, metrics: str, admin: str, more: str) -> None:
        (self.folder / f"{mode}.yaml").write_text(
            f"service: {ME}\n{self._identity()}inbound:\n  app: 127.0.0.1:{self.app.port}\n  tls: {mode}\n"
            f'  listen:\n    - "127.0.0.1:{self.ports[port]}"\n{more}'
            f'admin: {{listen: "127.0.0.1:{self.ports[admin]}"}}\n'
            f'telemetry: {{metrics: {{listen: "127.0.0.1:{self.ports[metrics]}"}}, access_log: {{path: {self.log}}}}}\n'
        )

    def _outside(self) -> str:
        pair = self.files.subject
        tls = f"{{certificate: {pair.certificate}, key: {pair.key}, client_trust: {self.files.trust}}}"
        return f'    - {{address: "127.0.0.1:{self.ports["outside"]}", name: outside, tls: {tls}}}\n'

    def _upstreams(self) -> str:
        pair = self.files.subject
        mesh = f"{{identities: '{spiffe(ENVOY)}'}}"
        shown = f"certificate: {pair.certificate}, key: {pair.key}"
        outside = f"{{server_name: {ENVOY}, trust: {self.files.trust}, {shown}}}"
        lines = []
        for name in SERVERS:
            tls = outside if name == "outside" else mesh
            lines.append(f"  {name}: {{endpoints: ['127.0.0.1:{self.ports[f'of-{name}']}'], tls: {tls}}}")
        return "\n".join([f'outbound: {{listen: "127.0.0.1:{self.ports["outbound"]}"}}', "upstreams:", *lines, ""])

    def _envoy(self) -> dict[str, object]:
        files, ports = self.files, self.ports
        both = ["h2", "http/1.1"]
        to_us = uri(exact=spiffe(ME))

        def way(
            pair: Pair | None, protocols: list[str], san: dict[str, object], newest: str = "TLSv1_3"
        ) -> dict[str, object]:
            return transport("Upstream", common(pair, files.trust, protocols, san, newest=newest), sni=ME)

        clusters = [
            cluster("app", self.app.port),
            cluster("mesh", ports["mesh"], **way(files.upstream, [MESH_PROTOCOL], to_us)),
            cluster("also-h2", ports["mesh"], **way(files.upstream, [*both, MESH_PROTOCOL], to_us)),
            cluster("only-h2", ports["mesh"], **way(files.upstream, both, to_us)),
            cluster("old", ports["mesh"], **way(files.upstream, [MESH_PROTOCOL], to_us, "TLSv1_2")),
            cluster("unknown", ports["mesh"], **way(files.upstream, [MESH_PROTOCOL], uri(exact=spiffe(NOBODY)))),
            cluster("nameless", ports["mesh"], **way(None, [MESH_PROTOCOL], to_us)),
            cluster(
                "each-anew", ports["mesh"], **way(files.upstream, [MESH_PROTOCOL], to_us),
                **protocol_options(
                    common_http_protocol_options={"max_requests_per_connection": 1},
                    explicit_http_config={"http_protocol_options": {}},
                ),
            ),
            cluster("permissive", ports["permissive"], **way(files.upstream, [MESH_PROTOCOL], to_us)),
            cluster(
                "outside", ports["outside"], **way(files.upstream, [], to_us),
                **protocol_options(auto_config={"http_protocol_options": {}, "http2_protocol_options": {}}),
            ),
            cluster(
                "outside-h2", ports["outside"], **way(files.upstream, ["h2"], to_us),
                **protocol_options(explicit_http_config={"http2_protocol_options": {}}),
            ),
        ]  # fmt: skip
        listeners = [listener(f"to-{name}", ports[f"to-{name}"], name, "HTTP1") for name in CLIENTS]

        def served(name: str, pair: Pair, protocols: list[str], trust: Path = files.trust) -> dict[str, object]:
            both_ways = common(pair, trust, protocols, uri(prefix="spiffe://bench/"))
            secured = transport("Downstream", both_ways, require_client_certificate=True)
            return listener(f"of-{name}", ports[f"of-{name}"], "app", "AUTO", **secured)

        listeners += [
            served("mesh", files.upstream, [MESH_PROTOCOL]),
            served("also-h2", files.upstream, [*both, MESH_PROTOCOL]),
            served("only-h2", files.upstream, both),
            served("other", files.other, [MESH_PROTOCOL]),
            served("distrusts", files.upstream, [MESH_PROTOCOL], files.stranger.certificate),
            served("outside", files.upstream, both),
        ]
        static = {"listeners": listeners, "clusters": clusters}
        return {"admin": address(ports["envoy-admin"]), "static_resources": static}

    # --- what is asked ---------------------------------------------------------------------------------------------

    def ask(self, port: str, host: str = "app", path: str = "/", body: bytes | None = None) -> tuple[int, bytes]:
        """Status and body of what this port answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[port], timeout=LIMIT_S)
        try:
            connection.request("POST" if body is not None else "GET", path, body=body, headers={"Host": host})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def metric(self, name: str, *labels: str, port: str = "metrics") -> float:
        """The sum of a metric of the sidecar with these labels."""
        status, body = self.ask(port, "127.0.0.1", "/metrics")
        expect("status of the metrics", status, 200)
        text = body.decode()
        found = re.findall(rf"^{name}{{(.*)}} (\S+)$", text, re.MULTILINE)
        return sum(float(value) for have, value in found if all(label in have for label in labels))

    def told(self, reason: str) -> str:
        """What the log of the sidecar says of a refusal; empty if it says nothing in time."""
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline:
            text = self.log.read_text() if self.log.exists() else ""
            for line in text[: text.rfind("\n") + 1].splitlines():
                said = json.loads(line)
                if said["response_code_details"] == reason:
                    return str(said["detail"])
            time.sleep(0.02)
        return ""


class App:
    """Answers what it was told: fields as JSON, or of a body its SHA-256; `/large` is large."""

    def __init__(self) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                fields = {name.lower(): value for name, value in self.headers.items()}
                answer = sha256(body).hexdigest().encode() if body else json.dumps(fields).encode()
                if self.path == "/large":
                    answer = LARGE
                self.send_response(200)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_POST = do_GET  # noqa: N815

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


# --- what has to come of it ------------------------------------------------------------------------------------------


class WrongError(Exception):
    """Something else came of it."""


def expect(what: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise WrongError(f"{what}: expected {wanted!r}, found {found!r}")


def known(site: Site, port: str, host: str, who: str) -> str:
    """A request reaches the app, which is told who asked."""
    status, body = site.ask(port, host)
    expect("status", status, 200)
    told = json.loads(body).get("x-forwarded-client-cert", "")
    if f"URI={spiffe(who)}" not in told:
        raise WrongError(f"the app was told {told!r} of who asks")
    return told


def whole(site: Site, port: str, host: str) -> str:
    """Twenty requests and large bodies in both directions by one handshake."""
    side = 'side="server"' if port == "outbound" else 'side="client"'
    known(site, port, host, ME if port == "outbound" else ENVOY)
    before = site.metric("sidecar_tls_handshakes_total", side)
    for _ in range(20):
        expect("status", site.ask(port, host)[0], 200)
    expect("upload", site.ask(port, host, body=LARGE)[1].decode(), sha256(LARGE).hexdigest())
    expect("download", site.ask(port, host, "/large")[1] == LARGE, True)
    more = site.metric("sidecar_tls_handshakes_total", side) - before
    expect("further handshakes", more, 0.0)
    return "20 requests, 3 MiB up and down, one connection"


def resumed(site: Site, port: str) -> str:
    """A connection for each request, and one full handshake."""
    labels = 'side="client"', 'resumed="true"'
    site.ask(port)
    before = site.metric("sidecar_tls_handshakes_total", *labels)
    for _ in range(5):
        expect("status", site.ask(port)[0], 200)
    count = site.metric("sidecar_tls_handshakes_total", *labels) - before
    expect("resumed", count, 5.0)
    return "5 of 5 resumed"


def refused_client(site: Site, port: str, reason: str, status: int = 503) -> str:
    """Envoy answers so, and the sidecar's log says why."""
    expect("status of Envoy", site.ask(port)[0], status)
    return f"{reason}: {site.told(reason) or _silent(reason)}"


def refused_server(site: Site, host: str, reason: str) -> str:
    """The sidecar answers 503 with the reason."""
    status, body = site.ask("outbound", host)
    expect("status", (status, json.loads(body)["error"]), (503, reason))
    return f"{reason}: {site.told(reason) or _silent(reason)}"


def _silent(reason: str) -> str:
    raise WrongError(f"the sidecar's log has no {reason}")


@dataclass(frozen=True)
class Case:
    """One thing that is tried."""

    name: str
    run: Callable[[Site], str]


CASES = (
    Case("Envoy calls a strict port with its identity", lambda site: known(site, "to-mesh", "app", ENVOY)),
    Case("  and keeps the connection", lambda site: whole(site, "to-mesh", "app")),
    Case("  and takes sessions up again", lambda site: resumed(site, "to-each-anew")),
    Case("  offering h2, http/1.1 as well", lambda site: known(site, "to-also-h2", "app", ENVOY)),
    Case("  offering h2, http/1.1 alone", lambda site: refused_client(site, "to-only-h2", "client_tls_alpn")),
    Case("  by TLS 1.2 at most (Envoy's default)", lambda site: refused_client(site, "to-old", "client_tls_failed")),
    Case("  expecting somebody else", lambda site: refused_client(site, "to-unknown", "client_refused_certificate")),
    Case("  without a certificate", lambda site: refused_client(site, "to-nameless", "client_certificate_missing")),
    Case("Envoy calls a permissive port", lambda site: known(site, "to-permissive", "app", ENVOY)),
    Case("Envoy calls a port for clients outside, by h2 or h1", lambda site: known(site, "to-outside", "app", ENVOY)),
    Case("  by HTTP/2 alone", lambda site: refused_client(site, "to-outside-h2", "unsupported_version", 502)),
    Case("the sidecar calls Envoy by its identity", lambda site: known(site, "outbound", "mesh", ME)),
    Case("  and keeps the connection", lambda site: whole(site, "outbound", "mesh")),
    Case("  which takes h2, http/1.1 as well", lambda site: known(site, "outbound", "also-h2", ME)),
    Case("  which takes h2, http/1.1 alone", lambda site: refused_server(site, "only-h2", "upstream_tls_alpn")),
    Case("  which is somebody else", lambda site: refused_server(site, "other", "upstream_identity_mismatch")),
    Case("  which does not believe us", lambda site: refused_server(site, "distrusts", "upstream_refused_certificate")),
    Case("the sidecar calls Envoy as a server outside", lambda site: known(site, "outbound", "outside", ME)),
)


def main() -> int:
    """Try all, and say what came of each."""
    envoy = envoy_binary()
    if envoy is None:
        print("no Envoy: make bench sets one up, or ENVOY=/path/to/envoy", file=sys.stderr)
        return 2
    wrong = 0
    with tempfile.TemporaryDirectory() as directory:
        site = Site(Path(directory), envoy)
        try:
            for case in CASES:
                try:
                    print(f"ok     {case.name}\n           {case.run(site)}")
                except (WrongError, OSError, ValueError, KeyError) as error:
                    wrong += 1
                    print(f"WRONG  {case.name}\n           {type(error).__name__}: {error}")
        finally:
            site.stop()
            if wrong:
                for log in sorted(Path(directory).glob("*.out")):
                    print(f"--- {log.name}\n{log.read_text(errors='replace')[-3000:]}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
