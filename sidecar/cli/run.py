"""`sidecar run`: start the process and stay until a signal."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NoReturn

import click
from click.core import ParameterSource

from sidecar.net.descriptors import LEAST, Descriptors, raise_limit
from sidecar.process_log import LEVELS, bounded_stderr, configure
from sidecar.redact import Secrets

DEFAULT_CONFIG = "/etc/sidecar/sidecar.yaml"

_CONTROL_OPTIONS: Final[Mapping[str, str]] = {
    "control": "The control plane that says what is run; may come several times, in the variable parted by spaces.",
    "service": "Who this is in the mesh; instead of `service.name` of the file, and so for those that follow.",
    "version": "The app's version.",
    "address": "Name or IP address by which others reach this instance; default: it is found out.",
    "zone": "Where this sidecar is.",
    "instance": "A name that no other instance has; default: one is made.",
    "control-token-file": "Holds the token by which it joins the mesh, or a bearer token for the control plane.",
    "capture": "Connections of the app, and to it, are led here: `passthrough` or `deny`, for what nothing names.",
    "control-trust": "Certificates (PEM) that its own must be signed by, where the token does not say it.",
    "state-dir": "Where what was pushed is kept for the next start, or `off`. "
    "Default: $STATE_DIRECTORY, else /var/lib/sidecar.",
}


config_option = click.option(
    "--config", "-c", "path", envvar="SIDECAR_CONFIG", default=DEFAULT_CONFIG, show_default=True, show_envvar=True,
    type=click.Path(dir_okay=True), help="The configuration file; followed while running.",
)  # fmt: skip
log_level_option = click.option(
    "--log-level", envvar="SIDECAR_LOG_LEVEL", default="info", show_default=True, show_envvar=True,
    type=click.Choice(LEVELS, case_sensitive=False), help="Of the process log on stderr; POST /logging changes it.",
)  # fmt: skip


def control_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of a command that can follow a control plane; `options_of` gathers them."""
    for name, help_text in reversed(tuple(_CONTROL_OPTIONS.items())):
        many = name == "control"
        command = click.option(
            f"--{name}", envvar=f"SIDECAR_{name.replace('-', '_').upper()}", show_envvar=True, multiple=many,
            metavar="URL" if many else None, help=help_text,
        )(command)  # fmt: skip
    return command


def options_of(given: Mapping[str, Any]) -> dict[str, str | list[str]]:
    """Those that were given, by name (`config.merge.OPTIONS`)."""
    named = ((name, given[name.replace("-", "_")]) for name in _CONTROL_OPTIONS)
    return {name: list(value) if isinstance(value, tuple) else value for name, value in named if value}


@click.command(short_help="Run the sidecar with one configuration file, or as a control plane says.")
@config_option
@log_level_option
@control_options
@click.option(
    "--takeover", is_flag=True, envvar="SIDECAR_TAKEOVER", show_envvar=True,
    help="Take over the sockets of the running sidecar with the same admin address, which then drains.",
)  # fmt: skip
@click.pass_context
def run(context: click.Context, /, path: str, log_level: str, takeover: bool, **control: Any) -> None:
    """
    Run the sidecar until SIGTERM (drain, then exit) or SIGINT (exit at once).

    With --control a control plane says what is run; the file is then this machine's own part, and need not be there.

    SIGHUP reloads the file, SIGUSR1 opens the access log again. Exit codes: 0 stopped as asked, 1 could not start,
    2 wrong usage.
    """
    serve_file(context, path, log_level, options_of(control), takes_over=takeover)


def serve_file(
    context: click.Context,
    path: str,
    log_level: str,
    options: Mapping[str, str | Sequence[str]],
    *,
    takes_over: bool = False,
    command: Sequence[str] = (),
) -> NoReturn:
    """
    Run a sidecar with this file, which the compiler reads, if there is one; else as `workers.start.serve` says. Ends
    the process with the exit code.

    Args:
        context: Has the compiler, and knows whether the path was given.
        options: What concerns a control plane.
    """
    from sidecar.loader.compiler_process import CompilerProcess
    from sidecar.loader.plan_source import MeshRequest
    from sidecar.runtime.threads import leave
    from sidecar.workers.start import serve

    bounded_stderr()
    configure(log_level, secrets=Secrets.of(os.environ))
    raise_limit()
    limit = Descriptors().limit
    if limit < LEAST:
        sys.stderr.write(f"sidecar: expected a limit of open files (nofile) of at least {LEAST}, found {limit}\n")
        leave(1)
    is_default = context.get_parameter_source("path") is ParameterSource.DEFAULT
    request = MeshRequest(options, is_optional=is_default) if options else None
    compiler = CompilerProcess(path, os.environ, context.obj)
    serve(path, os.environ, compiler, request=request, takes_over=takes_over, command=command)
