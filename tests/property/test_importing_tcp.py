"""Connections go where App Mesh sends them: a plain reading of its resources against what callers' sidecars get."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecar.mesh.compile.service import Compiled, compile_service
from sidecar.mesh.read import read_mesh
from tests.support.importing import check_account, import_app_mesh
from tests.support.thoroughness import examples

Plain = dict[str, Any]
Shares = dict[tuple[str, int], int]

PORTS = [5432, 6379]
CALLED = [*PORTS, 7000]


def listeners(ports: list[int]) -> list[Plain]:
    return [{"portMapping": {"port": port, "protocol": "tcp"}} for port in ports]


@st.composite
def databases(draw: st.DrawFn) -> Plain:
    """Nodes of TCP, a router with routes to them, and hosts that lead to the router or to one node."""
    names = draw(st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=3, unique=True))
    ports = st.lists(st.sampled_from(PORTS), min_size=1, max_size=2, unique=True)
    targets = st.lists(
        st.fixed_dictionaries(
            {"virtualNode": st.sampled_from(names), "weight": st.integers(0, 3)},
            optional={"port": st.sampled_from(PORTS)},
        ),
        min_size=1,
        max_size=2,
    )
    routes = st.fixed_dictionaries(
        {"targets": targets, "priority": st.integers(0, 2)}, optional={"port": st.sampled_from(CALLED)}
    )
    return {
        "nodes": {name: {"ports": draw(ports), "dns": draw(st.booleans())} for name in names},
        "listeners": draw(st.lists(st.sampled_from(CALLED), max_size=2, unique=True)),
        "routes": draw(st.lists(routes, min_size=1, max_size=3)),
        "direct": draw(st.sampled_from([None, *names])),
    }


def resources_of(found: Plain) -> str:
    made: list[Plain] = []

    def put(word: str, name: str, spec: Plain, **more: str) -> None:
        made.append({word: {"meshName": "m", f"{word}Name": name, "spec": spec, **more}})

    for name, node in found["nodes"].items():
        where = {"dns": {"hostname": f"{name}.local"}} if node["dns"] else {"awsCloudMap": {"serviceName": name}}
        put("virtualNode", name, {"listeners": listeners(node["ports"]), "serviceDiscovery": where})
    put("virtualRouter", "r", {"listeners": listeners(found["listeners"])})
    for index, route in enumerate(found["routes"]):
        block: Plain = {"action": {"weightedTargets": route["targets"]}}
        if "port" in route:
            block["match"] = {"port": route["port"]}
        put("route", f"r{index}", {"priority": route["priority"], "tcpRoute": block}, virtualRouterName="r")
    put("virtualService", "split.shop", {"provider": {"virtualRouter": {"virtualRouterName": "r"}}})
    if found["direct"] is not None:
        put("virtualService", "direct.shop", {"provider": {"virtualNode": {"virtualNodeName": found["direct"]}}})
    return json.dumps(made)


def in_app_mesh(found: Plain, host: str, port: int) -> Shares:
    """Shares of nodes and their ports that App Mesh gives a connection to this host and port; empty: it takes none."""
    nodes = found["nodes"]
    if host == "direct.shop":
        name = found["direct"]
        return {(name, port): 1} if name is not None and port in nodes[name]["ports"] else {}
    order = sorted(range(len(found["routes"])), key=lambda index: (found["routes"][index]["priority"], index))
    for index in order:
        route = found["routes"][index]
        shares: Shares = {}
        own = [(one, one.get("port", nodes[one["virtualNode"]]["ports"][0])) for one in route["targets"]]
        if any(number not in nodes[one["virtualNode"]]["ports"] for one, number in own):
            continue
        for one, number in own:
            key = (one["virtualNode"], number)
            shares[key] = shares.get(key, 0) + one["weight"]
        called = route.get("port", found["listeners"][0] if len(found["listeners"]) == 1 else own[0][1])
        if called == port and sum(shares.values()):
            return {key: weight for key, weight in shares.items() if weight}
    return {}


def here(found: Plain, compiled: Compiled, ports: dict[str, list[int]], host: str, port: int) -> Shares:
    """The same of the first route that takes the connection in the file of a caller."""
    asked = f"{host}:{port}"
    for route in yaml.safe_load(compiled.text)["outbound"].get("routes", []):
        matches = route["match"] if isinstance(route["match"], list) else [route["match"]]
        hosts = [one["host"] if isinstance(one["host"], list) else [one["host"]] for one in matches]
        if not any(asked in some for some in hosts):
            continue
        to = route["to"] if isinstance(route["to"], dict) else {route["to"]: 1}
        shares: Shares = {}
        for upstream, weight in to.items():
            if weight:
                key = place_of(found, compiled, ports, upstream)
                shares[key] = shares.get(key, 0) + weight
        return shares
    return {}


def only_node(found: Plain, service: str) -> str:
    """The one node of a service that has no instances to tell apart."""
    if service == "direct":
        return str(found["direct"])
    nodes = found["nodes"]
    names = {
        one["virtualNode"]
        for route in found["routes"]
        if sum(one["weight"] for one in route["targets"])
        and all(one.get("port", 0) in (0, *nodes[one["virtualNode"]]["ports"]) for one in route["targets"])
        for one in route["targets"]
    }
    (name,) = names
    return str(name)


def place_of(found: Plain, compiled: Compiled, ports: dict[str, list[int]], upstream: str) -> tuple[str, int]:
    """The node and the port to which an upstream leads."""
    origin = compiled.discovers[upstream]
    if origin.kind == "dns":
        name, _, number = str(origin.values["address"]).partition(".local:")
        return name, int(number)
    assert origin.kind == "registered"
    nodes = found["nodes"]
    name = str(origin.values.get("version") or only_node(found, origin.service))
    of_service = ports[origin.service]
    if origin.port == "tcp":
        # The first port is each sidecar's own: where its app listens is said in its own file, as the report tells.
        own = nodes[name]["ports"]
        return name, of_service[0] if of_service[0] in own else own[0]
    number = int(origin.port.removeprefix("p"))
    assert number in of_service
    return name, number


@pytest.mark.long
@settings(max_examples=examples(400), deadline=None, suppress_health_check=list(HealthCheck))
@given(databases())
def test_connections_go_where_app_mesh_sends_them(found: Plain) -> None:
    """For any host and port the shares are App Mesh's, or the report tells that they could not be had."""
    done = import_app_mesh(resources_of(found))
    check_account(done.documents, done.entries)
    if not done.files:
        return
    assert done.problems() == []
    lost = [entry.how for entry in done.lost]
    files = {name: text.encode() for name, text in done.files.items()} | {
        "services/z.yaml": b"service: z\napp: 'h:1'\n"
    }
    mesh = read_mesh(files)
    compiled = compile_service(mesh, "z")
    ports = {
        name: [int(one.app.rpartition(":")[2]) for one in placed.service.listens.values()]
        for name, placed in mesh.placed.items()
    }
    for host in ("split.shop", "direct.shop"):
        for port in CALLED:
            expected = in_app_mesh(found, host, port)
            if expected and not any(f"connections to {host}:{port} " in how for how in lost):
                assert ratio(here(found, compiled, ports, host, port)) == ratio(expected), (host, port, done.files)


def ratio(shares: Shares) -> dict[tuple[str, int], float]:
    whole = sum(shares.values())
    return {key: weight / whole for key, weight in shares.items()}
