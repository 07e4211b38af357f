"""`sidecar schema`: the JSON Schema of the configuration file, for editors. *Cold.*"""

from __future__ import annotations

import click

from sidecar.config.schema import json_schema_text


@click.command("schema")
def schema() -> None:
    """Print the JSON Schema of the configuration file."""
    click.echo(json_schema_text(), nl=False)
