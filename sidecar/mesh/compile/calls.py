"""
What a caller has for calling a service: made once, and taken again while all that says it is the same. *Cold, pure.*
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import is_

from sidecar.mesh.compile.routes import CallRoutes
from sidecar.mesh.compile.tree import Value
from sidecar.mesh.compile.upstreams import Upstream, upstream_of
from sidecar.mesh.mesh import Document, Mesh


@dataclass(frozen=True, slots=True)
class CallPart:
    """
    What a caller's file has for calling one service.

    Attributes:
        groups: Of each port its hosts, and its routes in the order in which they are tried.
        upstreams: That the routes name.
        callees: All whom the caller calls.
        has_identity: Whether it is for sidecars that have identities.
        said_by: The files that say it: the mesh's own, and those of the caller, the callee and all whose upstreams are
            named.
    """

    groups: list[tuple[list[str], list[Value]]]
    upstreams: Mapping[str, Upstream]
    callees: Sequence[str]
    has_identity: bool
    said_by: tuple[Document, ...]


def call_part(mesh: Mesh, caller: str, callee: str, callees: Sequence[str], known: CallPart | None) -> CallPart:
    """
    Make the routes by which a service calls another one, and the upstreams to which they lead.

    Args:
        known: What was made of an earlier mesh. It is the result if all that it was made of is the same.
    """
    if known is not None and callees == known.callees and mesh.has_identity == known.has_identity:
        said_by = _said_by(mesh, caller, callee, known.upstreams)
        # Invariant: a file whose bytes are the same is not read again, so it is the same object.
        if len(said_by) == len(known.said_by) and all(map(is_, said_by, known.said_by)):
            return known
    call = CallRoutes(mesh, caller, callee, callees)
    groups = call.routes()
    upstreams = {name: upstream_of(mesh, caller, name, *whose) for name, whose in call.used.items()}
    return CallPart(groups, upstreams, callees, mesh.has_identity, _said_by(mesh, caller, callee, upstreams))


def _said_by(mesh: Mesh, caller: str, callee: str, upstreams: Mapping[str, Upstream]) -> tuple[Document, ...]:
    names = dict.fromkeys((caller, callee, *(upstream.service for upstream in upstreams.values())))
    return (mesh.document, *(mesh.placed[name].document for name in names if name in mesh.placed))
