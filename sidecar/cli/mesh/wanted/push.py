"""`sidecar mesh push`: make a directory what the control plane wants. *Cold.*"""

from __future__ import annotations

import json

import click

from sidecar.cli.mesh.asking import control_options
from sidecar.cli.mesh.reading import CANNOT_READ, directory
from sidecar.cli.mesh.wanted.telling import ask, stop, summary, texts_of, write_changes, write_warnings


@click.command("push")
@directory
@click.option("--expected", default=None, metavar="VERSION", help="Only if the mesh there still has this version.")
@click.option("--now", "is_now", is_flag=True, help="Skip waves, also those under way; try again what is halted.")
@control_options
def push(
    directory: str, expected: str | None, is_now: bool, url: str, token_file: str, trust: str, as_json: bool
) -> None:
    """
    Make the mesh in DIRECTORY the wanted one, whole or not at all.

    Prints what it changes, the revision that came of it, and the version to name as `--expected` next time. The exit
    code is 0 when it is wanted; 1 when it is refused, with every problem as `sidecar mesh check` tells it, or why else;
    2 when it cannot be read, or what became of it is not known. A control plane that follows a directory takes no push:
    edit the directory.
    """
    body = {"files": texts_of(directory, as_json), "expected": expected, "now": is_now}
    said = ask((url, token_file, trust), "/v1/push", body, as_json, directory)
    if as_json and said["revision"] is not None:
        click.echo(json.dumps({"ok": True, **said}))
        return
    if said["revision"] is None:
        why = f"pushed as version {said['version']}, but the control plane has not made it a revision yet"
        stop(f"{why}: see `sidecar mesh status`", as_json, CANNOT_READ)
    write_warnings(said, directory)
    write_changes(said["changes"], directory)
    click.echo(f"revision {said['revision']}: {summary(said)}; version {said['version']}")
    if said["pinned"] is not None:
        click.echo(f"pinned to the files of revision {said['pinned']}: these are what they were at the rollback")
