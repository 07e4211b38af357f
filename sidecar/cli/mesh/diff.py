"""`sidecar mesh diff`: what differs between two directories. *Cold.*"""

from __future__ import annotations

import dataclasses
import json

import click

from sidecar.cli.mesh.reading import as_json_option, counted, mesh_of, path_of
from sidecar.mesh import diff as comparing

_SIGNS = {comparing.ADDED: "+", comparing.REMOVED: "-", comparing.CHANGED: "~"}


@click.command("diff")
@click.argument("old", type=click.Path(path_type=str))
@click.argument("new", type=click.Path(path_type=str))
@as_json_option
def diff(old: str, new: str, as_json: bool) -> None:
    """
    Say which services' files, and which routes and upstreams in them, differ between the meshes in OLD and NEW.

    Added is `+`, removed `-`, changed `~`. The exit code is 0, also when they differ; 1 when one of them has problems.
    """
    before, after = mesh_of(old, as_json), mesh_of(new, as_json)
    changes = comparing.diff(before, after)
    if as_json:
        click.echo(json.dumps({"ok": True, "changes": [dataclasses.asdict(change) for change in changes]}))
        return
    for change in changes:
        click.echo(f"{_SIGNS[change.kind]} {change.service}")
        for part in change.parts:
            where = path_of(old if part.kind == comparing.REMOVED else new, str(part.origin.file))
            name = f" {part.name}" if part.name else ""
            click.echo(f"    {_SIGNS[part.kind]} {part.part}{name}  ({where}:{part.origin.line})")
    click.echo(f"{counted(len(changes), 'file')} of {len({*before.placed, *after.placed})} services would change")
