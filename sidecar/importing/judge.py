"""Whether every sidecar would take what was written: by the code of `sidecar mesh check`. *Cold.*"""

from __future__ import annotations

from collections.abc import Mapping

from sidecar.config.problems import ConfigError, Problem
from sidecar.mesh.read import read_mesh
from sidecar.mesh.verify import verify


def judge(files: Mapping[str, bytes]) -> tuple[list[Problem], list[Problem]]:
    """
    Read and verify the files of a mesh.

    Returns:
        Problems, of which a good import has none, and warnings.
    """
    try:
        mesh = read_mesh(files)
    except ConfigError as error:
        return error.problems, []
    return verify(mesh), list(mesh.warnings)
