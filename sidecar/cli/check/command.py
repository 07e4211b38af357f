"""The command `sidecar check`. *Cold.*"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence

import click

from sidecar.cli.check.files import STDIN, NoFileError, files_in, is_of_others, is_one, source_of
from sidecar.cli.check.judged import Judged, judge, strictly
from sidecar.cli.check.report import tell, tell_as_json
from sidecar.cli.check.sarif import as_sarif
from sidecar.config.source import SourceError

PROBLEMS = 1
CANNOT_READ = 2


@click.command("check")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(allow_dash=True, path_type=str))
@click.option("--strict", is_flag=True, help="Take warnings for problems: exit code 1.")
@click.option("--resolve", "asks_names", is_flag=True, help="Look up the names in the files.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "sarif"]),
    help="How the result is told: lines for people, one object, or SARIF 2.1.0 for code review.",
)
@click.option("--json", "as_json", is_flag=True, help="Short for --format json.")
def check(files: tuple[str, ...], strict: bool, asks_names: bool, form: str | None, as_json: bool) -> None:
    """
    Check configuration files without using them, and run their tests.

    A FILE may be a directory, for its files called *.yaml and *.yml (not those of directories in it, nor those without
    any key that a sidecar knows), or `-` for standard input. Every problem is a line
    `file:line:column: path: message; hint` on standard error, every warning one with `warning:` before the path and the
    name of its rule at the end. docs/check.md explains each rule; a comment `# sidecar: ignore RULE` on its line, or
    alone on the line before, silences it.

    The exit code is the worst of all files: 0 good, warnings or not, 1 problems, 2 one cannot be read. Of a good file,
    a line tells of each OTEL_* variable of this environment that would have no effect.
    """
    if as_json and form not in (None, "json"):
        raise click.UsageError(f"expected one of --json and --format {form}, found both")
    if files.count(STDIN) > 1:
        raise click.UsageError("expected `-` once, found it several times: standard input ends after the first")
    all_judged = list(_judged(files, asks_names=asks_names))
    if strict:
        all_judged = [strictly(judged) for judged in all_judged]
    form = "json" if as_json else form or "text"
    if form == "sarif":
        print(json.dumps(as_sarif(all_judged, os.getcwd()), indent=2))
    else:
        (tell_as_json if form == "json" else tell)(all_judged, is_one=is_one(files))
    sys.exit(max(_code(judged) for judged in all_judged))


def _judged(named: Sequence[str], *, asks_names: bool) -> Iterator[Judged]:
    """What is found of each file, once each, in the order in which they were named."""
    seen: set[str] = set()
    for path in named:
        try:
            found = files_in(path)
        except NoFileError as error:
            yield Judged(path, error=str(error))
            continue
        except OSError as error:
            yield Judged(path, error=str(SourceError(path, error)))
            continue
        some = [_of_file(file, asks_names, is_named=file == path) for file in found if file not in seen]
        seen.update(found)
        yield from some
        if some and all(judged.is_left_out for judged in some):
            yield Judged(path, error=f"cannot check {path}: no file in it is a sidecar's; name the file")


def _of_file(file: str, asks_names: bool, *, is_named: bool) -> Judged:
    try:
        source = source_of(file)
    except SourceError as error:
        return Judged(file, error=str(error))
    if not is_named and is_of_others(source):
        return Judged(file, is_left_out=True)
    return judge(source, os.environ, asks_names=asks_names)


def _code(judged: Judged) -> int:
    if judged.error:
        return CANNOT_READ
    return PROBLEMS if judged.problems else 0
