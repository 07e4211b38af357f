"""What can be asked of a pod's specification that may be anything: mappings, lists, ports, users. *Pure.*"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sidecar.inject.edits import Path, Value, at


@dataclass(frozen=True, slots=True)
class Container:
    """
    One container of a pod.

    Attributes:
        name: Empty if it has none.
        value: Its mapping.
        path: In the document.
        is_init: It runs to its end before the app's begin.
        is_native: It is a native sidecar: it begins as an init container, and stays.
    """

    name: str
    value: Mapping[str, Value]
    path: Path
    is_init: bool
    is_native: bool


def mapping(value: Value) -> Mapping[str, Value]:
    """A mapping; an empty one instead of anything else."""
    return value if isinstance(value, Mapping) else {}


def listed(value: Value) -> list[Value]:
    """A list; an empty one instead of anything else."""
    return value if isinstance(value, list) else []


def containers_of(document: Value, spec: Path) -> Iterator[Container]:
    """Every container of a pod's specification, init containers first, as they start."""
    for key in ("initContainers", "containers"):
        path = (*spec, key)
        for index, value in enumerate(listed(at(document, path))):
            found = mapping(value)
            is_native = key == "initContainers" and found.get("restartPolicy") == "Always"
            name = found.get("name")
            yield Container(
                name if isinstance(name, str) else "", found, (*path, index), key != "containers", is_native
            )


@dataclass(frozen=True, slots=True)
class Port:
    """A port that a container declares; TCP unless it says otherwise."""

    number: int
    name: str
    path: Path


def ports_of(container: Container) -> Iterator[Port]:
    """The TCP ports that a container declares."""
    for index, value in enumerate(listed(container.value.get("ports"))):
        port = mapping(value)
        number, name = port.get("containerPort"), port.get("name")
        if type(number) is int and port.get("protocol") in (None, "TCP"):
            path = (*container.path, "ports", index, "containerPort")
            yield Port(number, name if isinstance(name, str) else "", path)


def port_number(written: Value, container: Container) -> int | None:
    """The number of a port that a probe names by number or by name; None if it is neither."""
    if type(written) is int:
        return written
    if isinstance(written, str) and written.isascii() and written.isdigit():
        return int(written[:6])
    return next((port.number for port in ports_of(container) if port.name and port.name == written), None)
