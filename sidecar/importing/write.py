"""A draft as the files of a mesh: YAML for people, with where each part of it came from. *Cold, pure.*"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sidecar.importing.draft import CallDraft, MeshDraft, Plain, RouteDraft, ServiceDraft
from sidecar.importing.spelling import number
from sidecar.mesh.compile.tree import Items, Table, Text, Value
from sidecar.mesh.compile.write import write
from sidecar.mesh.mesh import Mark

MESH_FILE: Final = "mesh.yaml"
TITLE: Final = "Imported by `sidecar import"
"""How the first line of every file begins: by it an earlier import is known."""
_HERE: Final = Mark("", 1, 1)
_ORDER: Final = ("sticky", "redirect", "respond", "rewrite", "request_headers", "response_headers", "timeout", "retry")


def files_of(mesh: MeshDraft, source: str) -> dict[str, bytes]:
    """
    The files of a mesh, by their names in its directory.

    Args:
        source: What was imported: `app-mesh`.
    """
    root = Table(_HERE)
    root.put("mesh", _noted(Text(mesh.name, _HERE), mesh.origin))
    for key, plain in mesh.values.items():
        root.put(key, value_of(plain))
    found = {MESH_FILE: write(root, f"{TITLE} {source}`: what holds for all services.").encode()}
    for service in sorted(mesh.services, key=lambda one: one.name):
        title = f"{TITLE} {source}`."
        found[f"services/{service.name}.yaml"] = write(_service(service), title).encode()
    return found


def value_of(plain: Plain) -> Value:
    """A value as the writer takes it."""
    if isinstance(plain, str):
        return Text(plain, _HERE)
    if isinstance(plain, bool):
        return Text(str(plain).lower(), _HERE, is_spelled=True)
    if isinstance(plain, int | float):
        return Text(str(number(plain)), _HERE, is_spelled=True)
    if isinstance(plain, Mapping):
        table = Table(_HERE)
        for key, inner in plain.items():
            table.put(key, value_of(inner))
        return table
    return Items(_HERE, [value_of(item) for item in plain])


def _noted(value: Value, note: str) -> Value:
    value.note = _line(f"from {note}") if note else ""
    return value


def _line(text: str) -> str:
    """A comment ends with its line."""
    shown = "".join(each if each.isprintable() else " " for each in text)
    return shown if len(shown) <= 300 else shown[:300] + "..."


def _service(service: ServiceDraft) -> Table:
    table = Table(_HERE)
    table.put("service", _noted(Text(service.name, _HERE), service.origin))
    hosts = [host for front in service.fronts for host in front.hosts]
    if hosts:
        table.put("hosts", value_of(hosts))
    if list(service.ports) == ["http"] and isinstance(service.ports["http"], str):
        table.put("app", value_of(service.ports["http"]))
    elif service.ports:
        table.put("ports", value_of(service.ports))
    if service.instances:
        instances = Table(_HERE)
        for name, instance in service.instances.items():
            instances.put(name, _noted(value_of(instance.source), instance.origin))
        table.put("instances", instances)
    routes: list[Value] = []
    for front in service.fronts:
        asked = front.hosts if len(service.fronts) > 1 else []
        routes += [_route(route, asked) for route in front.routes]
    if routes:
        table.put("routes", Items(_HERE, routes))
    for key, plain in service.values.items():
        table.put(key, value_of(plain))
    if service.calls is not None:
        calls = Table(_HERE)
        for name, call in service.calls.items():
            calls.put(name, _noted(_call(call), call.origin))
        table.put("calls", calls)
    return table


def _call(call: CallDraft) -> Table:
    table = value_of(call.values)
    assert isinstance(table, Table)
    if call.routes:
        table.put("routes", Items(_HERE, [_route(route, []) for route in call.routes]))
    return table


def _route(route: RouteDraft, hosts: list[str]) -> Value:
    table: dict[str, Plain] = {"name": route.name}
    matches = [{"host": one_or_many(hosts), **match} if hosts else match for match in route.matches or [{}]]
    for match in matches:
        if isinstance(match.get("host"), list):
            match["host"] = one_or_many([str(host) for host in match["host"]])  # type: ignore[union-attr]
    if any(matches):
        table["match"] = matches[0] if len(matches) == 1 else matches
    if len(route.to) == 1:
        table["to"] = next(iter(route.to))
    elif route.to:
        table["to"] = dict(route.to)
    if "to" in route.rest:
        table["to"] = route.rest["to"]
    table |= {key: route.rest[key] for key in _ORDER if key in route.rest}
    table |= {key: value for key, value in route.rest.items() if key not in table}
    return _noted(value_of(table), route.origin)


def one_or_many(words: list[str]) -> Plain:
    """One word by itself, several as a list."""
    return words[0] if len(words) == 1 else list(words)
