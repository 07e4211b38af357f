"""Two sidecars with mutual TLS between them, as in a mesh: the client's, and the server's before the app."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .evidence import counted_by_metrics
from .processes import Process, free_ports
from .site import HOST, write
from .tls_certificates import UPSTREAM, Certificates, Pair, spiffe

OPENED = "sidecar_upstream_connections_opened_total"

OBSERVED = """\
admin: {{listen: "127.0.0.1:{admin}"}}
telemetry:
  metrics: {{listen: "127.0.0.1:{metrics}"}}
  access_log: {{format: off}}
"""
IDENTITY = "identity: {{from: {{files: {{certificate: {certificate}, key: {key}, trust: {trust}}}}}}}\n"
NEAR = (
    """\
service: storefront
outbound:
  listen: 127.0.0.1:{port}
  routes:
    - {{name: all, match: {{host: {host}, path: {{prefix: /v1}}}}, to: far}}
upstreams:
  far:
    endpoints: ["127.0.0.1:{far}"]
    protocol: {protocol}
    tls: {{identities: ["{identity}"]}}
    idle_timeout: 1h
"""
    + IDENTITY
    + OBSERVED
)
FAR = (
    """\
service: {name}
inbound:
  listen: 127.0.0.1:{port}
  app: 127.0.0.1:{app}
  tls: strict
"""
    + IDENTITY
    + OBSERVED
)


@dataclass(frozen=True, slots=True)
class SidecarPair:
    """
    Both, running.

    Attributes:
        near: The client's.
        far: The server's.
        port: Where clients speak to the first, in clear.
    """

    near: Process
    far: Process
    port: int
    metrics_port: int  # of the first

    def stop(self) -> None:
        """End both."""
        self.near.stop()
        self.far.stop()

    def opened(self) -> int:
        """Connections that there were between the two so far."""
        return counted_by_metrics(self.metrics_port, f'{OPENED}{{upstream="far"}}')


def start_pair(
    command: Path, folder: Path, cpus: tuple[int, ...], files: Certificates, protocol: str, app: int
) -> SidecarPair:
    """
    Start both, on the same cores.

    Args:
        protocol: Between them: `http1` or `http2`.
        app: Port of what answers in the end, by HTTP/1.1.
    """
    port, far_port, admin, metrics, far_admin, far_metrics = free_ports(6)
    far = _start(
        command,
        folder / "far",
        cpus,
        FAR.format(
            name=UPSTREAM,
            port=far_port,
            app=app,
            admin=far_admin,
            metrics=far_metrics,
            **_identity(files.upstream, files.trust),
        ),
    )
    try:
        far.wait_for(far_port, None)
        near = _start(
            command,
            folder / "near",
            cpus,
            NEAR.format(
                port=port,
                host=HOST,
                far=far_port,
                protocol=protocol,
                identity=spiffe(UPSTREAM),
                admin=admin,
                metrics=metrics,
                **_identity(files.subject, files.trust),
            ),
        )
        near.wait_for(port, "/v1/", host=HOST)
    except BaseException:
        far.stop()
        raise
    return SidecarPair(near, far, port, metrics)


def _identity(pair: Pair, trust: Path) -> dict[str, Path]:
    return {"certificate": pair.certificate, "key": pair.key, "trust": trust}


def _start(command: Path, folder: Path, cpus: tuple[int, ...], text: str) -> Process:
    folder.mkdir(parents=True)
    config = write(folder, "sidecar.yaml", text)
    return Process("sidecar", [str(command), "run", "--config", str(config)], folder, cpus, {})
