"""Virtual gateways of several listeners, and services of several ports behind them."""

from __future__ import annotations

import json
from typing import Any

from tests.support.importing import Import, check_account, import_app_mesh

Plain = dict[str, Any]


def resource(word: str, name: str, spec: Plain, **more: str) -> Plain:
    return {word: {"meshName": "m", f"{word}Name": name, "spec": spec, **more}}


def listener(port: int) -> Plain:
    return {"portMapping": {"port": port, "protocol": "http"}}


def node(name: str, *ports: int, dns: bool = True) -> Plain:
    found = {"dns": {"hostname": f"{name}.local"}} if dns else {"awsCloudMap": {"serviceName": name}}
    return resource("virtualNode", name, {"listeners": [listener(port) for port in ports], "serviceDiscovery": found})


def route(name: str, target: str, port: int, called: int) -> Plain:
    action = {"weightedTargets": [{"virtualNode": target, "weight": 1, "port": port}]}
    return resource("route", name, {"httpRoute": {"match": {"port": called}, "action": action}}, virtualRouterName="r")


def gateway_route(name: str, prefix: str, host: str, port: int, at: int) -> Plain:
    target = {"virtualService": {"virtualServiceName": host}, "port": port}
    block = {"match": {"prefix": prefix, "port": at}, "action": {"target": target}}
    return resource("gatewayRoute", name, {"httpRoute": block}, virtualGatewayName="gw")


def food(*, dns: bool) -> list[Plain]:
    """A service whose router listens at two ports, for the two of its node."""
    provider = {"provider": {"virtualRouter": {"virtualRouterName": "r"}}}
    return [
        node("food", 5555, 6666, dns=dns),
        resource("virtualRouter", "r", {"listeners": [listener(5555), listener(6666)]}),
        route("fruit", "food", 5555, 5555),
        route("vegetable", "food", 6666, 6666),
        resource("virtualService", "food.shop.local", provider),
    ]


def imported(*resources: Plain) -> Import:
    done = import_app_mesh(json.dumps(resources))
    check_account(done.documents, done.entries)
    assert done.problems() == []
    return done


def test_listeners_of_a_gateway_have_names_of_routes_of_their_own() -> None:
    """Each listener of a gateway ends with an answer of its own, and no two routes have one name."""
    provider = {"provider": {"virtualNode": {"virtualNodeName": "color"}}}
    done = imported(
        *food(dns=True), node("color", 7777), resource("virtualService", "color.shop.local", provider),
        resource("virtualGateway", "gw", {"listeners": [listener(1111), listener(2222)]}),
        gateway_route("fruit", "/fruit", "food.shop.local", 5555, 1111),
        gateway_route("vegetable", "/vegetable", "food.shop.local", 6666, 1111),
        gateway_route("color", "/color", "color.shop.local", 7777, 2222),
    )  # fmt: skip
    text = done.files["services/gw.yaml"]
    assert "name: no-route," in text
    assert "name: no-route-2," in text
    assert done.lost == []


def test_gateway_leads_to_a_further_port_by_instances_of_that_port() -> None:
    """What DNS answers is an instance of its own for each port, so that the gateway's route has it."""
    done = imported(
        *food(dns=True), resource("virtualGateway", "gw", {"listeners": [listener(80)]}),
        gateway_route("vegetable", "/vegetable", "food.shop.local", 6666, 80),
    )  # fmt: skip
    assert 'food-6666: {dns: "food.local:6666"}' in done.files["services/food.yaml"]
    assert "to: food.food-6666" in done.files["services/gw.yaml"]
    assert done.lost == []


def test_gateway_cannot_choose_a_further_port_of_registered_instances() -> None:
    """A caller's route leads to the first port, which would be the wrong one: it is left out and told."""
    done = imported(
        *food(dns=False), resource("virtualGateway", "gw", {"listeners": [listener(80)]}),
        gateway_route("vegetable", "/vegetable", "food.shop.local", 6666, 80),
    )  # fmt: skip
    assert [entry.how for entry in done.lost] == [
        "the route `vegetable` behind it is left out: a gateway's route leads to the service's first port, not to 6666"
    ]
    assert 'match: {host: "food.shop.local:6666"}' in done.files["services/food.yaml"]
