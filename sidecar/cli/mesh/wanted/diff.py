"""`sidecar mesh diff`: what differs between two directories, or would change in the running mesh. *Cold.*"""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from sidecar.cli.admin_client import AskError
from sidecar.cli.mesh.asking import control_options
from sidecar.cli.mesh.reading import CANNOT_READ, counted, identity_option, mesh_of, mesh_of_files
from sidecar.cli.mesh.wanted.telling import ask, stop, texts_of, write_changes, write_warnings

if TYPE_CHECKING:
    from sidecar.cli.mesh.wanted import previewing


@click.command("diff")
@click.argument("directories", nargs=-1, required=True, type=click.Path(allow_dash=True, path_type=str),
                metavar="[OLD] NEW")  # fmt: skip
@click.option(
    "--preview", is_flag=True,
    help="Ask running sidecars, too, which of their recent requests would go elsewhere.",
)  # fmt: skip
@identity_option
@control_options
@click.pass_context
def diff(
    context: click.Context,
    directories: tuple[str, ...],
    preview: bool,
    url: str,
    token_file: str,
    trust: str,
    as_json: bool,
) -> None:
    """
    Say which services' files, and which routes and upstreams in them, differ between the meshes in OLD and NEW; without
    OLD, what a push of NEW would change of what the control plane wants now.

    With --preview and one directory, up to three sidecars of each service whose file changes say which of the requests
    that they have seen last would go elsewhere, and what they would refuse.

    Added is `+`, removed `-`, changed `~`. The exit code is 0, also when they differ; 1 when one of them has problems,
    2 when one cannot be read, or there is no answer.
    """
    if len(directories) == 1:
        _running(directories[0], (url, token_file, trust), as_json, preview=preview)
        return
    if preview:
        raise click.UsageError("--preview asks the running mesh: give one directory")
    if len(directories) > 2:
        raise click.UsageError("give one directory, or two")
    if context.get_parameter_source("url") is ParameterSource.COMMANDLINE:
        raise click.UsageError("give one directory with --control; two are compared with each other")
    # Here, for to ask a control plane takes no model of a file, and they are most of what a start costs.
    from sidecar.mesh import diff as comparing

    old, new = directories
    before, after = mesh_of(old, as_json), mesh_of(new, as_json)
    changes = [dataclasses.asdict(change) for change in comparing.diff(before, after)]
    if as_json:
        click.echo(json.dumps({"ok": True, "changes": changes}))
        return
    write_changes(changes, new, old)
    click.echo(f"{counted(len(changes), 'file')} of {len({*before.placed, *after.placed})} services would change")


def _running(directory: str, control: tuple[str, str, str], as_json: bool, *, preview: bool) -> None:
    texts = texts_of(directory, as_json)
    said = ask(control, "/v1/diff", {"files": texts}, as_json, directory)
    found: list[previewing.Previewed] = []
    if preview:
        # Here, for to ask a control plane takes no model of a file, and they are most of what a start costs.
        from sidecar.cli.mesh.wanted import previewing

        mesh = mesh_of_files(directory, {name: text.encode() for name, text in texts.items()}, as_json)
        try:
            found = previewing.previews(mesh, said["changes"], control)
        except AskError as error:
            stop(str(error), as_json, CANNOT_READ)
    if as_json:
        previews = {"previews": [dataclasses.asdict(one) for one in found]} if preview else {}
        click.echo(json.dumps({"ok": True, **said, **previews}))
        return
    write_warnings(said, directory)
    write_changes(said["changes"], directory)
    pinned = f", pinned to the files of revision {said['pinned']}" if said["pinned"] is not None else ""
    click.echo(f"{counted(len(said['changes']), 'file')} would change from revision {said['revision']}{pinned}")
    if preview:
        from sidecar.cli.mesh.wanted.previewing import told

        for line in told(found):
            click.echo(line)
