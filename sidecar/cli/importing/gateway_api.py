"""`sidecar import gateway-api`. *Cold.*"""

from __future__ import annotations

import click

from sidecar.cli.importing.doing import Imported, force_option, json_option, output_option, run, sources
from sidecar.config.yaml.document import Node
from sidecar.importing.gateway_api.translate import translate


@click.command("gateway-api", short_help="From routes of Kubernetes' Gateway API.")
@sources
@output_option
@click.option("--mesh", default="", help="What the mesh is called; default: mesh.")
@force_option
@json_option
def gateway_api(files: tuple[str, ...], output: str, mesh: str, force: bool, as_json: bool) -> None:
    """
    Write the files of a mesh to the directory --output from Kubernetes objects in FILES (`-`: standard input).

    Services become services, and HTTPRoutes and GRPCRoutes whose parents are Services (GAMMA) become their routes, in
    the order of the specification's precedence. The report says of every field what became of it. The exit code is 0
    when all could be imported, 1 when not, and 2 when the command is wrong.
    """

    def translated(documents: list[Node]) -> Imported:
        draft, accounts = translate(documents, mesh)
        return Imported(draft, accounts, [])

    run("gateway-api", files, output, translated, is_forced=force, as_json=as_json)
