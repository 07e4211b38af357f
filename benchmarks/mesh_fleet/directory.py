"""
A mesh of many services, as files. *Pure but for writing.*

Every endpoint has an address of 127.0.0.0/8 and the port of one HTTP server, so that real sidecars among the others
reach whatever they are told.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

HUB = "s0"
"""A service that every other calls: a change of it concerns all."""
BLOCK = 62_500  # addresses for each second octet
MESH = "mesh: bench\nrollout: {waves: [100%], hold: 0s}\n"


def name_of(number: int) -> str:
    """Of a service."""
    return f"s{number}"


def address_of(block: int, number: int, port: int) -> str:
    """The address of an endpoint; those of different blocks differ."""
    return f"127.{block + number // BLOCK}.{number // 250 % 250}.{number % 250 + 1}:{port}"


@dataclass(frozen=True, slots=True)
class Plan:
    """
    What the mesh is like.

    Attributes:
        services: How many.
        calls: How many others each calls.
        fixed: Endpoints of each beside those that register: as a list, those of the hub in a file.
        port: Of the server behind all endpoints.
        pool: The hub's file of endpoints.
    """

    services: int
    calls: int
    fixed: int
    port: int
    pool: Path

    def callees(self, number: int) -> list[int]:
        """Whom the service calls: the hub, and those that follow it in a circle."""
        wanted = [0, *((number + step) % self.services for step in range(1, self.calls))]
        return [one for one in dict.fromkeys(wanted) if one != number]

    def callers(self, number: int) -> list[int]:
        """Who calls the service."""
        return [one for one in range(self.services) if number in self.callees(one)]

    def fixed_of(self, number: int) -> list[str]:
        """Addresses of the endpoints that do not register."""
        return [address_of(1, number * self.fixed + one, self.port) for one in range(self.fixed)]

    def service_file(self, number: int, edition: int = 0) -> str:
        """A service's file; another edition is another configuration of all its callers."""
        lines = [f"service: {name_of(number)}", "app: 127.0.0.1:8080", "calls:"]
        lines += [f"  {name_of(one)}: {{}}" for one in self.callees(number)] or ["  {}"]
        if self.fixed:
            addresses = ", ".join(f'"{one}"' for one in self.fixed_of(number))
            source = f'{{file: "{self.pool}"}}' if number == 0 else f"{{endpoints: [{addresses}]}}"
            lines += ["instances:", f"  fixed: {source}", "  own: {registered: {version: v1}}"]
        lines += ["routes:"]
        if self.fixed:
            lines += ['  - {name: elsewhere, match: {headers: {x-elsewhere: "1"}}, to: fixed}']
        lines += [f"  - {{name: main, match: {{path: {{prefix: /}}}}, timeout: {5000 + edition}ms}}"]
        return "\n".join(lines) + "\n"

    def pool_file(self, weight: float) -> str:
        """The hub's file of endpoints, the last of which has this weight."""
        *others, last = self.fixed_of(0)
        groups: list[dict[str, object]] = [{"targets": others}] if others else []
        groups.append({"targets": [last], "labels": {"weight": f"{weight:g}"}})
        return json.dumps(groups)

    def files(self) -> list[tuple[str, str]]:
        """All files of the mesh."""
        services = [(f"services/{name_of(one)}.yaml", self.service_file(one)) for one in range(self.services)]
        return [("mesh.yaml", MESH), *services]


def write(folder: Path, names: Iterable[tuple[str, str]]) -> None:
    """Write files as editors do, each renamed over the old one."""
    for name, text in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(path.name + ".new")
        new.write_text(text)
        os.replace(new, path)
