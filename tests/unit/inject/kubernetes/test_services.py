"""The app's port, as Services of the same file say it."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from sidecar.inject.manifests import inject
from sidecar.inject.wanted import Wanted

TWO = [{"name": "web", "containerPort": 8080}, {"name": "stats", "containerPort": 9090}]


def service(*targets: Any, namespace: str = "", selector: Any = None, **port: Any) -> dict[str, Any]:
    """A Service that aims at these ports of a pod."""
    metadata = {"name": "web", **({"namespace": namespace} if namespace else {})}
    ports = [{"port": 80, **({} if target is None else {"targetPort": target}), **port} for target in targets]
    spec = {"selector": {"app": "web"} if selector is None else selector, "ports": ports}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def told(ports: Any, *services: Any, annotations: Any = None, is_captured: bool = True) -> str:
    """What is told of a Deployment beside these Services."""
    container = {"name": "app", "image": "a", **({"ports": ports} if ports else {})}
    metadata = {"labels": {"app": "web", "tier": "1"}, **({"annotations": annotations} if annotations else {})}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {"template": {"metadata": metadata, "spec": {"containers": [container]}}},
    }
    text = yaml.safe_dump_all([deployment, *services])
    outcome = inject(text, "f", Wanted(config="c", is_captured=is_captured))
    assert (outcome.problems == []) == (outcome.text != text)
    return (outcome.told[0] if not outcome.problems else outcome.problems[0].message).partition("; ")[2] or "refused"


@pytest.mark.parametrize(
    ("ports", "services", "port"),
    [
        (TWO, [service(8080)], "8080"),
        (TWO, [service("stats")], "9090"),
        (TWO, [service("8080")], "8080"),
        (None, [service(3000)], "3000"),
        (None, [service(None)], "80"),
        (None, [service(3000), service(3000)], "3000"),
        (None, [{"apiVersion": "v1", "kind": "List", "items": [service(3000)]}], "3000"),
        (None, [service(3000, 3001)], ""),
        (None, [service("unknown")], ""),
        (None, [service(3000, protocol="UDP")], ""),
        (None, [service(3000, selector={"app": "other"})], ""),
        (None, [service(3000, selector={})], ""),
        (None, [service(3000, selector={"app": "web", "tier": "2"})], ""),
        (None, [service(3000, namespace="other")], ""),
        (None, [service(15000), service("inbound")], ""),
        (None, [service(True, [], {}, 70000, 0)], "80"),
        (None, [{"apiVersion": "v1", "kind": "Service", "spec": 3}, service(3000)], "3000"),
        ([{"containerPort": 8080}], [service(3000)], "8080"),
    ],
)
def test_port_is_where_the_only_service_aims(ports: Any, services: list[Any], port: str) -> None:
    """By number, by name, or the Service's own; none where they differ, where it is another's, or ours."""
    assert told(ports, *services) == (f"service web, app port {port}" if port else "service web")


def test_annotation_comes_first() -> None:
    """Who says it means it."""
    said = {"sidecar.mesh/app-port": "9090"}
    assert told(TWO, service(8080), annotations=said) == "service web, app port 9090"


def test_what_is_not_captured_needs_a_port_that_a_service_may_say() -> None:
    """Several ports without a Service are refused; with one they are not."""
    assert told(TWO, is_captured=False) == "refused"
    assert told(TWO, service("web"), is_captured=False).startswith("service web, app port 8080")
