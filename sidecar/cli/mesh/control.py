"""`sidecar control`: run the control plane of a mesh."""

from __future__ import annotations

import asyncio
import sys

import click

from sidecar.cli.mesh.authority.engine import engine_options
from sidecar.cli.wait import seconds
from sidecar.net.descriptors import raise_limit
from sidecar.process_log import LEVELS, bounded_stderr, configure

PROBLEMS = 1
CANNOT_READ = 2


@click.command("control", short_help="Run the control plane of a mesh.")
@engine_options
@click.option("--listen", default="127.0.0.1:15010", show_default=True, metavar="HOST:PORT",
              envvar="SIDECAR_CONTROL_LISTEN", show_envvar=True, help="For sidecars and people.")  # fmt: skip
@click.option("--ops-listen", default="127.0.0.1:15014", show_default=True, metavar="HOST:PORT",
              envvar="SIDECAR_CONTROL_OPS_LISTEN", show_envvar=True, help="For /ready and /metrics.")  # fmt: skip
@click.option("--advertise", default="", metavar="URL", envvar="SIDECAR_CONTROL_ADVERTISE", show_envvar=True,
              help="For other replicas; default: --listen, if that is neither loopback nor any address.")  # fmt: skip
@click.option("--token-file", default="", envvar="SIDECAR_CONTROL_TOKEN_FILE", show_envvar=True, type=click.Path(),
              help="Bearer tokens, one a line, that sidecars and people must have; followed.")  # fmt: skip
@click.option("--operator", "operators", multiple=True, metavar="NAME:read|write:FILE",
              help="Somebody with bearer tokens of their own in FILE, and what they may; again for each.")  # fmt: skip
@click.option("--accept", default="", envvar="SIDECAR_CONTROL_ACCEPT", show_envvar=True, metavar="clear,tls",
              help="What --listen takes; `clear` alone: no identities.  [default: tls, on loopback both]")  # fmt: skip
@click.option("--create-ca", "creates_ca", is_flag=True, envvar="SIDECAR_CONTROL_CREATE_CA", show_envvar=True,
              help="Make the mesh's own authority if there is none.")  # fmt: skip
@click.option("--publish-roots", default="", metavar="CONFIGMAP", envvar="SIDECAR_CONTROL_PUBLISH_ROOTS",
              show_envvar=True,
              help="Of --engine kubernetes: keep the mesh's roots in each namespace of injected pods.")  # fmt: skip
@click.option("--allow-host", "allowed_hosts", multiple=True, metavar="NAME",
              help="A name by which a listener on loopback may be called besides `localhost`.")  # fmt: skip
@click.option("--name", "replica", default="", envvar="SIDECAR_CONTROL_NAME", show_envvar=True,
              help="Of this control plane; default: the host's.")  # fmt: skip
@click.option("--spread", default="5s", show_default=True, callback=seconds,
              help="Over which a change that concerns many sidecars is spread.")  # fmt: skip
@click.option("--max-streams", default=10_000, show_default=True, type=click.IntRange(1), help="Sidecars at once.")
@click.option("--now", "is_now", is_flag=True, help="Skip the waves of every rollout.")
@click.option("--access-log/--no-access-log", "has_access_log", default=True, show_default=True,
              help="A line of JSON for each request on standard output; reports that went well have none.")  # fmt: skip
@click.option("--log-level", envvar="SIDECAR_LOG_LEVEL", default="info", show_default=True, show_envvar=True,
              type=click.Choice(LEVELS, case_sensitive=False), help="Of the process log on stderr.")  # fmt: skip
@click.option("--check", "is_check", is_flag=True, help="Only say what is wrong with options and mesh, and end.")
def control(log_level: str, is_check: bool, spread: float, **options: object) -> None:
    """
    Tell every sidecar of a mesh what to do, and show what all of them do: docs/mesh-control.md.

    Runs until SIGTERM (streams are told to move, then exit) or SIGINT (exit at once). Exit codes: 0 ended as asked, 1
    could not start or broke, 2 wrong usage; of `--check` 0 good, 1 problems, 2 cannot be read.
    """
    try:
        from sidecar.control.start import Options, StartError, check, run
    except ModuleNotFoundError as error:
        if error.name not in ("aiohttp", "cryptography"):
            raise
        raise click.ClickException(f"install `sidecar-mesh[control]`: the control plane needs {error.name}") from None
    if options["engine"] == "files" and not options["mesh"]:
        raise click.UsageError("give '--mesh', the mesh's directory or its one file, or another '--engine'")
    asked = Options(spread_s=spread, **options)  # type: ignore[arg-type]
    if is_check:
        try:
            problems = asyncio.run(check(asked))
        except StartError as error:
            click.echo(f"sidecar: {error}", err=True)
            sys.exit(CANNOT_READ)
        for one in problems:
            hint = f"; {one['hint']}" if one["hint"] else ""
            path = f"{one['path']}: " if one["path"] else ""
            click.echo(f"{one['file']}:{one['line']}:{one['column']}: {path}{one['message']}{hint}", err=True)
        sys.exit(PROBLEMS if problems else 0)
    bounded_stderr()
    configure(log_level)
    raise_limit()
    sys.exit(run(asked))
