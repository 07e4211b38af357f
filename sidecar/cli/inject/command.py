"""`sidecar inject`: a sidecar for the workloads of manifests. *Cold.*"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

import click

from sidecar.cli.inject.writing import BOM, replace, stream
from sidecar.cli.mesh.reading import counted
from sidecar.config.problems import ConfigError, Problem
from sidecar.config.source import MAX_FILE_BYTES, SourceError, decode, make_source, read_source
from sidecar.config.values.addresses import parse_http_url
from sidecar.inject.manifests import Outcome
from sidecar.inject.manifests import inject as put_in
from sidecar.inject.manifests import uninject as take_out
from sidecar.inject.said import exclusions, quantity
from sidecar.inject.wanted import Wanted
from sidecar.mesh.model.words import parse_name

PROBLEMS: Final = 1
USAGE: Final = 2
_STDIN: Final = "<stdin>"
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


def _version(_: click.Context, __: click.Parameter, value: str) -> tuple[int, int]:
    found = _VERSION.fullmatch(value)
    if found is None:
        raise click.BadParameter(f"expected a version such as 1.30, found {value!r}")
    return int(found[1]), int(found[2])


@click.command("inject", short_help="Put a sidecar into the manifests of apps, or take it out.")
@click.argument("files", nargs=-1, type=click.Path(allow_dash=True, path_type=str), metavar="[FILE]...")
@click.option("--uninject", is_flag=True, help="Take out what was injected: the file is what it was before.")
@click.option("--in-place", "-i", is_flag=True, help="Write the files themselves, each at once or not at all.")
@click.option("--quiet", "-q", is_flag=True, help="Tell only of problems.")
@click.option("--image", default="sidecar:latest", show_default=True, help="Of the sidecar.")
@click.option(
    "--control", multiple=True, metavar="URL", callback=_checked(parse_http_url), help="The control plane; repeatable."
)
@click.option(
    "--config", default="", metavar="NAME", help="ConfigMap with sidecar.yaml; with Compose, a directory that has it."
)
@click.option(
    "--mesh", default="", callback=_checked(parse_name),
    help="Its name: pods join its control plane by their service account.",
)  # fmt: skip
@click.option("--roots", default="", metavar="CONFIGMAP", help="Has roots.pem, whom a pod is to believe.")
@click.option(
    "--token", default="", metavar="SECRET", help="Has `token`, a join token, instead of the service account's."
)
@click.option("--plain", is_flag=True, help="A container like the app's, and no native sidecar.")
@click.option(
    "--capture/--no-capture", default=None,
    help="Lead the app's connections to it; default: in Kubernetes, and nowhere else.",
)  # fmt: skip
@click.option(
    "--proxy-env/--no-proxy-env", default=None,
    help="Set HTTP_PROXY and NO_PROXY for the app; default: with Compose and ECS, where nothing is captured.",
)  # fmt: skip
@click.option("--service", multiple=True, metavar="NAME", help="Of a Compose file; repeatable.")
@click.option(
    "--replace-app-mesh", is_flag=True, help="Of a task of ECS: put the sidecar in the place of App Mesh's Envoy."
)
@click.option(
    "--exclude-inbound", default="", metavar="PORT|NETWORK,...", callback=_checked(exclusions),
    help="Do not capture these.",
)  # fmt: skip
@click.option(
    "--exclude-outbound", default="", metavar="PORT|NETWORK,...", callback=_checked(exclusions), help="Nor these."
)
@click.option("--cpu", default="50m", show_default=True, callback=_checked(quantity), help="Requested.")
@click.option("--memory", default="128Mi", show_default=True, callback=_checked(quantity), help="Requested.")
@click.option("--cpu-limit", default="", callback=_checked(quantity), help="Default: none.")
@click.option("--memory-limit", default="512Mi", show_default=True, callback=_checked(quantity))
@click.option("--kubernetes-version", default="1.30", show_default=True, callback=_version, help="Of the cluster.")
def inject(files: tuple[str, ...], **options: Any) -> None:
    """
    Put a sidecar beside every app of the manifests in FILEs (`-` or none: standard input), and print them.

    Deployments, StatefulSets, DaemonSets, Jobs, CronJobs, Pods and Lists of Kubernetes. Every byte that is not the
    sidecar's stays; what was injected before is brought up to date. A line for each workload on standard error says
    what was added and what to know. If anything is refused, nothing is written: exit code 1; 2 for what cannot
    be read.
    """
    if options["in_place"] and (not files or "-" in files):
        raise click.UsageError("--in-place needs files")
    if files.count("-") > 1:
        raise click.UsageError("standard input can be read once")
    wanted = _wanted(options)
    if not options["uninject"]:
        _judge(wanted)
    outcomes: list[tuple[str, str, Outcome]] = []
    problems: list[Problem] = []
    for file in files or ("-",):
        try:
            before, outcome = _of_file(file, wanted, is_out=options["uninject"])
        except ConfigError as error:
            problems += error.problems
            continue
        problems += outcome.problems
        outcomes.append((file, before, outcome))
    if problems:
        _refuse(problems)
    if not options["quiet"]:
        _tell(outcomes)
    if not options["in_place"]:
        sys.stdout.buffer.write(stream([outcome.text for _, _, outcome in outcomes]))
        sys.stdout.buffer.flush()
        return
    for file, before, outcome in outcomes:
        try:
            if outcome.text != before:
                replace(file, outcome.text.encode())
        except OSError as error:
            click.echo(f"cannot write {file}: {(error.strerror or str(error)).lower()}", err=True)
            sys.exit(USAGE)


def _wanted(options: dict[str, Any]) -> Wanted:
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
        kubernetes=options["kubernetes_version"],
        services=options["service"],
        replaces_app_mesh=options["replace_app_mesh"],
    )


def _judge(wanted: Wanted) -> None:
    """What no workload can put right."""
    for name in ("mesh", "roots", "token"):
        if getattr(wanted, name) and not wanted.control:
            raise click.UsageError(f"--{name} is of a control plane: give --control, too")
    if wanted.mesh and wanted.token:
        raise click.UsageError("a pod joins by its service account (--mesh) or by a join token (--token), not by both")


def _of_file(file: str, wanted: Wanted, *, is_out: bool) -> tuple[str, Outcome]:
    """The text as it was, and what came of it; both with a byte order mark, if there is one."""
    try:
        source = make_source(_STDIN, sys.stdin.buffer.read(MAX_FILE_BYTES + 1)) if file == "-" else read_source(file)
    except SourceError as error:
        click.echo(str(error), err=True)
        sys.exit(USAGE)
    name = source.path
    text = decode(source.raw, name)
    mark = BOM if source.raw.startswith(BOM.encode()) else ""
    outcome = take_out(text, name) if is_out else put_in(text, name, wanted)
    outcome.text = mark + outcome.text
    return mark + text, outcome


def _refuse(problems: Sequence[Problem]) -> None:
    for problem in sorted(problems):
        click.echo(str(problem), err=True)
    files = {problem.file for problem in problems}
    where = next(iter(files)) if len(files) == 1 else counted(len(files), "file")
    click.echo(f"{counted(len(problems), 'problem')} in {where}; nothing is written", err=True)
    sys.exit(PROBLEMS)


def _tell(outcomes: Sequence[tuple[str, str, Outcome]]) -> None:
    for file, _, outcome in outcomes:
        for line in outcome.told or [f"{_STDIN if file == '-' else file}: nothing to do"]:
            click.echo(line, err=True)
