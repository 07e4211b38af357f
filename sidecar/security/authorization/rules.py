"""Rules as they are compiled: what each of them asks, and what it decides. *Hot path: reads; pure.*"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sidecar.exchange import Decision
from sidecar.routing.match import Match
from sidecar.security.authorization.sources import Sources

CALLERS: Final = "callers"
"""The rule that says who may call at all: what the default refuses is refused in its name."""
DEFAULT: Final = "default"
"""What decides where no rule matches and none is called `callers`."""


@dataclass(frozen=True, slots=True)
class Clause:
    """
    One way in which a request can match a rule.

    Attributes:
        sources: Who asks.
        match: What for, as routes ask it.
    """

    sources: Sources
    match: Match


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """
    One rule.

    Attributes:
        order: From 0, in the order in which rules are asked.
        name: As in the file.
        is_allow: What it decides.
        is_audit: It only tells what it would refuse. Of rules that allow, only that called `callers` may be so: then
            what the default refuses, it refuses in audit.
        clauses: Any of them is enough; without any, nothing matches it.
        position: `file:line`.
        decision: What is true of a request that it decides.
    """

    order: int
    name: str
    is_allow: bool
    is_audit: bool
    clauses: tuple[Clause, ...]
    position: str
    decision: Decision


class Candidate:
    """
    The clauses of a rule that are about the same sources: what a table of rules holds.

    Attributes:
        order: Of the rule.
        rule: The rule.
        matches: At least one.
    """

    __slots__ = ("_matches", "order", "rule")

    def __init__(self, rule: Rule, matches: tuple[Match, ...]) -> None:
        self.order = rule.order
        self.rule = rule
        self._matches = matches

    @property
    def matches(self) -> tuple[Match, ...]:
        """What is asked of the head, any of it."""
        return self._matches
