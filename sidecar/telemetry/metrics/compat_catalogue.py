"""
The metrics of other meshes that `telemetry.metrics.compat` shows beside our own, one row each. *Pure.*

Names, labels and buckets are those that their users' dashboards and alerts already ask for, which is all that they are
for: nothing is told here that our own catalogue does not tell. What a row counts, where ours differs from theirs, is
said in its help.
"""

from __future__ import annotations

from sidecar.telemetry.metrics.catalogue import Merge, Metric

ENVOY_BUCKETS = (
    0.5, 1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10000.0, 30000.0, 60000.0, 300000.0,
    600000.0, 1800000.0, 3600000.0,
)  # fmt: skip
"""Envoy's, for milliseconds and for octets."""
LINKERD_BUCKETS_MS = (
    1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 100.0, 200.0, 300.0, 400.0, 500.0, 1000.0, 2000.0, 3000.0,
    4000.0, 5000.0, 10000.0, 20000.0, 30000.0, 40000.0, 50000.0,
)  # fmt: skip
LINKERD_ROUTE_BUCKETS_S = (0.05, 0.5, 1.0, 10.0)


def _counter(name: str, labels: tuple[str, ...], text: str, unit: str = "") -> Metric:
    return Metric(name, "counter", unit, labels, text)


def _gauge(name: str, labels: tuple[str, ...], text: str, merge: Merge = "sum") -> Metric:
    return Metric(name, "gauge", "", labels, text, merge=merge)


def _histogram(name: str, unit: str, labels: tuple[str, ...], text: str, buckets: tuple[float, ...]) -> Metric:
    return Metric(name, "histogram", unit, labels, text, buckets)


# --- Envoy ---------------------------------------------------------------------------------------------------
_CLUSTER = ("envoy_cluster_name",)
_MANAGER = ("envoy_http_conn_manager_prefix",)
_CLASS = ("envoy_response_code_class",)

ENVOY_RQ_TOTAL = _counter("envoy_cluster_upstream_rq_total", _CLUSTER, "Requests given to an upstream")
ENVOY_RQ_XX = _counter("envoy_cluster_upstream_rq_xx", _CLUSTER + _CLASS, "Exchanges by upstream and class of status")
ENVOY_RQ_TIME = _histogram(
    "envoy_cluster_upstream_rq_time", "ms", _CLUSTER,
    "Milliseconds from the end of a request to the head of its response", ENVOY_BUCKETS,
)  # fmt: skip
ENVOY_RQ_TIMEOUT = _counter("envoy_cluster_upstream_rq_timeout", _CLUSTER, "Exchanges that ended with the flag UT")
ENVOY_GRPC_TOTAL = _counter("envoy_cluster_grpc_total", _CLUSTER, "Calls of gRPC that are over")
ENVOY_GRPC_SUCCESS = _counter("envoy_cluster_grpc_success", _CLUSTER, "Calls of gRPC that ended with OK")
ENVOY_GRPC_FAILURE = _counter("envoy_cluster_grpc_failure", _CLUSTER, "Calls of gRPC that ended with another status")
ENVOY_RETRY = _counter("envoy_cluster_upstream_rq_retry", _CLUSTER, "Attempts after an exchange's first")
ENVOY_RETRY_SUCCESS = _counter(
    "envoy_cluster_upstream_rq_retry_success", _CLUSTER, "Exchanges that were retried and then answered"
)
ENVOY_RETRY_LIMIT = _counter(
    "envoy_cluster_upstream_rq_retry_limit_exceeded", _CLUSTER, "Exchanges that were retried and failed all the same"
)
ENVOY_RETRY_OVERFLOW = _counter(
    "envoy_cluster_upstream_rq_retry_overflow", _CLUSTER, "Retries that the circuit breaker or the budget forbade"
)
ENVOY_PENDING_OVERFLOW = _counter(
    "envoy_cluster_upstream_rq_pending_overflow", _CLUSTER, "Requests that the circuit breaker refused"
)
ENVOY_CX_TOTAL = _counter("envoy_cluster_upstream_cx_total", _CLUSTER, "Connections that were established")
ENVOY_CX_ACTIVE = _gauge("envoy_cluster_upstream_cx_active", _CLUSTER, "Connections that are open")
ENVOY_CX_FAIL = _counter("envoy_cluster_upstream_cx_connect_fail", _CLUSTER, "Connections that were not established")
ENVOY_CX_TIMEOUT = _counter(
    "envoy_cluster_upstream_cx_connect_timeout", _CLUSTER, "Connections that were not established in time"
)
ENVOY_CX_OVERFLOW = _counter(
    "envoy_cluster_upstream_cx_overflow", _CLUSTER, "Connections that the circuit breaker forbade"
)
ENVOY_CX_IDLE = _counter("envoy_cluster_upstream_cx_idle_timeout", _CLUSTER, "Connections closed for being idle")
ENVOY_HEALTHY = _gauge(
    "envoy_cluster_membership_healthy", _CLUSTER, "Endpoints that are neither unhealthy nor ejected", "min"
)
ENVOY_MEMBERS = _gauge("envoy_cluster_membership_total", _CLUSTER, "Endpoints", "max")
ENVOY_EJECTED = _gauge(
    "envoy_cluster_outlier_detection_ejections_active", _CLUSTER, "Endpoints that are ejected", "max"
)
ENVOY_CHECKS_FAILED = _counter("envoy_cluster_health_check_failure", _CLUSTER, "Active health checks that failed")
ENVOY_DOWNSTREAM_XX = _counter(
    "envoy_http_downstream_rq_xx", _MANAGER + _CLASS, "Exchanges by direction and class of status"
)
ENVOY_DOWNSTREAM_TIME = _histogram(
    "envoy_http_downstream_rq_time", "ms", _MANAGER, "Milliseconds that an exchange took",
    ENVOY_BUCKETS,
)  # fmt: skip
ENVOY_LIVE = _gauge("envoy_server_live", (), "1: the sidecar answers", "max")
ENVOY_CONNECTED = _gauge(
    "envoy_control_plane_connected_state", (), "1 if the last load of the configuration was good", "min"
)

# --- AWS App Mesh's metrics extension ------------------------------------------------------------------------
APPMESH_TAGS = ("appmesh_mesh", "appmesh_virtual_node")
"""Labels that all of Envoy's rows have too when this family is shown."""
_NODE = ("Mesh", "VirtualNode")
_TARGET = (*_NODE, "TargetVirtualService", "TargetVirtualNode")

APPMESH_ACTIVE = _gauge("envoy_appmesh_ActiveConnectionCount", _NODE, "Connections of clients of the app that are open")
APPMESH_NEW = _counter("envoy_appmesh_NewConnectionCount", _NODE, "Connections of clients of the app")
APPMESH_BYTES = _counter("envoy_appmesh_ProcessedBytes", _NODE, "Octets of bodies to and from the app")
APPMESH_REQUESTS = _counter("envoy_appmesh_RequestCount", _NODE, "Requests to the app")
APPMESH_GRPC = _counter("envoy_appmesh_GrpcRequestCount", _NODE, "Calls of gRPC to the app")
APPMESH_TARGET_BYTES = _counter("envoy_appmesh_TargetProcessedBytes", _TARGET, "Octets of bodies of an upstream")
APPMESH_TARGET_XX = {
    kind: _counter(f"envoy_appmesh_HTTPCode_Target_{kind}XX_Count", _TARGET, f"Exchanges that ended with {kind}xx")
    for kind in "2345"
}
APPMESH_TARGET_REQUESTS = _counter("envoy_appmesh_RequestCountPerTarget", _TARGET, "Requests from the app by upstream")
APPMESH_TARGET_TIME = _histogram(
    "envoy_appmesh_TargetResponseTime", "ms", _TARGET,
    "Milliseconds from the end of a request to the head of its response",
    ENVOY_BUCKETS,
)  # fmt: skip

# --- Istio ---------------------------------------------------------------------------------------------------
ISTIO_PEERS = (
    "reporter", "source_workload", "source_workload_namespace", "source_principal", "source_app", "source_version",
    "source_cluster", "source_canonical_service", "source_canonical_revision", "destination_workload",
    "destination_workload_namespace", "destination_principal", "destination_app", "destination_version",
    "destination_service", "destination_service_name", "destination_service_namespace", "destination_cluster",
    "destination_canonical_service", "destination_canonical_revision", "request_protocol",
    "connection_security_policy", "response_flags",
)  # fmt: skip
ISTIO_LABELS = (*ISTIO_PEERS, "response_code", "grpc_response_status")

ISTIO_REQUESTS = _counter("istio_requests_total", ISTIO_LABELS, "Exchanges that are over")
ISTIO_DURATION = _histogram(
    "istio_request_duration_milliseconds", "ms", ISTIO_LABELS, "Milliseconds that an exchange took", ENVOY_BUCKETS
)
ISTIO_REQUEST_BYTES = _histogram("istio_request_bytes", "By", ISTIO_LABELS, "Octets of request bodies", ENVOY_BUCKETS)
ISTIO_RESPONSE_BYTES = _histogram(
    "istio_response_bytes", "By", ISTIO_LABELS, "Octets of response bodies", ENVOY_BUCKETS
)
ISTIO_TCP_SENT = _counter("istio_tcp_sent_bytes_total", ISTIO_PEERS, "Octets to clients in tunnels that ended")
ISTIO_TCP_RECEIVED = _counter("istio_tcp_received_bytes_total", ISTIO_PEERS, "Octets from clients in ended tunnels")
ISTIO_TCP_OPENED = _counter("istio_tcp_connections_opened_total", ISTIO_PEERS, "Tunnels (CONNECT, upgrades) that ended")
ISTIO_TCP_CLOSED = _counter("istio_tcp_connections_closed_total", ISTIO_PEERS, "Tunnels (CONNECT, upgrades) that ended")
ISTIO_BUILD = _gauge("istio_build", ("component", "tag"), "1 for what is running", "max")

# --- Linkerd -------------------------------------------------------------------------------------------------
_LINK = ("direction", "authority", "tls", "dst_service")
_TCP = ("direction", "peer", "tls", "dst_service")
_LINK_ROUTE = (*_LINK, "rt_route")
_OUTCOME = ("status_code", "classification", "grpc_status")
_PARENT = ("parent_kind", "parent_name", "route_kind", "route_name")
_BACKEND = (*_PARENT, "backend_kind", "backend_name")

LINKERD_REQUESTS = _counter("request_total", _LINK, "Exchanges that are over")
LINKERD_RESPONSES = _counter(
    "response_total", _LINK + _OUTCOME, "Exchanges that are over; 5xx is a failure, or what stands for it of gRPC"
)
LINKERD_LATENCY = _histogram(
    "response_latency_ms", "ms", (*_LINK, "status_code"), "Milliseconds that an exchange took", LINKERD_BUCKETS_MS
)
LINKERD_ROUTE_REQUESTS = _counter("route_request_total", _LINK_ROUTE, "Exchanges that are over, by route")
LINKERD_ROUTE_RESPONSES = _counter(
    "route_response_total", _LINK_ROUTE + _OUTCOME, "Exchanges that are over, by route; failures as in response_total"
)
LINKERD_ROUTE_LATENCY = _histogram(
    "route_response_latency_ms", "ms", (*_LINK_ROUTE, "status_code"), "Milliseconds that an exchange took, by route",
    LINKERD_BUCKETS_MS,
)  # fmt: skip
LINKERD_TCP_OPEN = _counter("tcp_open_total", _TCP, "Connections of clients (src) and to upstreams (dst)")
LINKERD_TCP_CLOSE = _counter("tcp_close_total", _TCP, "The same, closed")
LINKERD_TCP_CONNECTIONS = _gauge("tcp_open_connections", _TCP, "The same, open now")
LINKERD_TCP_READ = _counter("tcp_read_bytes_total", _TCP, "Octets of bodies from clients")
LINKERD_TCP_WRITE = _counter("tcp_write_bytes_total", _TCP, "Octets of bodies to clients")
LINKERD_TCP_DURATION = _histogram(
    "tcp_connection_duration_ms", "ms", ("direction", "peer", "tls"), "Milliseconds that a client's connection lasted",
    LINKERD_BUCKETS_MS,
)  # fmt: skip
LINKERD_ALLOWED = _counter("inbound_http_authz_allow_total", ("route_name",), "Requests to the app that were let in")
LINKERD_DENIED = _counter("inbound_http_authz_deny_total", ("route_name",), "Requests to the app that were not (UAEX)")
LINKERD_NO_ROUTE = _counter("inbound_http_route_not_found_total", (), "Requests to the app that matched no route (NR)")
LINKERD_INBOUND = _counter("inbound_http_requests_total", _PARENT, "Requests to the app")
LINKERD_OUTBOUND_TIME = _histogram(
    "outbound_http_route_request_duration_seconds", "s", _PARENT, "Seconds that a request from the app took",
    LINKERD_ROUTE_BUCKETS_S,
)  # fmt: skip
LINKERD_BACKEND = _counter("outbound_http_route_backend_requests_total", _BACKEND, "Requests from the app by upstream")
LINKERD_BACKEND_STATUS = _counter(
    "outbound_http_route_backend_response_statuses_total", (*_BACKEND, "http_status", "error"),
    "Requests from the app by upstream and how they ended",
)  # fmt: skip
LINKERD_ENDPOINTS = _gauge(
    "outbound_http_balancer_endpoints", ("backend_name", "endpoint_state"), "Endpoints that are ready, or not", "max"
)

_ALL = {name: value for name, value in list(globals().items()) if isinstance(value, Metric)}
ROWS: dict[str, tuple[Metric, ...]] = {
    "envoy": tuple(row for name, row in _ALL.items() if name.startswith("ENVOY_")),
    "istio": tuple(row for name, row in _ALL.items() if name.startswith("ISTIO_")),
    "linkerd": tuple(row for name, row in _ALL.items() if name.startswith("LINKERD_")),
    "appmesh": (
        *(row for name, row in _ALL.items() if name.startswith("APPMESH_")), *APPMESH_TARGET_XX.values()
    ),
}  # fmt: skip
"""Rows by family; `appmesh` shows those of `envoy` too, with `APPMESH_TAGS`."""
