"""The table of `sidecar import`."""

from __future__ import annotations

import click

from sidecar.cli.commands import LazyGroup

_COMMANDS = {
    "app-mesh": ("sidecar.cli.importing.app_mesh", "app_mesh", "From AWS App Mesh."),
    "gateway-api": ("sidecar.cli.importing.gateway_api", "gateway_api", "From routes of Kubernetes' Gateway API."),
}


@click.group("import", cls=LazyGroup, table=_COMMANDS)
def import_() -> None:
    """Another mesh's configuration as the files of ours, with an account of every field."""
