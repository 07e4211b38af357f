"""How changes of files are told, and a control plane's refusal. *Cold.*"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, NoReturn

import click

from sidecar.cli.admin_client import AskError, printable
from sidecar.cli.mesh.asking import ControlPlane
from sidecar.cli.mesh.reading import CANNOT_READ, PROBLEMS, counted, files_of, located, mesh_of_files, path_of, refuse
from sidecar.config.problems import Problem

PUSH_TIMEOUT_S = 150.0
"""A mesh of a thousand services is judged twice, and then waited for."""

_REMOVED = "removed"
SIGNS = {"added": "+", _REMOVED: "-", "changed": "~"}
"""By the words of `mesh.diff`, which is not imported for them: a rollback in an emergency would wait for the models."""

_NOT_HERE = 501
_PROBLEM = tuple(one.name for one in fields(Problem))


def write_changes(changes: list[dict[str, Any]], new: str, old: str = "") -> None:
    """
    A line for each file and each part of it that differs.

    Args:
        changes: `FileChange` as JSON has it.
        new: The directory in which is what is new.
        old: In which is what was there before; empty if there is none.
    """
    for change in changes:
        click.echo(printable(f"{SIGNS[change['kind']]} {change['service']}"))
        for part in change["parts"]:
            origin = part["origin"]
            where = path_of(old if part["kind"] == _REMOVED else new, origin["file"]) if origin["file"] else ""
            name = f" {part['name']}" if part["name"] else ""
            at = f"  ({where}:{origin['line']})" if where else ""
            click.echo(printable(f"    {SIGNS[part['kind']]} {part['part']}{name}{at}"))


def texts_of(directory: str, as_json: bool) -> dict[str, str]:
    """
    The files of a directory as text.

    Ends the process as `mesh check` does if they cannot be read, or one is none.
    """
    files = files_of(directory, as_json)
    if directory == "-":
        files = {"mesh.yaml": next(iter(files.values()))}
    try:
        return {name: content.decode() for name, content in files.items()}
    except UnicodeDecodeError:
        mesh_of_files(directory, files, as_json)
        raise


def ask(control: tuple[str, str, str], path: str, body: Mapping[str, Any], as_json: bool, directory: str = "") -> Any:
    """
    What the control plane answers to a change.

    Ends the process with 1 where it refuses, with all problems if the mesh has some, with 2 where there is no answer.

    Args:
        control: Its URLs, a file with the token, and one with roots that are trusted.
        directory: In which the files are that it speaks of.
    """
    try:
        status, said = ControlPlane(*control).post(path, body, PUSH_TIMEOUT_S)
    except AskError as error:
        stop(str(error), as_json, CANNOT_READ)
    if status in (200, 202):
        return said
    if status == 422 and said.get("problems"):
        refuse(directory, [_problem(one) for one in said["problems"]], as_json)
    why = str(said.get("error", f"the control plane answered {status}"))
    return stop(why, as_json, CANNOT_READ if status > _NOT_HERE else PROBLEMS)


def stop(error: str, as_json: bool, code: int) -> NoReturn:
    """End the process, with the reason."""
    if as_json:
        click.echo(json.dumps({"ok": False, "error": error, "problems": []}))
    else:
        click.echo(f"sidecar: {printable(error)}", err=True)
    sys.exit(code)


def write_warnings(said: Mapping[str, Any], directory: str) -> None:
    """On standard error, as `mesh check` does."""
    for one in said["warnings"]:
        click.echo(located(directory, _problem(one)), err=True)


def _problem(said: Mapping[str, Any]) -> Problem:
    return Problem(**{name: said[name] for name in _PROBLEM})


def summary(said: Mapping[str, Any]) -> str:
    """How many files."""
    return f"{counted(len(said['changes']), 'file')} changed" if said["changes"] else "no file changed"
