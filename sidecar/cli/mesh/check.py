"""`sidecar mesh check`: whether a mesh can be used, and all that is wrong with it if not. *Cold.*"""

from __future__ import annotations

import dataclasses
import json
import sys

import click

from sidecar.cli.mesh.reading import as_json_option, counted, directory, identity_option, located, mesh_of, refuse
from sidecar.mesh.verify import verify


@click.command("check")
@directory
@identity_option
@as_json_option
def check(directory: str, as_json: bool) -> None:
    """
    Check all files of a mesh in DIRECTORY, or in one file (`-`: standard input), without using them.

    The file of every service is compiled and judged as its sidecars would, and every service's tests are run. Every
    problem is a line `file:line:column: path: message; hint` on standard error, at its place in the mesh's files, every
    warning one with `warning:` before the path. The exit code is 0 when the mesh is good, warnings or not, 1 when it
    has problems, 2 when it cannot be read.
    """
    mesh = mesh_of(directory, as_json)
    problems = verify(mesh)
    if problems:
        refuse(directory, problems, as_json)
    counts = {
        "services": len(mesh.placed),
        "routes": sum(
            len(one.routes) + sum(len(call.routes) for call in (one.calls or {}).values())
            for one in mesh.services.values()
        ),
        "tests": sum(len(one.tests) for one in mesh.services.values()),
    }
    warnings = [located(directory, warning) for warning in mesh.warnings]
    if as_json:
        told = [dataclasses.asdict(warning) for warning in warnings]
        print(
            json.dumps({"ok": True, "mesh": mesh.name, "hash": mesh.hash, "problems": [], "warnings": told, **counts})
        )
        return
    for warning in warnings:
        print(warning.named(), file=sys.stderr)
    print(f"ok: {mesh.name}: " + ", ".join(counted(number, noun.removesuffix("s")) for noun, number in counts.items()))
