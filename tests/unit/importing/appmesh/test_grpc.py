"""What App Mesh says of gRPC: calls, retries, health, and a gateway before them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.importing.appmesh.test_tcp import Import, imported, listener, node, router, service, to

Plain = dict[str, Any]
HTTP = {"portMapping": {"port": 80, "protocol": "http"}}


def call(match: Plain, **more: Any) -> Plain:
    """A route of gRPC."""
    spec = {"priority": 1, "grpcRoute": {"match": match, "action": {"weightedTargets": [to("n")]}, **more}}
    return {"route": {"meshName": "m", "routeName": "r", "virtualRouterName": "v", "spec": spec}}


def written(*resources: Plain, **settings: Any) -> str:
    """The file of the service with these routes."""
    done = made(*resources, **settings)
    (text,) = [text for name, text in done.files.items() if "/s." in name or name.endswith("/s.yaml")]
    return text


def made(*resources: Plain, **settings: Any) -> Import:
    virtual = router("v")
    virtual["virtualRouter"]["spec"]["listeners"] = [{"portMapping": {"port": 9090, "protocol": "grpc"}}]
    given = listener(9090, "grpc", **settings)
    return imported(node("n", given), virtual, service("s", virtualRouter="v"), *resources)


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ({}, "match: {grpc: {}}"),
        ({"serviceName": "a.B"}, "match: {grpc: {service: a.B}}"),
        ({"serviceName": "a.B", "methodName": "C"}, "match: {grpc: {service: a.B, method: C}}"),
        ({"metadata": [{"name": "x", "match": {"exact": "y"}}]}, "match: {grpc: {}, headers: {x: y}}"),
    ],
)
def test_a_route_of_grpc_takes_calls(match: Plain, expected: str) -> None:
    """And nothing else."""
    assert expected in written(call(match))


def test_a_test_of_the_content_type_is_told_as_lost() -> None:
    """Calls are known by it."""
    done = made(call({"metadata": [{"name": "Content-Type", "match": {"prefix": "application/grpc"}}]}))
    assert any("by which calls are known" in entry.how for entry in done.lost)


def test_a_service_that_is_none_is_told_as_lost() -> None:
    """What cannot be the name of one."""
    done = made(call({"serviceName": "a/B"}))
    assert any(entry.how.startswith("expected a gRPC service") for entry in done.lost)


def test_events_of_grpc_are_tried_again() -> None:
    """All of App Mesh's five have a word."""
    events = ["cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable"]
    timeout = {"unit": "s", "value": 1}
    policy = {"grpcRetryEvents": events, "maxRetries": 2, "perRetryTimeout": timeout}
    words = ", ".join(f"grpc_{event.replace('-', '_')}" for event in events)
    assert f"on: [{words}]" in written(call({}, retryPolicy=policy))


def test_a_health_check_by_grpc_stays_one() -> None:
    """Its thresholds and times with it."""
    check = {
        "protocol": "grpc", "intervalMillis": 5000, "timeoutMillis": 2000,
        "healthyThreshold": 2, "unhealthyThreshold": 3,
    }  # fmt: skip
    text = written(call({}), healthCheck=check)
    assert "health_check: {grpc: {}, interval: 5s, timeout: 2s" in text


def gateway(kind: str, match: Plain) -> tuple[Plain, Plain]:
    """One that leads to the service by this route."""
    target = {"target": {"virtualService": {"virtualServiceName": "s"}}}
    return (
        {"virtualGateway": {"meshName": "m", "virtualGatewayName": "g", "spec": {"listeners": [HTTP]}}},
        {
            "gatewayRoute": {
                "meshName": "m", "gatewayRouteName": "gr", "virtualGatewayName": "g",
                "spec": {kind: {"match": match, "action": target}},
            }
        },
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "match", "inner", "expected"),
    [
        ("grpcRoute", {"serviceName": "a.B"}, {"serviceName": "a.B", "methodName": "C"}, "service: a.B, method: C"),
        ("grpcRoute", {"serviceName": "a.B"}, {}, "grpc: {service: a.B}"),
        ("httpRoute", {"prefix": "/"}, {"serviceName": "a.B"}, "grpc: {service: a.B}"),
        ("grpcRoute", {"serviceName": "a.X"}, {"serviceName": "a.B"}, ""),
        ("httpRoute", {"prefix": "/a"}, {"serviceName": "a.B"}, "lost"),
    ],
)
def test_a_gateway_lets_calls_through_that_both_take(kind: str, match: Plain, inner: Plain, expected: str) -> None:
    """One that asks for a path by itself is not combined with calls."""
    done = made(call(inner), *gateway(kind, match))
    (text,) = [text for name, text in done.files.items() if name == "services/g.yaml"]
    if expected == "lost":
        assert any("call of gRPC, and one for a path" in entry.how for entry in done.lost)
    else:
        assert (expected in text) if expected else ("a.B" not in text)
