"""`sidecar mesh compile`: the file that the sidecars of a service get. *Cold.*"""

from __future__ import annotations

import dataclasses
import json

import click

from sidecar.cli.mesh.reading import as_json_option, directory, identity_option, mesh_of, refuse
from sidecar.config.problems import ConfigError
from sidecar.mesh.compile.service import compile_service
from sidecar.mesh.told import LANGUAGE


@click.command("compile")
@directory
@click.option("--service", required=True, help="Whose sidecars.")
@click.option("--version", default="", help="The app's version, as `sidecar run --version` has it.")
@click.option("--language", type=int, default=LANGUAGE, show_default=True, help="What the sidecars know.")
@identity_option
@as_json_option
def compile_(directory: str, service: str, version: str, language: int, as_json: bool) -> None:
    """
    Print the file that the sidecars of a service get from the mesh in DIRECTORY.

    It is a file as any other: `sidecar mesh compile DIR --service S | sidecar check -`. The JSON form also has its hash
    and where the endpoints of each `discover` come from.
    """
    mesh = mesh_of(directory, as_json)
    try:
        compiled = compile_service(mesh, service, version, language)
    except ConfigError as error:
        refuse(directory, error.problems, as_json)
    if not as_json:
        click.echo(compiled.text, nl=False)
        return
    page = {
        "ok": True,
        "service": service,
        "hash": compiled.hash,
        "callees": compiled.callees,
        "discovers": {name: dataclasses.asdict(origin) for name, origin in compiled.discovers.items()},
        "file": compiled.text,
    }
    click.echo(json.dumps(page))
