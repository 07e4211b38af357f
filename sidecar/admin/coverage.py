"""
Which routes are hit: for `/routes` and `sidecar routes`. *Cold.*

A route is known by its direction and its name, as in metrics, so that counts survive reloads. What telemetry has bound
for it, a scope for each upstream, has counted since it was first bound: by this process, or by the reload that brought
the route. A route that was gone for more than ten minutes begins anew (`scopes`).
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sidecar import clock
from sidecar.telemetry.scope import Scope

_SCOPES_A_STEP = 16


@dataclass(frozen=True, slots=True)
class Hits:
    """
    Of one route.

    Attributes:
        count: Requests, and connections that are no HTTP's.
        last_ns: When the last of them ended, 0 for never. This and the next as `clock.monotonic_ns`.
        since_ns: Since when they are counted.
    """

    count: int
    last_ns: int
    since_ns: int


@dataclass(frozen=True, slots=True)
class Coverage:
    """
    Of all routes.

    Attributes:
        routes: By direction (`inbound`, `outbound`) and name; the name is empty for what reached no route.
        totals: Requests by direction.
        since_ns: Since when this process counts.
    """

    routes: Mapping[tuple[str, str], Hits]
    totals: Mapping[str, int]
    since_ns: int

    def annotate(self, page: Mapping[str, Any]) -> Generator[None, None, dict[str, Any]]:
        """
        In steps, `/routes` with `hits`, `last_hit`, `share` (of its direction's requests) and `counted_since` for each
        route; and how many `requests` there were of each direction.

        Args:
            page: As `compile.effective.Effective.routes` makes it; it is changed.
        """
        for direction in ("inbound", "outbound"):
            side = page.get(direction)
            if not isinstance(side, dict):
                continue
            ports = [port["unmatched"] for port in side.get("ports", {}).values()]
            for entry in (*side.get("routes", ()), side.get("unmatched"), *ports):
                if isinstance(entry, dict):
                    self._annotate(direction, entry)
                    yield
        return {**page, "requests": dict(self.totals), "counted_since": _time(self.since_ns)}

    def _annotate(self, direction: str, entry: dict[str, Any]) -> None:
        hits = self.routes.get((direction, entry["name"])) or Hits(0, 0, self.since_ns)
        entry["hits"] = hits.count
        entry["last_hit"] = _time(hits.last_ns) if hits.last_ns else None
        entry["share"] = share_of(hits.count, self.totals.get(direction, 0))
        entry["counted_since"] = _time(hits.since_ns)


def coverage_of(scopes: Iterable[Scope]) -> Generator[None, None, Coverage]:
    """What these have counted, a microsecond or two each, in steps (`compile.time_slices`)."""
    routes: dict[tuple[str, str], Hits] = {}
    totals = {"inbound": 0, "outbound": 0}
    since_ns = clock.monotonic_ns()
    for number, scope in enumerate(tuple(scopes)):  # more may come meanwhile
        if not number % _SCOPES_A_STEP:
            yield
        key = (scope.direction.label, scope.route)
        found = routes.get(key)
        hits, last_ns, begun_ns = scope.hits, scope.last_ns, scope.since_ns
        if found is not None:
            # The oldest says since when the route is there; an upstream that it has got later had no requests before.
            hits, last_ns, begun_ns = (
                hits + found.count, max(last_ns, found.last_ns), min(begun_ns, found.since_ns)
            )  # fmt: skip
        routes[key] = Hits(hits, last_ns, begun_ns)
        totals[key[0]] += scope.hits
        since_ns = min(since_ns, scope.since_ns)
    return Coverage(routes, totals, since_ns)


def merge_coverage(pages: list[Mapping[str, Any]]) -> Mapping[str, Any]:
    """
    Several workers' `/routes` as one: hits add up, and the last hit is the last of any.

    What is counted is counted since the worker began that began last, for what another one before it has counted is
    gone.
    """
    if not pages:
        return {}
    first = pages[0]
    others = [_entries(page) for page in pages[1:]]
    for key, entry in _entries(first).items():
        for other in (found[key] for found in others if key in found):
            entry["hits"] += other["hits"]
            entry["last_hit"] = max(filter(None, (entry["last_hit"], other["last_hit"])), default=None)
            entry["counted_since"] = max(entry["counted_since"], other["counted_since"])
    totals = {side: sum(page.get("requests", {}).get(side, 0) for page in pages) for side in ("inbound", "outbound")}
    for (side, *_), entry in _entries(first).items():
        entry["share"] = share_of(entry["hits"], totals[side])
    return {**first, "requests": totals, "counted_since": max(page["counted_since"] for page in pages)}


def share_of(count: int, total: int) -> float:
    """From 0 to 1."""
    return round(count / total, 6) if total else 0.0


def _entries(page: Mapping[str, Any]) -> dict[tuple[str, str, int], dict[str, Any]]:
    """The routes of a page, by direction, kind and position."""
    found: dict[tuple[str, str, int], dict[str, Any]] = {}
    for direction in ("inbound", "outbound"):
        side = page.get(direction)
        if isinstance(side, dict):
            entries = {("route", at): entry for at, entry in enumerate(side.get("routes", ()))}
            entries["unmatched", 0] = side.get("unmatched")
            entries.update((("port", at), one["unmatched"]) for at, one in enumerate(side.get("ports", {}).values()))
            found |= {(direction, *key): entry for key, entry in entries.items() if isinstance(entry, dict)}
    return found


def _time(reading_ns: int) -> str:
    """RFC 3339 in UTC."""
    since_epoch_s = clock.wall_ns(reading_ns) / 1e9
    return datetime.fromtimestamp(since_epoch_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
