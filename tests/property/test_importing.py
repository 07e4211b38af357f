"""Imports of whatever there may be: every leaf is accounted for once, and what is written is a good mesh."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.importing import check_account, import_app_mesh
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
    {"portMapping": st.fixed_dictionaries({"port": ports, "protocol": st.sampled_from(["http", "http", "tcp", "grpc"])})},
    optional={
        "timeout": some(http=some(perRequest=durations, idle=durations)),
        "connectionPool": some(http=some(maxConnections=st.integers(0, 9), maxPendingRequests=st.integers(0, 2**31))),
        "outlierDetection": some(maxServerErrors=st.integers(0, 5), interval=durations, maxEjectionPercent=st.integers(0, 100)),
        "healthCheck": some(protocol=st.sampled_from(["http", "tcp"]), path=st.sampled_from(["/p", "p"]), port=ports, healthyThreshold=st.integers(2, 10)),
        "tls": some(mode=st.sampled_from(["STRICT", "PERMISSIVE", "DISABLED", "odd"]), certificate=junk),
    },
)  # fmt: skip
node_specs = some(
    listeners=st.lists(mostly(listeners), max_size=2),
    serviceDiscovery=st.one_of(
        st.fixed_dictionaries({"dns": st.fixed_dictionaries({"hostname": st.sampled_from(["n.local", "N.local.", "a b"])})}),
        st.fixed_dictionaries({"awsCloudMap": st.fixed_dictionaries({"serviceName": st.just("s")})}),
    ),
    backends=st.lists(st.fixed_dictionaries({"virtualService": st.fixed_dictionaries({"virtualServiceName": SERVICES})}), max_size=2),
    logging=junk,
)  # fmt: skip
provided = st.one_of(
    st.fixed_dictionaries({"virtualNode": st.fixed_dictionaries({"virtualNodeName": st.sampled_from(NODES)})}),
    st.fixed_dictionaries({"virtualRouter": st.fixed_dictionaries({"virtualRouterName": st.sampled_from(["r", "s"])})}),
)
gateway_routes = st.fixed_dictionaries(
    {
        "match": mostly(some(prefix=st.sampled_from(["/", "/a", "/b/"]), path=some(exact=st.just("/x")), hostname=some(exact=st.just("h"), suffix=st.just(".h")))),
        "action": st.fixed_dictionaries(
            {"target": st.fixed_dictionaries({"virtualService": st.fixed_dictionaries({"virtualServiceName": SERVICES})})},
            optional={"rewrite": some(prefix=some(defaultPrefix=st.sampled_from(["ENABLED", "DISABLED"]), value=st.sampled_from(["/", "/z"])), path=some(exact=st.just("/y")), hostname=some(defaultTargetHostname=st.just("DISABLED")))},
        ),
    }
)  # fmt: skip


def resource(word: str, name: st.SearchStrategy[str], spec: st.SearchStrategy[Any], **more: Any) -> Any:
    fields = {"meshName": st.just("m"), f"{word}Name": name, "spec": mostly(spec), **more}
    return st.fixed_dictionaries({word: st.fixed_dictionaries(fields, optional={"unheardOf": junk})})


resources = st.one_of(
    resource("virtualNode", st.sampled_from(NODES[:4]), node_specs),
    resource("virtualNode", st.sampled_from(NODES[:4]), node_specs),
    resource("virtualRouter", st.sampled_from(["r", "s"]), some(listeners=junk)),
    resource(
        "route", st.sampled_from(["x", "y", "bad name"]),
        st.one_of(some(httpRoute=http_routes, priority=st.integers(0, 3)), some(grpcRoute=http_routes)),
        virtualRouterName=st.sampled_from(["r", "s"]),
    ),
    resource("virtualService", SERVICES, some(provider=provided)),
    resource("virtualService", SERVICES, some(provider=provided)),
    resource("virtualGateway", st.just("gw"), some(listeners=st.lists(listeners, max_size=2), logging=junk)),
    resource("gatewayRoute", st.sampled_from(["g1", "g2"]), some(httpRoute=gateway_routes), virtualGatewayName=st.just("gw")),
    resource("mesh", st.just("m"), some(egressFilter=some(type=st.sampled_from(["DROP_ALL", "ALLOW_ALL", "odd"])))),
)  # fmt: skip


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
