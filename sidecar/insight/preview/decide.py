"""
What a plan does with a kept request: its rules, its routes and its splits are asked as live traffic asks them. *Cold.*
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, combinations
from typing import Final

from sidecar import errors
from sidecar.errors import Reason
from sidecar.insight.preview.probe import Probe, Settled
from sidecar.insight.preview.restore import Restored, State
from sidecar.insight.walk import Visitor, walk
from sidecar.message import RequestHead
from sidecar.proxy.exchange.steps import is_permissive
from sidecar.proxy.plan import Listener, Plan, Side
from sidecar.proxy.recent import Entry
from sidecar.routing.actions import Forward, Redirect, Route, Target
from sidecar.routing.split import Split, key_reader
from sidecar.security.authorization.readings import copied

_MAX_UNKNOWN_TOKENS: Final = 3
_TOKEN: Final = "the claims of its token"
_LISTENER: Final = "the listener by which it came"

Shares = tuple[tuple[str, float], ...]
"""Upstreams and the share of the requests that each gets; they add up to 1."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    What becomes of a request.

    Attributes:
        route: Name of its route; empty for none.
        index: Of that route among those of its side, from 0; -1 for none, and for what takes all that no route does.
        to: Where it is sent on; empty where it is not.
        status: With which it is answered here, or 0.
        location: Where it is redirected to.
        flag: Of what refuses it (`errors.Reason.flag`), or empty.
        rule: Where the rule is written that refuses it, or empty.
        key: What of it the split sticks to: `cookie uid`, or empty.
        needs: As `Settled.needs`, of the split only: which of `to` it is depends on it.
    """

    route: str
    index: int
    to: Shares = ()
    status: int = 0
    location: str = ""
    flag: str = ""
    rule: str = ""
    key: str = ""
    needs: str = field(default="", compare=False)

    @property
    def place(self) -> tuple[object, ...]:
        """What makes two of them different for whoever sent the request."""
        return (tuple(sorted(self.to)), self.status, self.location, self.flag if not self.to else "")


class Asked:
    """
    A plan to be asked.

    Args:
        plan: Of which nothing is changed.
    """

    __slots__ = ("_indices", "_listeners", "_probe", "_sides", "plan")

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._probe = Probe()
        self._sides: dict[str, Side] = {}
        self._indices: dict[Route, int] = {}
        self._listeners: dict[str, list[Listener | None]] = {}

    def about(self, entry: Entry, restored: Restored) -> Settled[Outcome]:
        """What becomes of this request."""
        side = self._side(entry.kept.side, entry.kept.direction)
        settled: Settled[Outcome] | None = None
        for words, listener, label in self._ways(entry, side):
            found = self._probe.settle(restored, partial(self._decide, entry, restored, side, listener, words))
            if found.needs:
                return found
            if settled is None:
                settled = found
            elif settled.result != found.result:
                return Settled(found.result, label, "not recorded")
        assert settled is not None
        return settled

    def _ways(self, entry: Entry, side: Side) -> Iterator[tuple[tuple[str, ...], Listener | None, str]]:
        """What may have come with it that was not recorded: tokens, and the mode of its listener."""
        rules = side.authorization
        if rules is None:
            yield (), None, ""
            return
        for number, listener in enumerate(self._listeners_of(entry.kept.side)):
            label = _LISTENER if number else _TOKEN
            for words in _tokens(entry, {rule.word for rule in rules.token_rules}):
                yield words, listener, label

    def _decide(
        self, entry: Entry, restored: Restored, side: Side, listener: Listener | None, words: tuple[str, ...]
    ) -> Outcome:
        head = copied(restored.head)
        visitor = Visitor(restored.peer_ip, restored.identity, words=words or None, is_client=True)
        walked = walk(side, listener, head, visitor, is_captured=entry.is_captured)
        found, decision = walked.found, walked.decision
        if isinstance(found, Reason):
            is_denied = decision is not None and not decision.is_allowed
            return _refused(found, decision.position if is_denied and decision is not None else "")
        index = self._indices.get(found, -1)
        action = found.action
        if isinstance(action, Forward):
            try:
                names = [_place_of(target, head) for target in action.targets]
            except ValueError:
                return _refused(errors.REWRITE_INVALID)
            if action.split is None:
                return Outcome(found.name, index, ((names[0], 1.0),))
            return _split(found.name, index, names, action.split, restored)
        if isinstance(action, Redirect):
            try:
                location = action.location(head).decode("latin-1")
            except ValueError:
                return _refused(errors.REWRITE_INVALID)
            return Outcome(found.name, index, status=action.status, location=location)
        return Outcome(found.name, index, status=action.status)

    def _side(self, label: str, direction: str) -> Side:
        side = self._sides.get(label)
        if side is None:
            own = self.plan.side_of.get(label) or self.plan.sides[direction == "outbound"]
            side = self._sides[label] = self._probe.side(own)
            self._indices.update((route, index) for index, route in enumerate(side.table.routes))
        return side

    def _listeners_of(self, label: str) -> list[Listener | None]:
        """One of the side's listeners for each way in which they treat who has no identity."""
        found = self._listeners.get(label)
        if found is None:
            by_mode = {is_permissive(one): one for one in self.plan.listeners if one.side == label}
            found = self._listeners[label] = [*by_mode.values()] or [None]
        return found


def _place_of(target: Target, head: RequestHead) -> str:
    """The upstream of a side; of one that redirects, where to. Raises ValueError for what is no location."""
    if target.redirect is None:
        return target.name
    return f"redirect {target.redirect.status} {target.redirect.location(head).decode('latin-1')}"


def shares_of(names: list[str], weights: tuple[float, ...]) -> Shares:
    """The share of each upstream with a weight."""
    total = sum(weights)
    shares: dict[str, float] = {}
    for name, weight in zip(names, weights, strict=True):
        if weight > 0:
            shares[name] = shares.get(name, 0.0) + weight / total
    return tuple(shares.items())


def _split(route: str, index: int, names: list[str], split: Split, restored: Restored) -> Outcome:
    """Where a split sends a request: to the side that its key sticks to, or to each with its share."""
    shares = shares_of(names, split.weights)
    if not split.sticky:
        return Outcome(route, index, shares)
    part, _, name = split.sticky.partition(" ")
    if part != "source_ip" and restored.state((part, name)) is not State.KNOWN:
        return Outcome(route, index, shares, key=split.sticky, needs=split.sticky)
    key = key_reader(part, name)(restored.head, restored.peer_ip)
    if not key:
        return Outcome(route, index, shares)
    return Outcome(route, index, ((names[split.side(key)], 1.0),), key=split.sticky)


def _refused(reason: Reason, position: str = "") -> Outcome:
    return Outcome("", -1, status=reason.status, flag=reason.flag, rule=position)


def _tokens(entry: Entry, asked: set[str]) -> Iterator[tuple[str, ...]]:
    """What rules may have found in the request's token, of all that they ask of tokens."""
    if not asked or (entry.tokens is True and entry.kept.tokens):
        yield ()
        return
    looked_at = set(entry.kept.tokens) if entry.tokens is not None else set()
    found = asked & looked_at & set(entry.tokens if isinstance(entry.tokens, tuple) else ())
    unknown = sorted(asked - looked_at)[: _MAX_UNKNOWN_TOKENS + 1]
    for more in chain.from_iterable(combinations(unknown, size) for size in range(len(unknown) + 1)):
        yield tuple(sorted(found | set(more)))


def distance(before: Shares, after: Shares) -> float:
    """What share of requests, at least, goes elsewhere when shares change: half the sum of the differences."""
    one: Mapping[str, float] = dict(before)
    other: Mapping[str, float] = dict(after)
    return sum(abs(one.get(name, 0.0) - other.get(name, 0.0)) for name in {**one, **other}) / 2
