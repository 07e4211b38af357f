"""`sidecar mesh rollback`: want an earlier revision's files again. *Cold.*"""

from __future__ import annotations

import json

import click

from sidecar.cli.mesh.asking import control_options
from sidecar.cli.mesh.reading import counted
from sidecar.cli.mesh.wanted.telling import ask


@click.command("rollback")
@click.argument("revision", type=click.IntRange(1))
@click.option("--now", "is_now", is_flag=True, help="Skip waves.")
@control_options
def rollback(revision: int, is_now: bool, url: str, token_file: str, trust: str, as_json: bool) -> None:
    """
    Make the files of REVISION the wanted ones again, as a revision with a number of its own.

    They stay wanted until the mesh's files, in the directory or as pushed, are not what they are now. The exit code is
    1 when the revision is not kept, 2 when there is no answer.
    """
    said = ask((url, token_file, trust), "/v1/rollback", {"revision": revision, "now": is_now}, as_json)
    if as_json:
        click.echo(json.dumps({"ok": True, **said}))
        return
    services = ", ".join(said["services"])
    what = f"{counted(len(said['services']), 'file')} changed ({services})" if services else "no file changed"
    click.echo(f"revision {said['revision']}: {what}")
    click.echo(f"pinned to the files of revision {said['pinned']} until the mesh's files differ from what they are now")
