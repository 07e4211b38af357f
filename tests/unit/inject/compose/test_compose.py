"""A sidecar for services of a Compose file: by Compose's own schema, and by what each part is there for."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from sidecar.inject.compose.ports import container_port, led_to
from sidecar.inject.manifests import inject, uninject
from sidecar.inject.wanted import HEALTH_TEST, Wanted

SHOP = (Path(__file__).parents[1] / "compose_files" / "shop.yaml").read_text()
EXAMPLES = Path(__file__).parents[4] / "config" / "examples"
SCHEMA = json.loads(
    (resources.files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json").read_text()
)
OF_FILE = Wanted(config="sidecar")
CAPTURED = Wanted(config="sidecar", is_captured=True)
OF_MESH = Wanted(control=("https://control:15010",), token="web.token")


def services_of(text: str, wanted: Wanted = OF_FILE) -> dict[str, Any]:
    outcome = inject(text, "compose.yaml", wanted)
    assert outcome.problems == []
    return yaml.safe_load(outcome.text)["services"]  # type: ignore[no-any-return]


def problems_of(text: str, wanted: Wanted = OF_FILE) -> list[str]:
    outcome = inject(text, "compose.yaml", wanted)
    assert outcome.text == text
    return [str(problem) for problem in outcome.problems]


@pytest.mark.parametrize("wanted", [OF_FILE, CAPTURED, OF_MESH], ids=["file", "captured", "mesh"])
def test_an_injected_file_is_one_that_compose_takes_and_comes_back(wanted: Wanted) -> None:
    """It follows Compose's schema, a second injection changes nothing, and taking it out gives every byte back."""
    outcome = inject(SHOP, "compose.yaml", wanted)
    assert outcome.problems == []
    jsonschema.validate(yaml.safe_load(outcome.text), SCHEMA)
    assert inject(outcome.text, "compose.yaml", wanted).text == outcome.text
    assert uninject(outcome.text, "compose.yaml").text == SHOP


def test_the_sidecar_owns_the_network_and_the_app_waits_for_it() -> None:
    """Ports, networks and the name are the sidecar's; the app joins and starts when it is healthy."""
    services = services_of(SHOP)
    web, sidecar = services["web"], services["web-sidecar"]
    assert web["network_mode"] == "service:web-sidecar"
    assert not {"ports", "networks", "hostname"} & set(web)
    assert web["depends_on"] == {
        "db": {"condition": "service_started"},
        "web-sidecar": {"condition": "service_healthy", "restart": True},
    }
    assert sidecar["networks"] == {"front": {"aliases": ["web"]}, "back": {"aliases": ["web"]}}
    assert sidecar["hostname"] == "web"
    assert sidecar["profiles"] == ["all"]
    assert services["worker-sidecar"]["networks"] == {"back": {"aliases": ["jobs", "worker"]}}
    assert services["worker"]["depends_on"]["db"] == {"condition": "service_healthy"}


def test_published_ports_of_the_app_lead_to_the_sidecar() -> None:
    """Where nothing is captured, a published port of the app goes to 15000; others, and captured ones, stay."""
    rest = {"target": 9090, "published": "9090"}
    assert services_of(SHOP)["web-sidecar"]["ports"] == ["8000:15000", rest]
    assert services_of(SHOP, CAPTURED)["web-sidecar"]["ports"] == ["8000:8080", rest]


def test_an_app_that_is_not_captured_is_told_of_the_proxy() -> None:
    """Both forms of `environment` get HTTP_PROXY; with capture neither does."""
    services = services_of(SHOP)
    assert services["web"]["environment"]["HTTP_PROXY"] == "http://127.0.0.1:15001"
    assert services["web"]["environment"]["A"] == "1"
    assert "HTTP_PROXY=http://127.0.0.1:15001" in services["worker"]["environment"]
    assert "HTTP_PROXY" not in services_of(SHOP, CAPTURED)["web"]["environment"]


def test_capture_runs_in_the_sidecars_network_before_the_app() -> None:
    """A service that ends, with NET_ADMIN alone, for which the app waits."""
    services = services_of(SHOP, CAPTURED)
    capture = services["web-sidecar-capture"]
    assert (capture["network_mode"], capture["cap_add"]) == ("service:web-sidecar", ["NET_ADMIN"])
    assert services["web"]["depends_on"]["web-sidecar-capture"] == {"condition": "service_completed_successfully"}


def test_the_health_test_is_the_images_own() -> None:
    """What Compose and ECS are told is what the Dockerfile and the examples have."""
    task = json.loads((EXAMPLES / "ecs-task-definition.json").read_text())
    assert task["containerDefinitions"][0]["healthCheck"]["command"] == list(HEALTH_TEST)


def test_a_named_service_needs_no_label_and_others_are_left_alone() -> None:
    """`--service` chooses; what neither is named nor says so passes byte by byte."""
    text = "services:\n  a: {image: a, ports: ['80']}\n  b: {image: b}\n"
    assert set(services_of(text, Wanted(config="c", services=("a",)))) == {"a", "a-sidecar", "b"}
    assert inject(text, "compose.yaml", OF_FILE).text == text


@pytest.mark.parametrize(
    ("service", "message"),
    [
        ("{image: a, ports: ['80'], network_mode: host}", "expected a network of its own, found `network_mode: host`"),
        ("{image: a, ports: ['80'], deploy: {replicas: 3}}", "expected one container, found 3"),
        ("{image: a}", "expected one port of the app, found none"),
        ("{image: a, ports: ['80', '81']}", "expected one port of the app, found 80, 81"),
        ("{image: a, ports: ['80:15020']}", "port 15020 is one of the sidecar's own"),
        ("{image: a, ports: ['80'], labels: {sidecar.mesh/servce: b}}", "did you mean `service`?"),
        ("{image: a, ports: ['80'], labels: {sidecar.mesh/service: B}}", "expected as the service's name"),
        ("&x {image: a, ports: ['80']}\n  a-sidecar: {image: b}", "there is a service `a-sidecar` already"),
    ],
)
def test_services_that_cannot_share_are_refused(service: str, message: str) -> None:
    """Each with one problem that says what was found."""
    problems = problems_of(f"services:\n  a: {service}\n", Wanted(config="c", services=("a",)))
    assert len(problems) == 1
    assert message in problems[0]


def test_ports_that_come_by_a_merge_key_are_refused() -> None:
    """What is merged cannot be moved: the author is asked to write it out."""
    text = "x: &x {ports: ['80']}\nservices:\n  a:\n    <<: *x\n    image: a\n"
    problems = problems_of(text, Wanted(config="c", services=("a",)))
    assert "`ports` comes by a merge key" in problems[0]


def test_a_service_that_is_not_there_is_told_with_those_that_are() -> None:
    """A wrong `--service` is a problem, not silence."""
    problems = problems_of("services: {a: {image: a}}\n", Wanted(config="c", services=("b",)))
    assert problems == ["compose.yaml:1:1: services: there is no service `b`; there are: a"]


@pytest.mark.parametrize(
    ("written", "port", "led"),
    [
        ("8080", 8080, "1"),
        (8080, 8080, "1"),
        ("80:8080", 8080, "80:1"),
        ("127.0.0.1:80:8080/tcp", 8080, "127.0.0.1:80:1/tcp"),
        ("[::1]:80:8080", 8080, "[::1]:80:1"),
        ("${PORT:-80}:8080", 8080, "${PORT:-80}:1"),
        ("80:8080/udp", None, None),
        ("80:${P}", None, None),
        ({"target": 8080, "published": "80"}, 8080, {"target": 1, "published": "80"}),
        ({"target": 8080, "protocol": "udp"}, None, None),
        ({"target": {}}, None, None),
    ],
)
def test_ports_are_read_in_every_form(written: Any, port: int | None, led: Any) -> None:
    """The container's port, and the same entry led to another one; what is not TCP stays."""
    assert container_port(written) == port
    assert led_to(written, 8080, 1) == (led if port else written)
