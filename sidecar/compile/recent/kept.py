"""
What is kept of recent requests is decided here, from what a side reads of them: `proxy.recent` keeps it. *Cold.*

    asked by                                     needs
    `exact`, `present` of a match or a rule      whether it is equal
    key of a rate limit                          whether it is equal
    any other question, keys of `sticky`, `hash` the value
    `telemetry.recent_requests`                  the value

What needs the value is kept RAW, else HASHED; under a name that speaks of secrets it is HASHED where somebody asks
whether it is equal, and else only PRESENT.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from sidecar.compile.time_slices import Steps
from sidecar.proxy.exchange.policies import BothLimits, RateLimiter
from sidecar.proxy.recent import HASHED, PRESENT, RAW, Kept, KeptField, Recent
from sidecar.redact import is_sensitive, is_sensitive_parameter
from sidecar.routing.actions import Forward, Route
from sidecar.routing.match import Match
from sidecar.security.authorization.authorization import Authorization

if TYPE_CHECKING:
    from sidecar.config.model import preview as model

PARTS: Final = ("header", "cookie", "query")


class Needs:
    """What is needed of which header, cookie and parameter: gathered, then `fields`."""

    __slots__ = ("_equal", "_strict", "_value")

    def __init__(self) -> None:
        self._value: dict[tuple[str, str], None] = {}
        self._equal: dict[tuple[str, str], None] = {}
        self._strict: set[tuple[str, str]] = set()

    def learn_match(self, match: Match, *, is_strict: bool = False) -> None:
        """What a match asks."""
        for condition in match.conditions:
            if condition.matcher is None:
                continue
            part, _, name = condition.part.partition(" ")
            (self._equal if condition.matcher.is_of_equality else self._value)[part, name] = None
            if is_strict:
                self._strict.add((part, name))

    def learn_key(self, part: str, name: str, *, is_value: bool) -> None:
        """What reads a key, which may be the client's address."""
        if part in PARTS:
            key = (part, name.lower() if part == "header" else name)
            (self._value if is_value else self._equal)[key] = None

    def learn_route(self, route: Route) -> None:
        """What a route reads."""
        for match in route.matches:
            self.learn_match(match)
        action = route.action
        if not isinstance(action, Forward):
            return
        if action.split is not None and action.split.sticky:
            part, _, name = action.split.sticky.partition(" ")
            self.learn_key(part, name, is_value=True)
        for target in action.targets:
            key = target.upstream.spec.hash_key if target.redirect is None else None
            if key is not None:
                self.learn_key(key.source, key.name.decode(), is_value=True)
        for limiter in limiters_of(action.rate_limit):
            if limiter.limit.key is not None:
                self.learn_key(*limiter.limit.key, is_value=False)

    def learn_settings(self, settings: model.RecentRequests) -> None:
        """What the file wants to be kept besides."""
        for part, names in zip(PARTS, (settings.headers, settings.cookies, settings.query), strict=True):
            for name in names:
                self.learn_key(part, name, is_value=True)
                self.learn_key(part, name, is_value=False)

    def fields(self) -> list[KeptField]:
        """What is kept, each in the least telling way that answers what is asked."""
        found = []
        for key in {**self._equal, **self._value}:
            part, name = key
            if is_secret(part, name):
                mode = HASHED if key in self._equal else PRESENT
            else:
                mode = RAW if key in self._value else HASHED
            found.append(KeptField(part, name, mode, key in self._strict))
        return found


def is_secret(part: str, name: str) -> bool:
    """Whether the value is kept by nobody, for its name."""
    return is_sensitive_parameter(name) if part == "query" else is_sensitive(name)


def limiters_of(limit: RateLimiter | BothLimits | None) -> Sequence[RateLimiter]:
    """The limits of a route, one by one."""
    if limit is None:
        return ()
    return (limit.own, limit.common) if isinstance(limit, BothLimits) else (limit,)


def kept_of(
    side: str,
    direction: str,
    routes: Iterable[Route | None],
    rules: Authorization | None,
    settings: model.RecentRequests,
    recent: Recent,
) -> Steps[Kept]:
    """
    What is kept of the requests of a side.

    Args:
        side: A key of `Plan.side_of`.
        direction: Its label.
        routes: All that its requests may take.
        rules: Which of them may pass.
        settings: What the file says of it.
        recent: Where it is kept.
    """
    needs = Needs()
    needs.learn_settings(settings)
    for route in routes:
        if route is not None:
            needs.learn_route(route)
            yield
    for rule in rules.rules if rules is not None else ():
        for clause in rule.clauses:
            needs.learn_match(clause.match, is_strict=not rule.is_allow)
        yield
    tokens = [rule.word for rule in rules.token_rules] if rules is not None else ()
    return recent.learn(Kept(side, direction, needs.fields(), tokens, recent))
