"""
Every metric that the sidecar has, one row each. *Pure.*

The exposition, `docs/metrics.md` (`reference`) and the tests are made from this table; a metric that has no row cannot
be exposed. The families of `telemetry.metrics.compat` have their rows in `compat_catalogue`.

Names and units follow OpenTelemetry's stable HTTP conventions in Prometheus' spelling where there is one, and begin
with `sidecar_` where there is none.

No label takes a value from the wire without a closed set: methods are those of RFC 9110 and PATCH, or `_OTHER`;
status codes are 100 to 599, or `_OTHER`; routes, upstreams and addresses are the configuration's; reasons and flags
are those of `errors`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Type = Literal["counter", "gauge", "histogram"]
Merge = Literal["sum", "max", "min", "own"]
"""How the numbers of several workers become one; `own`: not theirs but the supervisor's."""

DURATION_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""What OpenTelemetry advises for `http.server.request.duration` and `http.client.request.duration`."""
OVERHEAD_BUCKETS_S = (
    0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0
)  # fmt: skip
"""From the tens of microseconds that the proxy needs to a wait for a connection."""
CONNECT_BUCKETS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""From the same machine to another continent with a lost packet."""
STREAM_BUCKETS_S = (0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0, 21600.0, 86400.0)
"""From one question to a day's work."""
LOAD_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""From ten routes to ten thousand, and names that do not resolve."""


@dataclass(frozen=True, slots=True)
class Metric:
    """
    One row.

    Attributes:
        name: As Prometheus shows it, with unit and `_total`, without `_bucket` and the like.
        type: Prometheus' type.
        unit: `s`, `ms`, `By`, or empty for things that are counted.
        labels: Names, in the order in which values are given.
        help: One sentence without a full stop.
        buckets: Upper bounds, in the metric's unit, of a histogram.
        merge: What a supervisor makes of its workers' numbers. Counters and histograms add up.
    """

    name: str
    type: Type
    unit: str
    labels: tuple[str, ...]
    help: str
    buckets: tuple[float, ...] = ()
    merge: Merge = "sum"


_DURATION_LABELS = (
    "http_request_method",
    "http_response_status_code",
    "http_route",
    "server_address",
    "error_type",
    # Beyond the conventions: two upstreams of a split route may share a server's address, and two routes a template.
    "upstream",
    "route",
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
GRPC_REQUESTS = Metric(
    "sidecar_grpc_requests_total", "counter", "",
    ("direction", "route", "upstream", "code", "flag", "counts_as", "grpc_status"),
    "Calls of gRPC that are over; grpc_status is the name of the status, such as OK or UNAVAILABLE, code is HTTP's, and"
    " counts_as the one that stands for how the call ended, 503 for UNAVAILABLE",
)  # fmt: skip
REQUESTS_ACTIVE = Metric(
    "sidecar_requests_active", "gauge", "", ("direction",), "Exchanges that have begun and are not over",
)  # fmt: skip
REQUEST_BYTES = Metric(
    "sidecar_request_body_bytes_total", "counter", "By", ("direction", "route", "upstream"),
    "Octets of request bodies that were read from clients, counted at the end of each exchange",
)  # fmt: skip
RESPONSE_BYTES = Metric(
    "sidecar_response_body_bytes_total", "counter", "By", ("direction", "route", "upstream"),
    "Octets of response bodies that were written to clients, counted at the end of each exchange",
)  # fmt: skip
OVERHEAD = Metric(
    "sidecar_overhead_seconds", "histogram", "s", ("direction",),
    "Time that the sidecar itself added to an exchange that was answered at the first attempt: its duration less the"
    " time from the first octet sent to the upstream to the last one read from it", OVERHEAD_BUCKETS_S,
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
    "sidecar_upstream_connections_closed_total", "counter", "", ("upstream", "reason"), "Connections that were closed",
)  # fmt: skip
UPSTREAM_REUSED = Metric(
    "sidecar_upstream_connections_reused_total", "counter", "", ("upstream",), "Times a pooled connection served again",
)  # fmt: skip
UPSTREAM_FAILED = Metric(
    "sidecar_upstream_connect_failures_total", "counter", "", ("upstream", "reason"),
    "Connections that were not established: failed (refused, unreachable), or timeout",
)  # fmt: skip
UPSTREAM_UNRESOLVED = Metric(
    "sidecar_upstream_resolve_failures_total", "counter", "", ("upstream", "reason"),
    "Connections that were not begun for want of an address of the endpoint's name",
)  # fmt: skip
CONNECT_DURATION = Metric(
    "sidecar_upstream_connect_duration_seconds", "histogram", "s", ("upstream",),
    "Time to establish a connection, of those that were, resolving the endpoint's name aside", CONNECT_BUCKETS_S,
)  # fmt: skip
UPSTREAM_IDLE = Metric(
    "sidecar_upstream_connections_idle", "gauge", "", ("upstream",), "Connections that wait in the pool",
)  # fmt: skip
UPSTREAM_SHARED = Metric(
    "sidecar_upstream_connections_shared", "gauge", "", ("upstream",),
    "Connections of HTTP/2 that take requests, of which they carry many at once; told once there was one",
)  # fmt: skip
UPSTREAM_STREAMS = Metric(
    "sidecar_upstream_streams_active", "gauge", "", ("upstream",), "Requests that they carry; likewise",
)  # fmt: skip
UPSTREAM_ENDPOINTS = Metric(
    "sidecar_upstream_endpoints", "gauge", "", ("upstream",), "Endpoints that the upstream has now", merge="max",
)  # fmt: skip

UPSTREAM_PENDING_TIMEOUTS = Metric(
    "sidecar_upstream_pending_timeouts_total", "counter", "", ("upstream",),
    "Requests that waited too long for a connection",
)  # fmt: skip
UPSTREAM_EJECTED = Metric(
    "sidecar_upstream_endpoints_ejected", "gauge", "", ("upstream",), "Endpoints that are ejected or on probation",
    merge="max",
)  # fmt: skip
UPSTREAM_UNHEALTHY = Metric(
    "sidecar_upstream_endpoints_unhealthy", "gauge", "", ("upstream",), "Endpoints that health checks found unhealthy",
    merge="max",
)  # fmt: skip
UPSTREAM_EJECTIONS = Metric(
    "sidecar_upstream_ejections_total", "counter", "", ("upstream", "reason"), "Times that an endpoint was ejected",
)  # fmt: skip
UPSTREAM_EJECTIONS_PREVENTED = Metric(
    "sidecar_upstream_ejections_prevented_total", "counter", "", ("upstream",),
    "Times that an endpoint would have been ejected, but for max_ejection_percent",
)  # fmt: skip
UPSTREAM_HEALTH_CHECKS = Metric(
    "sidecar_upstream_health_checks_total", "counter", "", ("upstream", "result"), "Active health checks that are over",
)  # fmt: skip
UPSTREAM_PANIC = Metric(
    "sidecar_upstream_panic", "gauge", "", ("upstream",), "1 while too few endpoints are usable, so that all are used",
    merge="max",
)  # fmt: skip
UPSTREAM_PANICS = Metric(
    "sidecar_upstream_panics_total", "counter", "", ("upstream",), "Times that too few endpoints were usable",
)  # fmt: skip
UPSTREAM_OVERFLOWS = Metric(
    "sidecar_upstream_overflows_total", "counter", "", ("upstream", "limit"),
    "What the circuit breaker forbade, by the limit that was reached",
)  # fmt: skip
UPSTREAM_CONCURRENCY_LIMIT = Metric(
    "sidecar_upstream_concurrency_limit", "gauge", "", ("upstream",),
    "Requests that may be in flight now, streams and tunnels aside if it is adaptive; 0 without a circuit breaker",
)  # fmt: skip
DNS_LOOKUPS = Metric(
    "sidecar_upstream_dns_lookups_total", "counter", "", ("upstream", "result"),
    "Lookups of an upstream's name; one without an address is a failure",
)  # fmt: skip
DNS_TIME = Metric(
    "sidecar_upstream_dns_last_success_timestamp_seconds", "gauge", "s", ("upstream",),
    "When an upstream's name last gave addresses, in seconds since the Unix epoch; 0 for never", merge="min",
)  # fmt: skip
DISCOVERIES = Metric(
    "sidecar_upstream_discoveries_total", "counter", "", ("upstream", "result"),
    "Times that the source of an upstream's endpoints said something new, or could not be read",
)  # fmt: skip
DISCOVERY_TIME = Metric(
    "sidecar_upstream_discovery_last_success_timestamp_seconds", "gauge", "s", ("upstream",),
    "When an upstream's endpoints were last discovered anew, in seconds since the Unix epoch; 0 for never", merge="min",
)  # fmt: skip
RETRIES = Metric(
    "sidecar_upstream_retries_total", "counter", "", ("upstream", "reason"),
    "Attempts that another one followed, by what was wrong with them",
)  # fmt: skip
RETRIED = Metric(
    "sidecar_upstream_retried_requests_total", "counter", "", ("upstream", "result"),
    "Exchanges of more than one attempt, by how the last one ended",
)  # fmt: skip
RETRIES_SKIPPED = Metric(
    "sidecar_upstream_retries_skipped_total", "counter", "", ("upstream", "reason"),
    "Exchanges in which the policy named an occasion for another attempt and none was made, by why not",
)  # fmt: skip

MIRROR_SKIPPED = Metric(
    "sidecar_upstream_mirror_skipped_total", "counter", "", ("upstream", "reason"),
    "Copies for a mirror that were not made, by the mirror's upstream and why not",
)  # fmt: skip

AUTHORIZATION = Metric(
    "sidecar_authorization_total", "counter", "", ("rule", "outcome", "source"),
    "Requests that inbound.authorization judged, by the rule that decided (default: none matched), what came of it"
    " (allowed, denied, audit_denied) and who asked: a SPIFFE ID, unidentified, or _OTHER beyond a thousand series",
)  # fmt: skip
AUTHORIZATION_UNIDENTIFIED = Metric(
    "sidecar_authorization_unidentified_total", "counter", "", (),
    "Requests without an identity that passed only because the listener is permissive",
)  # fmt: skip
AUTHORIZATION_JWT = Metric(
    "sidecar_authorization_jwt_total", "counter", "", ("outcome",),
    "Requests with a bearer token that were asked what it proves, by what it came to: accepted, or why not",
)  # fmt: skip
AUTHORIZATION_JWT_KEYS = Metric(
    "sidecar_authorization_jwt_key_sources", "gauge", "", ("state",),
    "Files and addresses of keys that tokens are verified by: fresh, last_good (what came last cannot be used),"
    " or none (no key yet)", merge="max",
)  # fmt: skip

DOWNSTREAM_ACTIVE = Metric(
    "sidecar_downstream_connections_active", "gauge", "", ("direction",), "Connections of clients that are open",
)  # fmt: skip

DOWNSTREAM_OPENED = Metric(
    "sidecar_downstream_connections_opened_total", "counter", "", ("direction",),
    "Connections of clients that were accepted",
)  # fmt: skip
TLS_HANDSHAKES = Metric(
    "sidecar_tls_handshakes_total", "counter", "", ("side", "version", "resumed"),
    "Handshakes that are over; side is that of the peer, client or server",
)  # fmt: skip
TLS_REQUESTS = Metric(
    "sidecar_tls_requests_total", "counter", "", ("direction", "route", "upstream", "peer"),
    "Requests that came by TLS (inbound), and those that were answered by TLS (outbound); peer is the SPIFFE ID in the"
    " other's certificate, empty if it has none, or _OTHER beyond a thousand series",
)  # fmt: skip
TLS_CLEAR_REQUESTS = Metric(
    "sidecar_tls_clear_requests_total", "counter", "", ("direction", "route", "upstream"),
    "The same of requests in clear, since the first by TLS with the same labels",
)  # fmt: skip
TLS_HANDSHAKE_FAILURES = Metric(
    "sidecar_tls_handshake_failures_total", "counter", "", ("side", "reason"),
    "Handshakes that failed, by the reason of the table",
)  # fmt: skip
DOWNSTREAM_CLOSED = Metric(
    "sidecar_downstream_connections_closed_total", "counter", "", ("direction",),
    "Connections of clients that are closed again",
)  # fmt: skip

CAPTURE_PROVED = Metric(
    "sidecar_capture_proved", "gauge", "", ("what", "family"),
    "1 if it was proved that the kernel leads outgoing connections here, and leaves the sidecar's own alone; 0 if it"
    " was refuted; absent while nothing is captured, or nobody can know", merge="min",
)  # fmt: skip
CAPTURE_INBOUND_SEEN = Metric(
    "sidecar_capture_inbound_seen", "gauge", "", (),
    "1 as soon as a connection has come that was meant for the app and led here, else 0; absent while none are to be",
    merge="max",
)  # fmt: skip
DETECTED = Metric(
    "sidecar_detected_connections_total", "counter", "", ("direction", "protocol", "waited"),
    "Connections whose first octets were looked at, or that were declared to carry something, by what they carry: http,"
    " http2, tls, tcp; waited: whether the client was silent for the whole wait",
)  # fmt: skip
TCP_OPENED = Metric(
    "sidecar_tcp_connections_opened_total", "counter", "", ("direction", "protocol"),
    "Connections that are no HTTP's and were taken to be passed on; protocol: tcp or tls",
)  # fmt: skip
TCP_ACTIVE = Metric(
    "sidecar_tcp_connections_active", "gauge", "", ("direction",), "Those of them that are not over",
)  # fmt: skip
TCP_CLOSED = Metric(
    "sidecar_tcp_connections_closed_total", "counter", "", ("direction", "upstream", "protocol", "flag"),
    "Those of them that are over, whatever became of them; flag is Envoy's response flag or -",
)  # fmt: skip
TCP_RECEIVED = Metric(
    "sidecar_tcp_received_bytes_total", "counter", "By", ("direction", "upstream", "protocol"),
    "Octets that their clients have sent, counted as they go by",
)  # fmt: skip
TCP_SENT = Metric(
    "sidecar_tcp_sent_bytes_total", "counter", "By", ("direction", "upstream", "protocol"),
    "Octets that their clients were sent, counted as they go by",
)  # fmt: skip
TCP_DURATION = Metric(
    "sidecar_tcp_connection_duration_seconds", "histogram", "s", ("direction", "upstream"),
    "Time from the first to the last of them, of those that are over", STREAM_BUCKETS_S,
)  # fmt: skip

RELOAD_SUCCESSFUL = Metric(
    "sidecar_config_last_reload_successful", "gauge", "", (), "1 if the last load of the configuration was good",
    merge="own",
)  # fmt: skip
RELOAD_TIME = Metric(
    "sidecar_config_last_reload_success_timestamp_seconds", "gauge", "s", (),
    "When the live configuration was loaded, in seconds since the Unix epoch", merge="own",
)  # fmt: skip
CONFIG_INFO = Metric(
    "sidecar_config_info", "gauge", "", ("hash",), "1 for the hash of the live configuration", merge="own",
)  # fmt: skip
RELOADS = Metric(
    "sidecar_config_reloads_total", "counter", "", ("result",), "Attempts to load a changed configuration", merge="own",
)  # fmt: skip

RELOAD_DURATION = Metric(
    "sidecar_config_load_duration_seconds", "histogram", "s", ("result",),
    "Time from reading the configuration to its being live or refused, the first load included", LOAD_BUCKETS_S,
    merge="own",
)  # fmt: skip

CONTROL_CONNECTED = Metric(
    "sidecar_control_connected", "gauge", "", (), "1 while the control plane is heard", merge="own",
)  # fmt: skip
CONTROL_CONNECTS = Metric(
    "sidecar_control_connects_total", "counter", "", (), "Times that a control plane began to be heard", merge="own",
)  # fmt: skip
CONTROL_HEARD = Metric(
    "sidecar_control_last_heard_timestamp_seconds", "gauge", "s", (),
    "When the control plane last said anything, in seconds since the Unix epoch; 0 for never", merge="own",
)  # fmt: skip
CONTROL_REVISION = Metric(
    "sidecar_control_revision", "gauge", "", (), "Newest revision of the mesh that was heard of", merge="own",
)  # fmt: skip
CONTROL_CONFIG_REVISION = Metric(
    "sidecar_control_config_revision", "gauge", "", (), "Revision of the pushed configuration in force; 0 for none",
    merge="own",
)  # fmt: skip
CONTROL_CONFIG_TIME = Metric(
    "sidecar_control_config_timestamp_seconds", "gauge", "s", (),
    "When the file in force was put in force, pushed or not, in seconds since the Unix epoch; 0 for none", merge="own",
)  # fmt: skip
CONTROL_CONFIG_SOURCE = Metric(
    "sidecar_control_config_source", "gauge", "", ("source",),
    "1 for where the configuration in force was had from: pushed, last_good or bootstrap", merge="own",
)  # fmt: skip
CONTROL_REFUSED = Metric(
    "sidecar_control_config_refused_total", "counter", "", (), "Pushed configurations that were refused here",
    merge="own",
)  # fmt: skip

CERTIFICATE_EXPIRY = Metric(
    "sidecar_certificate_expiry_timestamp_seconds", "gauge", "s", ("purpose", "name", "which"),
    "When a certificate that is held ends, in seconds since the Unix epoch; of several the one that ends first",
    merge="min",
)  # fmt: skip
CERTIFICATE_ROTATIONS = Metric(
    "sidecar_identity_rotations_total", "counter", "", ("purpose", "outcome"),
    "Certificates that came to replace others: replaced, or refused because they could not be used",
)  # fmt: skip
CERTIFICATE_TROUBLES = Metric(
    "sidecar_certificate_troubles", "gauge", "", ("purpose",),
    "Of how many sources of certificates what came last cannot be used; what is held goes on", merge="max",
)  # fmt: skip
UPSTREAM_UNVERIFIED = Metric(
    "sidecar_upstream_tls_unverified", "gauge", "", ("upstream",),
    "1 for an upstream spoken to by TLS whose servers nobody verifies, because the configuration says so", merge="max",
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
    "Access-log lines that were lost: buffer_full, write_failed, shutdown; or left out: refused (connections that were"
    " turned away, beyond ten a second)",
)  # fmt: skip

LOG_LINES_FILTERED = Metric(
    "sidecar_log_lines_filtered_total", "counter", "", (),
    "Access-log lines that telemetry.access_log.when left out",
)  # fmt: skip
QUEUE = Metric(
    "sidecar_telemetry_queue_bytes", "gauge", "By", ("queue",),
    "Octets that wait for the collector, or for the log's file",
)  # fmt: skip
PROCESS_LOG_DROPPED = Metric(
    "sidecar_process_log_lines_dropped_total", "counter", "", ("reason",),
    "Lines of the process log that were not written: buffer_full (nobody reads stderr), write_failed, rate (too many of"
    " one kind)",
)  # fmt: skip

WORKERS = Metric(
    "sidecar_workers", "gauge", "", (), "Data-path processes that there should be", merge="own",
)  # fmt: skip
WORKERS_LIVE = Metric(
    "sidecar_workers_live", "gauge", "", (), "Data-path processes that serve now", merge="own",
)  # fmt: skip
WORKER_RESTARTS = Metric(
    "sidecar_worker_restarts_total", "counter", "", ("reason",),
    "Workers that another one was started for: died, hung (did not answer), not_ready (did not become ready)",
    merge="own",
)  # fmt: skip

BUILD_INFO = Metric(
    "sidecar_build_info", "gauge", "", ("version", "python_version", "build"),
    "1 for what is running; `build`: compiled or interpreted", merge="own",
)  # fmt: skip
TARGET_INFO = Metric(
    "target_info", "gauge", "",
    ("service_name", "service_namespace", "service_version", "service_instance_id"),
    "1 for the service that this sidecar speaks for, and its OpenTelemetry resource", merge="own",
)  # fmt: skip

METRICS: tuple[Metric, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Metric))
"""Every row, in the order of this file, which is the order of the exposition."""
