"""
Every compiled file judged as its sidecars would judge it, and told at the places of the mesh's files. *Cold, pure.*

A test of a service holds for every caller. Where it fails for who says nothing of its own, it or the service's routes
are wrong, and that is told once; where it fails only for a caller, a route of that caller's is what breaks it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from sidecar.compile.dry_plan import dry_plan
from sidecar.config.load import Loaded, load_source
from sidecar.config.problems import ConfigError, Problem
from sidecar.config.source import make_source
from sidecar.insight.routing_tests import Failure, failures
from sidecar.loader.serialize import write_frames
from sidecar.mesh.compile.routes import unnamed
from sidecar.mesh.compile.service import Compiled, compile_service, compile_stranger
from sidecar.mesh.compile.tests import is_producers
from sidecar.mesh.mesh import Mesh, Placed, can_be_called
from sidecar.mesh.model.words import PORT_MARK
from sidecar.proxy.plan import Plan

_WRONG_TEST: Final = "the test is wrong, or a route is"
_SHOWN_CALLERS: Final = 2


def verify(
    mesh: Mesh, services: Iterable[str] | None = None, files: Mapping[str, Compiled] | None = None
) -> list[Problem]:
    """
    Load and compile the files of services, and run their tests.

    Args:
        mesh: That `read_mesh` accepted.
        services: Those that are looked at; all without it. A change of one concerns its callers, too.
        files: What was compiled of this mesh already, by service.

    Returns:
        The problems, each once, in the order of the files; empty for a mesh that every sidecar would take.
    """
    wanted = [mesh.placed[name] for name in (mesh.placed if services is None else services) if name in mesh.placed]
    found: dict[Problem, list[Placed]] = {}
    for placed in wanted:
        if can_be_called(placed.service) and any(is_producers(placed, test) for test in placed.service.tests):
            for problem in _of_stranger(mesh, placed):
                found.setdefault(problem, [])
    everyones = set(found)
    for placed in wanted:
        if not placed.service.is_outside:
            compiled = files[placed.name] if files is not None else compile_service(mesh, placed.name)
            for problem in _of_caller(mesh, placed, compiled):
                found.setdefault(problem, []).append(placed)
    return sorted(
        problem if problem in everyones else _with_callers(problem, callers) for problem, callers in found.items()
    )


def tried(compiled: Compiled) -> tuple[Loaded, Plan]:
    """
    What the sidecars would make of a compiled file.

    Raises:
        ConfigError: It is not good; with the problems at the places of the mesh's files.
    """
    try:
        loaded = load_source(make_source(compiled.service, compiled.text.encode()), {})
        return loaded, dry_plan(loaded, write_frames(loaded))
    except ConfigError as error:
        raise ConfigError([compiled.translate(problem) for problem in error.problems]) from None


def _with_callers(problem: Problem, callers: list[Placed]) -> Problem:
    """A problem that is in others' files says whose: there may be what it disagrees with."""
    if any(_is_in(problem, placed) for placed in callers):
        return problem
    names = ", ".join(f"`{placed.name}`" for placed in callers[:_SHOWN_CALLERS])
    more = f" and {len(callers) - _SHOWN_CALLERS} more" if len(callers) > _SHOWN_CALLERS else ""
    return replace(problem, message=f"{problem.message} (in what {names}{more} would get)")


def _is_in(problem: Problem, placed: Placed) -> bool:
    return problem.file == placed.document.name and problem.path.startswith(".".join(placed.at))


def _of_stranger(mesh: Mesh, placed: Placed) -> set[Problem]:
    """A service's tests for who has no routes of its own."""
    compiled = compile_stranger(mesh, placed.name)
    try:
        loaded, plan = tried(compiled)
    except ConfigError as error:
        return set(error.problems)
    return {_failed(compiled, loaded, one) for one in failures(loaded, plan)}


def _of_caller(mesh: Mesh, placed: Placed, compiled: Compiled) -> set[Problem]:
    try:
        loaded, plan = tried(compiled)
    except ConfigError as error:
        return set(error.problems)
    found = set()
    for one in failures(loaded, plan):
        owner, test = compiled.promises[one.index]
        at = _own_route(placed, one.route) if owner != placed.name else None
        found.add(_failed(compiled, loaded, one) if at is None else _broken(mesh, placed, at, owner, test, one))
    return found


def _failed(compiled: Compiled, loaded: Loaded, failure: Failure) -> Problem:
    message = f"the test `{compiled.promises[failure.index][1]}` fails: {failure.why}"
    return compiled.translate(loaded.problem_at(("tests", failure.index, *failure.at), message, _WRONG_TEST))


def _own_route(placed: Placed, route: str) -> tuple[str, str, str, int] | None:
    """Where a caller has the route that its compiled file calls so."""
    for callee, call in (placed.service.calls or {}).items():
        for index, one in enumerate(call.routes):
            name = f"{placed.name}.{one.name if one.name is not None else unnamed(index, callee)}"
            if route == name or route.startswith(f"{name}.{PORT_MARK}"):
                return ("calls", callee, "routes", index)
    return None


def _broken(
    mesh: Mesh, placed: Placed, at: tuple[str, str, str, int], owner: str, test: str, failure: Failure
) -> Problem:
    """A caller's route breaks a test of the service that it calls."""
    there = mesh.placed[owner]
    index = [one.name for one in there.service.tests].index(test)
    mark, place, where = placed.mark(*at), placed.place(*at), there.mark("tests", index, *failure.at)
    message = f"breaks the test `{test}` of `{owner}` ({where}): {failure.why}"
    hint = f'if that is meant, say `overrides: ["{test}"]` in the route'
    return Problem(mark.file, mark.line, mark.column, place.path, message, hint)
