"""`sidecar mesh install`: the manifests of control plane and webhook."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import Any, Final

import click

from sidecar.cli.inject.options import decision_options, judge, wanted_of
from sidecar.cli.mesh.reading import files_of, mesh_of_files
from sidecar.config.problems import ConfigError
from sidecar.inject.said import object_name
from sidecar.install.files import FileError
from sidecar.install.print import printed
from sidecar.install.settings import Settings

PROBLEMS: Final = 1
_LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_ETCD: Final = re.compile(r"etcds?://[^\s/]+(/\S*)?")


def _namespace(_: click.Context, __: click.Parameter, value: Any) -> Any:
    for one in value if isinstance(value, tuple) else (value,):
        if _LABEL.fullmatch(one) is None:
            raise click.BadParameter(f"expected lower-case letters, digits and `-`, at most 63, found {one!r}")
    return value


def _object(_: click.Context, __: click.Parameter, value: str) -> str:
    try:
        return object_name(value) if value else ""
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _engine(_: click.Context, __: click.Parameter, value: str) -> str:
    if value != "kubernetes" and _ETCD.fullmatch(value) is None:
        raise click.BadParameter(f"expected kubernetes or etcd://HOST:PORT,...[/PREFIX], found {value!r}")
    return value


@click.command("install", short_help="Print the manifests of control plane and webhook for Kubernetes.")
@click.option("--namespace", default="sidecar-mesh", show_default=True, metavar="NAME", callback=_namespace,
              help="Of control plane and webhook, and of nothing else.")  # fmt: skip
@click.option("--replicas", default=2, show_default=True, type=click.IntRange(1, 100), help="Of each of the two.")
@click.option("--engine", default="kubernetes", show_default=True, metavar="kubernetes|etcd://HOST:PORT,...[/PREFIX]",
              callback=_engine, help="Where the control plane keeps what outlives it.")  # fmt: skip
@click.option("--etcd-secret", default="", metavar="NAME", callback=_object,
              help="Secret with ca.crt, tls.crt and tls.key, for an etcd that is spoken to by TLS.")  # fmt: skip
@click.option("--files", default="", metavar="DIR", type=click.Path(),
              help="The mesh's directory: its files become ConfigMaps.")  # fmt: skip
@click.option("--endpoints-of", multiple=True, metavar="NAMESPACE", callback=_namespace,
              help="Where Services are that the mesh's files name; repeatable.")  # fmt: skip
@click.option("--webhook/--no-webhook", "has_webhook", default=True, show_default=True,
              help="Give pods their sidecars as they are made.")  # fmt: skip
@click.option("--failure-policy", default="fail", show_default=True, type=click.Choice(("fail", "ignore")),
              help="Without an answer of the webhook: no pod, or a pod without a sidecar.")  # fmt: skip
@click.option("--publish-roots/--no-publish-roots", "publishes_roots", default=True, show_default=True,
              help="Have the control plane keep the mesh's roots in each namespace of injected pods.")  # fmt: skip
@click.option("--prometheus-operator", "has_prometheus_operator", is_flag=True,
              help="PodMonitors instead of annotations.")  # fmt: skip
@decision_options
def install(**options: Any) -> None:
    """
    Print the manifests of a mesh in Kubernetes: `sidecar mesh install --mesh shop | kubectl apply -f -`.

    Control plane, webhook, permissions, Services, budgets, network policies: docs/mesh-install.md. The same options
    print the same bytes; no cluster is asked. What is injected is said by the options of `sidecar inject`; without
    --control it is the control plane that is printed. Exit codes: 0 printed, 1 the mesh's files have problems, 2 wrong
    usage or not readable.
    """
    if options["engine"] == "kubernetes" and options["etcd_secret"]:
        raise click.UsageError("--etcd-secret is of --engine etcd://...")
    if options["engine"] != "kubernetes":
        _check_etcd(options)
    files = files_of(options["files"], as_json=False) if options["files"] else {}
    mesh = _name(options, files)
    is_elsewhere = bool(options["control"])
    # The mesh's name is the whole mesh's here; by what a pod joins is said by --token, or else it is its account.
    of_pods = options | {"mesh": mesh if is_elsewhere and not options["token"] else "", "kubernetes_version": None}
    if is_elsewhere:
        judge(wanted_of(of_pods))
    settings = Settings(
        mesh=mesh,
        namespace=options["namespace"],
        image=options["image"],
        wanted=wanted_of(of_pods),
        replicas=options["replicas"],
        engine=options["engine"],
        etcd_secret=options["etcd_secret"],
        has_webhook=options["has_webhook"],
        fails_closed=options["failure_policy"] == "fail",
        publishes_roots=options["publishes_roots"],
        endpoints_of=options["endpoints_of"],
        has_prometheus_operator=options["has_prometheus_operator"],
        files=files,
    )
    try:
        text = printed(settings)
    except (FileError, ConfigError) as error:
        click.echo(str(error), err=True)
        sys.exit(PROBLEMS)
    sys.stdout.buffer.write(text.encode())
    sys.stdout.buffer.flush()


def _check_etcd(options: dict[str, Any]) -> None:
    if options["files"]:
        raise click.UsageError("--files is of --engine kubernetes; with etcd: sidecar mesh push DIR")
    if options["endpoints_of"]:
        raise click.UsageError("--endpoints-of is of --engine kubernetes")
    if options["has_webhook"] and not (options["token"] or options["control"] or options["config"]):
        raise click.UsageError(
            "with etcd no pod joins by its service account: give --token SECRET, with a join token, or --no-webhook"
        )


def _name(options: dict[str, Any], files: Mapping[str, bytes]) -> str:
    """The mesh's, as its files say it, which must be good and agree. Raises UsageError."""
    if options["files"]:
        mesh = mesh_of_files(options["files"], files, as_json=False)
        if options["mesh"] not in ("", mesh.name):
            raise click.UsageError(f"--mesh is {options['mesh']}, and the files say {mesh.name}: leave --mesh out")
        return mesh.name
    if not options["mesh"]:
        raise click.UsageError("give --mesh NAME, the mesh's name, as its mesh.yaml says it, or --files DIR")
    return str(options["mesh"])
