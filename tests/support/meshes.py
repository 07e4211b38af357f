"""Meshes of a few lines."""

from __future__ import annotations

import textwrap

from sidecar.config.problems import ConfigError
from sidecar.mesh.mesh import Mesh
from sidecar.mesh.read import read_mesh
from sidecar.mesh.verify import verify


def files(text: str) -> dict[str, bytes]:
    """The files of a text in which each begins with a line `=== NAME`; lines count from the one after it."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in textwrap.dedent(text).strip("\n").split("\n"):
        if line.startswith("=== "):
            lines = found.setdefault(line[4:], [])
        else:
            lines.append(line)
    return {name: ("\n".join(lines) + "\n").encode() for name, lines in found.items()}


def mesh(text: str, *, has_identity: bool = False) -> Mesh:
    """A mesh without problems, of a text as `files` reads it; `mesh: shop` is there if nothing else is said."""
    found = files(text)
    if "mesh.yaml" not in found:
        found["mesh.yaml"] = b"mesh: shop\n"
    return read_mesh(found, has_identity=has_identity)


def complaints(text: str, *, has_identity: bool = False) -> list[str]:
    """All that `sidecar mesh check` says of such a text, as lines: problems, or warnings where there are none."""
    try:
        found = mesh(text, has_identity=has_identity)
    except ConfigError as error:
        return [str(problem) for problem in error.problems]
    return [str(problem) for problem in verify(found) or found.warnings]
