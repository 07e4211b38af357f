"""
From a task definition to the edits that give it a sidecar. *Pure.*

The containers of a task share their network only in the mode `awsvpc`. Fargate gives nobody NET_ADMIN, so the app is
told of its sidecar by HTTP_PROXY unless capture is asked for, which only EC2 can have. App Mesh's own parts are told:
that service has ended, and two proxies in one task would take the connections from each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Final

from sidecar.inject.ecs import containers as made
from sidecar.inject.ecs.tasks import Task, tasks_of
from sidecar.inject.edits import Edit, Path, Remove, Replace, Value, at, items_added
from sidecar.inject.said import NO_PORT, Said, bad_service, read
from sidecar.inject.text.values import Tagged
from sidecar.inject.wanted import (
    INBOUND,
    INJECTED,
    NAMES,
    OWN_PORTS,
    PREFIX,
    PROXY_ENV,
    UNDO,
    Decision,
    Finding,
    Mark,
    Wanted,
)

_NAMES: Final = (*NAMES, made.TOKEN)
_APP_MESH_IMAGES: Final = ("aws-appmesh-envoy", "appmesh")
_ENDED: Final = "App Mesh ended on 2026-09-30"


def decisions(document: Value, wanted: Wanted) -> Iterator[Decision]:
    """What is to be done with each task definition of a document."""
    for task in tasks_of(document):
        yield _decide(document, task, replace(wanted, is_captured=bool(wanted.is_captured)))


def marks(document: Value) -> Iterator[Mark]:
    """What earlier injections left in task definitions: labels of the sidecar's container."""
    for task in tasks_of(document):
        for index, container in enumerate(task.items(at(document, task.path), "containerDefinitions")):
            labels = task.get(container, "dockerLabels")
            if isinstance(labels, dict) and (INJECTED in labels or UNDO in labels):
                path = (*task.path, task.key("containerDefinitions"), index, task.key("dockerLabels"))
                undo = labels.get(UNDO)
                yield Mark(task.name, task.path, path, undo if isinstance(undo, str) else None)


def _decide(document: Value, task: Task, wanted: Wanted) -> Decision:
    definition = at(document, task.path)
    path = (*task.path, task.key("containerDefinitions"))
    containers = task.items(definition, "containerDefinitions")
    if not containers or not all(isinstance(one, dict) for one in containers):
        found = Finding(path, "expected containers, found none", "give the task at least one")
        return Decision(task.name, task.path, task.path, problems=(found,))
    said, problems = read(_labels(task, containers), wanted, path)
    if not said.is_wanted and not problems:
        return Decision(task.name, task.path, task.path, told=(f'left as it is: {PREFIX}inject is "false"',))
    if said.wanted.has_proxy_env is None:
        said = replace(said, wanted=replace(said.wanted, has_proxy_env=not said.wanted.is_captured))
    problems += _refusals(task, definition, containers, path, said)
    family = task.get(definition, "family")
    service = said.service or (family if isinstance(family, str) else "")
    problems += bad_service(service, task.path)
    app_port = _app_port(task, containers, said, path, problems)
    if problems:
        return Decision(task.name, task.path, task.path, problems=tuple(problems))
    return _decided(document, task, said, service, app_port)


def _decided(document: Value, task: Task, said: Said, service: str, app_port: str) -> Decision:
    wanted = said.wanted
    containers = task.items(at(document, task.path), "containerDefinitions")
    path = (*task.path, task.key("containerDefinitions"))
    told = list(_told(task, said, app_port, containers))
    edits: list[Edit] = []
    envoy = _envoy(task, containers)
    replaced = None if envoy is None else task.get(containers[envoy], "name")
    if task.get(at(document, task.path), "proxyConfiguration") is not None:
        edits.append(Remove((*task.path, task.key("proxyConfiguration"))))
    after = [{"containerName": NAMES[0], "condition": "HEALTHY"}]
    if wanted.is_captured:
        after.append({"containerName": NAMES[1], "condition": "SUCCESS"})
    for index, container in enumerate(containers):
        if task.get(container, "firelensConfiguration") is not None or index == envoy:
            continue  # the sidecar's own log may go through it: it comes first
        here = (*path, index)
        edits += _dependencies(document, task, here, after, replaced)
        if wanted.has_proxy_env:
            edits += _proxy_env(document, task, here, told)
    has_token = bool(wanted.control and wanted.token)
    volumes = [{"name": name} for name, is_used in ((made.TOKEN, has_token), (made.STATE, wanted.control)) if is_used]
    edits += items_added(document, (*task.path, task.key("volumes")), [task.spelled(one) for one in volumes])
    return Decision(
        name=task.name,
        path=task.path,
        at=task.path,
        added=_added(said, service, app_port),
        edits=_marking(document, task, tuple(edits), said, service, app_port),
        told=tuple(told),
    )


def _marking(
    document: Value, task: Task, edits: tuple[Edit, ...], said: Said, service: str, app_port: str
) -> Callable[[Mapping[str, str]], tuple[Edit, ...]]:
    path = (*task.path, task.key("containerDefinitions"))
    containers = task.items(at(document, task.path), "containerDefinitions")
    log, envoy = _log(task, containers), _envoy(task, containers)
    has_token = bool(said.wanted.control and said.wanted.token)

    def marked(marks: Mapping[str, str]) -> tuple[Edit, ...]:
        added = [made.sidecar(said, service, app_port, marks, has_token=has_token)]
        added += [made.capture(said)] if said.wanted.is_captured else []
        added += [made.token(said)] if has_token else []
        spelled = [task.spelled(one) for one in added]
        if log is not None:
            spelled = [{**one, task.key("logConfiguration"): log} for one in spelled if isinstance(one, dict)]
        if envoy is None:
            return (*items_added(document, path, spelled), *edits)
        return (Replace((*path, envoy), spelled[0]), *items_added(document, path, spelled[1:]), *edits)

    return marked


def _refusals(task: Task, definition: Value, containers: list[Value], path: Path, said: Said) -> Iterator[Finding]:
    mode = task.get(definition, "networkMode")
    if mode != "awsvpc":
        message = f"expected the network mode awsvpc, found {mode or 'none'}"
        hint = "only there a task's containers share their network: app and sidecar would not find each other"
        yield Finding((*task.path, task.key("networkMode")), message, hint)
    proxy = task.get(definition, "proxyConfiguration")
    if proxy is not None and not said.wanted.replaces_app_mesh:
        hint = "say --replace-app-mesh, or take it out: the sidecar is led to by HTTP_PROXY, or on EC2 by --capture"
        where = (*task.path, task.key("proxyConfiguration"))
        yield Finding(where, f"found a `proxyConfiguration` of App Mesh, which nobody serves any more: {_ENDED}", hint)
    envoy = _envoy(task, containers)
    if envoy is not None and not said.wanted.replaces_app_mesh:
        where = (*path, envoy, task.key("image"))
        hint = "say --replace-app-mesh, and the sidecar takes its place; or take it out, and what depends on it"
        yield Finding(where, f"found App Mesh's Envoy, `{task.get(containers[envoy], 'image')}`: {_ENDED}", hint)
    for index, container in enumerate(containers):
        if index != envoy:
            yield from _refused(task, container, (*path, index))
    needs = task.items(definition, "requiresCompatibilities")
    if said.wanted.is_captured and "FARGATE" in needs:
        where = (*task.path, task.key("requiresCompatibilities"))
        hint = "leave --capture out: the app is told of its sidecar by HTTP_PROXY"
        yield Finding(where, "Fargate gives no container NET_ADMIN, which capture needs", hint)
    volumes = {task.get(one, "name") for one in task.items(definition, "volumes")}
    if said.wanted.config and said.wanted.config not in volumes:
        hint = "name one of the task's volumes, or leave --config out and put the file into the image"
        yield Finding(task.path, f"there is no volume `{said.wanted.config}` for the sidecar's file", hint)
    if said.wanted.mesh or said.wanted.roots:
        yield Finding(task.path, "there are no service accounts in ECS", "say --token ARN (of a secret) instead")


def _refused(task: Task, container: Value, path: Path) -> Iterator[Finding]:
    name = task.get(container, "name")
    if name in _NAMES:
        hint = "give it another name; what `sidecar inject` added is known by its labels"
        yield Finding((*path, task.key("name")), f"there is a container `{name}` already", hint)
    for index, mapping in enumerate(task.items(container, "portMappings")):
        port = task.get(mapping, "containerPort")
        if port in OWN_PORTS:
            where = (*path, task.key("portMappings"), index)
            yield Finding(where, f"port {port} is one of the sidecar's own", "let the app listen on another port")


def _envoy(task: Task, containers: list[Value]) -> int | None:
    """Which of the containers is App Mesh's Envoy, the first if there are several."""
    images = (task.get(one, "image") for one in containers)
    is_envoy = (isinstance(image, str) and any(part in image for part in _APP_MESH_IMAGES) for image in images)
    return next((index for index, found in enumerate(is_envoy) if found), None)


def _dependencies(
    document: Value, task: Task, path: Path, after: list[dict[str, str]], replaced: Value
) -> Iterator[Edit]:
    """What lets a container start when the sidecar is healthy; who waited for the Envoy waits for it instead."""
    first, *more = [task.spelled(one) for one in after]
    depends = (*path, task.key("dependsOn"))
    given = task.items(at(document, path), "dependsOn")
    waiting = [index for index, one in enumerate(given) if replaced and task.get(one, "containerName") == replaced]
    for index in waiting[:1]:
        yield Replace((*depends, index), first)
    yield from items_added(document, depends, more if waiting else [first, *more])


def _proxy_env(document: Value, task: Task, path: Path, told: list[str]) -> list[Edit]:
    container = at(document, path)
    names = {task.get(one, "name") for one in task.items(container, "environment")}
    if names & set(PROXY_ENV):
        told.append(f"{task.get(container, 'name')} has a proxy of its own in its environment, which stays")
        return []
    values = [task.spelled({"name": name, "value": value}) for name, value in PROXY_ENV.items()]
    return items_added(document, (*path, task.key("environment")), values)


def _app_port(task: Task, containers: list[Value], said: Said, path: Path, problems: list[Finding]) -> str:
    if said.app_port:
        return said.app_port
    envoy = _envoy(task, containers)
    own = [one for index, one in enumerate(containers) if index != envoy]
    mappings = [mapping for one in own for mapping in task.items(one, "portMappings")]
    numbers = sorted(
        {
            port for mapping in mappings
            if type(port := task.get(mapping, "containerPort")) is int and task.get(mapping, "protocol") != "udp"
        }
    )  # fmt: skip
    if len(numbers) == 1:
        return str(numbers[0])
    if said.wanted.is_captured:
        return NO_PORT
    what = f"expected one port of the app, found {', '.join(map(str, numbers)) or 'none'}"
    hint = f'say which by the docker label `{PREFIX}app-port: "8080"`, or "{NO_PORT}" for an app that nobody calls'
    problems.append(Finding(path, what, hint))
    return ""


def _labels(task: Task, containers: list[Value]) -> dict[str, Value]:
    """The sidecar's labels of all containers, for a task has none of its own."""
    found: dict[str, Value] = {}
    for container in containers:
        labels = task.get(container, "dockerLabels")
        found |= labels if isinstance(labels, dict) else {}
    return found


def _log(task: Task, containers: list[Value]) -> Value:
    """How the first container logs, if that can be written again; the sidecar's lines go where the app's do."""
    found = next((log for one in containers if (log := task.get(one, "logConfiguration")) is not None), None)
    return None if _has_tags(found) else found


def _has_tags(value: Value) -> bool:
    if isinstance(value, dict):
        return any(map(_has_tags, value.values()))
    return isinstance(value, Tagged) or (isinstance(value, list) and any(map(_has_tags, value)))


def _told(task: Task, said: Said, app_port: str, containers: list[Value]) -> Iterator[str]:
    if not said.wanted.is_captured and app_port not in ("", NO_PORT):
        yield f"load balancers and service discovery must name container sidecar, port {INBOUND}, not {app_port}"
    if _envoy(task, containers) is not None:
        yield "App Mesh's Envoy has made room; what its mesh said is not taken over"
    if not (said.wanted.config or said.wanted.control):
        yield "its file must be in the image, at /etc/sidecar/sidecar.yaml, or say --control or --config VOLUME"
    logs = [log for one in containers if (log := task.get(one, "logConfiguration")) is not None]
    if logs and _log(task, containers) is None:
        yield "the app's logConfiguration has functions of CloudFormation, and is not copied: give the sidecar its own"
    if said.wanted.control and not said.wanted.token:
        yield "it has no token to join by: --token ARN, of a secret"


def _added(said: Said, service: str, app_port: str) -> str:
    words = ["a sidecar", *(["capture"] if said.wanted.is_captured else [])]
    words += ["HTTP_PROXY"] if said.wanted.has_proxy_env else []
    port = f", app port {app_port}" if app_port not in ("", NO_PORT) else ""
    return f"{' and '.join(words)}; service {service}{port}"
