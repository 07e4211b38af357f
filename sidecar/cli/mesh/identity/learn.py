"""`sidecar mesh learn`: what `callers` and `calls` would be by what was really called. *Cold.*"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable

import click

from sidecar.cli.admin_client import AskError, fail, printable
from sidecar.cli.mesh.asking import ControlPlane, control_options
from sidecar.cli.mesh.reading import counted, directory, identity_option, mesh_of, path_of
from sidecar.mesh.learn import Learned, Proposal, calls_of
from sidecar.mesh.learn import learn as learned_of

_MAX_MINUTES = 60


@click.command("learn")
@directory
@click.option(
    "--minutes", type=click.IntRange(1, _MAX_MINUTES), default=_MAX_MINUTES, show_default=True,
    help="How far the window reaches back.",
)  # fmt: skip
@identity_option
@control_options
def learn(directory: str, minutes: int, url: str, token_file: str, trust: str, as_json: bool) -> None:
    """
    Propose `callers` and `calls` for the mesh in DIRECTORY by what was called in the running one.

    Prints a difference to the mesh's files, which `patch -p1` takes in DIRECTORY, and on standard error why, by the
    names of routes. Nothing is taken away: what is written and was not seen is told, for a call may be rarer than the
    window is long. The exit code is 0, also when there is nothing to add; 1 when the mesh has problems, 2 when it
    cannot be read.
    """
    mesh = mesh_of(directory, as_json)
    try:
        control = ControlPlane(url, token_file, trust)
        shown, history = control.get("/v1/mesh"), control.get(f"/v1/history?minutes={minutes}")
        if shown["mesh"] != mesh.name:
            raise AskError(f"the mesh there is {shown['mesh'] or '(not known)'}, and this one is {mesh.name}")
    except AskError as error:
        fail(error)
    found = learned_of(mesh, calls_of(shown, history))
    if as_json:
        said = {"ok": True, "minutes": minutes, **dataclasses.asdict(found), "missing": shown["missing"]}
        click.echo(json.dumps(said))
        return
    for line in _lines(directory, found, minutes):
        click.echo(line, err=True)
    for one in shown["missing"]:
        click.echo(printable(f"not seen: replica {one['replica']}: {one['why']}"), err=True)
    click.echo(found.diff, nl=False)


def _lines(directory: str, found: Learned, minutes: int) -> Iterable[str]:
    window = counted(minutes, "minute")
    for one in found.proposals:
        yield printable(f"{path_of(directory, one.file)}: {one.service}: {_added(one)}")
        for call in one.why:
            by = f" by {', '.join(call.routes)}" if call.routes else ""
            yield printable(f"  {call.caller} called {call.callee} {counted(call.requests, 'time')}{by}")
    for call in found.refused:
        rules = ", ".join(f"`{rule}`" for rule in call.refused_by)
        yield printable(f"{call.callee}: {call.caller} asks and is refused by {rules}: add it by hand if it may")
    for unseen in found.unseen:
        yield printable(f"{unseen.service}: `{unseen.key}` has {unseen.name}, which was not seen in {window}")
    if not found.proposals:
        yield f"nothing to add: the files say all that was called in {window}"


def _added(one: Proposal) -> str:
    names = ", ".join(one.names)
    by_hand = "" if one.is_written else "; add it by hand, for the file is not written so that it can be added to"
    if one.is_new:
        return f"`{one.key}` would be {names}, and these alone{by_hand}"
    return f"`{one.key}` lacks {names}{by_hand}"
