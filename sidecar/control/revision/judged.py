"""
What the compiling process answers. *Pure.*

By itself, for the process that serves streams asks and is answered, and has no use for what finds the answers: the
language of a mesh and the models of the configuration, which are half of what its start and its memory would be.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sidecar.control.revision.compiled import CompiledFile

ProblemTold = dict[str, Any]
"""A `Problem` as `/v1/mesh` shows it."""


@dataclass(frozen=True, slots=True)
class ServiceFacts:
    """
    What people see of a service.

    Attributes:
        kind: `mesh` or `external`.
        callees: Whom it may call.
        identities: SPIFFE IDs that its instances may have; none outside of the mesh.
    """

    kind: str
    hosts: tuple[str, ...]
    callees: tuple[str, ...]
    identities: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Judged:
    """
    A content that is good.

    Attributes:
        hash: Of its values.
        services: All of them.
        files: Hash of the compiled file of each that has sidecars.
        compiled: Those files that were not there before.
        values: Of these, by hash, as `Compiled.values` has them.
        rollout: `rollout:` of mesh.yaml, by the names of `control.rollout.rules.Rules`; None if it says nothing of it.
        lifetime_s: `identity.lifetime` of mesh.yaml: of the certificates that are signed.
    """

    name: str
    hash: str
    services: Mapping[str, ServiceFacts]
    files: Mapping[str, str]
    compiled: tuple[CompiledFile, ...]
    values: Mapping[str, bytes] = field(repr=False, compare=False)
    rollout: Mapping[str, Any] | None = None
    lifetime_s: float = 7 * 86_400.0
    warnings: tuple[ProblemTold, ...] = ()


@dataclass(frozen=True, slots=True)
class Rejected:
    """A content that is not; nothing of it takes effect."""

    problems: tuple[ProblemTold, ...]


@dataclass(frozen=True, slots=True)
class Considered:
    """
    What a good content would change; nothing of it is remembered.

    Attributes:
        hash: Of its values.
        changes: Of the files that sidecars are to have: `mesh.diff.FileChange` as JSON has it.
    """

    name: str
    hash: str
    changes: tuple[dict[str, Any], ...]
    warnings: tuple[ProblemTold, ...] = ()
