"""
What the compiling process does: it judges the mesh's files and compiles what changed. *Cold; a process of its own.*

It remembers the last good mesh and what was compiled of it, so that an edit of one service costs the services
concerned: itself, and who calls it now or did before. A change of what holds for all concerns all. A process that was
started anew knows nothing, and compiles everything: the result is the same.
"""

from __future__ import annotations

import dataclasses
import gc
import multiprocessing
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from sidecar.config.problems import ConfigError, Problem
from sidecar.control.revision.compiled import CompiledFile, Origin, Source
from sidecar.control.revision.judged import Considered, Judged, ProblemTold, Rejected, ServiceFacts
from sidecar.control.revision.trees import tree_of
from sidecar.loader.low_priority import lower_thread
from sidecar.mesh.access.admission import named_by
from sidecar.mesh.access.identities import ids_of
from sidecar.mesh.compile.origins import EndpointsOrigin
from sidecar.mesh.compile.service import Compiled, compile_service
from sidecar.mesh.diff import diff_told
from sidecar.mesh.mesh import Mesh, digest
from sidecar.mesh.read import read_mesh
from sidecar.mesh.told import IDENTITY, Told
from sidecar.mesh.verify import verify
from sidecar.redact import HIDDEN, is_sensitive
from sidecar.routing.actions import REDIRECT

MAX_REMEMBERED: Final = 4
"""Compiled files of one service: of the last revisions, for problems that their sidecars report."""

_YOUNG_OBJECTS: Final = 20_000
"""How many are made before the collector looks for cycles among them: judging makes trees, which have none."""

_T = TypeVar("_T")


@dataclass(slots=True)
class _Known:
    mesh: Mesh | None = None
    root: str = ""
    services: dict[str, str] = field(default_factory=dict)
    compiled: dict[str, Compiled] = field(default_factory=dict)
    """Of the mesh of now, by service."""
    past: dict[str, OrderedDict[str, Compiled]] = field(default_factory=dict)
    """By service and hash."""


_known = _Known()


def begin(niceness: int) -> None:
    """The first thing in the new process: who serves streams goes first, and this one ends with it."""
    lower_thread(niceness)
    gc.set_threshold(_YOUNG_OBJECTS)
    gc.freeze()
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()


def _end_with_parent() -> None:
    """
    A control plane that is killed cannot say so, and the queue of its questions has no end to be read: this process
    itself holds the end that is written to.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(0)


def answer(function: Callable[..., _T], *arguments: Any) -> _T:
    """
    One of the questions below, asked in the new process.

    What is remembered of it lies apart from then on, so that the garbage collector does not look through the whole mesh
    for an edit of one service. It is all trees: what is let go later goes without the collector.
    """
    try:
        return function(*arguments)
    finally:
        gc.collect()
        gc.freeze()


def judge(files: Mapping[str, bytes], has_identity: bool = IDENTITY) -> Judged | Rejected:
    """Read, compile and verify, for sidecars that have identities or not; remember it if it is good."""
    read = _read(files, has_identity)
    if isinstance(read, Rejected):
        return read
    mesh, compiled = read.mesh, read.compiled
    origins: dict[int, Origin] = {}
    new = [
        one for name, one in compiled.items() if name not in _known.compiled or _known.compiled[name].hash != one.hash
    ]
    _known.mesh, _known.root, _known.services, _known.compiled = mesh, read.root, read.services, compiled
    _remember(compiled)
    return Judged(
        name=mesh.name,
        hash=mesh.hash,
        services={name: _facts(mesh, name, compiled.get(name)) for name in mesh.placed},
        files={name: one.hash for name, one in compiled.items()},
        compiled=tuple(_file(one, origins) for one in new),
        values={one.hash: one.values for one in new},
        rollout=_rollout(mesh),
        lifetime_s=mesh.root.identity.lifetime,
        warnings=told(mesh.warnings),
    )


def consider(
    files: Mapping[str, bytes], running: Mapping[str, Told], has_identity: bool = IDENTITY
) -> Considered | Rejected:
    """
    Judge a content that may become the wanted one, and compare it with what is wanted now.

    Args:
        running: By service, what its sidecars are to have.
        has_identity: Whether they have identities.
    """
    read = _read(files, has_identity)
    if isinstance(read, Rejected):
        return read
    changes = tuple(dataclasses.asdict(change) for change in diff_told(running, read.compiled))
    return Considered(read.mesh.name, read.mesh.hash, changes, told(read.mesh.warnings))


@dataclass(frozen=True, slots=True)
class _Read:
    """A good content: what holds for all and each service as digests, and what comes of it for each."""

    mesh: Mesh
    root: str
    services: dict[str, str]
    compiled: dict[str, Compiled]


def _read(files: Mapping[str, bytes], has_identity: bool) -> _Read | Rejected:
    try:
        mesh = read_mesh(files, _known.mesh, has_identity=has_identity)
        services = {name: digest(placed.values) for name, placed in mesh.placed.items()}
        root = _root_digest(mesh)
        concerned = _concerned(mesh, services, root)
        compiled = dict(_known.compiled)
        for name in concerned:
            if mesh.placed[name].service.is_outside:
                compiled.pop(name, None)
            else:
                compiled[name] = compile_service(mesh, name, previous=_known.compiled.get(name))
        problems = verify(mesh, concerned, compiled)
    except ConfigError as error:
        return Rejected(told(error.problems))
    if problems:
        return Rejected(told(problems))
    return _Read(mesh, root, services, {name: one for name, one in compiled.items() if name in mesh.placed})


def translate(service: str, hash_: str, problems: Iterable[ProblemTold]) -> tuple[ProblemTold, ...]:
    """Problems that a sidecar found in its file, at their places in the mesh's files as far as those are known."""
    past = _known.past.get(service)
    compiled = past.get(hash_) if past is not None else None
    found = []
    for one in problems:
        problem = Problem("", one["line"], one["column"], one["path"], one["message"], one["hint"])
        if compiled is not None:
            problem = compiled.translate(problem)
        found.append(problem)
    return told(found)


def routes(caller: str, callee: str) -> list[dict[str, Any]]:
    """
    The routes by which a service calls another one, in their order, and where each is written; last what an upstream's
    hosts come to where no route takes the request, which is named as the upstream is.
    """
    compiled = _known.compiled.get(caller)
    if compiled is None:
        return []
    tree = tree_of(compiled.text)
    names = {name: one for name, one in tree.get("upstreams", {}).items() if name.partition(".")[0] == callee}
    found = []
    for route in tree.get("outbound", {}).get("routes", ()):
        split = _split(route.get("to"))
        if names.keys() & {upstream for upstream, _ in split}:
            found.append(_route_told(str(route.get("name", "")), compiled, _in_words(route.get("match")), split))
    for name, upstream in names.items():
        if upstream.get("hosts", [name]):
            found.append(_route_told(name, compiled, "everything else", [(name, 1.0)]))
    return found


def _route_told(name: str, compiled: Compiled, match: str, split: list[tuple[str, float]]) -> dict[str, Any]:
    origin = compiled.origin_of_route(name)
    return {
        "name": name,
        "origin": str(origin) if origin is not None else "",
        "match": match,
        "to": [{"upstream": upstream, "weight": weight} for upstream, weight in split],
    }


def told(problems: Iterable[Problem]) -> tuple[ProblemTold, ...]:
    """As `/v1/mesh` shows them."""
    return tuple(dataclasses.asdict(problem) for problem in problems)


def _root_digest(mesh: Mesh) -> str:
    said = {key: value for key, value in mesh.document.values.items() if key != "services"}
    return digest([said, mesh.has_identity])


def _concerned(mesh: Mesh, services: Mapping[str, str], root: str) -> list[str]:
    """Services whose compiled file may be another than before."""
    if _known.mesh is None or root != _known.root:
        return list(mesh.placed)
    before_it = _known.services
    changed = {name for name in services.keys() | before_it.keys() if services.get(name) != before_it.get(name)}
    if not changed:
        return []
    concerned = []
    for name in mesh.placed:
        before = _known.compiled.get(name)
        # Callees for their routes and upstreams; whom it admits, for the identities of those.
        told_of = {*mesh.callees(name), *named_by(mesh.services[name]), *(before.callees if before else ())}
        if name in changed or not changed.isdisjoint(told_of):
            concerned.append(name)
    return concerned


def _remember(compiled: Mapping[str, Compiled]) -> None:
    for name, one in compiled.items():
        past = _known.past.setdefault(name, OrderedDict())
        past[one.hash] = one
        past.move_to_end(one.hash)
        while len(past) > MAX_REMEMBERED:
            past.popitem(last=False)
    for name in _known.past.keys() - compiled.keys():
        del _known.past[name]


def _file(compiled: Compiled, origins: dict[int, Origin]) -> CompiledFile:
    """
    As it is sent.

    Args:
        origins: What was made so far, by the identity of what it was made of: callers share that, and what is sent.
    """
    for origin in compiled.discovers.values():
        if id(origin) not in origins:
            origins[id(origin)] = Origin(origin.service, origin.port, tuple(_sources(origin)))
    discovers = {name: origins[id(origin)] for name, origin in compiled.discovers.items()}
    return CompiledFile(compiled.service, compiled.hash, compiled.text, discovers, compiled.callees, compiled.language)


def _sources(origin: EndpointsOrigin) -> Iterable[Source]:
    for part in origin.parts or (origin,):
        yield Source.of(part.kind, dict(part.values))


def _facts(mesh: Mesh, name: str, compiled: Compiled | None) -> ServiceFacts:
    service = mesh.placed[name].service
    hosts = tuple(service.hosts) if service.hosts is not None else (name,)
    callees = compiled.callees if compiled is not None else ()
    if service.is_outside:
        return ServiceFacts("external", hosts, callees)
    return ServiceFacts("mesh", hosts, callees, tuple(ids_of(mesh.name, name, service)))


def _rollout(mesh: Mesh) -> Mapping[str, Any] | None:
    if "rollout" not in mesh.root.model_fields_set:
        return None
    said = mesh.rollout
    return {
        "waves": tuple(wave if isinstance(wave, str) else f"{wave:g}%" for wave in said.waves),
        "hold_s": said.hold,
        "accept_timeout_s": said.accept_timeout,
        "refused": said.halt.refused,
        "worse_by": said.halt.error_rate.worse_by / 100,
        "thin_after_s": said.thin.after,
        "thin_then": said.thin.then,
    }


def _split(to: Any) -> list[tuple[str, float]]:
    if isinstance(to, dict):
        return [(str(name), float(weight)) for name, weight in to.items()]
    if isinstance(to, list):
        return [part for one in to for part in _part(one)]
    return [(str(to), 1.0)] if to is not None else []


def _part(one: Any) -> list[tuple[str, float]]:
    if isinstance(one, dict):
        return [(str(one.get("upstream", REDIRECT)), float(one.get("weight", 1)))]
    return [(str(one), 1.0)]


def _in_words(match: Any) -> str:
    """A match as one line: `cookies.BETA_USER: true, path: /x`; values of secrets are not shown."""
    if not match:
        return "everything"
    if isinstance(match, list):
        return " or ".join(_in_words(one) for one in match)
    if not isinstance(match, dict):
        return str(match)
    found = []
    for name, value in match.items():
        if isinstance(value, dict):
            found += [f"{name}.{key}: {HIDDEN if is_sensitive(str(key)) else inner}" for key, inner in value.items()]
        else:
            found.append(f"{name}: {value}")
    return ", ".join(found)
