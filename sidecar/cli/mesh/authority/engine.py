"""The options that say where a control plane keeps what it must keep: of `sidecar control` and `sidecar mesh ca`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

_OF_THE_API = (
    click.option("--kubernetes", default="", envvar="SIDECAR_KUBERNETES", show_envvar=True, metavar="URL",
                 help="Of the API of Kubernetes, outside of a pod; with --engine kubernetes."),
    click.option("--kubernetes-token-file", default="", envvar="SIDECAR_KUBERNETES_TOKEN_FILE", show_envvar=True,
                 type=click.Path(), help="With the token to show; followed. Default in a pod: its account's."),
    click.option("--kubernetes-ca", default="", envvar="SIDECAR_KUBERNETES_CA", show_envvar=True, type=click.Path(),
                 help="Certificates that the API's is signed by. Default in a pod: its account's."),
    click.option("--kubernetes-namespace", default="", envvar="SIDECAR_KUBERNETES_NAMESPACE", show_envvar=True,
                 metavar="NAME", help="Where the mesh's objects are. Default in a pod: its own."),
)  # fmt: skip

_OPTIONS = (
    click.option(
        "--mesh", "-m", default="", envvar="SIDECAR_MESH", show_envvar=True, type=click.Path(),
        help="The mesh's directory, or its one file; followed while running. Other engines have the mesh themselves.",
    ),
    click.option("--engine", default="files", show_default=True, metavar="files|kubernetes|etcd://HOST:PORT,...[/PREFIX]",
                 envvar="SIDECAR_CONTROL_ENGINE", show_envvar=True,
                 help="Where the mesh and what outlives a restart are kept."),
    click.option("--etcd-ca", default="", envvar="SIDECAR_ETCD_CA", show_envvar=True, type=click.Path(),
                 help="Certificates that etcd's are signed by; etcd is spoken to by TLS then."),
    click.option("--etcd-cert", default="", envvar="SIDECAR_ETCD_CERT", show_envvar=True, type=click.Path(),
                 help="The certificate to show to etcd."),
    click.option("--etcd-key", default="", envvar="SIDECAR_ETCD_KEY", show_envvar=True, type=click.Path(),
                 help="Its key."),
    click.option("--etcd-user", default="", envvar="SIDECAR_ETCD_USER", show_envvar=True,
                 help="Name of a user of etcd."),
    click.option("--etcd-password-file", default="", envvar="SIDECAR_ETCD_PASSWORD_FILE", show_envvar=True,
                 type=click.Path(), help="A file with that user's password."),
    *_OF_THE_API,
    click.option("--kubernetes-mesh", default="", envvar="SIDECAR_KUBERNETES_MESH", show_envvar=True, metavar="NAME",
                 help="ConfigMaps with the label sidecar.mesh/mesh=NAME are the mesh.  [default: mesh]"),
    click.option(
        "--state", default="", envvar="SIDECAR_CONTROL_STATE", show_envvar=True, type=click.Path(),
        help="A folder for what outlives a restart: revisions, rollouts, registrations, the authority. Without it,"
        " memory only.",
    ),
)  # fmt: skip


def engine_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """All of them, in this order."""
    return _with(_OPTIONS, command)


def api_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Those that say where the API of Kubernetes is, and who we are to it."""
    return _with(_OF_THE_API, command)


def _with(options: tuple[Callable[..., Any], ...], command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(options):
        command = option(command)
    return command
