"""`sidecar control`: run the control plane of a mesh."""

from __future__ import annotations

import asyncio
import sys

import click

from sidecar.cli.wait import seconds
from sidecar.net.descriptors import raise_limit
from sidecar.process_log import LEVELS, bounded_stderr, configure

PROBLEMS = 1
CANNOT_READ = 2


@click.command("control", short_help="Run the control plane of a mesh.")
@click.option(
    "--mesh", "-m", default="", envvar="SIDECAR_MESH", show_envvar=True, type=click.Path(),
    help="The mesh's directory, or its one file; followed while running. Other engines have the mesh themselves.",
)  # fmt: skip
@click.option("--engine", default="files", show_default=True, metavar="files|kubernetes|etcd://HOST:PORT,...[/PREFIX]",
              envvar="SIDECAR_CONTROL_ENGINE", show_envvar=True,
              help="Where the mesh and what outlives a restart are kept.")  # fmt: skip
@click.option("--etcd-ca", default="", envvar="SIDECAR_ETCD_CA", show_envvar=True, type=click.Path(),
              help="Certificates that etcd's are signed by; etcd is spoken to by TLS then.")  # fmt: skip
@click.option("--etcd-cert", default="", envvar="SIDECAR_ETCD_CERT", show_envvar=True, type=click.Path(),
              help="The certificate to show to etcd.")  # fmt: skip
@click.option("--etcd-key", default="", envvar="SIDECAR_ETCD_KEY", show_envvar=True, type=click.Path(),
              help="Its key.")  # fmt: skip
@click.option("--etcd-user", default="", envvar="SIDECAR_ETCD_USER", show_envvar=True, help="Name of a user of etcd.")
@click.option("--etcd-password-file", default="", envvar="SIDECAR_ETCD_PASSWORD_FILE", show_envvar=True,
              type=click.Path(), help="A file with that user's password.")  # fmt: skip
@click.option("--kubernetes", default="", envvar="SIDECAR_KUBERNETES", show_envvar=True, metavar="URL",
              help="Of the API of Kubernetes, for --engine kubernetes outside of a pod.")  # fmt: skip
@click.option("--kubernetes-token-file", default="", envvar="SIDECAR_KUBERNETES_TOKEN_FILE", show_envvar=True,
              type=click.Path(), help="With the token to show; followed. Default in a pod: its account's.")  # fmt: skip
@click.option("--kubernetes-ca", default="", envvar="SIDECAR_KUBERNETES_CA", show_envvar=True, type=click.Path(),
              help="Certificates that the API's is signed by. Default in a pod: its account's.")  # fmt: skip
@click.option("--kubernetes-namespace", default="", envvar="SIDECAR_KUBERNETES_NAMESPACE", show_envvar=True,
              metavar="NAME", help="Where the mesh's objects are. Default in a pod: its own.")  # fmt: skip
@click.option("--kubernetes-mesh", default="", envvar="SIDECAR_KUBERNETES_MESH", show_envvar=True, metavar="NAME",
              help="ConfigMaps with the label sidecar.mesh/mesh=NAME are the mesh.  [default: mesh]")  # fmt: skip
@click.option(
    "--state", default="", envvar="SIDECAR_CONTROL_STATE", show_envvar=True, type=click.Path(),
    help="A folder for what outlives a restart: revisions, rollouts, registrations. Without it, memory only.",
)  # fmt: skip
@click.option("--listen", default="127.0.0.1:15010", show_default=True, metavar="HOST:PORT",
              envvar="SIDECAR_CONTROL_LISTEN", show_envvar=True, help="For sidecars and people.")  # fmt: skip
@click.option("--ops-listen", default="127.0.0.1:15014", show_default=True, metavar="HOST:PORT",
              envvar="SIDECAR_CONTROL_OPS_LISTEN", show_envvar=True, help="For /ready and /metrics.")  # fmt: skip
@click.option("--advertise", default="", metavar="URL", envvar="SIDECAR_CONTROL_ADVERTISE", show_envvar=True,
              help="For other replicas; default: --listen, if that is neither loopback nor any address.")  # fmt: skip
@click.option("--token-file", default="", envvar="SIDECAR_CONTROL_TOKEN_FILE", show_envvar=True, type=click.Path(),
              help="Bearer tokens, one a line, that sidecars and people must have; followed.")  # fmt: skip
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
        if error.name != "aiohttp":
            raise
        raise click.ClickException("install `sidecar-mesh[control]`: the control plane needs aiohttp") from None
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
