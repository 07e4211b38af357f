"""
Which of several matches the Gateway API takes, as an order in which the first is taken. *Cold, pure.*

"Proxy or Load Balancer routing configuration generated from HTTPRoutes MUST prioritize matches based on the following
criteria, continuing on ties": an exact path; the longest prefix; a method; the most headers; the most query parameters.
"If ties still exist across multiple Routes": the oldest by creation timestamp; the first in alphabetical order by
namespace/name; then the first rule, and the first match, in the list (HTTPRouteRule.matches of the API's reference).
Where regular expressions come is left to implementations: here they stand between exact paths and prefixes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sidecar.importing.draft import Plain

PathKind = Literal["exact", "regex", "prefix"]
_ORDER: dict[PathKind, int] = {"exact": 0, "regex": 1, "prefix": 2}


@dataclass(frozen=True, slots=True)
class Ranked:
    """
    One match of a rule, with all that decides when it is asked.

    Attributes:
        match: In our words, without a host.
        path_kind: Of its path; a match without one has the prefix `/`.
        path_chars: So long is its path.
        has_method: Whether it asks for the method.
        headers: How many it asks for.
        query: How many parameters it asks for.
        created: Of its route, as the server writes it; empty: unknown, and so the newest.
        route: Namespace and name of its route.
        rule: Its place in the route.
        index: Its place in the rule.
    """

    match: dict[str, Plain]
    path_kind: PathKind
    path_chars: int
    has_method: bool
    headers: int
    query: int
    created: str
    route: tuple[str, str]
    rule: int
    index: int

    @property
    def rank(self) -> tuple[object, ...]:
        """Less is asked first."""
        return (
            _ORDER[self.path_kind], -self.path_chars, not self.has_method, -self.headers, -self.query,
            not self.created, self.created, "/".join(self.route), self.rule, self.index,
        )  # fmt: skip


def in_order(matches: Sequence[Ranked]) -> list[list[Ranked]]:
    """The matches in their order, those of one rule that follow each other together."""
    found: list[list[Ranked]] = []
    for one in sorted(matches, key=lambda one: one.rank):
        if found and (found[-1][0].route, found[-1][0].rule) == (one.route, one.rule):
            found[-1].append(one)
        else:
            found.append([one])
    return found
