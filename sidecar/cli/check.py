"""`sidecar check`: whether a configuration file can be used, and all that is wrong with it if not. *Cold.*"""

from __future__ import annotations

import dataclasses
import json
import os
import sys

import click

from sidecar.compile.telemetry import telemetry_settings
from sidecar.config.load import load_source
from sidecar.config.model.root import Config
from sidecar.config.problems import ConfigError
from sidecar.config.source import MAX_FILE_BYTES, Source, SourceError, make_source, read_source
from sidecar.insight.dry_run import dry_run
from sidecar.loader.serialize import write_frames
from sidecar.telemetry.settings import resolve

PROBLEMS = 1
CANNOT_READ = 2


@click.command("check")
@click.argument("file", type=click.Path(allow_dash=True, path_type=str))
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
def check(file: str, as_json: bool) -> None:
    """
    Check a configuration FILE (`-`: standard input) without using it, and run its tests.

    Every problem is a line `file:line:column: path: message; hint` on standard error, every warning one with `warning:`
    before the path. The exit code is 0 when the file is good, warnings or not, 1 when it has problems, 2 when it cannot
    be read. Of a good file, a line tells of each OTEL_* variable of this environment that would have no effect.
    """
    try:
        source = _read_standard_input() if file == "-" else read_source(file)
        loaded = load_source(source, os.environ)
        dry_run(loaded, write_frames(loaded))
    except SourceError as error:
        _tell_unreadable(str(error), as_json)
        sys.exit(CANNOT_READ)
    except ConfigError as error:
        _tell_problems(error, as_json)
        sys.exit(PROBLEMS)
    config = loaded.config
    warnings = resolve(telemetry_settings(config), os.environ).complaints
    counts = {"routes": _count_routes(config), "upstreams": len(config.upstreams), "tests": len(config.tests)}
    if as_json:
        told = [dataclasses.asdict(warning) for warning in loaded.warnings]
        told += [{"message": line, "severity": "warning"} for line in warnings]
        print(json.dumps({"ok": True, "problems": [], "warnings": told, **counts}))
    else:
        for warning in loaded.warnings:
            print(warning, file=sys.stderr)
        for line in warnings:
            print(f"warning: {line}", file=sys.stderr)
        print("ok: " + ", ".join(_counted(number, noun.removesuffix("s")) for noun, number in counts.items()))


def _read_standard_input() -> Source:
    return make_source("<stdin>", sys.stdin.buffer.read(MAX_FILE_BYTES + 1))


def _tell_unreadable(message: str, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"ok": False, "error": message, "problems": []}))
    else:
        print(message, file=sys.stderr)


def _tell_problems(error: ConfigError, as_json: bool) -> None:
    if as_json:
        problems = [dataclasses.asdict(problem) for problem in error.problems]
        print(json.dumps({"ok": False, "problems": problems}))
        return
    for problem in error.problems:
        print(problem, file=sys.stderr)
    print(f"{_counted(len(error.problems), 'problem')} in {error.problems[0].file}", file=sys.stderr)


def _count_routes(config: Config) -> int:
    return sum(len(side.routes) for side in (config.inbound, config.outbound) if side is not None)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
