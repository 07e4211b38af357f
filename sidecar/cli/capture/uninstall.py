"""`sidecar capture uninstall`. *Cold.*"""

from __future__ import annotations

import sys

import click

from sidecar.capture.netfilter.kernel import KernelError
from sidecar.capture.netfilter.table import uninstall as take_away
from sidecar.cli.capture.failures import explained


@click.command("uninstall", short_help="Take the rules of `install` away again.")
def uninstall() -> None:
    """Take away exactly what `install` has put there; connections that are captured stay so until they end."""
    try:
        was_there = take_away()
    except KernelError as error:
        click.echo(f"nothing has changed: {explained(error)}", err=True)
        sys.exit(1)
    click.echo("not captured any more" if was_there else "nothing was captured")
