"""
Every metric that the sidecar has, one row each. *Pure.*

The exposition, `docs/metrics.md` and the tests are made from this table; a metric that has no row cannot be exposed.
Names and units follow OpenTelemetry's stable HTTP conventions in Prometheus' spelling where there is one, and begin
with `sidecar_` where there is none.

No label takes a value from the wire without a closed set: methods are those of RFC 9110 and PATCH, or `_OTHER`;
status codes are 100 to 599, or `_OTHER`; routes, upstreams and addresses are the configuration's; reasons and flags
are those of `errors`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Type = Literal["counter", "gauge", "histogram"]

DURATION_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""What OpenTelemetry advises for `http.server.request.duration` and `http.client.request.duration`."""
OVERHEAD_BUCKETS_S = (
    0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0
)  # fmt: skip
"""From the tens of microseconds that the proxy needs to a wait for a connection."""


@dataclass(frozen=True, slots=True)
class Metric:
    """
    One row.

    Attributes:
        name: As Prometheus shows it, with unit and `_total`, without `_bucket` and the like.
        type: Prometheus' type.
        unit: `s`, `By`, or empty for things that are counted.
        labels: Names, in the order in which values are given.
        help: One sentence without a full stop.
        buckets_s: Upper bounds, in the metric's unit, of a histogram.
    """

    name: str
    type: Type
    unit: str
    labels: tuple[str, ...]
    help: str
    buckets_s: tuple[float, ...] = ()


_DURATION_LABELS = (
    "http_request_method",
    "http_response_status_code",
    "http_route",
    "server_address",
    "error_type",
)

SERVER_DURATION = Metric(
    "http_server_request_duration_seconds", "histogram", "s", _DURATION_LABELS,
    "Time from a complete request head to the end of the exchange, of requests to the app", DURATION_BUCKETS_S,
)  # fmt: skip
CLIENT_DURATION = Metric(
    "http_client_request_duration_seconds", "histogram", "s", _DURATION_LABELS,
    "Time from a complete request head to the end of the exchange, of requests from the app", DURATION_BUCKETS_S,
)  # fmt: skip
REQUESTS = Metric(
    "sidecar_requests_total", "counter", "", ("direction", "route", "upstream", "code", "flag"),
    "Exchanges that are over, whatever became of them; flag is Envoy's response flag or -",
)  # fmt: skip
OVERHEAD = Metric(
    "sidecar_overhead_seconds", "histogram", "s", ("direction",),
    "Time that the sidecar itself added to an exchange: its duration less what the upstream took", OVERHEAD_BUCKETS_S,
)  # fmt: skip

UPSTREAM_REQUESTS = Metric(
    "sidecar_upstream_requests_total", "counter", "", ("upstream",), "Requests given to an upstream, attempts counted",
)  # fmt: skip
UPSTREAM_REQUESTS_ACTIVE = Metric(
    "sidecar_upstream_requests_active", "gauge", "", ("upstream",), "Requests at an upstream that are not over",
)  # fmt: skip
UPSTREAM_REQUESTS_PENDING = Metric(
    "sidecar_upstream_requests_pending", "gauge", "", ("upstream",), "Requests that wait for a connection",
)  # fmt: skip
UPSTREAM_RESETS = Metric(
    "sidecar_upstream_resets_total", "counter", "", ("upstream",), "Connections that the upstream reset or cut in use",
)  # fmt: skip
UPSTREAM_OPENED = Metric(
    "sidecar_upstream_connections_opened_total", "counter", "", ("upstream",), "Connections that were established",
)  # fmt: skip
UPSTREAM_CLOSED = Metric(
    "sidecar_upstream_connections_closed_total", "counter", "", ("upstream",), "Connections that were closed",
)  # fmt: skip
UPSTREAM_REUSED = Metric(
    "sidecar_upstream_connections_reused_total", "counter", "", ("upstream",), "Times a pooled connection served again",
)  # fmt: skip
UPSTREAM_FAILED = Metric(
    "sidecar_upstream_connect_failures_total", "counter", "", ("upstream",), "Connections that were refused or failed",
)  # fmt: skip
UPSTREAM_TIMED_OUT = Metric(
    "sidecar_upstream_connect_timeouts_total", "counter", "", ("upstream",), "Connections not established in time",
)  # fmt: skip
UPSTREAM_IDLE = Metric(
    "sidecar_upstream_connections_idle", "gauge", "", ("upstream",), "Connections that wait in the pool",
)  # fmt: skip
UPSTREAM_ENDPOINTS = Metric(
    "sidecar_upstream_endpoints", "gauge", "", ("upstream",), "Endpoints that the upstream has now",
)  # fmt: skip

DOWNSTREAM_ACTIVE = Metric(
    "sidecar_downstream_connections_active", "gauge", "", ("direction",), "Connections of clients that are open",
)  # fmt: skip

RELOAD_SUCCESSFUL = Metric(
    "sidecar_config_last_reload_successful", "gauge", "", (), "1 if the last load of the configuration was good",
)  # fmt: skip
RELOAD_TIME = Metric(
    "sidecar_config_last_reload_success_timestamp_seconds", "gauge", "s", (),
    "When the live configuration was loaded, in seconds since the Unix epoch",
)  # fmt: skip
CONFIG_INFO = Metric(
    "sidecar_config_info", "gauge", "", ("hash",), "1 for the hash of the live configuration",
)  # fmt: skip
RELOADS = Metric(
    "sidecar_config_reloads_total", "counter", "", ("result",), "Attempts to load a changed configuration",
)  # fmt: skip

SPANS_EXPORTED = Metric(
    "sidecar_spans_exported_total", "counter", "", (), "Spans that the collector accepted",
)  # fmt: skip
SPANS_DROPPED = Metric(
    "sidecar_spans_dropped_total", "counter", "", ("reason",),
    "Spans that were lost: queue_full, unavailable (retries used up), rejected (by the collector), shutdown",
)  # fmt: skip
LOG_LINES_DROPPED = Metric(
    "sidecar_log_lines_dropped_total", "counter", "", ("reason",),
    "Access-log lines that were lost: buffer_full, write_failed, shutdown",
)  # fmt: skip

BUILD_INFO = Metric(
    "sidecar_build_info", "gauge", "", ("version", "python_version"), "1 for what is running",
)  # fmt: skip
TARGET_INFO = Metric(
    "target_info", "gauge", "",
    ("service_name", "service_namespace", "service_version", "service_instance_id"),
    "1 for the service that this sidecar speaks for, and its OpenTelemetry resource",
)  # fmt: skip

METRICS: tuple[Metric, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Metric))
"""Every row, in the order of this file, which is the order of the exposition."""


def reference() -> str:
    """`docs/metrics.md`, made from the table."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield from (
        "# Metrics",
        "",
        "Made from `sidecar/telemetry/catalogue.py` by `python -m sidecar.telemetry.catalogue`; a test keeps it true.",
        "Scrape `http://<pod>:15020/metrics`, or `/stats/prometheus` on the same port.",
        "",
        "| name | type | unit | labels | meaning |",
        "|---|---|---|---|---|",
    )
    for row in METRICS:
        labels = ", ".join(f"`{label}`" for label in row.labels)
        yield f"| `{row.name}` | {row.type} | {row.unit} | {labels} | {row.help} |"
    yield from (
        "",
        "`http_*_duration_seconds` has the buckets "
        + ", ".join(f"{bound:g}" for bound in DURATION_BUCKETS_S)
        + ", those of OpenTelemetry's conventions; `sidecar_overhead_seconds` has "
        + ", ".join(f"{bound:g}" for bound in OVERHEAD_BUCKETS_S)
        + ".",
        "",
        "## Labels",
        "",
        "| label | values |",
        "|---|---|",
        "| `http_request_method` | GET, HEAD, POST, PUT, DELETE, CONNECT, OPTIONS, TRACE, PATCH, or `_OTHER` |",
        "| `http_response_status_code`, `code` | 100 to 599, or `_OTHER`; a client that left before an answer counts"
        " as 499 |",
        "| `http_route`, `route` | name of the route, never a path; empty when none was reached |",
        "| `upstream` | name of the upstream; empty when none was chosen |",
        "| `server_address` | address or name of the upstream as configured, never what a request says |",
        "| `error_type` | name of the reason (see the table of reasons); else the status code of a response that is an"
        " error: 5xx, and from an upstream called by the app 4xx too; else empty |",
        "| `flag` | Envoy's response flag, or `-` |",
        "| `direction` | `inbound`, `outbound` |",
        "| `result` | `success`, `failure` |",
        "",
        "Series of routes and upstreams that a reload changed go on counting; no counter goes back. A label that is"
        " empty is, to Prometheus, absent.",
        "",
        "Beside these come `process_*`, `python_gc_*` and `python_info` of prometheus-client.",
    )


if __name__ == "__main__":
    import sys

    sys.stdout.write(reference())
