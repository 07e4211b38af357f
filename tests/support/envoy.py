"""
Envoy as a peer: listeners that lead to clusters, HTTP/2 on both sides.

It is no package of Debian's. The program is that of `make bench` (benchmarks/.venv), or $ENVOY; without it a test is
skipped, also with `CI=true`, since nothing that CI installs has it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from tests.support.peers import running_server
from tests.support.wait import free_port

_TYPES = "type.googleapis.com/envoy."
_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_ROOT = Path(__file__).resolve().parent.parent.parent

Json = dict[str, object]

# By itself it lets 16 MiB be sent ahead, and more, so that nobody is held who sends less.
_HTTP2: Json = {
    "allow_connect": True,
    "initial_stream_window_size": 65536,
    "initial_connection_window_size": 1024 * 1024,
}


def program() -> str:
    """Path of Envoy; skips the test where there is none."""
    own = sorted(_ROOT.glob("benchmarks/.venv/lib/python3*/site-packages/envoy/_bin/envoy"))
    found = os.environ.get("ENVOY") or (str(own[0]) if own else shutil.which("envoy"))
    if found is None:
        pytest.skip("no Envoy: `make bench` installs it in benchmarks/.venv, or ENVOY=/path/to/envoy (docs/http2.md)")
    return found


def address(port: int) -> Json:
    """A port of this machine."""
    return {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}


def listener(name: str, port: int, to: str, common: Json | None = None, more: Json | None = None) -> Json:
    """
    Takes either version, and passes all to one cluster.

    Args:
        common: Its `common_http_protocol_options`.
        more: Of its connection manager.
    """
    route = {"cluster": to, "timeout": "0s", "retry_policy": {"retry_on": "refused-stream,connect-failure,reset"}}
    manager = {
        "@type": _TYPES + "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "codec_type": "AUTO",
        "http2_protocol_options": _HTTP2,
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "common_http_protocol_options": common or {},
        "route_config": {
            "virtual_hosts": [
                {"name": name, "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": route}]},
            ]
        },
        "http_filters": [
            {"name": "router", "typed_config": {"@type": _TYPES + "extensions.filters.http.router.v3.Router"}}
        ],
        **(more or {}),
    }
    return {"name": name, **address(port), "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}]}


def cluster(name: str, ports: Sequence[int], common: Json | None = None) -> Json:
    """
    Servers that are spoken to by HTTP/2, prior knowledge.

    Args:
        common: Its `common_http_protocol_options`.
    """
    options = {
        "@type": f"type.googleapis.com/{_OPTIONS}",
        "explicit_http_config": {"http2_protocol_options": _HTTP2},
        "common_http_protocol_options": common or {},
    }
    endpoints = [{"lb_endpoints": [{"endpoint": address(port)} for port in ports]}]
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {"cluster_name": name, "endpoints": endpoints},
        "typed_extension_protocol_options": {_OPTIONS: options},
    }


class Envoy:
    """One that runs."""

    def __init__(self, admin_port: int) -> None:
        self._admin = f"http://127.0.0.1:{admin_port}"

    def counts(self) -> Mapping[str, int]:
        """Its counters and gauges, by name."""
        with urllib.request.urlopen(f"{self._admin}/stats?format=json&type=Counters", timeout=15) as answer:
            counters = json.load(answer)["stats"]
        return {one["name"]: int(one["value"]) for one in counters if "value" in one}

    def drain(self) -> None:
        """Say GOAWAY on every connection that is used, while listeners stay."""
        asked = urllib.request.Request(f"{self._admin}/drain_listeners?graceful&skip_exit", method="POST")
        with urllib.request.urlopen(asked, timeout=15) as answer:
            assert answer.status == 200


@contextlib.contextmanager
def envoy(directory: Path, listeners: Sequence[Json], clusters: Sequence[Json]) -> Iterator[Envoy]:
    """It answers when this is entered, and is gone when it is left."""
    path, admin_port = program(), free_port()
    written = {
        "admin": address(admin_port),
        "static_resources": {"listeners": list(listeners), "clusters": list(clusters)},
        "overload_manager": {
            "resource_monitors": [
                {
                    "name": "envoy.resource_monitors.global_downstream_max_connections",
                    "typed_config": {
                        "@type": _TYPES
                        + "extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                        "max_active_downstream_connections": 1000,
                    },
                }
            ]
        },
    }
    (directory / "envoy.json").write_text(json.dumps(written, indent=1))
    command = [path, "-c", str(directory / "envoy.json"), "--concurrency", "1", "--disable-hot-restart",
               "--log-level", "warning", "--drain-time-s", "2"]  # fmt: skip
    with running_server(command, admin_port, directory / "envoy.log", "/ready", below=300):
        yield Envoy(admin_port)
