"""
The door of this room: the bytes of a mesh's files in, a `Mesh` out, or all problems at once. *Cold, pure.*
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

from sidecar.config.check import Report
from sidecar.config.problems import ConfigError, Problem
from sidecar.config.source import decode
from sidecar.config.validate import Form, Shaped, shape
from sidecar.config.warnings.ignored import ignored_in, not_ignored
from sidecar.config.yaml.document import Mapping as MappingNode
from sidecar.config.yaml.document import Node, parse_without_variables
from sidecar.config.yaml.places import locate, place_of_key
from sidecar.mesh.mesh import Document, Mesh, Placed, canonical, digest
from sidecar.mesh.model.root import MeshFile
from sidecar.mesh.model.service import ServiceFile
from sidecar.mesh.rules.access import Platform, check_access, check_platform
from sidecar.mesh.rules.alone import check_alone, check_values
from sidecar.mesh.rules.between import check_calls, check_hosts
from sidecar.mesh.rules.identities import check_identities
from sidecar.mesh.rules.rollout import check_rollout
from sidecar.mesh.rules.routes import check_routes
from sidecar.mesh.rules.scope import Others, Scope
from sidecar.mesh.told import IDENTITY

_STAND_INS: Final[Mapping[str, object]] = {
    "services": {},
    "calls": {},
    "instances": {"registered": {}},
    "ports": {"app": "127.0.0.1:1"},
}
"""Of items that others name: one that is wrong is not also missing."""

MESH_FORM: Final = Form(MeshFile, "mesh", "such as `mesh: shop`", _STAND_INS)
SERVICE_FORM: Final = Form(ServiceFile, "service", "such as `service: storefront`", _STAND_INS)

_NO_MESH: Final = MeshFile(mesh="unknown")
_EMPTY: Final = "expected a mapping, found an empty file"


def read_mesh(files: Mapping[str, bytes], previous: Mesh | None = None, *, has_identity: bool = IDENTITY) -> Mesh:
    """
    Understand the files of a mesh.

    What a service's compiled file shows (`verify`) is not looked at here, so this costs what the files are long.

    Args:
        files: By their name, relative to the mesh's directory. The one with `mesh` is the mesh's own, in each of the
            others is one service.
        previous: What an earlier reading returned; files that are still the same are not parsed again.
        has_identity: Whether the mesh's sidecars have identities; without, what asks for one is a problem.

    Raises:
        ConfigError: With every problem of all files; no other exception, whatever the bytes.
    """
    reading = _Reading(previous.documents if previous is not None else {}, has_identity)
    for name in sorted(files):
        reading.take(name, files[name])
    return reading.mesh()


class _Reading:
    """What has been understood so far."""

    def __init__(self, known: Mapping[str, Document], has_identity: bool) -> None:
        self._known = known
        self._has_identity = has_identity
        self._problems: list[Problem] = []
        self._reports: list[Report] = []
        self._meshes: list[tuple[Document, MeshFile, Report]] = []
        self._scopes: dict[str, Scope] = {}
        self._unread: set[str] = set()
        self._documents: dict[str, Document] = {}

    def take(self, name: str, raw: bytes) -> None:
        """Read one file."""
        known = self._known.get(name)
        if known is not None and known.raw == raw:
            self._take(known, self._report(known.root, []))
            return
        stem = os.path.splitext(os.path.basename(name))[0]
        try:
            root, problems = parse_without_variables(decode(raw, name), name)
        except ConfigError as error:
            self._problems += error.problems
            self._unread.add(stem)
            return
        if root is None:
            key = "mesh: shop" if stem == "mesh" else f"service: {stem}"
            self._problems.append(Problem(name, 1, 1, "", _EMPTY, f"begin with `{key}`, or remove the file"))
            self._unread.add(stem)
            return
        self._problems += problems
        entries = root.entries if isinstance(root, MappingNode) else {}
        is_mesh = "mesh" in entries or "services" in entries or (stem == "mesh" and "service" not in entries)
        shaped: Shaped[MeshFile] | Shaped[ServiceFile]
        shaped = shape(root, MESH_FORM) if is_mesh else shape(root, SERVICE_FORM)
        self._problems += shaped.problems
        report = self._report(root, shaped.blamed)
        if shaped.config is None or ("service",) in shaped.blamed:
            self._unread.add(stem)
        else:
            self._take(Document(name, raw, root, shaped.config, _values(root)), report)

    def _report(self, root: Node, blamed: list[tuple[int | str, ...]]) -> Report:
        self._reports.append(Report(root, blamed))
        return self._reports[-1]

    def _take(self, document: Document, report: Report) -> None:
        """Take what could be understood of a file."""
        self._documents[document.name] = document
        model, root = document.model, document.root
        if isinstance(model, ServiceFile):
            named = locate(root, ("service",)).mark
            self._add(Scope(Placed(model.service, model, document, (), _mapping(root), named), report))
            return
        self._meshes.append((document, model, report))
        for name, service in model.services.items():
            at = ("services", name)
            key = place_of_key(root, at).mark
            self._add(Scope(Placed(name, service, document, at, _mapping(locate(root, at).node), key), report))

    def _add(self, scope: Scope) -> None:
        other = self._scopes.setdefault(scope.name, scope)
        if other is not scope:
            hint = "a service is described in one place: rename or remove one of the two"
            for one, where in ((scope, other.where()), (other, scope.where())):
                one((), f"the service `{scope.name}` is also described in {where}", hint)

    def mesh(self) -> Mesh:
        """All files together."""
        self._check_meshes()
        document, root, report = self._meshes[0] if self._meshes else (None, _NO_MESH, None)
        if report is not None:
            check_values(root.defaults, ("defaults",), report)
            check_rollout(root.rollout, report)
        self._check_services(Platform(root, document, report, self._has_identity))
        self._problems += (problem for report in self._reports for problem in report.problems)
        if self._problems or document is None:
            raise ConfigError(sorted(set(self._problems)))
        warnings = self._warnings()
        placed = {name: self._scopes[name].placed for name in sorted(self._scopes)}
        services = {name: one.service for name, one in placed.items()}
        hash_ = _hash(document, placed)
        return Mesh(root, document, self._documents, placed, services, hash_, self._has_identity, tuple(warnings))

    def _warnings(self) -> list[Problem]:
        """Those of all files that no comment in them wants not to be told."""
        found = [warning for report in self._reports for warning in report.warnings]
        of_files = {warning.file for warning in found} & self._documents.keys()
        return sorted(not_ignored(found, {name: ignored_in(self._documents[name].raw.decode()) for name in of_files}))

    def _check_meshes(self) -> None:
        if not self._meshes and "mesh" not in self._unread:
            hint = "such as `mesh: shop` in mesh.yaml"
            self._problems.append(Problem("mesh.yaml", 1, 1, "", "found no file that says `mesh`", hint))
        for document, _, report in self._meshes if len(self._meshes) > 1 else ():
            others = [other.name for other, _, _ in self._meshes if other is not document]
            hint = "a directory holds one mesh"
            report(("mesh",), f"the mesh is also described in {' and '.join(others)}", hint, at_key=True)

    def _check_services(self, platform: Platform) -> None:
        scopes = list(self._scopes.values())
        services = {scope.name: scope.service for scope in scopes}
        others = Others(services, self._unread, platform.root.access, check_hosts(scopes))
        check_identities(scopes)
        check_platform(platform, others, self._scopes)
        for scope in scopes:
            check_alone(scope)
            check_calls(scope, others, self._scopes)
            check_routes(scope, others)
            check_access(scope, others, self._scopes, platform)


def _mapping(node: Node) -> MappingNode:
    return node if isinstance(node, MappingNode) else MappingNode(node.line, node.column)


def _values(root: Node) -> Mapping[str, Any]:
    values = canonical(root)
    return values if isinstance(values, dict) else {}


def _hash(document: Document, placed: Mapping[str, Placed]) -> str:
    own = {key: value for key, value in document.values.items() if key != "services"}
    services = {
        name: {key: value for key, value in one.values.items() if key != "service"} for name, one in placed.items()
    }
    return digest({"mesh": own, "services": services})
