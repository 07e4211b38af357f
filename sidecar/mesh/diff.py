"""
What differs between two states of a mesh: which services' files, and which routes and upstreams in them. *Cold, pure.*

The earlier state is a mesh, or the files that sidecars were told, of which only the text is left.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from sidecar.config.yaml.document import parse_without_variables
from sidecar.mesh.compile.service import Compiled, compile_service, routes_of
from sidecar.mesh.compile.tree import Table, Text, Value, canonical, copied
from sidecar.mesh.mesh import Mark, Mesh
from sidecar.mesh.told import LANGUAGE, Told

ADDED, REMOVED, CHANGED = "added", "removed", "changed"

Parts = Mapping[tuple[str, str], tuple[object, Mark]]
_ORDER = ("order of routes", "")
_NOWHERE: Final = Mark("", 0, 0)


@dataclass(frozen=True, slots=True)
class PartChange:
    """
    A part of a file that differs.

    Attributes:
        part: `route`, `upstream`, `test`, `order of routes`, or a section such as `inbound`.
        name: Of the route, the upstream or the test; else empty.
        kind: `added`, `removed` or `changed`.
        origin: Where it is written: in the new mesh, or in the old one for what was removed; without a file where there
            is no old mesh, but only what was told.
    """

    part: str
    name: str
    kind: str
    origin: Mark


@dataclass(frozen=True, slots=True)
class FileChange:
    """
    A service whose sidecars get another file.

    Attributes:
        service: Which.
        kind: `added` and `removed` are of services of the mesh, `changed` of the file.
        old_hash: Empty for an added one.
        new_hash: Empty for a removed one.
        parts: What differs in the file; of added and removed services nothing is listed.
    """

    service: str
    kind: str
    old_hash: str
    new_hash: str
    parts: tuple[PartChange, ...] = ()


_Side = tuple[str, Callable[[], Table | None]]
"""Hash of a file, and what gives its values."""


def diff(old: Mesh, new: Mesh, version: str = "", language: int = LANGUAGE) -> list[FileChange]:
    """
    Compare the files that the sidecars of every service get, by name.

    Raises:
        ConfigError: One of the two needs a newer language.
    """
    sides = (
        {name: _compiled(compile_service(mesh, name, version, language)) for name in _inside(mesh)}
        for mesh in (old, new)
    )
    return _diff(*sides)


def diff_told(told: Mapping[str, Told], new: Mapping[str, Compiled]) -> list[FileChange]:
    """Compare what the sidecars of every service are to have with what they would have, by name."""
    before = {name: (one.hash, lambda text=one.text: _values(text)) for name, one in told.items()}
    return _diff(before, {name: _compiled(one) for name, one in new.items()})


def _diff(old: Mapping[str, _Side], new: Mapping[str, _Side]) -> list[FileChange]:
    found: list[FileChange] = []
    for name in sorted({*old, *new}):
        before, after = old.get(name), new.get(name)
        if before is None and after is not None:
            found.append(FileChange(name, ADDED, "", after[0]))
        elif after is None and before is not None:
            found.append(FileChange(name, REMOVED, before[0], ""))
        elif before is not None and after is not None and before[0] != after[0]:
            roots = before[1](), after[1]()
            parts = (
                _changes(_parts(roots[0]), _parts(roots[1])) if roots[0] is not None and roots[1] is not None else ()
            )
            found.append(FileChange(name, CHANGED, before[0], after[0], tuple(parts)))
    return found


def _compiled(one: Compiled) -> _Side:
    return one.hash, lambda: one.root


def _values(text: str) -> Table | None:
    """Of a compiled file; None if there is none."""
    root, _ = parse_without_variables(text, "")
    values = copied(root, _NOWHERE.file) if root is not None else None
    return values if isinstance(values, Table) else None


def _inside(mesh: Mesh) -> set[str]:
    return {name for name, placed in mesh.placed.items() if not placed.service.is_outside}


def _changes(old: Parts, new: Parts) -> list[PartChange]:
    found = []
    for key in [*new, *(key for key in old if key not in new)]:
        if key == _ORDER:
            continue
        if key not in old:
            found.append(PartChange(*key, ADDED, new[key][1]))
        elif key not in new:
            found.append(PartChange(*key, REMOVED, old[key][1]))
        elif old[key][0] != new[key][0]:
            found.append(PartChange(*key, CHANGED, new[key][1]))
    names = [
        [name for name in _names(parts) if ("route", name) in old and ("route", name) in new] for parts in (old, new)
    ]
    if names[0] != names[1]:
        found.append(PartChange(*_ORDER, CHANGED, new[_ORDER][1] if _ORDER in new else _NOWHERE))
    return found


def _names(parts: Parts) -> list[str]:
    names = parts[_ORDER][0] if _ORDER in parts else []
    assert isinstance(names, list)
    return names


def _parts(root: Table) -> dict[tuple[str, str], tuple[object, Mark]]:
    """What of a file is compared: routes, upstreams and tests by name, everything else as a whole."""
    parts: dict[tuple[str, str], tuple[object, Mark]] = {}
    for key, (mark, value) in root.entries.items():
        if key == "outbound" and isinstance(value, Table):
            names = []
            for index, route in enumerate(routes_of(root)):
                names.append(_name_of(route, f"routes[{index}]"))
                parts["route", names[-1]] = (canonical(route), route.mark)
            for inner, (inner_mark, below) in value.entries.items():
                if inner != "routes":
                    parts[f"outbound.{inner}", ""] = (canonical(below), inner_mark)
            parts[_ORDER] = (names, mark)
        elif key == "upstreams" and isinstance(value, Table):
            for name, (_, below) in value.entries.items():
                parts["upstream", name] = (canonical(below), below.mark)
        elif key == "tests":
            for index, test in enumerate(getattr(value, "items", [])):
                parts["test", _name_of(test, f"tests[{index}]")] = (canonical(test), test.mark)
        else:
            parts[key, ""] = (canonical(value), mark)
    return parts


def _name_of(value: Value, otherwise: str) -> str:
    told = value.entries.get("name") if isinstance(value, Table) else None
    return told[1].text if told is not None and isinstance(told[1], Text) else otherwise
