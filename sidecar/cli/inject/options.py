"""The options that say what is injected: of files and of the webhook, in one place. *Cold.*"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import click

from sidecar.config.values.addresses import parse_http_url
from sidecar.inject.said import exclusions, quantity
from sidecar.inject.wanted import Wanted
from sidecar.mesh.model.words import parse_name

_VERSION: Final = re.compile(r"v?([0-9]{1,3})\.([0-9]{1,3})(?:[.+-].*)?")


def _checked(check: Callable[[str], object]) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """A callback that refuses what `check` refuses, in its words."""

    def callback(_: click.Context, __: click.Parameter, value: Any) -> Any:
        try:
            for one in value if isinstance(value, tuple) else (value,):
                if one:
                    check(one)
        except ValueError as error:
            context = getattr(error, "context", None) or {}  # of the models' own errors
            what = f"expected {context['message']}, found {one!r}" if context else str(error)
            raise click.BadParameter(what) from None
        return value

    return callback


def version(_: click.Context, __: click.Parameter, value: str) -> tuple[int, int]:
    """A callback that reads `1.30` or `v1.30.2-eks`."""
    found = _VERSION.fullmatch(value)
    if found is None:
        raise click.BadParameter(f"expected a version such as 1.30, found {value!r}")
    return int(found[1]), int(found[2])


_OPTIONS: Final = (
    click.option("--image", default="sidecar:latest", show_default=True, help="Of the sidecar."),
    click.option(
        "--control", multiple=True, metavar="URL", callback=_checked(parse_http_url),
        help="The control plane; repeatable.",
    ),
    click.option(
        "--config", default="", metavar="NAME",
        help="ConfigMap with sidecar.yaml; with Compose, a directory that has it.",
    ),
    click.option(
        "--mesh", default="", callback=_checked(parse_name),
        help="Its name: pods join its control plane by their service account.",
    ),
    click.option("--roots", default="", metavar="CONFIGMAP", help="Has roots.pem, whom a pod is to believe."),
    click.option(
        "--token", default="", metavar="SECRET", help="Has `token`, a join token, instead of the service account's."
    ),
    click.option("--plain", is_flag=True, help="A container like the app's, and no native sidecar."),
    click.option(
        "--capture/--no-capture", default=None,
        help="Lead the app's connections to it; default: in Kubernetes, and nowhere else.",
    ),
    click.option(
        "--proxy-env/--no-proxy-env", default=None,
        help="Set HTTP_PROXY and NO_PROXY for the app; default: with Compose and ECS, where nothing is captured.",
    ),
    click.option(
        "--exclude-inbound", default="", metavar="PORT|NETWORK,...", callback=_checked(exclusions),
        help="Do not capture these.",
    ),
    click.option(
        "--exclude-outbound", default="", metavar="PORT|NETWORK,...", callback=_checked(exclusions), help="Nor these."
    ),
    click.option("--cpu", default="50m", show_default=True, callback=_checked(quantity), help="Requested."),
    click.option("--memory", default="128Mi", show_default=True, callback=_checked(quantity), help="Requested."),
    click.option("--cpu-limit", default="", callback=_checked(quantity), help="Default: none."),
    click.option("--memory-limit", default="512Mi", show_default=True, callback=_checked(quantity)),
)  # fmt: skip


def decision_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """All of them, in this order."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def wanted_of(options: Mapping[str, Any]) -> Wanted:
    """What the options say; those of other platforms need not be among them."""
    return Wanted(
        image=options["image"],
        control=options["control"],
        config=options["config"],
        mesh=options["mesh"],
        roots=options["roots"],
        token=options["token"],
        is_captured=options["capture"],
        is_plain=options["plain"],
        has_proxy_env=options["proxy_env"],
        exclude_inbound=options["exclude_inbound"],
        exclude_outbound=options["exclude_outbound"],
        cpu=options["cpu"],
        memory=options["memory"],
        cpu_limit=options["cpu_limit"],
        memory_limit=options["memory_limit"],
        kubernetes=options["kubernetes_version"] or Wanted().kubernetes,
        services=options.get("service", ()),
        replaces_app_mesh=options.get("replace_app_mesh", False),
    )


def judge(wanted: Wanted) -> None:
    """What no workload can put right. Raises UsageError."""
    for name in ("mesh", "roots", "token"):
        if getattr(wanted, name) and not wanted.control:
            raise click.UsageError(f"--{name} is of a control plane: give --control, too")
    if wanted.mesh and wanted.token:
        raise click.UsageError("a pod joins by its service account (--mesh) or by a join token (--token), not by both")
