"""A sidecar for task definitions of ECS: by the API's own model, and by what each part is there for."""

from __future__ import annotations

import copy
import json
from functools import cache
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator

from sidecar.inject.manifests import inject, uninject
from sidecar.inject.text.tree import parse
from sidecar.inject.text.values import Tagged, value_of
from sidecar.inject.wanted import Wanted

TASKS = Path(__file__).parents[1] / "tasks"
FARGATE = (TASKS / "fargate.json").read_text()
TEMPLATE = (TASKS / "template.yaml").read_text()
OF_IMAGE = Wanted()
OF_MESH = Wanted(control=("https://control.shop.internal:15010",), token="arn:aws:secretsmanager:eu:1:secret:t")
OF_EC2 = Wanted(is_captured=True, exclude_outbound="5432")


@cache
def shape() -> Any:
    """What `register-task-definition` takes."""
    model = botocore.session.get_session().get_service_model("ecs")
    return model.operation_model("RegisterTaskDefinition").input_shape


def task_of(text: str, wanted: Wanted = OF_IMAGE) -> dict[str, Any]:
    outcome = inject(text, "task.json", wanted)
    assert outcome.problems == []
    return json.loads(outcome.text)  # type: ignore[no-any-return]


def containers_of(text: str, wanted: Wanted = OF_IMAGE) -> dict[str, Any]:
    return {one["name"]: one for one in task_of(text, wanted)["containerDefinitions"]}


def problems_of(task: dict[str, Any], wanted: Wanted = OF_IMAGE) -> list[str]:
    text = json.dumps(task, indent=2)
    outcome = inject(text, "task.json", wanted)
    assert outcome.text == text
    return [str(problem) for problem in outcome.problems]


def on_ec2() -> str:
    return FARGATE.replace('["FARGATE"]', '["EC2"]')


@pytest.mark.parametrize(
    ("text", "wanted"),
    [(FARGATE, OF_IMAGE), (FARGATE, OF_MESH), (on_ec2(), OF_EC2), (json.dumps(json.loads(FARGATE)), OF_MESH)],
    ids=["image", "mesh", "captured", "on one line"],
)
def test_an_injected_task_is_one_that_the_api_takes_and_comes_back(text: str, wanted: Wanted) -> None:
    """It follows botocore's model, a second injection changes nothing, and taking it out gives every byte back."""
    outcome = inject(text, "task.json", wanted)
    assert outcome.problems == []
    task = json.loads(outcome.text)
    assert ParamValidator().validate(task, shape()).generate_report() == ""
    assert list(task)[: len(json.loads(text))] == list(json.loads(text))
    assert inject(outcome.text, "task.json", wanted).text == outcome.text
    assert uninject(outcome.text, "task.json").text == text


def test_the_app_waits_for_the_sidecar_and_is_told_of_it() -> None:
    """Every container depends on the sidecar's health; who has a proxy of its own keeps it."""
    containers = containers_of(FARGATE)
    healthy = {"containerName": "sidecar", "condition": "HEALTHY"}
    assert containers["app"]["dependsOn"] == [{"containerName": "migrate", "condition": "SUCCESS"}, healthy]
    assert containers["migrate"]["dependsOn"] == [healthy]
    assert {"name": "HTTP_PROXY", "value": "http://127.0.0.1:15001"} in containers["app"]["environment"]
    assert containers["migrate"]["environment"] == [{"name": "HTTP_PROXY", "value": "http://proxy.example:3128"}]


def test_the_sidecar_is_essential_unprivileged_and_logs_where_the_app_does() -> None:
    """User 1337, a read-only root, a health check of its own, enough open files."""
    sidecar = containers_of(FARGATE)["sidecar"]
    assert (sidecar["essential"], sidecar["user"], sidecar["readonlyRootFilesystem"]) == (True, "1337", True)
    assert sidecar["healthCheck"]["command"][0] == "CMD"
    assert sidecar["ulimits"] == [{"name": "nofile", "softLimit": 65536, "hardLimit": 65536}]
    assert sidecar["logConfiguration"] == json.loads(FARGATE)["containerDefinitions"][0]["logConfiguration"]


def test_in_a_mesh_a_container_that_ends_gets_the_token() -> None:
    """The token is a secret's, written to a volume that only the sidecar has besides."""
    task = task_of(FARGATE, OF_MESH)
    containers = {one["name"]: one for one in task["containerDefinitions"]}
    assert containers["sidecar-token"]["secrets"] == [{"name": "MESH_TOKEN", "valueFrom": OF_MESH.token}]
    assert containers["sidecar"]["dependsOn"] == [{"containerName": "sidecar-token", "condition": "SUCCESS"}]
    assert task["volumes"] == [{"name": "sidecar-token"}, {"name": "sidecar-state"}]


def test_on_ec2_capture_is_a_container_that_ends_before_the_app() -> None:
    """With NET_ADMIN alone; the app is told of no proxy."""
    containers = containers_of(on_ec2(), OF_EC2)
    assert containers["sidecar-capture"]["linuxParameters"]["capabilities"] == {"add": ["NET_ADMIN"], "drop": ["ALL"]}
    assert {"containerName": "sidecar-capture", "condition": "SUCCESS"} in containers["app"]["dependsOn"]
    assert containers["app"]["environment"] == []


def test_a_log_router_comes_before_the_sidecar() -> None:
    """Who takes the sidecar's log cannot wait for the sidecar."""
    task = json.loads(FARGATE)
    router = {"name": "log", "image": "fluent", "essential": True, "firelensConfiguration": {"type": "fluentbit"}}
    task["containerDefinitions"].append(router)
    assert containers_of(json.dumps(task))["log"] == router


def test_a_template_of_cloudformation_keeps_its_functions() -> None:
    """Keys begin with capitals, `!Ref` stays, a log configuration with functions is not copied and told."""
    outcome = inject(TEMPLATE, "template.yaml", OF_IMAGE)
    assert outcome.problems == []
    assert uninject(outcome.text, "template.yaml").text == TEMPLATE
    value: Any = value_of(parse(outcome.text, "f")[0].root)
    app, sidecar = value["Resources"]["Storefront"]["Properties"]["ContainerDefinitions"]
    assert app["Image"] == Tagged("!Sub", "storefront:${Tag}")
    assert app["DependsOn"] == [{"ContainerName": "sidecar", "Condition": "HEALTHY"}]
    assert sidecar["HealthCheck"]["Interval"] == 5
    assert set(sidecar["DockerLabels"]) == {"sidecar.mesh/injected", "sidecar.mesh/undo"}
    assert {"Name": "SIDECAR_VERSION", "Value": "v1"} in sidecar["Environment"]
    assert "logConfiguration has functions of CloudFormation" in outcome.told[0]


def _changed(**changes: Any) -> dict[str, Any]:
    task: dict[str, Any] = copy.deepcopy(json.loads(FARGATE))
    return task | changes


def _with_container(**container: Any) -> dict[str, Any]:
    task = _changed()
    task["containerDefinitions"][0] |= container
    return task


@pytest.mark.parametrize(
    ("task", "wanted", "message"),
    [
        (_changed(networkMode="bridge"), OF_IMAGE, "expected the network mode awsvpc, found bridge"),
        (_changed(containerDefinitions=[]), OF_IMAGE, "expected containers, found none"),
        (_changed(proxyConfiguration={"type": "APPMESH"}), OF_IMAGE, "App Mesh ended on 2026-09-30"),
        (_with_container(image="x/aws-appmesh-envoy:v1"), OF_IMAGE, "found App Mesh's Envoy"),
        (_with_container(name="sidecar"), OF_IMAGE, "there is a container `sidecar` already"),
        (_with_container(portMappings=[{"containerPort": 15001}]), OF_IMAGE, "port 15001 is one of the sidecar's own"),
        (_with_container(portMappings=[]), OF_IMAGE, "expected one port of the app, found none"),
        (_changed(family="Store_Front"), OF_IMAGE, "did you mean `store-front`?"),
        (_changed(), Wanted(config="files"), "there is no volume `files`"),
        (_changed(), Wanted(is_captured=True), "Fargate gives no container NET_ADMIN"),
        (_changed(), Wanted(mesh="shop", control=("https://c:1",)), "there are no service accounts in ECS"),
        (_with_container(dockerLabels={"sidecar.mesh/servce": "a"}), OF_IMAGE, "did you mean `service`?"),
    ],
)
def test_what_would_not_work_is_refused_with_the_reason(task: dict[str, Any], wanted: Wanted, message: str) -> None:
    """Nothing is changed, and a problem says what was found and what to do."""
    assert any(message in problem for problem in problems_of(task, wanted))


def with_app_mesh() -> str:
    """A task as App Mesh's users have it: an Envoy, what leads to it, and an app that waits for it."""
    task = _changed()
    app = task["containerDefinitions"][0]
    app["dependsOn"].append({"containerName": "envoy", "condition": "HEALTHY"})
    envoy = {
        "name": "envoy",
        "image": "840364872350.dkr.ecr.eu-west-1.amazonaws.com/aws-appmesh-envoy:v1.29.12.0-prod",
        "essential": True,
        "user": "1337",
        "environment": [{"name": "APPMESH_RESOURCE_ARN", "value": "arn:aws:appmesh:eu:1:mesh/shop/virtualNode/web"}],
        "portMappings": [{"containerPort": 9901}],
        "healthCheck": {"command": ["CMD-SHELL", "curl -s http://localhost:9901/server_info | grep -q LIVE"]},
    }
    task["containerDefinitions"].insert(0, envoy)
    proxy = {
        "type": "APPMESH",
        "containerName": "envoy",
        "properties": [{"name": "ProxyIngressPort", "value": "15000"}],
    }
    items = list(task.items())
    return json.dumps(dict([*items[:2], ("proxyConfiguration", proxy), *items[2:]]), indent=2)


def test_the_envoy_of_app_mesh_makes_room_and_comes_back() -> None:
    """Asked for, the sidecar stands where the Envoy stood, and who waited for that waits for it."""
    text, wanted = with_app_mesh(), Wanted(replaces_app_mesh=True)
    assert len(problems_of(json.loads(text))) == 2
    task = task_of(text, wanted)
    assert ParamValidator().validate(task, shape()).generate_report() == ""
    assert [one["name"] for one in task["containerDefinitions"]] == ["sidecar", "app", "migrate"]
    assert task["containerDefinitions"][1]["dependsOn"] == [
        {"containerName": "migrate", "condition": "SUCCESS"},
        {"containerName": "sidecar", "condition": "HEALTHY"},
    ]
    assert "proxyConfiguration" not in task
    assert {"name": "SIDECAR_APP_PORT", "value": "8080"} in task["containerDefinitions"][0]["environment"]
    outcome = inject(text, "task.json", wanted)
    assert '    {\n      "name": "sidecar",\n' in outcome.text
    assert uninject(outcome.text, "task.json").text == text
    assert inject(outcome.text, "task.json", wanted).text == outcome.text


def test_where_the_envoy_is_the_last_thing_written_it_comes_back_too() -> None:
    """Also with `proxyConfiguration` at the end, where the task's volumes are added, and all on one line."""
    task = json.loads(with_app_mesh())
    task["proxyConfiguration"] = task.pop("proxyConfiguration")
    for text in (json.dumps(task), json.dumps(task, indent="\t")):
        outcome = inject(
            text, "task.json", Wanted(replaces_app_mesh=True, control=OF_MESH.control, token=OF_MESH.token)
        )
        assert outcome.problems == []
        assert uninject(outcome.text, "task.json").text == text
