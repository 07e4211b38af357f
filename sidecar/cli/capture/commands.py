"""The table of `sidecar capture`."""

from __future__ import annotations

import click

from sidecar.cli.commands import LazyGroup

_COMMANDS = {
    "install": ("sidecar.cli.capture.install", "install", "Lead the app's connections to its sidecar."),
    "check": ("sidecar.cli.capture.check", "check", "Prove what can be proved of captured connections."),
    "uninstall": ("sidecar.cli.capture.uninstall", "uninstall", "Take these rules away again."),
}


@click.group("capture", cls=LazyGroup, table=_COMMANDS)
def capture() -> None:
    """Traffic without the app's help: rules of the kernel, in the network namespace in which this runs."""
