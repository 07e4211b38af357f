"""`sidecar import app-mesh`. *Cold.*"""

from __future__ import annotations

import click

from sidecar.cli.importing.doing import Imported, force_option, json_option, output_option, run, sources
from sidecar.config.yaml.document import Node
from sidecar.importing.appmesh.translate import translate


@click.command("app-mesh", short_help="From AWS App Mesh.")
@sources
@output_option
@click.option("--mesh", default="", help="Which mesh is meant, if there are several; what it is called, if none is.")
@click.option("--parameter", "parameters", multiple=True, metavar="NAME=VALUE", help="Of a template; repeatable.")
@force_option
@json_option
def app_mesh(
    files: tuple[str, ...], output: str, mesh: str, parameters: tuple[str, ...], force: bool, as_json: bool
) -> None:
    """
    Write the files of a mesh to the directory --output from App Mesh's resources in FILES (`-`: standard input).

    Read are CloudFormation templates, the JSON of `terraform show -json`, Kubernetes resources of the App Mesh
    controller, and what `aws appmesh describe-*` prints. The report says of every field what became of it. The exit
    code is 0 when all could be imported, 1 when not, and 2 when the command is wrong.
    """
    given: dict[str, str] = {}
    for parameter in parameters:
        name, equals, value = parameter.partition("=")
        if not equals or not name:
            raise click.UsageError(f"expected NAME=VALUE, found `{parameter}`: such as --parameter Environment=prod")
        given[name] = value

    def translated(documents: list[Node]) -> Imported:
        found = translate(documents, given, mesh)
        return Imported(found.mesh, found.accounts, found.problems)

    run("app-mesh", files, output, translated, is_forced=force, as_json=as_json)
