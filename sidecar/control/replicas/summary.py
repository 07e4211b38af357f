"""
What a replica knows of its sidecars at first hand, and what several know put together. *Pure.*

How it is told is in `differences`; who calls whom is told when somebody asks for it, in `tallies`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sidecar.control.rollout.view import Instance


@dataclass(frozen=True, slots=True)
class Summary:
    """
    Attributes:
        instances: Sidecars that it hears from, as the rollout machine sees them.
        rows: The same for people, as `/v1/mesh` has them; those that are remembered besides.
        unseen: Why this may not be all: `a restart`.
    """

    instances: tuple[Instance, ...] = ()
    rows: tuple[Mapping[str, Any], ...] = ()
    unseen: tuple[str, ...] = ()


def joined_instances(parts: Iterable[Iterable[Instance]]) -> dict[str, Instance]:
    """
    Each once, by its id: as the replica says that has its stream, the newest if several think so; what it counted at
    all of them.
    """
    found: dict[str, Instance] = {}
    for part in parts:
        for one in part:
            other = found.get(one.id)
            if other is None:
                found[one.id] = one
                continue
            first = one if _rank(one) > _rank(other) else other
            found[one.id] = replace(first, periods=(*other.periods, *one.periods))
    return found


def joined_rows(parts: Iterable[Iterable[Mapping[str, Any]]]) -> dict[str, Mapping[str, Any]]:
    """Each once, by its id: as the replica says that has its stream, else the one named first."""
    found: dict[str, Mapping[str, Any]] = {}
    for part in parts:
        for row in part:
            other = found.get(row["id"])
            if other is None or (row.get("connected") and not other.get("connected")):
                found[row["id"]] = row
    return found


def _rank(one: Instance) -> tuple[bool, bool, float]:
    return one.is_connected, one.is_here, one.connected_s
