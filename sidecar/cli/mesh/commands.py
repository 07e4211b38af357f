"""The command `sidecar mesh` and the table of its subcommands, each imported only when it is called."""

from __future__ import annotations

import click

from sidecar.cli.commands import LazyGroup

_COMMANDS = {
    "check": ("sidecar.cli.mesh.check", "check", "Check a mesh's files and print every problem."),
    "compile": ("sidecar.cli.mesh.compile", "compile_", "Print the file that a service's sidecars get."),
}


@click.group("mesh", cls=LazyGroup, table=_COMMANDS)
def mesh() -> None:
    """Many sidecars from one directory: what it says, what each of them gets, where requests go."""
