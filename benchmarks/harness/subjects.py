"""What is compared: each subject's configuration for the same work, and how it is started.

The work, the same for all that read HTTP: twenty routes of one host, in order. Eighteen take a path prefix
(`/service-00001` ...) to `v1`. The nineteenth takes `/v1` with the cookie `BETA_USER=true` to `beta`; the twentieth
splits `/v1` 95 to 5 between the two. The load hits the last two. Keep-alive to client and upstream, one worker.

- `plain`: no access log, no spans.
- `full`: one line of JSON a request to a file, one OTLP span a request over HTTP to a live collector, every request
  sampled, metrics scraped once a second. nginx and HAProxy have no spans, aiohttp's proxy neither spans nor
  metrics; the relay has nothing.
"""

from __future__ import annotations

import filecmp
import os
import signal
import sys
from pathlib import Path

from . import tls_sidecar as tls
from .envoy import ENVOY_SUBJECT
from .haproxy import HAPROXY_SUBJECT
from .nginx import NGINX_SUBJECT
from .processes import Process, free_ports
from .python_proxy import AIOHTTP_SUBJECT
from .site import HERE, HOST, Running, Site, Subject, Work, output_of, write
from .tls_certificates import Identity


def start_sink(folder: Path, cpus: tuple[int, ...], count: int) -> tuple[Process, list[int]]:
    """The collector, with a port for each subject."""
    ports = free_ports(count)
    process = Process("sink", [sys.executable, str(HERE / "sink.py"), *map(str, ports)], folder, cpus, {})
    for port in ports:
        process.wait_for(port, "/count")
    return process, ports


def _start_relay(site: Site, work: Work) -> Running:
    (port,) = free_ports(1)
    argv = [sys.executable, str(HERE / "relay.py"), str(port), str(site.v1_port)]
    process = Process("relay", argv, site.folder, site.cpus, {})
    process.wait_for(port, "/v1/")
    return Running(process, port, reads_http=False)


def _missing_uvloop() -> str | None:
    try:
        import uvloop  # noqa: F401
    except ImportError:
        return "the development environment, with uvloop, of this repository"
    return None


SIDECAR = """\
service: storefront
{settings}{side}  routes:
{services}
{more_routes}    - name: beta-users
      match: {{host: {host}, path: {{prefix: /v1}}, cookies: {{BETA_USER: "true"}}}}
      to: beta
    - name: canary
      match: {{host: {host}, path: {{prefix: /v1}}}}
      to: {{v1: 95, beta: 5}}
{last_route}{upstreams}admin: {{listen: "127.0.0.1:{admin}"}}
telemetry:
  metrics: {{listen: "127.0.0.1:{metrics}"}}
{telemetry}
"""


BUILD = HERE.parent / "build"  # where make compile puts the sidecar with a compiled data path
DEFAULT_CLIENTS = 10_000  # the sidecar's own limits.max_connections


def sidecar_command() -> Path:
    return Path(os.environ.get("SIDECAR", Path(sys.executable).parent / "sidecar"))


def compiled_command() -> Path:
    return Path(os.environ.get("SIDECAR_COMPILED", BUILD / "bin" / "sidecar"))


def _missing_sidecar() -> str | None:
    command = sidecar_command()
    return None if os.access(command, os.X_OK) else f"the sidecar at {command} (make test sets it up; or SIDECAR=...)"


def missing_compiled() -> str | None:
    command = compiled_command()
    if not os.access(command, os.X_OK):
        return f"the compiled sidecar at {command} (make compile; or SIDECAR_COMPILED=...)"
    if "SIDECAR_COMPILED" in os.environ:
        return None
    built, source = BUILD / "compiled" / "sidecar", HERE.parent / "sidecar"
    files = {path.relative_to(source) for path in source.rglob("*.py")}
    files |= {path.relative_to(built) for path in built.rglob("*.py")}
    _, changed, unreadable = filecmp.cmpfiles(source, built, [str(path) for path in files], shallow=False)
    return (
        f"this source's compiled sidecar (make compile): {len(changed + unreadable)} files differ"
        if (changed or unreadable)
        else None
    )


def _start_compiled(site: Site, work: Work) -> Running:
    return _start(compiled_command(), site, work)


def _start_sidecar(site: Site, work: Work) -> Running:
    return _start(sidecar_command(), site, work)


def _start(command: Path, site: Site, work: Work) -> Running:
    port, admin, metrics = free_ports(3)
    log = site.folder / "sidecar-access.json"
    telemetry = "  access_log: {format: off}"
    if work.is_full:
        telemetry = (
            f'  traces: {{otlp_endpoint: "http://127.0.0.1:{site.sink_port}", sample: 1.0}}\n'
            f"  access_log: {{path: {log}, format: json}}"
        )
    identity = Identity(site.folder, work.tls.files.subject, work.tls.files.trust) if work.tls else None
    client = work.tls.client(tls.protocol(work)) if work.tls else None
    rotate = identity.put if identity is not None else None
    settings = tls.identity_of(work, identity)
    settings += f"workers: {work.workers}\n" if work.workers is not None else ""
    if work.clients > DEFAULT_CLIENTS:
        settings += f"limits: {{max_connections: {work.clients}}}\n"

    def configure(services: list[str]) -> Path:
        text = SIDECAR.format(
            settings=settings,
            host=HOST,
            side=tls.side(work, port, identity),
            more_routes=tls.more_routes(site),
            last_route=tls.last_route(work),
            upstreams=tls.upstreams(site, work, identity),
            admin=admin,
            metrics=metrics,
            services="\n".join(
                f"    - {{name: {path[1:]}, match: {{host: {HOST}, path: {{prefix: {path}}}}}, to: v1}}"
                for path in services
            ),
            telemetry=telemetry,
        )
        return write(site.folder, "sidecar.yaml", text)

    argv = [str(command), "run", "--config", str(configure(work.services))]
    process = Process("sidecar", argv, site.folder, site.cpus, {})
    process.wait_for(port, "/v1/", host=HOST, client=client)

    def reload(services: list[str]) -> None:
        configure(services)
        process.signal(signal.SIGHUP)

    if not work.is_full:
        return Running(process, port, reload=reload, client=client, rotate=rotate)
    scrape = metrics, "/metrics"
    return Running(process, port, log=log, has_spans=True, scrape=scrape, reload=reload, client=client, rotate=rotate)


def _version(command: Path) -> str:
    lines = output_of(str(command), "--version").splitlines()
    return lines[-1] if lines else "unknown"


def another_sidecar(name: str, command: Path) -> Subject:
    """A sidecar of another source than this one."""

    def missing() -> str | None:
        return None if os.access(command, os.X_OK) else f"a sidecar at {command}"

    return Subject(name, missing, lambda: _version(command), lambda site, work: _start(command, site, work))


RELAY_SUBJECT = Subject("relay", _missing_uvloop, lambda: f"uvloop on Python {sys.version.split()[0]}", _start_relay)
SIDECAR_SUBJECT = Subject("sidecar", _missing_sidecar, lambda: _version(sidecar_command()), _start_sidecar)
COMPILED_SUBJECT = Subject("compiled", missing_compiled, lambda: _version(compiled_command()), _start_compiled)
COMMANDS = {"sidecar": sidecar_command, "compiled": compiled_command}
"""Of the subjects that are this product."""
SUBJECTS = {
    subject.name: subject
    for subject in (
        RELAY_SUBJECT,
        NGINX_SUBJECT,
        HAPROXY_SUBJECT,
        ENVOY_SUBJECT,
        AIOHTTP_SUBJECT,
        SIDECAR_SUBJECT,
        COMPILED_SUBJECT,
    )
}
