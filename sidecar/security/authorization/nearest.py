"""
What differed for who was refused: the rule that came nearest, and which of its questions said no. *Pure.*

Only asked for a request that was refused, and bounded: whoever sends many of these must not make each expensive.
Values of headers, cookies, parameters and paths are never shown, nor what is expected of them: they may be secrets.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Final

from sidecar.message import RequestHead
from sidecar.peer import Token
from sidecar.routing.match import Match, host_matches
from sidecar.security.authorization.rules import Candidate, Rule

_MAX_EXAMINED: Final = 16
"""Clauses that are looked at, first of those that are about the client; each takes some microseconds."""


def explain(rules: Sequence[Rule], candidates: Iterable[Candidate], who: str, head: RequestHead) -> str:
    """
    One line about a request that no rule matched.

    Args:
        rules: All, in order.
        candidates: Of them, those that are about the client.
        who: Asked, as `who_asked` says it.
    """
    found = _nearest(rules, candidates, head)
    if found is None:
        return f"{who} is allowed by no rule"
    rule, differences = found
    at = f" ({rule.position})" if rule.position else ""
    return f"{who} is allowed by no rule; the nearest is `{rule.name}`{at}: {'; '.join(differences)}"


def who_asked(identity: str, ip: str, token: Token | None = None) -> str:
    """A client as a log line has it, with what its request's token came to: its issuer, or why it proves nothing."""
    who = identity or f"{ip} without an identity"
    if token is None:
        return who
    return f"{who}, {token.why}," if token.why else f"{who}, with a token of {token.issuer},"


def _nearest(
    rules: Sequence[Rule], candidates: Iterable[Candidate], head: RequestHead
) -> tuple[Rule, list[str]] | None:
    """The rule that allows of which the fewest questions say no; of several one that is not for anyone, the first."""
    best: tuple[int, bool, int] | None = None
    found: tuple[Rule, list[str]] | None = None
    left = _MAX_EXAMINED
    seen: set[int] = set()

    def consider(rule: Rule, differences: list[str]) -> None:
        nonlocal best, found, left
        left -= 1
        rank = (len(differences), rule.clauses[0].sources.is_anyone, rule.order)
        if best is None or rank < best:
            best, found = rank, (rule, differences)

    for one in islice(candidates, 4 * _MAX_EXAMINED):
        if one.rule.is_allow:
            seen.add(one.order)
            for match in one.matches[:left]:
                consider(one.rule, _differences(match, head))
    for rule in islice(rules, 4 * _MAX_EXAMINED):
        if rule.is_allow and rule.order not in seen:
            for clause in rule.clauses[:left]:
                consider(rule, [f"it is for {clause.sources.text}", *_differences(clause.match, head)])
    return found


def _differences(match: Match, head: RequestHead) -> list[str]:
    found = []
    if match.hosts and not any(host_matches(host, head) for host in match.hosts):
        found.append(f"host: expected {' or '.join(host.decode() for host in match.hosts)}")
    if match.path is not None and not match.path.test(head.path):
        # Somebody may have made a password of it: `/hooks/${HOOK_TOKEN}`.
        found.append("path differs")
    for condition in match.conditions:
        if not condition.test(head):
            is_shown = condition.part == "methods"
            found.append(f"methods: expected {condition.text}" if is_shown else f"{condition.part} differs")
    return found
