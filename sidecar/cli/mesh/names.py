"""`sidecar mesh names`: what each service must be able to resolve. *Cold.*"""

from __future__ import annotations

import dataclasses
import json

import click

from sidecar.cli.mesh.reading import as_json_option, directory, identity_option, mesh_of, refuse
from sidecar.config.problems import Problem, did_you_mean
from sidecar.mesh.names import names_of


@click.command("names")
@directory
@click.option("--service", default=None, help="Only of this one.")
@identity_option
@as_json_option
def names(directory: str, service: str | None, as_json: bool) -> None:
    """
    List the hosts that each service of the mesh in DIRECTORY calls.

    The mesh answers no DNS. With capture each host must resolve, to anything that is not loopback; an app that sets
    HTTP_PROXY, or calls the address after `or`, resolves none.
    """
    mesh = mesh_of(directory, as_json)
    found = names_of(mesh)
    if service is not None and service not in found:
        message = f"the mesh has no sidecars of a service `{service}`"
        refuse(directory, [Problem(mesh.document.name, 1, 1, "", message, did_you_mean(service, found))], as_json)
    shown = {name: found[name] for name in found if service in (None, name)}
    if as_json:
        click.echo(json.dumps({name: [dataclasses.asdict(one) for one in hosts] for name, hosts in shown.items()}))
        return
    for name, hosts in shown.items():
        click.echo(f"{name}:" if hosts else f"{name}: calls nothing")
        width = max((len(one.host) for one in hosts), default=0)
        for one in hosts:
            listen = f", or {one.listen}" if one.listen else ""
            click.echo(f"  {one.host:{width}}  {one.service}{listen}")
