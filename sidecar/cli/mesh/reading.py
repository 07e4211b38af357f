"""What every command about a mesh does first: read the directory, or tell why not."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NoReturn

import click

from sidecar.config.problems import ConfigError, Problem
from sidecar.config.source import MAX_FILE_BYTES, SourceError
from sidecar.mesh.source import read_directory
from sidecar.mesh.told import IDENTITY

if TYPE_CHECKING:
    from sidecar.mesh.mesh import Mesh

PROBLEMS = 1
CANNOT_READ = 2

directory = click.argument("directory", type=click.Path(allow_dash=True, path_type=str))
_HAS_IDENTITY = "sidecar.mesh.has_identity"
identity_option = click.option(
    "--identity/--no-identity", default=IDENTITY, show_default=True, expose_value=False,
    help="Whether the mesh's sidecars have identities, by which they speak TLS and `callers` are known.",
    callback=lambda context, _, value: context.meta.__setitem__(_HAS_IDENTITY, value),
)  # fmt: skip
as_json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")


def mesh_of(directory: str, as_json: bool) -> Mesh:
    """
    The mesh of a directory or a file (`-`: one file on standard input).

    Ends the process with 2 if it cannot be read, with 1 and all problems if it is not good.
    """
    return mesh_of_files(directory, files_of(directory, as_json), as_json)


def files_of(directory: str, as_json: bool) -> dict[str, bytes]:
    """The files of a directory by name. Ends the process with 2 if they cannot be read."""
    try:
        if directory == "-":
            return {"<stdin>": sys.stdin.buffer.read(MAX_FILE_BYTES + 1)}
        return read_directory(directory)
    except SourceError as error:
        if as_json:
            print(json.dumps({"ok": False, "error": str(error), "problems": []}))
        else:
            print(error, file=sys.stderr)
        sys.exit(CANNOT_READ)


def mesh_of_files(directory: str, files: Mapping[str, bytes], as_json: bool) -> Mesh:
    """The mesh of files that were read there. Ends the process with 1 and all problems if it is not good."""
    # Here, for the models are most of what a start costs, and `push` and `rollback` leave the judgement to others.
    from sidecar.mesh.read import read_mesh

    try:
        return read_mesh(files, has_identity=click.get_current_context().meta.get(_HAS_IDENTITY, IDENTITY))
    except ConfigError as error:
        refuse(directory, error.problems, as_json)


def refuse(directory: str, problems: Sequence[Problem], as_json: bool) -> NoReturn:
    """Tell all problems and end the process with 1."""
    told = [located(directory, problem) for problem in problems]
    if as_json:
        print(json.dumps({"ok": False, "problems": [dataclasses.asdict(problem) for problem in told]}))
    else:
        for problem in told:
            print(problem, file=sys.stderr)
        files = len({problem.file for problem in told})
        where = told[0].file if files == 1 else f"{files} files"
        print(f"{counted(len(told), 'problem')} in {where}", file=sys.stderr)
    sys.exit(PROBLEMS)


def located(directory: str, problem: Problem) -> Problem:
    """A problem whose file can be opened from here."""
    return dataclasses.replace(problem, file=path_of(directory, problem.file))


def path_of(directory: str, name: str) -> str:
    """The path of a mesh's file, from its name in the mesh."""
    if directory == "-":
        return name
    return os.path.join(directory, name) if os.path.isdir(directory) else directory


def counted(number: int, noun: str) -> str:
    """`1 problem`, `2 problems`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
