"""What every import does: read, translate, judge, write, tell. *Cold.*"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

import click

from sidecar.config.problems import ConfigError, Problem
from sidecar.config.source import MAX_FILE_BYTES, Source, SourceError, decode, make_source, read_source
from sidecar.config.yaml.document import Node
from sidecar.config.yaml.foreign import parse_foreign
from sidecar.importing.account import Account
from sidecar.importing.draft import MeshDraft
from sidecar.importing.judge import judge
from sidecar.importing.place import PlaceError, put, refuse_others
from sidecar.importing.report import Part, as_plain, counts_of, lines_of, parts_of
from sidecar.importing.write import files_of

PROBLEMS = 1
USAGE = 2

sources = click.argument("files", nargs=-1, required=True, type=click.Path(allow_dash=True, path_type=str))
output_option = click.option("--output", required=True, type=click.Path(path_type=str), help="Directory to write.")
force_option = click.option("--force", is_flag=True, help="Write over an earlier import.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")


@dataclass(frozen=True, slots=True)
class Imported:
    """What a translation made: a draft, if there is anything to write; the account; problems besides."""

    mesh: MeshDraft | None
    accounts: list[Account]
    problems: list[Problem]


def run(
    source: str,
    files: Sequence[str],
    output: str,
    translate: Callable[[list[Node]], Imported],
    *,
    is_forced: bool,
    as_json: bool,
) -> None:
    """Import files into a directory; ends the process with 1 or 2 where it must."""
    try:
        refuse_others(output, is_forced=is_forced)
    except (PlaceError, OSError) as error:
        _stop(str(error), USAGE, as_json)
    documents = _read(files, as_json)
    imported = translate(documents)
    parts = parts_of(imported.accounts)
    lost = [entry.problem for part in parts for entry in part.entries if entry.is_lost]
    if imported.mesh is None:
        problem = Problem(files[0], 1, 1, "", f"found nothing to import from {source}", "see the report")
        _tell(parts, [problem, *_once(lost, imported.problems)], [], [], as_json)
        sys.exit(PROBLEMS)
    written = files_of(imported.mesh, source)
    wrong, warnings = judge(written)
    try:
        put(output, written)
    except OSError as error:
        _stop(f"cannot write {output}: {(error.strerror or str(error)).lower()}", PROBLEMS, as_json)
    wrong = [dataclasses.replace(one, file=f"{output}/{one.file}") for one in wrong]
    warnings = [dataclasses.replace(one, file=f"{output}/{one.file}") for one in warnings]
    problems = [*sorted(_once(lost, imported.problems)), *wrong]
    _tell(parts, problems, warnings, [f"{output}/{name}" for name in written], as_json)
    if wrong and not as_json:
        print("what was written is not good: edit it, and run `sidecar mesh check`", file=sys.stderr)
    sys.exit(PROBLEMS if problems else 0)


def _once(lost: Sequence[Problem], others: Sequence[Problem]) -> set[Problem]:
    """What is lost, and other problems, but for those of the same place: they say why it is."""
    places = {(one.file, one.line, one.column) for one in lost}
    return {*lost, *(one for one in others if (one.file, one.line, one.column) not in places)}


def _read(files: Sequence[str], as_json: bool) -> list[Node]:
    found: list[Node] = []
    problems: list[Problem] = []
    for name in files:
        try:
            source = _source(name)
            roots, told = parse_foreign(decode(source.raw, source.path), source.path)
            problems += told
            if not roots:
                problems.append(Problem(source.path, 1, 1, "", "the file is empty", "leave it out"))
            found += roots
        except SourceError as error:
            _stop(str(error), USAGE, as_json)
        except ConfigError as error:
            problems += error.problems
    if problems:
        _tell([], sorted(problems), [], [], as_json)
        sys.exit(PROBLEMS)
    return found


def _source(name: str) -> Source:
    if name == "-":
        return make_source("<stdin>", sys.stdin.buffer.read(MAX_FILE_BYTES + 1))
    return read_source(name)


def _tell(
    parts: Sequence[Part], problems: Sequence[Problem], warnings: Sequence[Problem], written: list[str], as_json: bool
) -> None:
    counts = counts_of(parts)
    if as_json:
        page = {
            "ok": not problems,
            "files": written,
            "counts": counts,
            "resources": as_plain(parts),
            "problems": [dataclasses.asdict(one) for one in problems],
            "warnings": [dataclasses.asdict(one) for one in warnings],
        }
        click.echo(json.dumps(page))
        return
    for line in lines_of(parts):
        click.echo(line)
    for file in written:
        click.echo(f"wrote {file}")
    if parts:
        words = ", ".join(f"{counts[word]} {word}" for word in ("kept", "changed", "dropped"))
        click.echo(f"{words}; {counts['assumed']} defaults written out; {counts['lost']} not imported")
    for one in (*warnings, *problems):
        click.echo(one.named(), err=True)


def _stop(message: str, code: int, as_json: bool) -> NoReturn:
    if as_json:
        click.echo(json.dumps({"ok": False, "error": message, "problems": []}))
    else:
        click.echo(message, err=True)
    sys.exit(code)
