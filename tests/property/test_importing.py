"""Imports of whatever there may be: every leaf is accounted for once, and what is written is a good mesh."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecar.compile.dry_plan import dry_plan
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
HOSTS = ["a.local", "b.local", "c", "c.other.local"]
SERVICES = st.sampled_from(HOSTS)

junk = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 70000), st.sampled_from(["", "x", "${A}", "/p"])),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.sampled_from(["a", "spec"]), inner)),
    max_leaves=4,
)
durations = st.fixed_dictionaries({"value": st.integers(0, 100), "unit": st.sampled_from(["s", "s", "ms"])})
ports = st.sampled_from([8080, 8080, 8080, 9090, 9090, 0])


@st.composite
def some(draw: st.DrawFn, **fields: st.SearchStrategy[Any]) -> dict[str, Any]:
    """A mapping with most of these fields."""
    return {name: draw(strategy) for name, strategy in fields.items() if draw(st.integers(0, 9)) < 8}


def places_of(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all that is in a value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, one in inner for place in places_of(one, (*path, key)))]


@st.composite
def spoiled(draw: st.DrawFn, strategy: st.SearchStrategy[Any]) -> Any:
    """Something good in which up to three places are of a wrong type, or gone, or have a field that nobody knows."""
    found = json.loads(json.dumps(draw(strategy)))
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.sampled_from(places_of(found)))
        holder = found
        for step in place[:-1]:
            holder = holder[step]
        if not place:
            continue
        act = draw(st.sampled_from(["junk", "gone", "unknown"]))
        if act == "junk":
            holder[place[-1]] = draw(junk)
        elif act == "gone" or not isinstance(holder[place[-1]], dict):
            del holder[place[-1]]
        else:
            holder[place[-1]]["unheardOf"] = draw(junk)
    return found


def often(*good: Any, bad: Any) -> st.SearchStrategy[Any]:
    """One of the good ones, and seldom what is none."""
    return st.sampled_from([*good * (20 // len(good)), bad])


regexes = often("a.*", "[0-9]+", bad="(?=x)")
headers = st.lists(
    st.fixed_dictionaries(
        {"name": often("X-A", "x-b", "cookie", bad="bad name")},
        optional={
            "invert": st.booleans(),
            "match": st.one_of(
                st.fixed_dictionaries({"exact": st.just("1")}),
                st.fixed_dictionaries({"regex": regexes}),
                st.fixed_dictionaries(
                    {"range": st.fixed_dictionaries({"start": st.just(1), "end": st.integers(1, 3)})}
                ),
            ),
        },
    ),
    max_size=2,
)
matches = some(
    method=often("GET", "POST", bad="get"),
    scheme=often("http", bad="https"),
    headers=headers,
)
matches = st.builds(
    lambda path, port, rest: path | port | rest,
    st.one_of(
        st.fixed_dictionaries({"prefix": often("/", "/a", "/a/", "/a/b", bad="a")}),
        st.fixed_dictionaries({"path": st.fixed_dictionaries({"exact": st.just("/a/b")})}),
        st.fixed_dictionaries({"path": st.fixed_dictionaries({"regex": st.just("/[a-z]+")})}),
    ),
    st.sampled_from([{}, {}, {}, {"port": 8080}]),
    matches,
)
http_routes = st.fixed_dictionaries(
    {"match": matches},
    optional={
        "timeout": some(perRequest=durations, idle=durations),
        "retryPolicy": some(
            maxRetries=st.integers(0, 20),
            perRetryTimeout=durations,
            httpRetryEvents=st.lists(st.sampled_from(["server-error", "gateway-error", "stream-error", "odd"])),
        ),
    },
)
tcp_routes = some(match=some(port=ports), timeout=some(idle=durations))
LISTENER = {
    "timeout": some(http=some(perRequest=durations, idle=durations), tcp=some(idle=durations)),
    "connectionPool": some(
        http=some(maxConnections=st.integers(0, 9), maxPendingRequests=st.integers(0, 2**31)),
        tcp=some(maxConnections=st.integers(0, 9)),
    ),
    "outlierDetection": some(
        maxServerErrors=st.integers(0, 5), interval=durations, maxEjectionPercent=st.integers(0, 100)
    ),
    "healthCheck": some(
        timeoutMillis=st.just(2000),
        protocol=st.sampled_from(["http", "tcp"]),
        path=st.sampled_from(["/p", "p"]),
        port=ports,
        healthyThreshold=st.integers(2, 10),
    ),
    "tls": some(mode=st.sampled_from(["STRICT", "PERMISSIVE", "DISABLED"]), certificate=junk),
}


def listeners_of(*protocols: str) -> st.SearchStrategy[dict[str, Any]]:
    """Listeners that speak one of these."""
    mapping = st.fixed_dictionaries({"port": ports, "protocol": st.sampled_from(protocols)})
    return st.fixed_dictionaries({"portMapping": mapping}, optional=LISTENER)


def node_specs_of(*protocols: str) -> st.SearchStrategy[dict[str, Any]]:
    """Virtual nodes whose listeners speak one of these."""
    return some(listeners=st.lists(listeners_of(*protocols), min_size=1, max_size=2), **NODE)


NODE: dict[str, st.SearchStrategy[Any]] = {
    "serviceDiscovery": st.one_of(
        st.fixed_dictionaries({"dns": st.fixed_dictionaries({"hostname": st.sampled_from(["n.local", "N.local."])})}),
        st.fixed_dictionaries({"awsCloudMap": st.fixed_dictionaries({"serviceName": st.just("s")})}),
    ),
    "backends": st.lists(
        st.fixed_dictionaries({"virtualService": st.fixed_dictionaries({"virtualServiceName": SERVICES})}), max_size=2
    ),
    "logging": junk,
}
gateway_routes = st.fixed_dictionaries(
    {
        "match": some(
            prefix=st.sampled_from(["/", "/a", "/b/"]),
            path=some(exact=st.just("/x")),
            hostname=some(exact=st.just("h"), suffix=st.just(".h")),
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


@st.composite
def app_meshes(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Nodes, routers with their routes, services that they provide, and a gateway to these."""

    def resource(word: str, name: str, spec: Any, **more: str) -> dict[str, Any]:
        return {word: {"meshName": "m", f"{word}Name": name, **more, "spec": spec}}

    found = [resource("mesh", "m", draw(some(egressFilter=some(type=st.sampled_from(["DROP_ALL", "ALLOW_ALL"])))))]
    # Mostly one or the other: routes of one protocol lead to nodes of it.
    protocols = draw(st.sampled_from([("http", "http", "http", "grpc"), ("tcp",), ("http", "http", "tcp", "tcp")]))
    kinds = ["httpRoute", "httpRoute", "http2Route", "grpcRoute"] if protocols != ("tcp",) else []
    kinds += ["tcpRoute"] * 3 if "tcp" in protocols else []
    nodes = draw(st.lists(st.sampled_from(NODES[:4]), min_size=1, max_size=3, unique=True))
    found += [resource("virtualNode", name, draw(node_specs_of(*protocols))) for name in nodes]
    targets = st.lists(
        st.fixed_dictionaries(
            {"virtualNode": st.sampled_from([*nodes * 6, "gone"]), "weight": st.integers(0, 3)},
            optional={"port": ports},
        ),
        min_size=1,
        max_size=3,
    )
    mappings = some(portMapping=some(port=ports, protocol=st.sampled_from(protocols)))
    for router in ("r", "s"):
        found.append(resource("virtualRouter", router, draw(some(listeners=st.lists(mappings, max_size=2)))))
        for name in draw(st.lists(st.sampled_from(["x", "y", "odd name"]), min_size=1, unique=True)):
            kind = draw(st.sampled_from(kinds))
            block = draw(tcp_routes if kind == "tcpRoute" else http_routes)
            block |= {"action": {"weightedTargets": draw(targets)}}
            if kind == "grpcRoute":
                block["match"] = draw(some(serviceName=st.just("a.B"), metadata=headers))
            spec = {kind: block, **draw(some(priority=st.integers(0, 3)))}
            found.append(resource("route", name, spec, virtualRouterName=router))
    hosts = draw(st.lists(st.sampled_from(HOSTS), min_size=1, max_size=3, unique=True))
    provided = st.one_of(
        st.sampled_from(nodes).map(lambda name: {"virtualNode": {"virtualNodeName": name}}),
        st.sampled_from(["r", "s"]).map(lambda name: {"virtualRouter": {"virtualRouterName": name}}),
    )
    found += [resource("virtualService", host, {"provider": draw(provided)}) for host in hosts]
    gateway = some(listeners=st.lists(listeners_of("http", "http", "http", "tcp"), min_size=1, max_size=2))
    found.append(resource("virtualGateway", "gw", draw(gateway)))
    for name in ("g1", "g2"):
        block = draw(gateway_routes)
        target = {"virtualService": {"virtualServiceName": draw(st.sampled_from(hosts))}}
        block["action"]["target"] = target | draw(st.sampled_from([{}, {}, {"port": 8080}, {"port": 9090}]))
        found.append(resource("gatewayRoute", name, {"httpRoute": block}, virtualGatewayName="gw"))
    return found


@settings(max_examples=examples(300), deadline=None, suppress_health_check=list(HealthCheck))
@given(spoiled(app_meshes()))
def test_any_app_mesh_is_accounted_for_and_comes_out_good(found: Any) -> None:
    """Whatever the resources say, each leaf is in the report once, and what is written has no problem."""
    done = import_app_mesh(json.dumps(found))
    check_account(done.documents, done.entries)
    if done.files:
        assert done.problems() == []


segments = st.lists(st.sampled_from(["a", "a", "ab"]), max_size=2).map(lambda parts: "/" + "/".join(parts))
http_match = st.fixed_dictionaries(
    {},
    optional={
        "path": st.fixed_dictionaries({"value": segments}, optional={"type": st.sampled_from(["Exact", "PathPrefix"])}),
        "method": st.sampled_from(["GET", "PUT"]),
        "headers": st.lists(
            st.fixed_dictionaries(
                {"name": st.sampled_from(["x-a", "x-b"]), "value": st.sampled_from(["1", "1", "1", "2"])}
            ),
            max_size=2,
            unique_by=lambda one: one["name"],
        ),
        "queryParams": st.lists(
            st.fixed_dictionaries(
                {"name": st.sampled_from(["p", "q"]), "value": st.sampled_from(["1", "1", "1", "2"])}
            ),
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
        "headers": st.dictionaries(st.sampled_from(["x-a", "x-b"]), st.just("1")),
        "query": st.dictionaries(st.sampled_from(["p", "q"]), st.just("1")),
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


@settings(max_examples=examples(600), deadline=None, suppress_health_check=[HealthCheck.too_slow])
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


mesh_filters = st.lists(
    st.one_of(
        st.fixed_dictionaries(
            {"type": st.just("RequestHeaderModifier")},
            optional={
                "requestHeaderModifier": some(
                    set=st.lists(some(name=st.sampled_from(["x-a", "Host", "a b"]), value=st.just("1")), max_size=2),
                    remove=st.lists(st.sampled_from(["x-a", "x-b", "te"]), max_size=2),
                )
            },
        ),
        st.fixed_dictionaries(
            {"type": st.just("URLRewrite"), "urlRewrite": some(path=some(replacePrefixMatch=st.just("/n")))}
        ),
        st.fixed_dictionaries(
            {
                "type": st.just("RequestMirror"),
                "requestMirror": some(
                    backendRef=some(name=st.sampled_from(["s", "t", "u"])), percent=st.integers(0, 101)
                ),
            }
        ),
        st.fixed_dictionaries(
            {
                "type": st.just("RequestRedirect"),
                "requestRedirect": some(
                    hostname=st.just("h.example"), path=some(replacePrefixMatch=st.just("/n")), scheme=st.just("https")
                ),
            }
        ),
        st.fixed_dictionaries({"type": st.sampled_from(["CORS", "ExtensionRef"])}, optional={"cors": junk}),
    ),
    max_size=2,
)
mesh_rules = some(
    name=st.sampled_from(["n", "a b"]),
    matches=st.lists(http_match, max_size=2),
    filters=mesh_filters,
    backendRefs=st.lists(
        some(
            name=st.sampled_from(["s", "s", "t", "u"]),
            namespace=st.sampled_from(["default", "other"]),
            port=ports,
            weight=st.integers(0, 2),
            filters=mesh_filters,
        ),
        max_size=3,
    ),
    timeouts=some(request=st.sampled_from(["0s", "1s", "x"]), backendRequest=st.sampled_from(["500ms", "9s"])),
    retry=some(codes=st.lists(st.sampled_from([200, 500, 503]), max_size=2), attempts=st.integers(0, 20)),
    sessionPersistence=some(sessionName=st.just("sid"), type=st.sampled_from(["Cookie", "Header"])),
)
service_specs = st.one_of(
    some(
        ports=st.lists(
            some(
                port=st.sampled_from([80, 80, 9000]),
                name=st.sampled_from(["http", "grpc", "x"]),
                targetPort=st.sampled_from([8080, "web", 80, 9000]),
                appProtocol=st.sampled_from(["http", "http", "grpc", "redis"]),
            ),
            min_size=1,
            max_size=2,
        )
    ),
    some(externalName=st.sampled_from(["e.example", "a b"])),
)
route_objects = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["HTTPRoute", "HTTPRoute", "HTTPRoute", "GRPCRoute"]),
        "name": st.sampled_from(["r", "q"]),
        "spec": st.fixed_dictionaries(
            {
                "parentRefs": st.lists(
                    st.fixed_dictionaries(
                        {"kind": st.just("Service"), "name": st.sampled_from(["s", "t"])}, optional={"port": ports}
                    ),
                    min_size=1,
                    max_size=2,
                ),
                "rules": st.lists(mesh_rules, min_size=1, max_size=3),
            }
        ),
    }
)


@st.composite
def clusters(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Services of two namespaces, a grant, and routes of one of them."""
    found = [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": space},
            "spec": draw(service_specs),
        }
        for name, space in (("s", "default"), ("t", "default"), ("s", "other"))
    ]
    api = "gateway.networking.k8s.io/v1"
    source = {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": "default"}
    spec = {"from": [source], "to": [{"group": "", "kind": "Service"}]}
    if draw(st.booleans()):
        found.append(
            {"apiVersion": api, "kind": "ReferenceGrant", "metadata": {"name": "g", "namespace": "other"}, "spec": spec}
        )
    for one in draw(st.lists(route_objects, max_size=3, unique_by=lambda one: (one["kind"], one["name"]))):
        found.append({"apiVersion": api, "kind": one["kind"], "metadata": {"name": one["name"]}, "spec": one["spec"]})
    return found


@settings(max_examples=examples(300), deadline=None, suppress_health_check=list(HealthCheck))
@given(spoiled(clusters()))
def test_any_routes_are_accounted_for_and_come_out_good(found: list[Any]) -> None:
    """Whatever the objects say, each leaf is in the report once, and what is written has no problem."""
    done = import_gateway_api(*map(json.dumps, found))
    check_account(done.documents, done.entries)
    if done.files:
        assert done.problems() == []
