"""The command `sidecar` and the table of its subcommands, each imported only when it is called."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click

from sidecar import build

_COMMANDS = {
    "run": ("sidecar.cli.run", "run", "Run the sidecar with one configuration file."),
    "exec": ("sidecar.cli.exec", "exec_", "Run the sidecar, and the app as its child."),
    "wait": ("sidecar.cli.wait", "wait", "Block until a sidecar is ready."),
    "check": ("sidecar.cli.check.command", "check", "Check configuration files and print every problem."),
    "explain": ("sidecar.cli.insight.explain", "explain", "Say where a request goes, why, and with which settings."),
    "schema": ("sidecar.cli.schema", "schema", "Print the JSON Schema of the configuration file."),
    "top": ("sidecar.cli.top", "top", "Show rates, success and latency of a running sidecar."),
    "tap": ("sidecar.cli.tap", "tap", "Show requests of a running sidecar as they happen."),
    "routes": ("sidecar.cli.insight.routes", "routes", "Show how often each route of a running sidecar was hit."),
    "preview": ("sidecar.cli.insight.preview", "preview", "Show what another file would do with the last requests."),
    "inject": ("sidecar.cli.inject.command", "inject", "Put a sidecar into the manifests of apps, or take it out."),
    "capture": ("sidecar.cli.capture.commands", "capture", "Lead an app's connections to its sidecar."),
    "control": ("sidecar.cli.mesh.control", "control", "Run the control plane of a mesh."),
    "mesh": ("sidecar.cli.mesh.commands", "mesh", "Check, compile and explain the files of a mesh."),
    "import": (
        "sidecar.cli.importing.commands",
        "import_",
        "Turn another mesh's configuration into the files of ours.",
    ),
    "demo": ("sidecar.cli.demo", "demo", "Run an app with its sidecar and two versions of a service."),
}

Table = Mapping[str, tuple[str, str, str]]
"""By the command's name: module, attribute and the line that `--help` shows, so that help imports nothing either."""


class LazyGroup(click.Group):
    """
    A group of commands that are imported at their first use.

    Args:
        table: What there is, in the order in which help shows it.
    """

    def __init__(self, *args: Any, table: Table, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._table = table

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the table."""
        return list(self._table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command of this name, or None if there is none."""
        entry = self._table.get(cmd_name)
        if entry is None:
            return None
        command = getattr(importlib.import_module(entry[0]), entry[1])
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry[2]) for name, entry in self._table.items()])


@click.group(cls=LazyGroup, table=_COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(build.DESCRIPTION, "-V", "--version", prog_name="sidecar")
def cli() -> None:
    """A proxy beside your app: routing, protection and telemetry from one hot-reloaded YAML file."""
