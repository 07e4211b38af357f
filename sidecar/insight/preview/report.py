"""
What would become otherwise of the requests that were seen last: gathered request by request, then told. *Cold, pure.*

A request is moved when it goes to another upstream, or is answered here where it was sent on, or answered otherwise.
Where a split sends requests by chance, none of them is moved as such: each counts for the share that must go elsewhere
when the shares change, so that 95/5 which becomes 90/10 moves a twentieth of its requests.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from sidecar.admin.recent import text_of
from sidecar.insight.preview.decide import Asked, Outcome, Shares, distance, shares_of
from sidecar.insight.preview.probe import Settled
from sidecar.insight.preview.restore import operands_of, restore, sides_of
from sidecar.proxy.plan import Plan
from sidecar.proxy.recent import Entry
from sidecar.routing.actions import Forward, Route

MAX_GROUPS: Final = 100
MAX_UNKNOWNS: Final = 50
NOT_FOUND: Final = 404

Locate = Callable[[str, str, int], str]
"""Where a route is written in the new file: of its direction, name and position among the routes of its side."""


@dataclass(slots=True)
class _Group:
    count: float
    entry: Entry
    before: Outcome
    after: Outcome


@dataclass(slots=True)
class _Sticky:
    moved: int = 0
    of: int = 0


@dataclass(slots=True)
class Tally:
    """
    What has been found so far.

    Attributes:
        requests: That were asked about.
        moved: Of these, those that go elsewhere; a share of those that go by chance.
        refused: Those that are refused and were not before.
        not_found: Of these, those that no route takes any more.
        unknown: Those of which what was kept does not tell.
    """

    requests: int = 0
    moved: float = 0.0
    refused: int = 0
    not_found: int = 0
    unknown: int = 0
    groups: dict[object, _Group] = field(default_factory=dict)
    unknowns: dict[tuple[str, str], tuple[int, Entry]] = field(default_factory=dict)
    sticky: dict[tuple[str, str], _Sticky] = field(default_factory=dict)

    def add(self, entry: Entry, before: Settled[Outcome], after: Settled[Outcome]) -> None:
        """One more request."""
        self.requests += 1
        for settled in (after, before):
            if settled.needs:
                self._do_not_know(entry, settled.needs, settled.why)
                return
        self._compare(entry, before.result, after.result)

    def _do_not_know(self, entry: Entry, needs: str, why: str) -> None:
        self.unknown += 1
        count, first = self.unknowns.get((needs, why), (0, entry))
        self.unknowns[needs, why] = (count + 1, first)

    def _compare(self, entry: Entry, before: Outcome, after: Outcome) -> None:
        by = float(before.place != after.place)
        if before.to and after.to:
            by = distance(before.to, after.to)
            needs = before.needs or after.needs
            # Of a key that is not known, only what holds for every key is known.
            if needs and 0 < by < 1:
                self._do_not_know(entry, needs, "its value was not recorded")
                return
            if before.key and after.key and before.route == after.route and not needs:
                sticky = self.sticky.setdefault((entry.kept.direction, after.route), _Sticky())
                sticky.of += 1
                sticky.moved += by > 0
        if by <= 0:
            return
        self.moved += by
        if after.flag and not before.flag:
            self.refused += 1
            self.not_found += after.status == NOT_FOUND
        key = (entry.kept.direction, before.route, before.place, after.route, after.place)
        group = self.groups.get(key)
        if group is None:
            self.groups[key] = _Group(by, entry, before, after)
        else:
            group.count += by

    @property
    def moved_share(self) -> float:
        """Of all requests that were asked about."""
        return self.moved / self.requests if self.requests else 0.0

    def shown(self, live: Plan, new: Plan, locate: Locate, hide: Callable[[str], str]) -> dict[str, Any]:
        """Ready for JSON; `docs/preview.md` has the keys."""
        groups = sorted(self.groups.values(), key=lambda group: -group.count)
        unknowns = sorted(self.unknowns.items(), key=lambda item: -item[1][0])
        return {
            "requests": self.requests,
            "moved": _whole(self.moved),
            "moved_share": round(self.moved_share, 6),
            "unknown": self.unknown,
            "refused": self.refused,
            "not_found": self.not_found,
            "groups": [
                {
                    "count": _whole(group.count),
                    "direction": group.entry.kept.direction,
                    "from": _end(group.before),
                    "to": _end(group.after),
                    "position": group.after.rule
                    or locate(group.entry.kept.direction, group.after.route, group.after.index),
                    "example": _example(group.entry, hide),
                }
                for group in groups[:MAX_GROUPS]
            ],
            "groups_left_out": max(0, len(groups) - MAX_GROUPS),
            "unknowns": [
                {"count": count, "needs": needs, "why": why, "example": _example(entry, hide)}
                for (needs, why), (count, entry) in unknowns[:MAX_UNKNOWNS]
            ],
            "splits": list(self._splits(live, new)),
        }

    def _splits(self, live: Plan, new: Plan) -> list[dict[str, Any]]:
        """Routes that send to several upstreams, before or after, in other shares than before."""
        before, after = _forwards(live), _forwards(new)
        found: list[dict[str, Any]] = []
        for key in before.keys() & after.keys():
            sticky = self.sticky.get(key, _Sticky())
            if before[key] != after[key] and len(before[key]) + len(after[key]) > 2:
                found.append(
                    {
                        "route": key[1],
                        "direction": key[0],
                        "before": {name: round(share, 6) for name, share in before[key]},
                        "after": {name: round(share, 6) for name, share in after[key]},
                        "sticky_moved": sticky.moved,
                        "sticky_of": sticky.of,
                    }
                )
        return sorted(found, key=lambda split: (split["direction"], split["route"]))


def tally_of(entries: list[Entry], live: Plan, new: Plan) -> Tally:
    """Ask both plans about each request."""
    operands = operands_of([*sides_of(live), *sides_of(new)])
    tally, asked_live, asked_new = Tally(), Asked(live), Asked(new)
    for entry in entries:
        restored = restore(entry, operands)
        tally.add(entry, asked_live.about(entry, restored), asked_new.about(entry, restored))
    return tally


def _forwards(plan: Plan) -> dict[tuple[str, str], Shares]:
    """By direction and route, the shares of its upstreams."""
    found: dict[tuple[str, str], Shares] = {}
    for side in sides_of(plan):
        for route in side.table.routes:
            shares = _shares(route)
            if shares:
                found.setdefault((side.direction.label, route.name), shares)
    return found


def _shares(route: Route) -> Shares:
    action = route.action
    if not isinstance(action, Forward):
        return ()
    names = [target.name for target in action.targets]
    return shares_of(names, action.split.weights) if action.split is not None else ((names[0], 1.0),)


def _whole(count: float) -> int:
    """Requests, of which a share of one is one."""
    return max(round(count), int(count > 0))


def _end(outcome: Outcome) -> dict[str, Any]:
    return {
        "route": outcome.route or None,
        "to": [name for name, _ in outcome.to],
        "status": outcome.status or None,
        "flag": outcome.flag,
    }


def _example(entry: Entry, hide: Callable[[str], str]) -> dict[str, Any]:
    return {
        "method": text_of(entry.method),
        "host": hide(text_of(entry.host)),
        "path": hide(text_of(entry.path)),
        "request_id": text_of(entry.request_id),
    }
