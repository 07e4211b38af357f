"""HAProxy, one thread, as Debian packages it: log lines, Prometheus' exporter, and no spans."""

from __future__ import annotations

import re
import signal

from .processes import Process, free_ports
from .site import HOST, Running, Site, Subject, Work, output_of, tool, write

# Prefixes come from a file, which HAProxy keeps in a tree: 10,000 rules of their own would be asked one by one.
# It wants twice as many files as connections, and without "no strict-limits" does not start where fewer are allowed.
HAPROXY = """\
global
  nbthread 1
  maxconn {clients}
  no strict-limits
{log_to}
defaults
  mode http
  timeout connect 1s
  timeout client 1h
  timeout server 1h
  timeout http-keep-alive 1h
  option forwardfor
  http-reuse safe

frontend outbound
  bind 127.0.0.1:{port} backlog 4096
  unique-id-format %[uuid()]
  unique-id-header X-Request-Id
{log}
  http-request set-header X-Forwarded-Proto http
  acl is_mesh hdr(host) -i {host}
  acl is_split path_beg /v1
  http-request return status 404 unless is_mesh
  use_backend v1 if {{ path_beg -f {services} }}
  use_backend beta if is_split {{ req.cook(BETA_USER) -m str true }}
  use_backend beta if is_split {{ rand(100) lt 5 }}
  use_backend v1 if is_split
  default_backend none

frontend metrics
  bind 127.0.0.1:{metrics}
  http-request use-service prometheus-exporter if {{ path /metrics }}

backend v1
  server v1 127.0.0.1:{v1}
backend beta
  server beta 127.0.0.1:{beta}
backend none
  http-request return status 404
"""
LOG_TO = "  log stdout len 4096 format raw local0\n"
LOG = """\
  log global
  capture request header Host len 64
  capture request header User-Agent len 256
  log-format '%{+E}o{"start_time":"%tr","method":"%HM","path":"%HU","protocol":"%HV","response_code":%ST,\
"response_flags":"%ts","upstream_cluster":"%b","upstream_host":"%si:%sp","bytes_received":%U,"bytes_sent":%B,\
"duration":%Ta,"upstream_service_time":%Tr,"request_id":"%ID","authority":"%[capture.req.hdr(0)]",\
"user_agent":"%[capture.req.hdr(1)]","downstream_remote_address":"%ci:%cp","attempts":%rc}'
"""


def _haproxy() -> str:
    return tool("haproxy") or "haproxy"


def _start_haproxy(site: Site, work: Work) -> Running:
    port, metrics = free_ports(2)

    def configure(services: list[str]) -> None:
        write(site.folder, "haproxy-services", "\n".join(services) + "\n")

    configure(work.services)
    text = HAPROXY.format(
        clients=work.clients,
        port=port,
        metrics=metrics,
        host=HOST,
        services=site.folder / "haproxy-services",
        v1=site.v1_port,
        beta=site.beta_port,
        log_to=LOG_TO if work.is_full else "",
        log=LOG if work.is_full else "",
    )
    config = write(site.folder, "haproxy.cfg", text)
    # -W: a master that starts the worker, and on SIGUSR2 a new one; it is part of the tree that is charged.
    process = Process("haproxy", [_haproxy(), "-W", "-f", str(config)], site.folder, site.cpus, {})
    process.wait_for(port, "/v1/", host=HOST)

    def reload(services: list[str]) -> None:
        configure(services)
        process.signal(signal.SIGUSR2)

    if not work.is_full:
        return Running(process, port, reload=reload)
    return Running(process, port, log=process.output, scrape=(metrics, "/metrics"), reload=reload)


def _missing_haproxy() -> str | None:
    return None if tool("haproxy") else "HAProxy (apt-get install haproxy)"


def _version() -> str:
    found = re.search(r"version (\S+)", output_of(_haproxy(), "-v"))
    return found[1] if found else "unknown"


HAPROXY_SUBJECT = Subject("haproxy", _missing_haproxy, _version, _start_haproxy)
