"""`sidecar exec -- COMMAND`: the sidecar as the parent of its app, for jobs and for containers that hold both."""

from __future__ import annotations

from typing import Any

import click

from sidecar.cli.run import config_option, control_options, log_level_option, options_of, serve_file


@click.command(
    "exec", context_settings={"allow_interspersed_args": False}, short_help="Run the sidecar, and the app as its child."
)
@config_option
@log_level_option
@control_options
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_context
def exec_(context: click.Context, /, path: str, log_level: str, command: tuple[str, ...], **control: Any) -> None:
    """
    Run the sidecar and, as soon as it is ready, COMMAND as its child.

    When the command ends, the sidecar drains and exits with its code (128 + n if signal n ended it; 127 if there is no
    such program, 126 if it cannot be executed, 1 if the sidecar could not start). SIGTERM drains inbound first and is
    then passed on; other signals, and a second SIGTERM, reach the command at once.
    """
    serve_file(context, path, log_level, options_of(control), command=command)
