"""`sidecar capture check`. *Cold.*"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

import click

from sidecar.capture.names import find_names, names_of
from sidecar.capture.proof import find_out
from sidecar.capture.rules import SIDECAR_USER
from sidecar.cli.admin_client import Admin, AskError, admin_option, fail


@click.command("check", short_help="Prove what can be proved of captured connections.")
@click.option("--user", default=SIDECAR_USER, show_default=True, type=click.IntRange(0), help="Its own, by number.")
@click.option(
    "--names", is_flag=True, help="Ask this machine's resolver for the names of the sidecar's upstreams, too."
)
@admin_option
@click.option("--json", "as_json", is_flag=True, help="A list of findings, for programs.")
def check(user: int, names: bool, address: str, as_json: bool) -> None:
    """
    Say whether connections that begin here are led to a sidecar, and which of it cannot be known from here.

    Run it where the app runs, as the app's user, or as the sidecar's for what is the sidecar's own. With --names it
    asks the sidecar for its upstreams, and the resolver for their names, for the sidecar answers no DNS. Exit code 0:
    what could be proved is as it should be, and something was; else 1.
    """
    findings = find_out(user)
    if names:
        try:
            with Admin(address) as admin:
                effective = json.loads(admin.get("/config"))["effective"]
        except (AskError, ValueError, KeyError, TypeError) as error:
            fail(error)
        findings += find_names(names_of(effective or {}))
    if as_json:
        click.echo(json.dumps([asdict(one) for one in findings]))
    else:
        for one in findings:
            click.echo(str(one))
    outcomes = {one.outcome for one in findings}
    sys.exit(0 if "proved" in outcomes and "refuted" not in outcomes else 1)
