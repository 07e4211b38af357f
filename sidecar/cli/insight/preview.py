"""`sidecar preview`: what another file would do with the requests that a running sidecar has seen last. *Cold.*"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlencode

import click

from sidecar.cli.admin_client import Admin, AskError, admin_option, printable
from sidecar.cli.check.files import source_of
from sidecar.cli.insight.fail_if import Limit, limits
from sidecar.config.problems import ConfigError
from sidecar.config.source import MAX_FILE_BYTES, SourceError, decode

GOOD: Final = 0
BAD: Final = 1
"""The file has problems, or a --fail-if holds."""
NOT_ASKED: Final = 2
"""The sidecar cannot be asked, or the file not be read."""

PATIENCE_S: Final = 90.0
"""Somewhat more than a sidecar gives a preview."""


@click.command("preview", short_help="Show what another file would do with the last requests.")
@click.argument("new_file", metavar="NEW_FILE", type=click.Path(allow_dash=True, path_type=str))
@admin_option
@click.option(
    "--fail-if", "limits_", multiple=True, callback=limits, metavar="CONDITION",
    help="Exit with 1 if it holds: 'moved > 1%', 'unknown > 0', 'refused > 0', '404 > 0', 'warnings > 0'; repeatable.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def preview(new_file: str, address: str, limits_: list[Limit], as_json: bool) -> None:
    """
    Show what NEW_FILE (`-`: standard input) would do with the requests that a running sidecar has seen last.

    The sidecar compiles it beside the configuration in force, in another process, and asks both about each request:
    how many go elsewhere and by which rule, which are refused, how shares of splits change, which settings. Nothing is
    put in force. What depends on a field that was not kept is told as unknown, never guessed. ${VARIABLES} of the file
    are those of the sidecar.

    Exit codes: 0 good, 1 the file has problems or a --fail-if holds, 2 the sidecar or the file cannot be read.
    """
    try:
        source = source_of(new_file)
        decode(source.raw[:0] if len(source.raw) <= MAX_FILE_BYTES else source.raw, source.path)
        with Admin(address) as admin:
            body = admin.post(f"/preview?{urlencode({'name': source.path})}", source.raw or b"\n", PATIENCE_S)
        report = json.loads(body)
        failed = [limit.text for limit in limits_ if limit.is_met(report)]
        lines = [json.dumps(report)] if as_json else list(lines_of(report))
    except ConfigError as error:
        click.echo(str(error.problems[0]), err=True)
        sys.exit(BAD)
    except (AskError, SourceError) as error:
        click.echo(f"sidecar: {printable(str(error))}", err=True)
        sys.exit(NOT_ASKED)
    except (ValueError, KeyError, TypeError):
        click.echo(f"sidecar: {address} gave no report that can be read; is it a sidecar of this version?", err=True)
        sys.exit(NOT_ASKED)
    if report["problems"]:
        if as_json:
            click.echo(lines[0])
        for problem in report["problems"]:
            click.echo(printable(str(problem["text"])), err=True)
        sys.exit(BAD)
    for line in lines:
        click.echo(line)
    for text in failed:
        click.echo(f"failed: {printable(text)}", err=True)
    sys.exit(BAD if failed else GOOD)


def lines_of(report: Mapping[str, Any]) -> Iterator[str]:
    """A report as a person reads it; nothing in it can command the terminal."""
    requests = report["requests"]
    if not requests:
        yield "no request was seen yet (or telemetry.recent_requests is off): only what the files say can be compared"
    else:
        moved, unknown = report["moved"], report["unknown"]
        yield (
            f"{_counted(requests, 'recent request')}: {moved} would go elsewhere ({report['moved_share']:.2%}),"
            f" {report['refused']} would be refused ({report['not_found']} of them 404), {unknown} unknown"
        )
    for group in report["groups"]:
        yield ""
        at = f"  by {printable(group['position'])}" if group["position"] else ""
        yield f"{group['count']:6} {group['direction']}  {_end(group['from'])}  =>  {_end(group['to'])}{at}"
        yield f"       such as {_example(group['example'])}"
    if report["groups_left_out"]:
        yield f"       and {report['groups_left_out']} smaller groups"
    for unknown in report["unknowns"]:
        yield ""
        yield f"{unknown['count']:6} unknown: needs {printable(unknown['needs'])} ({printable(unknown['why'])})"
        yield f"       such as {_example(unknown['example'])}"
    yield from _titled("shares", (_split(split) for split in report["splits"]))
    yield from _titled("settings", (_setting(setting) for setting in report["settings"]))
    yield from _titled("new warnings", (printable(str(warning)) for warning in report["warnings"]))


def _titled(title: str, lines: Iterator[str]) -> Iterator[str]:
    found = list(lines)
    if found:
        yield ""
        yield f"{title}:"
        yield from (f"  {line}" for line in found)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _end(end: Mapping[str, Any]) -> str:
    """`canary to a, b`; `no route, 404 NR`; `old, 301`."""
    name = printable(end["route"]) if end["route"] else ""
    if end["to"]:
        return f"{name} to {printable(', '.join(end['to']))}"
    answer = f"{end['status']} {end['flag']}".strip()
    return f"{name}, {answer}" if name else answer


def _example(example: Mapping[str, Any]) -> str:
    where = f"{example['method']} {example['host']}{example['path']}"
    return printable(f"{where} (request id {example['request_id']})")


def _split(split: Mapping[str, Any]) -> str:
    shares = ", ".join(
        f"{name} {split['before'].get(name, 0):.2%} -> {split['after'].get(name, 0):.2%}"
        for name in {**split["before"], **split["after"]}
    )
    sticky = ""
    if split["sticky_of"]:
        sticky = f"; of {_counted(split['sticky_of'], 'request')} that stick, {split['sticky_moved']} move"
    return printable(f"{split['direction']} {split['route']}: {shares}{sticky}")


def _setting(setting: Mapping[str, Any]) -> str:
    before, after = json.dumps(setting["before"]), json.dumps(setting["after"])
    at = f"  ({setting['position']})" if setting["position"] else ""
    return printable(f"{setting['direction']} {setting['route']}: {setting['setting']} {before} -> {after}{at}")
