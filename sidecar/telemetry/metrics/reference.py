"""`docs/metrics.md`, made from the catalogue. *Cold, pure.*"""

from __future__ import annotations

from collections.abc import Iterator

from sidecar.telemetry.metrics import catalogue, compat_catalogue
from sidecar.telemetry.metrics.catalogue import METRICS, Metric


def reference() -> str:
    """The page."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield from (
        "# Metrics",
        "",
        "Made from `sidecar/telemetry/metrics/catalogue.py` by `python -m sidecar.telemetry.metrics.reference`; a test"
        " keeps it true.",
        "Scrape `http://<pod>:15020/metrics`, or `/stats/prometheus` on the same port. A scraper that asks for"
        " OpenMetrics gets it,",
        "with the trace of a recent request beside each bucket of a request duration (exemplars); one that accepts gzip"
        " gets that.",
        "",
    )
    yield from _table(METRICS)
    yield ""
    yield from _buckets()
    yield from (
        "",
        "## Labels",
        "",
        "No label takes a value from the wire without a closed set.",
        "",
        "| label | values |",
        "|---|---|",
        "| `http_request_method` | GET, HEAD, POST, PUT, DELETE, CONNECT, OPTIONS, TRACE, PATCH, or `_OTHER` |",
        "| `http_response_status_code`, `code` | 100 to 599, or `_OTHER`; a client that left before an answer counts"
        " as 499 |",
        "| `http_route` | template of the route's paths, such as `/orders/{id}`, if it has one; else as `route` |",
        "| `route` | name of the route, never a path; empty when none was reached |",
        "| `upstream` | name of the upstream; empty when none was chosen |",
        "| `server_address` | address or name of the upstream as configured, never what a request says |",
        "| `error_type` | name of the reason (see the table of reasons); else the status code of a response that is an"
        " error: 5xx, and from an upstream called by the app 4xx too, or the name of gRPC's; else empty |",
        "| `flag` | Envoy's response flag, or `-` |",
        "| `grpc_status` | name of the status of a call of [gRPC](grpc.md), such as `OK` or `UNAVAILABLE`;"
        " Linkerd's, and Istio's `grpc_response_status`, its number |",
        "| `counts_as` | `code`, or of a call that failed the status of HTTP that"
        " [stands for how](grpc.md#as-a-status-of-http): a failure is 500 or more |",
        "| `direction` | `inbound`, `outbound` |",
        "| `result` | `success`, `failure` |",
        "| `queue` | `spans`, `access_log` |",
        "| `reason` of `..._retries_total` | name of the reason, or the status code of the response that was not passed"
        " on; of gRPC `grpc_unavailable` and the like |",
        "| `reason` of `..._retries_skipped_total` | why no further attempt was made, for example `body_too_large`,"
        " `not_idempotent`, `budget`, `deadline`, `response_started`, `attempts_used` |",
        "| `reason` of `..._mirror_skipped_total` | `body_too_large`: longer than the mirror's `max_body`; `too_many`:"
        " so many copies are under way; `answered_early`, `client_left`: before the body was complete; `overloaded`:"
        " the circuit breaker's limits; `no_endpoint` |",
        "| `reason` of `..._resolve_failures_total` | `failed`: the name has no address; `timeout`: no name server"
        " answered in time; `refused`: as many names are being looked up as may be at once |",
        "| `reason` of `..._connections_closed_total` | `idle_timeout`, `max_age`, `stale`, `too_many_idle`,"
        " `made_room`, `endpoint_removed`, `endpoint_moved`, `endpoint_switched`,"
        " `upstream_removed`, `shutdown`: closed while idle by us;"
        " `peer_closed`: while idle by the upstream; `unasked_answer`: it sent something while idle; `not_reusable`:"
        " an answer ended it; `lost`: cut in use; `bad_response`; `aborted`: the exchange was given up; `finished`: a"
        " tunnel ended |",
        "| `reason` of `..._ejections_total` | `consecutive_5xx`, `consecutive_gateway_errors`,"
        " `consecutive_connect_failures`, `success_rate`, `latency` and the like |",
        "| `purpose` | `identity`: of the workload; `listener`, `upstream`: of one for outside, whose configured name"
        " is in `name` |",
        "| `which` | `leaf`: what is shown; `issuer`: who signed it, without the root; `root`: where its chain ends |",
        "| `limit` | `connections`, `pending`, `requests`, `retries` |",
        "",
        "A label that is empty is, to Prometheus, absent.",
        "",
        "## What comes and goes",
        "",
        "No counter goes back at a reload: routes and upstreams that stay keep their series, also when the file changed"
        " around them.",
        "The series of routes and upstreams that a reload took away go ten minutes later; if they come back before,"
        " they go on counting.",
        "A scrape is written in slices of a millisecond, between which requests go on; so the numbers of one scrape are"
        " read over some tens",
        "of milliseconds where there are thousands of routes.",
        "",
        "## Several workers",
        "",
        "With [`workers`](operations.md#workers) above 1 a scrape shows the sum of all workers' counters and"
        " histograms, those of workers that are gone included, so no",
        "counter goes back when one dies. Gauges add up, too, but for these, which are the same in each worker or would"
        " mean nothing added up:",
        "",
        "| rule | gauges |",
        "|---|---|",
        *(f"| {meaning} | {_names(rule)} |" for rule, meaning in _RULES.items()),
        "",
        "`process_cpu_seconds_total` and the `process_*_memory_bytes` are those of all processes together,"
        " `process_open_fds` the most and `process_max_fds` the least that one of them has,",
        "`process_start_time_seconds` and `python_*` the supervisor's. `target_info` has the supervisor's"
        " `service_instance_id`; the spans of each worker have one of its own.",
        "",
        "## Names of other meshes",
        "",
        "`telemetry.metrics.compat: [envoy, istio, linkerd, appmesh]` shows these beside our own, so that dashboards"
        " go on; off by default,",
        "for each family about doubles the series. `appmesh` shows Envoy's rows too, with the labels `appmesh_mesh` and"
        " `appmesh_virtual_node`, which come from",
        "`APPMESH_RESOURCE_ARN` or `APPMESH_VIRTUAL_NODE_NAME`, else from the service's namespace and name;"
        " clusters are named as the file names them. Istio's `source_*` of inbound",
        "requests is `unknown`: who calls is not known. Not shown: messages of gRPC, which are not counted"
        " (`istio_request_messages_total`, `istio_response_messages_total`), and what mutual TLS would have to tell",
        "(`identity_cert_expiration_timestamp_seconds`).",
        "",
    )
    for family, rows in compat_catalogue.ROWS.items():
        yield f"### `{family}`"
        yield ""
        yield from _table(rows)
        yield ""
    yield from ("Beside these come `process_*`, `python_gc_*` and `python_info` of prometheus-client.",)


_RULES = {"max": "the highest of all workers", "min": "the lowest of all workers", "own": "the supervisor's own"}


def _names(rule: str) -> str:
    rows = (*METRICS, *(row for family in compat_catalogue.ROWS.values() for row in family))
    return ", ".join(f"`{row.name}`" for row in rows if row.type == "gauge" and row.merge == rule)


def _table(rows: tuple[Metric, ...]) -> Iterator[str]:
    yield "| name | type | unit | labels | meaning |"
    yield "|---|---|---|---|---|"
    for row in rows:
        labels = ", ".join(f"`{label}`" for label in row.labels)
        yield f"| `{row.name}` | {row.type} | {row.unit} | {labels} | {row.help} |"


def _buckets() -> Iterator[str]:
    yield (
        "Buckets: "
        + "; ".join(
            f"{names} {', '.join(f'{bound:g}' for bound in bounds)}"
            for names, bounds in (
                ("`http_*_duration_seconds`, those of OpenTelemetry's conventions:", catalogue.DURATION_BUCKETS_S),
                ("`sidecar_overhead_seconds`:", catalogue.OVERHEAD_BUCKETS_S),
                ("`sidecar_upstream_connect_duration_seconds`:", catalogue.CONNECT_BUCKETS_S),
                ("`sidecar_config_load_duration_seconds`:", catalogue.LOAD_BUCKETS_S),
            )
        )
        + "."
    )


if __name__ == "__main__":
    import sys

    sys.stdout.write(reference())
