"""A mesh of many services, as files. *Pure but for writing.*"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

HUB = "s0"
"""A service that every other calls: a change of it concerns all."""


def name_of(number: int) -> str:
    """Of a service."""
    return f"s{number}"


def callees_of(number: int, services: int, calls: int) -> list[int]:
    """Whom the service calls: the hub, and those that follow it in a circle."""
    wanted = [0, *((number + step) % services for step in range(1, calls))]
    return [one for one in dict.fromkeys(wanted) if one != number]


def service_file(number: int, services: int, calls: int, fixed: int, edition: int = 0) -> str:
    """
    A service's file.

    Args:
        calls: How many others it calls.
        fixed: Endpoints beside those that register, of a set of their own.
        edition: Another number is another configuration of all its callers.
    """
    name = name_of(number)
    lines = [f"service: {name}", "app: 127.0.0.1:8080", "calls:"]
    lines += [f"  {name_of(one)}: {{}}" for one in callees_of(number, services, calls)] or ["  {}"]
    if fixed:
        addresses = ", ".join(f'"10.{number // 250 + 1}.{number % 250}.{one + 1}:15000"' for one in range(fixed))
        lines += ["instances:", f"  fixed: {{endpoints: [{addresses}]}}", "  own: {registered: {version: v1}}"]
    lines += ["routes:"]
    if fixed:
        lines += ['  - {name: elsewhere, match: {headers: {x-elsewhere: "1"}}, to: fixed}']
    lines += [f"  - {{name: main, match: {{path: {{prefix: /}}}}, timeout: {1000 + edition}ms}}"]
    return "\n".join(lines) + "\n"


def write(folder: Path, names: Iterable[tuple[str, str]]) -> None:
    """Write files as editors do, each renamed over the old one."""
    for name, text in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(path.name + ".new")
        new.write_text(text)
        os.replace(new, path)


def mesh_files(services: int, calls: int, fixed: int) -> list[tuple[str, str]]:
    """All files of a mesh."""
    mesh = "mesh: bench\nrollout: {waves: [100%], hold: 0s}\n"
    files = [(f"services/{name_of(one)}.yaml", service_file(one, services, calls, fixed)) for one in range(services)]
    return [("mesh.yaml", mesh), *files]
