"""`sidecar run`: start the process and stay until a signal."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from sidecar.loader.spawn import Child
from sidecar.net.descriptors import LEAST, Descriptors, raise_limit
from sidecar.process_log import LEVELS, bounded_stderr, configure
from sidecar.redact import Secrets

DEFAULT_CONFIG = "/etc/sidecar/sidecar.yaml"


config_option = click.option(
    "--config", "-c", "path", envvar="SIDECAR_CONFIG", default=DEFAULT_CONFIG, show_default=True, show_envvar=True,
    type=click.Path(dir_okay=True), help="The configuration file; followed while running.",
)  # fmt: skip
log_level_option = click.option(
    "--log-level", envvar="SIDECAR_LOG_LEVEL", default="info", show_default=True, show_envvar=True,
    type=click.Choice(LEVELS, case_sensitive=False), help="Of the process log on stderr; POST /logging changes it.",
)  # fmt: skip


@click.command(short_help="Run the sidecar with one configuration file.")
@config_option
@log_level_option
@click.option(
    "--takeover", is_flag=True, envvar="SIDECAR_TAKEOVER", show_envvar=True,
    help="Take over the sockets of the running sidecar with the same admin address, which then drains.",
)  # fmt: skip
@click.pass_obj
def run(compiler: Child | None, path: str, log_level: str, takeover: bool) -> None:
    """
    Run the sidecar until SIGTERM (drain, then exit) or SIGINT (exit at once).

    SIGHUP reloads the file, SIGUSR1 opens the access log again. Exit codes: 0 stopped as asked, 1 could not start,
    2 wrong usage.
    """
    serve_file(compiler, path, log_level, takes_over=takeover)


def serve_file(
    compiler: Child | None, path: str, log_level: str, *, takes_over: bool = False, command: Sequence[str] = ()
) -> NoReturn:
    """
    Run a sidecar with this file, which the compiler reads, if there is one; else as `workers.start.serve` says. Ends
    the process with the exit code.
    """
    from sidecar.loader.compiler_process import CompilerProcess
    from sidecar.runtime.threads import leave
    from sidecar.workers.start import serve

    bounded_stderr()
    configure(log_level, secrets=Secrets.of(os.environ))
    raise_limit()
    limit = Descriptors().limit
    if limit < LEAST:
        sys.stderr.write(f"sidecar: expected a limit of open files (nofile) of at least {LEAST}, found {limit}\n")
        leave(1)
    serve(path, os.environ, CompilerProcess(path, os.environ, compiler), takes_over=takes_over, command=command)
