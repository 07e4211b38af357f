"""
The decision: the first rule that matches, else the default, and who passes all the same. *Hot path; pure.*

    a rule that allows                         allowed
    a rule that denies                         denied
    none, `default: allow`                     allowed
    none, `default: deny`, no `callers`        denied by `default`
    none, `default: deny`, and `callers`       who has no identity, while the listener is permissive: allowed, and
                                               counted, unless `unidentified: deny`; else denied by `callers`

A request that a server may read otherwise than we do is judged by those readings, too (`readings`).

Audit turns `denied` into `audit_denied`, which passes: all of it with `mode: audit` of the whole; what the default
refuses where the rule `callers` is in audit; and of a rule that denies and is in audit, that only: what it matches is
then decided by the rules behind it as if it were not there.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import Final, Protocol

from sidecar.exchange import Decision, ScopeLike
from sidecar.message import RequestHead
from sidecar.peer import Peer, Token
from sidecar.routing.match import Match
from sidecar.security.authorization.index import RuleIndex, build_index
from sidecar.security.authorization.nearest import explain, who_asked
from sidecar.security.authorization.readings import Readings
from sidecar.security.authorization.rules import CALLERS, DEFAULT, Clause, Rule

_ANYTHING: Final = Match()
_ALLOWED: Final = "allowed"
_DENIED: Final = "denied"
_AUDIT_DENIED: Final = "audit_denied"
_GRAVITY: Final = {_ALLOWED: 0, _AUDIT_DENIED: 1, _DENIED: 2}


class TokensLike(Protocol):
    """Says what the tokens of requests come to; `security.tokens.remembered.Tokens` does, and is heavy to import."""

    def of(self, head: RequestHead) -> Token | None:
        """What the request's token comes to; None if it has none."""


class Authorization:
    """
    The rules of an app's inbound side; immutable, made by `make_authorization`.

    Attributes:
        rules: In order.
        is_default_allow: What becomes of a request that no rule matches.
        is_audit: Whether all of it only tells.
        admits_unidentified: Whether who has no identity passes the rule `callers` while a listener is permissive.
        reads_requests: Whether a rule asks for more than who asks, so that what is no request cannot be judged.
        token_rules: What rules ask of tokens; empty: nobody looks at any.
        tokens: Verifies them. Given when the plan comes into force; None where no rule asks, and where none can come.
    """

    __slots__ = (
        "_enforced", "_everything", "_readings", "_unidentified", "_unmatched", "_unreadable", "admits_unidentified",
        "is_audit", "is_default_allow", "reads_requests", "rules", "token_rules", "tokens",
    )  # fmt: skip

    def __init__(
        self,
        rules: tuple[Rule, ...],
        everything: RuleIndex,
        enforced: RuleIndex | None,
        readings: Readings,
        unmatched: Decision,
        unidentified: Decision | None,
        unreadable: Decision,
        *,
        is_default_allow: bool,
        is_audit: bool,
    ) -> None:
        self.rules = rules
        self.is_default_allow = is_default_allow
        self.is_audit = is_audit
        self.admits_unidentified = unidentified is not None
        found = {one for rule in rules for clause in rule.clauses for one in clause.sources.tokens}
        self.token_rules = tuple(sorted(found, key=lambda one: one.word))
        self.reads_requests = bool(found) or any(clause.match != _ANYTHING for rule in rules for clause in rule.clauses)
        self.tokens: TokensLike | None = None
        self._everything = everything
        self._enforced = enforced
        self._readings = readings
        self._unmatched = unmatched
        self._unidentified = unidentified
        self._unreadable = unreadable

    def __repr__(self) -> str:
        return f"<Authorization of {len(self.rules)} rules>"

    def decide(
        self, client: Peer | None, ip: str, head: RequestHead, is_permissive: bool, token: Token | None = None
    ) -> Decision:
        """
        What the rules say of a request.

        Args:
            client: Who connected by TLS, or None.
            ip: The client's address, as `Exchange.peer` has it.
            head: As routes see it: call it with the very head that is then routed.
            is_permissive: Whether the listener also takes who has no identity, for the time being.
            token: What the request's token came to, if it has one.
        """
        identity = client.identity if client is not None else ""
        words = token.words if token is not None else ()
        decision = self._decide(identity, ip, head, is_permissive, words)
        if decision.outcome != _DENIED:
            readings = self._readings.of(head)
            if readings is None:
                return self._unreadable
            for reading in readings:
                other = self._decide(identity, ip, reading.head, is_permissive, words)
                is_by_rule = other is not self._unmatched
                if (is_by_rule or reading.climbs) and _GRAVITY[other.outcome] > _GRAVITY[decision.outcome]:
                    decision = other
        return decision

    def _decide(
        self, identity: str, ip: str, head: RequestHead, is_permissive: bool, tokens: tuple[str, ...]
    ) -> Decision:
        """By one reading of the request."""
        rule = self._everything.first(identity, ip, head, tokens)
        if rule is None:
            return self._without_rule(identity, is_permissive)
        if self._enforced is None or not rule.is_audit or rule.is_allow:
            return rule.decision
        # It only tells what it would refuse; what happens is up to those behind it.
        other = self._enforced.first(identity, ip, head, tokens)
        behind = other.decision if other is not None else self._without_rule(identity, is_permissive)
        return rule.decision if behind.outcome == _ALLOWED and not behind.is_unidentified else behind

    def explain(
        self, decision: Decision, client: Peer | None, ip: str, head: RequestHead, token: Token | None = None
    ) -> str:
        """Who was refused, by what, and where nothing matched what differed from the nearest rule; in one line."""
        identity = client.identity if client is not None else ""
        who = who_asked(identity, ip, token)
        if decision is self._unreadable:
            return f"{who} is denied: servers may read the request in too many ways"
        if decision is not self._unmatched:
            return f"{who} is denied by `{decision.rule}`"
        words = token.words if token is not None else ()
        # Where it was refused because a server may read it otherwise, it is that reading which differs.
        for reading in self._readings.of(head) or ():
            if reading.climbs and self._everything.first(identity, ip, reading.head, words) is None:
                head = reading.head
                break
        return explain(self.rules, self._everything.candidates(identity, ip, words), who, head)

    def dismantle(self) -> Iterator[None]:
        """Let go of all rules, a few objects at each step: as `routing.table.Table.dismantle`."""
        yield from self._everything.dismantle()
        if self._enforced is not None:
            yield from self._enforced.dismantle()
        rules = list(self.rules)
        self.rules = ()
        while rules:
            rules.pop()
            yield

    def _without_rule(self, identity: str, is_permissive: bool) -> Decision:
        if is_permissive and not identity and self._unidentified is not None:
            return self._unidentified
        return self._unmatched


class RuleSpec:
    """
    A rule as the file has it.

    Attributes:
        name: Its own among all rules.
        is_allow: Whether it allows; else it denies.
        is_audit: As `Rule.is_audit`.
        clauses: Any of them is enough.
        position: `file:line`.
    """

    __slots__ = ("clauses", "is_allow", "is_audit", "name", "position")

    def __init__(self, name: str, is_allow: bool, is_audit: bool, clauses: tuple[Clause, ...], position: str) -> None:
        self.name = name
        self.is_allow = is_allow
        self.is_audit = is_audit
        self.clauses = clauses
        self.position = position


def make_authorization(
    specs: Sequence[RuleSpec],
    *,
    is_default_allow: bool,
    is_audit: bool = False,
    admits_unidentified: bool = True,
    scope: ScopeLike | None = None,
) -> Generator[None, None, Authorization]:
    """
    Compile rules; work in steps, as `compile.time_slices` does it.

    Args:
        specs: In order.
        scope: What telemetry counts decisions in.
    """
    rules: list[Rule] = []
    readings = Readings()
    callers: RuleSpec | None = None
    for order, spec in enumerate(specs):
        outcome = _ALLOWED
        if not spec.is_allow:
            outcome = _AUDIT_DENIED if is_audit or spec.is_audit else _DENIED
        elif spec.name == CALLERS:
            callers = spec
        decision = Decision(outcome, spec.name, spec.position, scope)
        rule = Rule(order, spec.name, spec.is_allow, spec.is_audit, spec.clauses, spec.position, decision)
        readings.learn(rule)
        rules.append(rule)
        yield
    everything = yield from build_index(rules)
    enforced: RuleIndex | None = None
    behind = [rule for rule in rules if rule.is_allow or not rule.is_audit]
    if len(behind) < len(rules):
        enforced = yield from build_index(behind)
    name, position = (DEFAULT, "") if callers is None else (CALLERS, callers.position)
    unreadable = Decision(_AUDIT_DENIED if is_audit else _DENIED, DEFAULT, "", scope)
    unidentified: Decision | None = None
    if is_default_allow:
        unmatched = Decision(_ALLOWED, DEFAULT, "", scope)
    else:
        only_told = is_audit or (callers is not None and callers.is_audit)
        unmatched = Decision(_AUDIT_DENIED if only_told else _DENIED, name, position, scope)
        if callers is not None and admits_unidentified:
            unidentified = Decision(_ALLOWED, name, position, scope, is_unidentified=True)
    return Authorization(
        tuple(rules), everything, enforced, readings, unmatched, unidentified, unreadable,
        is_default_allow=is_default_allow, is_audit=is_audit,
    )  # fmt: skip
