"""
Who has the last word: of several places that may say the same thing, the first that says it. *Cold, pure.*

A value is taken whole: a `retry` of the caller's is not mixed with one of the called service's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sidecar.config.model.root import UpstreamPolicy
from sidecar.config.yaml.document import Mapping as MappingNode
from sidecar.config.yaml.document import Node
from sidecar.config.yaml.places import locate
from sidecar.mesh.compile.tree import Table, Text, Value, copied
from sidecar.mesh.mesh import Mark, Mesh

OF_ROUTES = ("timeout", "retry")
OF_UPSTREAMS = tuple(UpstreamPolicy.model_fields)
CONNECT_FAILURES = "3"
"""Connects that fail in a row, after which an endpoint is ejected, where nobody says `outlier_detection`."""


@dataclass(frozen=True, slots=True)
class Said:
    """A mapping in a file of the mesh, in which keys may be said."""

    node: Node
    file: str

    def get(self, key: str) -> tuple[Mark, Value] | None:
        """A key's place and its value, or None."""
        if not isinstance(self.node, MappingNode) or key not in self.node.entries:
            return None
        key_node, value = self.node.entries[key]
        return Mark(self.file, key_node.line, key_node.column), copied(value, self.file)


def sources(mesh: Mesh, caller: str, callee: str) -> list[Said]:
    """What may say values of a call, the first word first: `calls.X`, the called service, `defaults`."""
    found: list[Said] = []
    if caller in mesh.placed:
        one = mesh.placed[caller]
        if callee in (one.service.calls or {}):
            found.append(Said(one.place("calls", callee).node, one.document.name))
    one = mesh.placed[callee]
    found.append(Said(one.node, one.document.name))
    if "defaults" in mesh.root.model_fields_set:
        found.append(Said(locate(mesh.document.root, ("defaults",)).node, mesh.document.name))
    return found


def first_said(sources: Sequence[Said], keys: Sequence[str]) -> Iterator[tuple[str, Mark, Value]]:
    """Each of the keys that one of the sources says, with the first that says it."""
    for key in keys:
        found = next((said for source in sources if (said := source.get(key)) is not None), None)
        if found is not None:
            yield key, *found


def put_policy(table: Table, sources: Sequence[Said], mark: Mark) -> None:
    """Write how an upstream is used, and in a mesh also what it is ejected for."""
    for key, key_mark, value in first_said(sources, OF_UPSTREAMS):
        table.put(key, value, key_mark)
    if "outlier_detection" not in table.entries:
        detection = Table(mark)
        detection.put("consecutive_connect_failures", Text(CONNECT_FAILURES, mark, is_spelled=True))
        table.put("outlier_detection", detection)
