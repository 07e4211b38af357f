"""Metrics by the names of other meshes, spelled as their dashboards ask for them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from sidecar import clock, errors
from sidecar.exchange import Direction
from sidecar.telemetry.metrics import compat_catalogue
from sidecar.telemetry.metrics.compat_catalogue import ROWS
from sidecar.telemetry.metrics.exposition import Format
from sidecar.telemetry.recorder import TelemetrySettings
from sidecar.telemetry.scopes import GRACE_NS
from tests.unit.telemetry.cases import Told, over, request
from tests.unit.telemetry.metrics.test_catalogue import Cluster

IN, OUT = Direction.INBOUND, Direction.OUTBOUND
ALL = ("envoy", "istio", "linkerd", "appmesh")
LISTED = {
    "envoy": """
        envoy_cluster_upstream_rq_total envoy_cluster_upstream_rq_xx envoy_cluster_upstream_rq_time
        envoy_cluster_upstream_rq_timeout envoy_cluster_grpc_total envoy_cluster_grpc_success envoy_cluster_grpc_failure
        envoy_cluster_upstream_rq_retry envoy_cluster_upstream_rq_retry_success
        envoy_cluster_upstream_rq_retry_limit_exceeded envoy_cluster_upstream_rq_retry_overflow
        envoy_cluster_upstream_rq_pending_overflow envoy_cluster_upstream_cx_total envoy_cluster_upstream_cx_active
        envoy_cluster_upstream_cx_connect_fail envoy_cluster_upstream_cx_connect_timeout
        envoy_cluster_upstream_cx_overflow envoy_cluster_upstream_cx_idle_timeout envoy_cluster_membership_healthy
        envoy_cluster_membership_total envoy_cluster_outlier_detection_ejections_active
        envoy_cluster_health_check_failure envoy_http_downstream_rq_xx envoy_http_downstream_rq_time envoy_server_live
        envoy_control_plane_connected_state
    """,
    "istio": """
        istio_requests_total istio_request_duration_milliseconds istio_request_bytes istio_response_bytes
        istio_tcp_sent_bytes_total istio_tcp_received_bytes_total istio_tcp_connections_opened_total
        istio_tcp_connections_closed_total istio_build
    """,
    "linkerd": """
        request_total response_total response_latency_ms route_request_total route_response_total
        route_response_latency_ms tcp_open_total tcp_close_total tcp_open_connections tcp_read_bytes_total
        tcp_write_bytes_total tcp_connection_duration_ms inbound_http_authz_allow_total inbound_http_authz_deny_total
        inbound_http_route_not_found_total inbound_http_requests_total outbound_http_route_request_duration_seconds
        outbound_http_route_backend_requests_total outbound_http_route_backend_response_statuses_total
        outbound_http_balancer_endpoints
    """,
    "appmesh": """
        envoy_appmesh_ActiveConnectionCount envoy_appmesh_NewConnectionCount envoy_appmesh_ProcessedBytes
        envoy_appmesh_RequestCount envoy_appmesh_GrpcRequestCount envoy_appmesh_TargetProcessedBytes
        envoy_appmesh_HTTPCode_Target_2XX_Count envoy_appmesh_HTTPCode_Target_3XX_Count
        envoy_appmesh_HTTPCode_Target_4XX_Count envoy_appmesh_HTTPCode_Target_5XX_Count
        envoy_appmesh_RequestCountPerTarget envoy_appmesh_TargetResponseTime
    """,
}


def told(*compat: str, environment: dict[str, str] | None = None, **options: Any) -> Told:
    """Telemetry that shows these families."""
    settings = TelemetrySettings("storefront", "1.0", "shop", access_log_path=None, compat=compat)
    return Told(settings, environment=environment or {}, **options)


def busy(*compat: str, environment: dict[str, str] | None = None) -> Told:
    """A call that succeeded, one that timed out, a request that was served, one that was denied, a tunnel."""
    telemetry = told(*compat, environment=environment, clusters=lambda: [Cluster()])
    telemetry.config_applied("hash", is_reload=False)
    telemetry.connection_opened(IN)
    telemetry.connection_opened(IN)
    telemetry.connection_closed(IN, 2_500_000)
    call = telemetry.scope(OUT, "canary", "recommendations", "recommendations.shop")
    served = telemetry.scope(IN, "app-route", "app", "127.0.0.1")
    for scope, status, reason in (
        (call, 200, None),
        (call, 504, errors.RESPONSE_TIMEOUT),
        (call, 302, None),
        (call, 404, None),
        (served, 200, None),
    ):
        telemetry.record(
            over(
                request(), scope=scope, direction=scope.direction, status=status, reason=reason, endpoint="10.0.0.1:80"
            )
        )
    telemetry.record(over(request(), direction=IN, status=404, reason=errors.NO_ROUTE))
    tunnel = over(request(line=b"CONNECT shop:8080 HTTP/1.1"), scope=call, direction=OUT, endpoint="10.0.0.1:80")
    telemetry.record(tunnel)
    return telemetry


def call_by_grpc(telemetry: Told, *statuses: int) -> None:
    """Calls of gRPC from the app and to the app, that end with each of these."""
    for grpc_status in statuses:
        for direction, route, upstream in ((OUT, "calls", "quotes"), (IN, "app-route", "app")):
            scope = telemetry.scope(direction, route, upstream, f"{upstream}.shop")
            head = request(b"content-type: application/grpc", line=b"POST /shop.Quotes/Get HTTP/1.1")
            exchange = over(head, scope=scope, direction=direction, endpoint="10.0.0.1:80")
            exchange.grpc_status = grpc_status
            telemetry.record(exchange)


def samples(telemetry: Told, name: str) -> dict[frozenset[tuple[str, str]], float]:
    """Series of one name, by labels."""
    found = {}
    for series, value in telemetry.samples().items():
        if series.partition("{")[0] == name:
            found[frozenset(re.findall(r'([a-zA-Z_]+)="([^"]*)"', series))] = value
    return found


def value(telemetry: Told, name: str, **labels: str) -> float:
    """Sum of the series with these labels."""
    wanted = frozenset(labels.items())
    return sum(number for found, number in samples(telemetry, name).items() if wanted <= found)


@pytest.mark.parametrize("family", ALL)
def test_names_are_exactly_those_that_dashboards_ask_for(family: str) -> None:
    """No more and no less."""
    assert {row.name for row in ROWS[family]} == set(LISTED[family].split())


@pytest.mark.parametrize("form", list(Format))
@pytest.mark.parametrize("family", ALL)
def test_every_row_is_shown_with_its_labels(family: str, form: Format) -> None:
    """In both formats, read by prometheus-client's parsers; nothing that has no row."""
    telemetry = busy(family)
    denied = errors.Reason("denied", errors.Source.PROXY, errors.Phase.ROUTE, False, 403, "UAEX", "", "", "")
    telemetry.record(over(request(), status=403, reason=denied))
    call_by_grpc(telemetry, 0, 14)
    parse = text_string_to_metric_families if form is Format.TEXT else openmetrics_families
    text = telemetry.exposition(form).decode()
    families = {found.name: found for found in parse(text)}
    shown = {name for name in families if not name.startswith(("sidecar_", "http_", "process_", "python_", "target"))}
    expected = set()
    tags = set(compat_catalogue.APPMESH_TAGS) if family == "appmesh" else set()
    for name in (family, "envoy") if family == "appmesh" else (family,):
        for row in ROWS[name]:
            key = row.name.removesuffix("_total") if row.type == "counter" else row.name
            expected.add(key)
            for sample in families[key].samples:
                assert set(sample.labels) - {"le"} - tags == set(row.labels), row.name
                assert sample.name.startswith(row.name)
    assert shown == expected


def test_nothing_is_shown_unless_it_is_asked_for() -> None:
    """Off by default."""
    names = {name.partition("{")[0] for name in busy().samples()}
    listed = {name for some in LISTED.values() for name in some.split()}
    assert not {name for name in names for one in listed if name.startswith(one)}


def test_promtool_reads_them_all() -> None:
    """It may dislike names that are not ours to choose, but not the format."""
    promtool = shutil.which("promtool")
    if promtool is None:
        if os.environ.get("CI") == "true":
            pytest.fail("promtool is not installed; it comes with Debian's package prometheus")
        pytest.skip("promtool is not installed; it comes with Debian's package prometheus")
    done = subprocess.run(
        [promtool, "check", "metrics"], input=busy(*ALL).exposition(), capture_output=True, timeout=30, check=False
    )
    assert done.returncode in (0, 3), done.stderr  # 3: linting found something
    assert b"error while" not in done.stderr


def test_envoy() -> None:
    """By cluster and class of status, by direction, and what the cluster counts."""
    telemetry = busy("envoy")
    cluster = {"envoy_cluster_name": "recommendations"}
    classes = {
        kind: value(telemetry, "envoy_cluster_upstream_rq_xx", envoy_response_code_class=kind, **cluster)
        for kind in "2345"
    }
    assert classes == {"2": 2, "3": 1, "4": 1, "5": 1}
    assert value(telemetry, "envoy_cluster_upstream_rq_timeout", **cluster) == 1
    assert value(telemetry, "envoy_cluster_upstream_rq_total", **cluster) == 10
    assert value(telemetry, "envoy_cluster_upstream_rq_time_count", **cluster) == 5
    assert value(telemetry, "envoy_cluster_upstream_rq_time_sum", **cluster) == 10  # 2 ms each
    assert value(telemetry, "envoy_cluster_upstream_rq_time_bucket", le="1.0", **cluster) == 0
    assert value(telemetry, "envoy_cluster_upstream_rq_time_bucket", le="5.0", **cluster) == 5
    assert value(telemetry, "envoy_cluster_upstream_cx_active", **cluster) == 3
    assert value(telemetry, "envoy_cluster_upstream_cx_connect_fail", **cluster) == 17
    assert value(telemetry, "envoy_cluster_upstream_cx_idle_timeout", **cluster) == 3
    assert value(telemetry, "envoy_cluster_membership_total", **cluster) == 2
    assert value(telemetry, "envoy_http_downstream_rq_xx", envoy_http_conn_manager_prefix="ingress") == 2
    assert value(telemetry, "envoy_http_downstream_rq_xx", envoy_http_conn_manager_prefix="egress") == 5
    assert value(telemetry, "envoy_server_live") == value(telemetry, "envoy_control_plane_connected_state") == 1


def test_app_mesh() -> None:
    """Envoy's with its tags, and the extension's; who we are is read where App Mesh's Envoy read it."""
    arn = "arn:aws:appmesh:eu-west-1:123456789012:mesh/shop-mesh/virtualNode/storefront-node"
    telemetry = busy("appmesh", environment={"APPMESH_RESOURCE_ARN": arn})
    tags = {"appmesh_mesh": "shop-mesh", "appmesh_virtual_node": "storefront-node"}
    assert value(telemetry, "envoy_cluster_upstream_rq_xx", envoy_cluster_name="recommendations", **tags) == 5
    assert value(telemetry, "envoy_cluster_upstream_cx_total", **tags) == 7
    node = {"Mesh": "shop-mesh", "VirtualNode": "storefront-node"}
    assert value(telemetry, "envoy_appmesh_RequestCount", **node) == 2
    assert value(telemetry, "envoy_appmesh_ActiveConnectionCount", **node) == 1
    assert value(telemetry, "envoy_appmesh_NewConnectionCount", **node) == 2
    assert value(telemetry, "envoy_appmesh_ProcessedBytes", **node) == 2 * (7 + 42)
    target = {**node, "TargetVirtualService": "recommendations.shop", "TargetVirtualNode": "recommendations"}
    assert value(telemetry, "envoy_appmesh_HTTPCode_Target_5XX_Count", **target) == 1
    assert value(telemetry, "envoy_appmesh_RequestCountPerTarget", **target) == 5
    assert value(telemetry, "envoy_appmesh_TargetResponseTime_sum", **target) == 10
    by_name = busy("appmesh", environment={"APPMESH_VIRTUAL_NODE_NAME": "mesh/m/virtualNode/n"})
    assert value(by_name, "envoy_appmesh_RequestCount", Mesh="m", VirtualNode="n") == 2
    unnamed = busy("appmesh")
    assert value(unnamed, "envoy_appmesh_RequestCount", Mesh="shop", VirtualNode="storefront") == 2


def test_istio() -> None:
    """As source of calls and destination of requests; tunnels are TCP."""
    telemetry = busy("istio")
    call = {
        "reporter": "source", "source_workload": "storefront", "source_workload_namespace": "shop",
        "source_canonical_revision": "1.0", "destination_service": "recommendations.shop",
        "destination_service_name": "recommendations", "request_protocol": "http",
    }  # fmt: skip
    assert value(telemetry, "istio_requests_total", response_code="200", response_flags="-", **call) == 1
    assert value(telemetry, "istio_requests_total", response_code="504", response_flags="UT", **call) == 1
    assert value(telemetry, "istio_request_duration_milliseconds_sum", response_code="200", **call) == 12.345678
    assert value(telemetry, "istio_request_bytes_sum", response_code="200", **call) == 7
    assert value(telemetry, "istio_response_bytes_sum", response_code="200", **call) == 42
    served = {"reporter": "destination", "source_workload": "unknown", "destination_workload": "storefront"}
    assert value(telemetry, "istio_requests_total", response_code="200", **served) == 1
    assert value(telemetry, "istio_requests_total", response_code="404", response_flags="NR", **served) == 1
    assert value(telemetry, "istio_tcp_connections_opened_total", **call) == 1
    assert value(telemetry, "istio_tcp_sent_bytes_total", **call) == 42
    assert value(telemetry, "istio_tcp_received_bytes_total", **call) == 7


def test_linkerd() -> None:
    """Success rate as its dashboards compute it, by authority, route and backend."""
    telemetry = busy("linkerd")
    call = {"direction": "outbound", "authority": "recommendations.shop"}
    total = value(telemetry, "response_total", **call)
    assert (total, value(telemetry, "response_total", classification="success", **call)) == (5, 4)
    assert value(telemetry, "request_total", **call) == 5
    assert value(telemetry, "response_latency_ms_bucket", status_code="200", le="20.0", **call) == 2
    assert value(telemetry, "route_response_total", rt_route="canary", classification="failure") == 1
    assert value(telemetry, "request_total", direction="inbound", authority="") == 2
    assert value(telemetry, "inbound_http_requests_total", route_name="app-route") == 1
    port = telemetry.scope(IN, "app.grpc", "app.grpc", "127.0.0.1")
    telemetry.record(over(request(), scope=port, direction=IN, status=200, endpoint="10.0.0.1:80"))
    assert value(telemetry, "inbound_http_requests_total", parent_name="app.grpc") == 1
    assert value(telemetry, "inbound_http_requests_total", parent_name="app") == 2
    assert value(telemetry, "inbound_http_authz_allow_total") == 3
    assert value(telemetry, "inbound_http_route_not_found_total") == 1
    assert value(telemetry, "tcp_open_total", direction="inbound", peer="src") == 2
    assert value(telemetry, "tcp_open_connections", direction="inbound", peer="src") == 1
    assert value(telemetry, "tcp_open_total", peer="dst", dst_service="recommendations") == 7
    assert value(telemetry, "tcp_read_bytes_total", direction="outbound") == 35
    assert value(telemetry, "tcp_connection_duration_ms_bucket", le="3.0", direction="inbound") == 1
    assert value(telemetry, "tcp_connection_duration_ms_bucket", le="2.0", direction="inbound") == 0
    assert value(telemetry, "outbound_http_route_backend_requests_total", backend_name="recommendations") == 5
    statuses = "outbound_http_route_backend_response_statuses_total"
    assert value(telemetry, statuses, http_status="504", error="response_timeout") == 1
    assert value(telemetry, "outbound_http_route_request_duration_seconds_count", route_name="canary") == 5


def test_they_agree_with_our_own() -> None:
    """Each family's count of exchanges is ours."""
    telemetry = busy(*ALL)
    for direction, prefix, reporter in (("inbound", "ingress", "destination"), ("outbound", "egress", "source")):
        ours = value(telemetry, "sidecar_requests_total", direction=direction)
        assert ours > 0
        assert value(telemetry, "envoy_http_downstream_rq_xx", envoy_http_conn_manager_prefix=prefix) == ours
        assert value(telemetry, "request_total", direction=direction) == ours
        istio = value(telemetry, "istio_requests_total", reporter=reporter)
        assert istio + value(telemetry, "istio_tcp_connections_closed_total", reporter=reporter) == ours


def test_a_reload_turns_them_on_and_off() -> None:
    """For scopes that were there before, too."""
    telemetry = told()
    telemetry.record(over(request()))
    telemetry.reconfigure(TelemetrySettings("storefront", access_log_path=None, compat=("linkerd",)))
    telemetry.record(over(request()))
    assert value(telemetry, "request_total") == 1
    telemetry.reconfigure(TelemetrySettings("storefront", access_log_path=None))
    telemetry.record(over(request()))
    assert value(telemetry, "request_total") == 0
    assert value(telemetry, "sidecar_requests_total") == 3


def test_their_series_go_with_the_routes(monkeypatch: pytest.MonkeyPatch) -> None:
    """And those that another route shares stay, and never go back."""
    now = [1_000_000_000]
    monkeypatch.setattr(clock, "monotonic_ns", lambda: now[0])
    telemetry = told(*ALL)
    for route in ("stays", "goes"):
        scope = telemetry.scope(OUT, route, "shared", "h")
        telemetry.record(over(request(), scope=scope, direction=OUT, endpoint="1.1.1.1:1"))
    telemetry.config_applied("1", is_reload=False)
    telemetry.scope(OUT, "stays", "shared", "h")
    telemetry.config_applied("2", is_reload=True)
    now[0] += GRACE_NS
    assert value(telemetry, "route_request_total") == 1
    assert value(telemetry, "envoy_cluster_upstream_rq_xx", envoy_cluster_name="shared") == 2
    assert b"goes" not in telemetry.exposition()


def test_calls_of_grpc_are_counted_by_their_status() -> None:
    """By what each mesh calls it: a number, success or failure; 200 alone says nothing."""
    telemetry = told(*ALL)
    call_by_grpc(telemetry, 0, 5, 14)
    for name, number in (("total", 3), ("success", 1), ("failure", 2)):
        assert value(telemetry, f"envoy_cluster_grpc_{name}", envoy_cluster_name="quotes") == number
    assert value(telemetry, "envoy_appmesh_GrpcRequestCount") == 3
    labels = {"request_protocol": "grpc", "response_code": "200"}
    for status in ("0", "5", "14"):
        for reporter in ("source", "destination"):
            found = value(telemetry, "istio_requests_total", grpc_response_status=status, reporter=reporter, **labels)
            assert found == 1
    for status, classification in (("0", "success"), ("5", "success"), ("14", "failure")):
        labels = {"grpc_status": status, "classification": classification, "direction": "outbound"}
        assert value(telemetry, "response_total", **labels) == 1
        assert value(telemetry, "route_response_total", **labels) == 1
