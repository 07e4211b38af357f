"""`sidecar mesh hurry`: skip the waves of rollouts that are under way. *Cold.*"""

from __future__ import annotations

import json

import click

from sidecar.cli.mesh.asking import control_options
from sidecar.cli.mesh.wanted.telling import ask


@click.command("hurry")
@click.argument("services", nargs=-1)
@control_options
def hurry(services: tuple[str, ...], url: str, token_file: str, trust: str, as_json: bool) -> None:
    """
    Skip the waves that are left, of SERVICES or of all, and try again with everyone what is halted.

    What was refused still halts. The exit code is 1 when there is no such service, 2 when there is no answer.
    """
    body = {"services": list(services)} if services else {}
    said = ask((url, token_file, trust), "/v1/hurry", body, as_json)
    if as_json:
        click.echo(json.dumps({"ok": True, **said}))
        return
    names = ", ".join(said["services"])
    click.echo(f"revision {said['revision']}: {names or 'no rollout is under way'}")
