"""`sidecar mesh schema`: the JSON Schema of a mesh's files, for editors. *Cold.*"""

from __future__ import annotations

import click

from sidecar.mesh.schema import KINDS, mesh_schema_text


@click.command("schema")
@click.argument("kind", type=click.Choice(KINDS), required=False)
def schema(kind: str | None) -> None:
    """
    Print the JSON Schema of a mesh's files: of mesh.yaml (`mesh`), of a service's file (`service`), or one for both.
    """
    click.echo(mesh_schema_text(kind or ""), nl=False)
