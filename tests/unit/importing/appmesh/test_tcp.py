"""What App Mesh says of TCP: ports, routes that share connections out, and what of it cannot be had here."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from sidecar.mesh.compile.service import compile_service
from sidecar.mesh.read import read_mesh
from tests.support.importing import SAMPLES, Import, check_account, import_app_mesh

Plain = dict[str, Any]


def node(name: str, *listeners: Plain, dns: bool = True) -> Plain:
    found = {"dns": {"hostname": f"{name}.local"}} if dns else {"awsCloudMap": {"serviceName": name}}
    return {
        "virtualNode": {
            "meshName": "m",
            "virtualNodeName": name,
            "spec": {"listeners": [*listeners], "serviceDiscovery": found},
        }
    }


def listener(port: int, protocol: str = "tcp", **more: Any) -> Plain:
    return {"portMapping": {"port": port, "protocol": protocol}, **more}


def router(name: str, *ports: int) -> Plain:
    return {
        "virtualRouter": {
            "meshName": "m",
            "virtualRouterName": name,
            "spec": {"listeners": [listener(one) for one in ports]},
        }
    }


def route(name: str, owner: str, kind: str, *targets: Plain, priority: int = 1, **match: Any) -> Plain:
    spec = {"priority": priority, kind: {"match": match, "action": {"weightedTargets": [*targets]}}}
    return {"route": {"meshName": "m", "routeName": name, "virtualRouterName": owner, "spec": spec}}


def to(name: str, weight: int = 1, **more: int) -> Plain:
    return {"virtualNode": name, "weight": weight, **more}


def service(host: str, **provider: str) -> Plain:
    (kind, name), *_ = provider.items()
    spec = {"provider": {kind: {f"{kind}Name": name}}}
    return {"virtualService": {"meshName": "m", "virtualServiceName": host, "spec": spec}}


def imported(*resources: Plain) -> Import:
    """What comes of them; with every leaf accounted for, and a mesh that is good."""
    done = import_app_mesh(json.dumps(resources))
    check_account(done.documents, done.entries)
    assert done.problems() == []
    return done


def caller_of(done: Import) -> Plain:
    """What the sidecars of a service get that calls all others."""
    files = {name: text.encode() for name, text in done.files.items()}
    mesh = read_mesh(files | {"services/caller.yaml": b"service: caller\napp: 127.0.0.1:1\n"})
    found: Plain = yaml.safe_load(compile_service(mesh, "caller").text)
    return found


def shares(done: Import, host: str) -> list[Any]:
    """Where connections to a host and port are led, by each route that takes them, in their order."""
    compiled = caller_of(done)
    found = []
    for one in compiled["outbound"]["routes"]:
        matches = one["match"] if isinstance(one["match"], list) else [one["match"]]
        asked = [match["host"] if isinstance(match["host"], list) else [match["host"]] for match in matches]
        if any(host in hosts for hosts in asked):
            found.append(one.get("to", one.get("respond")))
    return found


def test_a_node_of_tcp_is_a_service_of_tcp() -> None:
    """The port is called `tcp` and speaks it; callers are led to what DNS answers, at its port."""
    done = imported(node("db", listener(5432)), service("db.shop.local", virtualNode="db"))
    assert 'ports: {tcp: {app: "127.0.0.1:5432", protocol: tcp}}' in done.files["services/db.yaml"]
    assert done.lost == []
    compiled = caller_of(done)
    assert shares(done, "db.shop.local:5432") == ["db.of-db"]
    assert compiled["upstreams"]["db.of-db"]["protocol"] == "tcp"


def test_weights_of_a_tcp_route_share_connections_out() -> None:
    """Targets become instances with their weights, and no request is ever answered for a connection."""
    done = imported(
        node("old", listener(5432)), node("new", listener(5432)), router("r", 5432),
        route("all", "r", "tcpRoute", to("old", 90), to("new", 10)), service("db.shop.local", virtualRouter="r"),
    )  # fmt: skip
    text = done.files["services/db.yaml"]
    assert "{name: all, to: {old: 90, new: 10}}" in text
    assert "respond" not in text
    assert shares(done, "db.shop.local:5432") == [{"db.old": 90, "db.new": 10}]


def test_router_that_listens_at_another_port_than_its_nodes() -> None:
    """Apps call the router's port, so that is the port of the host; servers are found at the port of their own."""
    done = imported(
        node("db", listener(5432)), router("r", 15432), route("all", "r", "tcpRoute", to("db"), port=15432),
        service("db.shop.local", virtualRouter="r"),
    )  # fmt: skip
    text = done.files["services/db.yaml"]
    assert 'hosts: ["db.shop.local:15432"]' in text
    assert 'dns: "db.local:5432"' in text
    assert shares(done, "db.shop.local:15432") == ["db.of-db"]


def test_each_port_of_a_router_has_its_own_route_though_the_app_has_one_port() -> None:
    """Two hosts that differ by their port alone mean one port of the app, so their routes must ask for them."""
    done = imported(
        node("old", listener(5432)), node("new", listener(5432)), router("r", 5432, 15432),
        route("here", "r", "tcpRoute", to("old"), port=5432), route("there", "r", "tcpRoute", to("new"), port=15432),
        service("db.shop.local", virtualRouter="r"),
    )  # fmt: skip
    assert shares(done, "db.shop.local:5432")[0] == "db.old"
    assert shares(done, "db.shop.local:15432")[0] == "db.new"


def test_nodes_whose_listeners_stand_in_another_order_are_found_at_the_right_port() -> None:
    """The first port of a service is that of its first node; another node that has it is found there, too."""
    done = imported(
        node("a", listener(6379)), node("b", listener(5432), listener(6379)), router("r", 6379),
        route("all", "r", "tcpRoute", to("a"), to("b", port=6379)), service("cache.shop.local", virtualRouter="r"),
    )  # fmt: skip
    text = done.files["services/cache.yaml"]
    assert 'dns: "a.local:6379"' in text
    assert 'dns: "b.local:6379"' in text
    assert not any("first port is" in entry.how for entry in done.entries)


def test_ports_of_both_kinds_are_each_routed_by_their_own_routes() -> None:
    """A port of HTTP comes first, whatever the order of listeners; connections take no route of requests."""
    done = imported(
        node("q", listener(5672), listener(15672, "http"), dns=False), router("r", 5672, 15672),
        route("console", "r", "httpRoute", to("q", port=15672), prefix="/"),
        route("messages", "r", "tcpRoute", to("q", port=5672), port=5672), service("q.shop.local", virtualRouter="r"),
    )  # fmt: skip
    assert (
        'ports: {http: "127.0.0.1:15672", p5672: {app: "127.0.0.1:5672", protocol: tcp}}'
        in done.files["services/q.yaml"]
    )
    assert shares(done, "q.shop.local:5672")[0] == "q.port-p5672"
    assert shares(done, "q.shop.local")[0] == "q"
    assert {entry.how for entry in done.entries if entry.path.endswith(".priority")} == {"the order of routes"}


def test_virtual_services_that_share_a_database_ask_for_their_hosts() -> None:
    """Each has routes of its own, for its host and the port at which connections come."""
    done = imported(
        node("main", listener(5432)), node("replica", listener(5432)), router("r", 5432),
        route("spread", "r", "tcpRoute", to("main"), to("replica", 3)), service("read.shop.local", virtualRouter="r"),
        service("write.shop.local", virtualNode="main"),
    )  # fmt: skip
    assert shares(done, "read.shop.local:5432")[0] == {"read.main": 1, "read.replica": 3}
    assert shares(done, "write.shop.local:5432")[0] == "read.main"


def test_second_route_for_a_port_is_left_out_and_told() -> None:
    """A connection asks nothing, so the first route of a port takes all of them."""
    done = imported(
        node("a", listener(5432)), node("b", listener(5432)), router("r", 5432),
        route("first", "r", "tcpRoute", to("a")), route("second", "r", "tcpRoute", to("b"), priority=2),
        service("db.shop.local", virtualRouter="r"),
    )  # fmt: skip
    assert "second" not in done.files["services/db.yaml"]
    told = "left out: another route takes every connection to db.shop.local:5432 before it"
    assert told in [entry.how for entry in done.entries]


def test_route_without_any_weight_is_told_as_lost() -> None:
    """App Mesh takes no connection by it; here there is no weight of 0 alone."""
    done = imported(
        node("db", listener(5432)), router("r", 5432), route("none", "r", "tcpRoute", to("db", 0)),
        service("db.shop.local", virtualRouter="r"),
    )  # fmt: skip
    assert "all weights are 0, so that no connection is taken" in [entry.how for entry in done.lost]
    assert "hosts" not in done.files["services/db.yaml"]


@pytest.mark.parametrize(
    ("kind", "protocol", "said"),
    [
        ("tcpRoute", "http", "VirtualNode a (file0.yaml:1) has no listener of TCP, and this is a route of connections"),
        ("httpRoute", "tcp", "VirtualNode a (file0.yaml:1) speaks no HTTP, and this is a route of requests"),
    ],
)
def test_route_of_another_protocol_than_its_node_is_told_as_lost(kind: str, protocol: str, said: str) -> None:
    """App Mesh's Envoys would not get such a route to work."""
    done = imported(
        node("a", listener(80, protocol)), router("r", 80), route("x", "r", kind, to("a")),
        service("a.shop.local", virtualRouter="r"),
    )  # fmt: skip
    assert said in [entry.how for entry in done.lost]


def test_one_number_of_two_protocols_is_told_as_lost() -> None:
    """Nodes of one service that speak different things at one port cannot both be had."""
    done = imported(
        node("a", listener(80, "http")), node("b", listener(80)), router("r", 80),
        route("x", "r", "httpRoute", to("a"), prefix="/"), route("y", "r", "tcpRoute", to("b")),
        service("a.shop.local", virtualRouter="r"),
    )  # fmt: skip
    said = [entry.how for entry in done.lost]
    assert "the service's port 80 speaks HTTP, where this node's does not" in said
    assert "not imported: connections to a.shop.local:80 cannot be led to port 80 of its nodes" in said


GATEWAY = {
    "virtualGateway": {"meshName": "m", "virtualGatewayName": "gw", "spec": {"listeners": [listener(80, "http")]}}
}


def gateway_route(host: str) -> Plain:
    action = {"target": {"virtualService": {"virtualServiceName": host}}}
    spec = {"httpRoute": {"match": {"prefix": "/"}, "action": action}}
    return {"gatewayRoute": {"meshName": "m", "gatewayRouteName": "g", "virtualGatewayName": "gw", "spec": spec}}


def test_gateway_route_to_a_service_of_tcp_is_told_as_lost() -> None:
    """A gateway speaks HTTP, in App Mesh and here."""
    done = imported(
        node("db", listener(5432)), service("db.shop.local", virtualNode="db"), GATEWAY, gateway_route("db.shop.local")
    )
    assert any("speaks no HTTP, and a gateway nothing else" in entry.how for entry in done.lost)


def test_gateway_leads_to_the_requests_of_a_service_that_has_both() -> None:
    """The routes of connections stay out of the gateway's."""
    done = imported(
        node("q", listener(15672, "http"), listener(5672)), router("r", 5672),
        route("console", "r", "httpRoute", to("q", port=15672), prefix="/ui"),
        route("messages", "r", "tcpRoute", to("q", port=5672), port=5672), service("q.shop.local", virtualRouter="r"),
        GATEWAY, gateway_route("q.shop.local"),
    )  # fmt: skip
    assert "path: {starts_with: /ui}" in done.files["services/gw.yaml"]
    assert "messages" not in done.files["services/gw.yaml"]
    assert done.lost == []


def test_gateway_s_listener_of_tcp_is_told_as_lost() -> None:
    """App Mesh has none."""
    bad = {"virtualGateway": {"meshName": "m", "virtualGatewayName": "gw", "spec": {"listeners": [listener(80)]}}}
    done = imported(node("a", listener(80, "http")), service("a.shop.local", virtualNode="a"), bad)
    assert "expected http, http2, grpc, found `tcp`" in [entry.how for entry in done.lost]


def test_settings_of_a_tcp_listener() -> None:
    """The limit of connections and the ejection are kept, its check is ours, and idle limits are a sidecar's."""
    done = import_app_mesh((SAMPLES / "tcp.yaml").read_text())
    text = done.files["services/db.yaml"]
    assert "circuit_breaker: {max_connections: 50, max_pending_requests: 1000000, max_requests: 1000000}" in text
    assert (
        "outlier_detection: {consecutive_5xx: 5, interval: 10s, base_ejection_time: 30s, max_ejection_percent: 50%}"
        in text
    )
    assert done.entry("listeners[0].healthCheck").outcome == "changed"
    for place in ("listeners[0].timeout.tcp.idle", "routes[0].tcpRoute.timeout.idle"):
        assert "tunnel_idle_timeout" in done.entry(place).what_to_do
    assert done.lost == []


TEMPLATE = """
Parameters: {Domain: {Type: String, Default: shop.local}, Port: {Type: Number, Default: 2701}}
Resources:
  Mesh: {Type: "AWS::AppMesh::Mesh", Properties: {MeshName: shop}}
  EchoNode:
    Type: AWS::AppMesh::VirtualNode
    Properties:
      MeshName: !GetAtt Mesh.MeshName
      VirtualNodeName: echo-vn
      Spec:
        Listeners:
          - PortMapping: {Port: !Ref Port, Protocol: tcp}
            ConnectionPool: {TCP: {MaxConnections: 7}}
            Timeout: {TCP: {Idle: {Value: 1, Unit: s}}}
        ServiceDiscovery: {DNS: {Hostname: !Sub "echo.${Domain}"}}
  EchoRouter:
    Type: AWS::AppMesh::VirtualRouter
    Properties:
      MeshName: shop
      VirtualRouterName: echo-vr
      Spec: {Listeners: [{PortMapping: {Port: !Ref Port, Protocol: tcp}}]}
  EchoRoute:
    Type: AWS::AppMesh::Route
    Properties:
      MeshName: shop
      VirtualRouterName: echo-vr
      RouteName: all
      Spec:
        TcpRoute:
          Match: {Port: !Ref Port}
          Action: {WeightedTargets: [{VirtualNode: echo-vn, Weight: 1, Port: !Ref Port}]}
  EchoService:
    Type: AWS::AppMesh::VirtualService
    Properties:
      MeshName: shop
      VirtualServiceName: !Sub "tcp.${Domain}"
      Spec: {Provider: {VirtualRouter: {VirtualRouterName: echo-vr}}}
"""


def test_template_of_cloudformation_says_the_same() -> None:
    """Its own spelling of the fields (`TcpRoute`, `TCP`) is understood, and its intrinsics are worked out."""
    done = import_app_mesh(TEMPLATE)
    check_account(done.documents, done.entries)
    assert (done.problems(), done.lost) == ([], [])
    text = done.files["services/tcp.yaml"]
    assert 'ports: {tcp: {app: "127.0.0.1:2701", protocol: tcp}}' in text
    assert "max_connections: 7" in text
    assert shares(done, "tcp.shop.local:2701") == ["tcp.echo-vn"]


def test_plan_of_terraform_says_the_same() -> None:
    """Blocks in snake case, empty where nothing is said; the router's port is the one that is called."""
    done = import_app_mesh((SAMPLES / "tcp-plan.json").read_text())
    assert done.lost == []
    assert 'hosts: ["cache.tf.local:16379"]' in done.files["services/cache.yaml"]
    assert shares(done, "cache.tf.local:16379") == ["cache.of-cache"]
