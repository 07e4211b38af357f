"""
A replica's summary as JSON, and pictures of several put together. *Pure.*

Clocks of machines are not compared: where a time matters, its age is told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from sidecar.control.edges import MAX_EDGES, MAX_REASONS, EdgeKey, Tally
from sidecar.control.fleet import MAX_INSTANCES
from sidecar.control.rollout.statistics import MAX_PERIODS
from sidecar.control.rollout.view import Instance, Period
from sidecar.link.fields import Fields, MessageError, decode
from sidecar.link.report import LATENCY_BOUNDS_S

_KEY: Final = ("caller", "callee", "upstream", "route", "direction")
_SUMS: Final = ("requests", "request_bytes", "response_bytes", "errors")


@dataclass(frozen=True, slots=True)
class Summary:
    """
    What a replica knows at first hand.

    Attributes:
        instances: Sidecars that it hears from, as the rollout machine sees them.
        rows: The same for people, as `/v1/mesh` has them.
        edges: What they counted in the last minute.
        unseen: Why this may not be all: `a restart`.
    """

    instances: tuple[Instance, ...] = ()
    rows: tuple[Mapping[str, Any], ...] = ()
    edges: Mapping[EdgeKey, Tally] = field(default_factory=dict)
    unseen: tuple[str, ...] = ()


def summary_values(summary: Summary, now_s: float) -> dict[str, Any]:
    """For JSON."""
    return {
        "unseen": list(summary.unseen),
        "instances": [_instance_values(one, now_s) for one in summary.instances],
        "rows": list(summary.rows),
        "edges": [
            {**key._asdict(), **{name: getattr(tally, name) for name in _SUMS}, "failures": dict(tally.failures),
             "latency": tally.latency}
            for key, tally in summary.edges.items()
        ],
    }  # fmt: skip


def read_summary(raw: bytes, now_s: float) -> Summary:
    """
    What `summary_values` gave, on this replica's clock.

    Raises:
        MessageError: It is not of this form.
    """
    fields = decode(raw)
    rows = tuple(one.all() for one in fields.objects("rows", MAX_INSTANCES))
    for row in rows:
        if not (isinstance(row.get("id"), str) and isinstance(row.get("service"), str)):
            raise MessageError("rows: expected an id and a service")
    return Summary(
        tuple(_read_instance(one, now_s) for one in fields.objects("instances", MAX_INSTANCES)),
        rows,
        dict(_read_edge(one) for one in fields.objects("edges", MAX_EDGES)),
        tuple(fields.texts("unseen", 64)),
    )


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


def joined_edges(parts: Iterable[Mapping[EdgeKey, Tally]]) -> dict[EdgeKey, Tally]:
    """Sums of all."""
    found: dict[EdgeKey, Tally] = {}
    for part in parts:
        for key, tally in part.items():
            if key not in found:
                found[key] = Tally()
            found[key].merge(tally)
    return found


def _rank(one: Instance) -> tuple[bool, bool, float]:
    return one.is_connected, one.is_here, one.connected_s


def _instance_values(one: Instance, now_s: float) -> dict[str, Any]:
    return {
        "id": one.id,
        "service": one.service,
        "hash": one.hash,
        "refused": one.refused_hash,
        "outdated": one.is_outdated,
        "connected": one.is_connected,
        "stale": one.is_stale,
        "draining": one.is_draining,
        "age_s": max(0.0, now_s - one.connected_s) if one.is_connected else 0,
        "periods": [
            {"start_age_s": max(0.0, now_s - period.start_s), "end_age_s": max(0.0, now_s - period.end_s),
             "requests": period.requests, "failures": period.failures}
            for period in one.periods
        ],
    }  # fmt: skip


def _read_instance(fields: Fields, now_s: float) -> Instance:
    is_connected = fields.flag("connected", False)
    return Instance(
        id=fields.text("id"),
        service=fields.text("service"),
        hash=fields.text("hash"),
        refused_hash=fields.text("refused"),
        is_outdated=fields.flag("outdated", False),
        is_connected=is_connected,
        is_stale=fields.flag("stale", False),
        is_draining=fields.flag("draining", False),
        connected_s=now_s - fields.number("age_s") if is_connected else 0.0,
        periods=tuple(
            Period(now_s - one.number("start_age_s"), now_s - one.number("end_age_s"), one.integer("requests"),
                   one.integer("failures"))
            for one in fields.objects("periods", MAX_PERIODS)
        ),
    )  # fmt: skip


def _read_edge(fields: Fields) -> tuple[EdgeKey, Tally]:
    latency = fields.integers("latency", len(LATENCY_BOUNDS_S) + 1)
    if len(latency) != len(LATENCY_BOUNDS_S) + 1:
        raise MessageError(f"latency: expected {len(LATENCY_BOUNDS_S) + 1} counts, found {len(latency)}")
    reasons = fields.part("failures") or Fields({})
    if len(reasons.all()) > MAX_REASONS:
        raise MessageError(f"failures: expected at most {MAX_REASONS}")
    tally = Tally(
        **{name: fields.integer(name) for name in _SUMS},
        failures=Counter({name: reasons.integer(name) for name in reasons.all()}),
        latency=latency,
    )
    return EdgeKey(**{name: fields.text(name) for name in _KEY}), tally
