"""`sidecar capture check`. *Cold.*"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

import click

from sidecar.capture.proof import find_out
from sidecar.capture.rules import SIDECAR_USER


@click.command("check", short_help="Prove what can be proved of captured connections.")
@click.option("--user", default=SIDECAR_USER, show_default=True, type=click.IntRange(0), help="Its own, by number.")
@click.option("--json", "as_json", is_flag=True, help="A list of findings, for programs.")
def check(user: int, as_json: bool) -> None:
    """
    Say whether connections that begin here are led to a sidecar, and which of it cannot be known from here.

    Run it where the app runs, as the app's user, or as the sidecar's for what is the sidecar's own. Exit code 0: what
    could be proved is as it should be, and something was; else 1.
    """
    findings = find_out(user)
    if as_json:
        click.echo(json.dumps([asdict(one) for one in findings]))
    else:
        for one in findings:
            click.echo(str(one))
    outcomes = {one.outcome for one in findings}
    sys.exit(0 if "proved" in outcomes and "refuted" not in outcomes else 1)
