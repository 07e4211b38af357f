"""`sidecar inject`: a sidecar for the workloads of manifests. *Cold.*"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Final

import click

from sidecar.cli.inject.options import decision_options, judge, version, wanted_of
from sidecar.cli.inject.serve import WithServe
from sidecar.cli.inject.writing import BOM, replace, stream
from sidecar.cli.mesh.reading import counted
from sidecar.config.problems import ConfigError, Problem
from sidecar.config.source import MAX_FILE_BYTES, SourceError, decode, make_source, read_source
from sidecar.inject.manifests import Outcome
from sidecar.inject.manifests import inject as put_in
from sidecar.inject.manifests import uninject as take_out
from sidecar.inject.wanted import Wanted

PROBLEMS: Final = 1
USAGE: Final = 2
_STDIN: Final = "<stdin>"


@click.command("inject", cls=WithServe, short_help="Put a sidecar into the manifests of apps, or take it out.")
@click.argument("files", nargs=-1, type=click.Path(allow_dash=True, path_type=str), metavar="[FILE]...")
@click.option("--uninject", is_flag=True, help="Take out what was injected: the file is what it was before.")
@click.option("--in-place", "-i", is_flag=True, help="Write the files themselves, each at once or not at all.")
@click.option("--quiet", "-q", is_flag=True, help="Tell only of problems.")
@decision_options
@click.option("--service", multiple=True, metavar="NAME", help="Of a Compose file; repeatable.")
@click.option(
    "--replace-app-mesh", is_flag=True, help="Of a task of ECS: put the sidecar in the place of App Mesh's Envoy."
)
@click.option("--kubernetes-version", default="1.30", show_default=True, callback=version, help="Of the cluster.")
def inject(files: tuple[str, ...], **options: Any) -> None:
    """
    Put a sidecar beside every app of the manifests in FILEs (`-` or none: standard input), and print them.

    Deployments, StatefulSets, DaemonSets, Jobs, CronJobs, Pods and Lists of Kubernetes. Every byte that is not the
    sidecar's stays; what was injected before is brought up to date. A line for each workload on standard error says
    what was added and what to know. If anything is refused, nothing is written: exit code 1; 2 for what cannot
    be read.

    `sidecar inject serve` does the same to what is sent to the API: `sidecar inject serve --help`.
    """
    if options["in_place"] and (not files or "-" in files):
        raise click.UsageError("--in-place needs files")
    if files.count("-") > 1:
        raise click.UsageError("standard input can be read once")
    wanted = wanted_of(options)
    if not options["uninject"]:
        judge(wanted)
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
