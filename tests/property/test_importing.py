"""Imports of whatever there may be: every leaf is accounted for once, and what is written is a good mesh."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecar.compile.dry_run import dry_plan
from sidecar.config.load import load_source
from sidecar.config.source import make_source
from sidecar.exchange import Direction
from sidecar.http1.grammar import field_of
from sidecar.loader.serialize import write_frames
from sidecar.mesh.compile.service import compile_service
from sidecar.mesh.read import read_mesh
from sidecar.message import RequestHead
from tests.support.importing import check_account, import_app_mesh, import_gateway_api
from tests.support.thoroughness import examples

NODES = ["a", "b", "c-v1", "Odd_Name", "gone"]
HOSTS = ["a.local", "b.local", "c", "c.other.local", "a b"]
SERVICES = st.sampled_from(HOSTS)

junk = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 70000), st.sampled_from(["", "x", "${A}", "/p"])),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.sampled_from(["a", "spec"]), inner)),
    max_leaves=4,
)
durations = st.fixed_dictionaries({"value": st.integers(0, 100), "unit": st.sampled_from(["s", "ms", "ms", "m"])})
ports = st.integers(-1, 66000) | st.sampled_from([80, 8080, 8080, 9090])


def some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """A mapping with some of these fields, seldom one that nobody knows, and seldom one of a wrong type."""
    return st.fixed_dictionaries({}, optional={**fields, "unheardOf": junk})


def mostly(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(strategy, strategy, strategy, strategy, junk)


headers = st.lists(
    st.fixed_dictionaries(
        {"name": st.sampled_from(["X-A", "x-a", "x-b", "bad name"])},
        optional={
            "invert": st.booleans(),
            "match": mostly(
                st.one_of(
                    st.fixed_dictionaries({"exact": st.sampled_from(["1", ""])}),
                    st.fixed_dictionaries({"regex": st.sampled_from(["a.*", "(", "(?=x)"])}),
                    st.fixed_dictionaries(
                        {"range": st.fixed_dictionaries({"start": st.integers(0, 3), "end": st.integers(0, 3)})}
                    ),
                )
            ),
        },
    ),
    max_size=2,
)
matches = some(
    prefix=st.sampled_from(["/", "/a", "/a/", "a"]),
    path=some(exact=st.just("/x"), regex=st.just("/[a-z]+")),
    method=st.sampled_from(["GET", "POST", "get"]),
    scheme=st.sampled_from(["http", "https"]),
    port=ports,
    headers=headers,
)
targets = st.lists(
    mostly(
        st.fixed_dictionaries(
            {"virtualNode": st.sampled_from(NODES), "weight": st.integers(0, 3)}, optional={"port": ports}
        )
    ),
    min_size=1,
    max_size=3,
)
http_routes = st.fixed_dictionaries(
    {"match": mostly(matches), "action": mostly(st.fixed_dictionaries({"weightedTargets": targets}))},
    optional={
        "timeout": some(perRequest=durations, idle=durations),
        "retryPolicy": some(
            maxRetries=st.integers(0, 20),
            perRetryTimeout=durations,
            httpRetryEvents=st.lists(st.sampled_from(["server-error", "gateway-error", "stream-error", "odd"])),
        ),
    },
)
listeners = st.fixed_dictionaries(
    {
        "portMapping": st.fixed_dictionaries(
            {"port": ports, "protocol": st.sampled_from(["http", "http", "tcp", "grpc"])}
        )
    },
    optional={
        "timeout": some(http=some(perRequest=durations, idle=durations)),
        "connectionPool": some(http=some(maxConnections=st.integers(0, 9), maxPendingRequests=st.integers(0, 2**31))),
        "outlierDetection": some(
            maxServerErrors=st.integers(0, 5), interval=durations, maxEjectionPercent=st.integers(0, 100)
        ),
        "healthCheck": some(
            protocol=st.sampled_from(["http", "tcp"]),
            path=st.sampled_from(["/p", "p"]),
            port=ports,
            healthyThreshold=st.integers(2, 10),
        ),
        "tls": some(mode=st.sampled_from(["STRICT", "PERMISSIVE", "DISABLED", "odd"]), certificate=junk),
    },
)
node_specs = some(
    listeners=st.lists(mostly(listeners), max_size=2),
    serviceDiscovery=st.one_of(
        st.fixed_dictionaries(
            {"dns": st.fixed_dictionaries({"hostname": st.sampled_from(["n.local", "N.local.", "a b"])})}
        ),
        st.fixed_dictionaries({"awsCloudMap": st.fixed_dictionaries({"serviceName": st.just("s")})}),
    ),
    backends=st.lists(
        st.fixed_dictionaries({"virtualService": st.fixed_dictionaries({"virtualServiceName": SERVICES})}), max_size=2
    ),
    logging=junk,
)
provided = st.one_of(
    st.fixed_dictionaries({"virtualNode": st.fixed_dictionaries({"virtualNodeName": st.sampled_from(NODES)})}),
    st.fixed_dictionaries({"virtualRouter": st.fixed_dictionaries({"virtualRouterName": st.sampled_from(["r", "s"])})}),
)
gateway_routes = st.fixed_dictionaries(
    {
        "match": mostly(
            some(
                prefix=st.sampled_from(["/", "/a", "/b/"]),
                path=some(exact=st.just("/x")),
                hostname=some(exact=st.just("h"), suffix=st.just(".h")),
            )
        ),
        "action": st.fixed_dictionaries(
            {
                "target": st.fixed_dictionaries(
                    {"virtualService": st.fixed_dictionaries({"virtualServiceName": SERVICES})}
                )
            },
            optional={
                "rewrite": some(
                    prefix=some(
                        defaultPrefix=st.sampled_from(["ENABLED", "DISABLED"]), value=st.sampled_from(["/", "/z"])
                    ),
                    path=some(exact=st.just("/y")),
                    hostname=some(defaultTargetHostname=st.just("DISABLED")),
                )
            },
        ),
    }
)


def resource(word: str, name: st.SearchStrategy[str], spec: st.SearchStrategy[Any], **more: Any) -> Any:
    fields = {"meshName": st.just("m"), f"{word}Name": name, "spec": mostly(spec), **more}
    return st.fixed_dictionaries({word: st.fixed_dictionaries(fields, optional={"unheardOf": junk})})


resources = st.one_of(
    resource("virtualNode", st.sampled_from(NODES[:4]), node_specs),
    resource("virtualNode", st.sampled_from(NODES[:4]), node_specs),
    resource("virtualRouter", st.sampled_from(["r", "s"]), some(listeners=junk)),
    resource(
        "route",
        st.sampled_from(["x", "y", "bad name"]),
        st.one_of(some(httpRoute=http_routes, priority=st.integers(0, 3)), some(grpcRoute=http_routes)),
        virtualRouterName=st.sampled_from(["r", "s"]),
    ),
    resource("virtualService", SERVICES, some(provider=provided)),
    resource("virtualService", SERVICES, some(provider=provided)),
    resource("virtualGateway", st.just("gw"), some(listeners=st.lists(listeners, max_size=2), logging=junk)),
    resource(
        "gatewayRoute", st.sampled_from(["g1", "g2"]), some(httpRoute=gateway_routes), virtualGatewayName=st.just("gw")
    ),
    resource("mesh", st.just("m"), some(egressFilter=some(type=st.sampled_from(["DROP_ALL", "ALLOW_ALL", "odd"])))),
)


@settings(
    max_examples=examples(400), deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(st.lists(resources, min_size=1, max_size=9))
def test_any_app_mesh_is_accounted_for_and_comes_out_good(found: list[dict[str, Any]]) -> None:
    """Whatever the resources say, each leaf is in the report once, and what is written has no problem."""
    done = import_app_mesh(json.dumps(found))
    check_account(done.documents, done.entries)
    if done.files:
        assert done.problems() == []


segments = st.lists(st.sampled_from(["a", "b", "ab"]), max_size=3).map(lambda parts: "/" + "/".join(parts))
http_match = st.fixed_dictionaries(
    {},
    optional={
        "path": st.fixed_dictionaries({"value": segments}, optional={"type": st.sampled_from(["Exact", "PathPrefix"])}),
        "method": st.sampled_from(["GET", "PUT"]),
        "headers": st.lists(
            st.fixed_dictionaries({"name": st.sampled_from(["x-a", "x-b"]), "value": st.sampled_from(["1", "2"])}),
            max_size=2,
            unique_by=lambda one: one["name"],
        ),
        "queryParams": st.lists(
            st.fixed_dictionaries({"name": st.sampled_from(["p", "q"]), "value": st.sampled_from(["1", "2"])}),
            max_size=2,
            unique_by=lambda one: one["name"],
        ),
    },
)
route_lists = st.lists(
    st.fixed_dictionaries(
        {
            "created": st.sampled_from(["2020-01-01T00:00:00Z", "2021-01-01T00:00:00Z"]),
            "rules": st.lists(st.lists(http_match, max_size=3), min_size=1, max_size=3),
        }
    ),
    min_size=1,
    max_size=3,
)
asked = st.fixed_dictionaries(
    {
        "path": segments,
        "method": st.sampled_from(["GET", "PUT"]),
        "headers": st.dictionaries(st.sampled_from(["x-a", "x-b"]), st.sampled_from(["1", "2"])),
        "query": st.dictionaries(st.sampled_from(["p", "q"]), st.sampled_from(["1", "2"])),
    }
)


def objects_of(routes: list[dict[str, Any]]) -> list[str]:
    """A Service and the routes, whose rules have names."""
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}}
    found = [json.dumps(service)]
    for number, route in enumerate(routes):
        rules = [
            {
                "name": f"rule{index}",
                **({"matches": matches} if matches else {}),
                "filters": [{"type": "RequestRedirect", "requestRedirect": {"hostname": f"r{number}-{index}.example"}}],
            }
            for index, matches in enumerate(route["rules"])
        ]
        spec = {"parentRefs": [{"group": "", "kind": "Service", "name": "s"}], "rules": rules}
        metadata = {"name": f"r{number}", "creationTimestamp": route["created"]}
        kind = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": metadata, "spec": spec}
        found.append(json.dumps(kind))
    return found


def head_of(request: dict[str, Any]) -> RequestHead:
    query = "&".join(f"{key}={value}" for key, value in request["query"].items()).encode() or None
    head = RequestHead(request["method"].encode(), request["path"].encode(), query, 1)
    head.host, head.port = b"s", None
    for name, value in request["headers"].items():
        head.fields.append(field_of(f"{name}: {value}".encode()))
        head.kinds |= head.fields[-1].kind
    return head


def naive_choice(routes: list[dict[str, Any]], request: dict[str, Any]) -> str | None:
    """The name of the rule that the specification chooses: every match is tried, and all criteria are compared."""
    best: tuple[Any, ...] | None = None
    chosen = None
    for number, route in enumerate(routes):
        for index, matches in enumerate(route["rules"]):
            for place, match in enumerate(matches or [{}]):
                path = match.get("path", {"value": "/"})
                is_exact = path.get("type") == "Exact"
                wanted, came = path["value"], request["path"]
                if is_exact and came != wanted:
                    continue
                bare = wanted.rstrip("/")
                if not is_exact and not (came == bare or came.startswith(f"{bare}/")):
                    continue
                if match.get("method", request["method"]) != request["method"]:
                    continue
                headers, query = match.get("headers", []), match.get("queryParams", [])
                if any(request["headers"].get(one["name"]) != one["value"] for one in headers):
                    continue
                if any(request["query"].get(one["name"]) != one["value"] for one in query):
                    continue
                rank = (
                    not is_exact,
                    -len(wanted),
                    "method" not in match,
                    -len(headers),
                    -len(query),
                    route["created"],
                    f"default/r{number}",
                    index,
                    place,
                )
                if best is None or rank < best:
                    best, chosen = rank, f"r{number}.rule{index}"
    return chosen


@settings(max_examples=examples(300), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(route_lists, st.lists(asked, min_size=1, max_size=8))
def test_order_of_routes_chooses_what_the_specification_does(
    routes: list[dict[str, Any]], requests: list[dict[str, Any]]
) -> None:
    """For any routes and any request, the first that matches in our order is the rule of the highest precedence."""
    done = import_gateway_api(*objects_of(routes))
    check_account(done.documents, done.entries)
    caller = b"service: caller\napp: 127.0.0.1:1\n"
    files = {name: text.encode() for name, text in done.files.items()} | {"services/caller.yaml": caller}
    compiled = compile_service(read_mesh(files), "caller")
    loaded = load_source(make_source("caller", compiled.text.encode()), {})
    table = dry_plan(loaded, write_frames(loaded)).sides[Direction.OUTBOUND].table
    for request in requests:
        found = table.find(head_of(request), "192.0.2.1")
        assert found is not None
        # `s.r0.rule1`, and with a number where a rule's matches do not follow each other; `s.no-route`.
        name = found.name.removeprefix("s.").partition("-")[0]
        assert name == (naive_choice(routes, request) or "no")
