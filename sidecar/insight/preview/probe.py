"""
A plan that is asked about requests of which not all is known, and says so when that matters. *Cold.*

Routes and rules are those of the plan, and are asked by the code that asks them for live traffic; only the questions
about values of headers, cookies and parameters are wrapped. Where a value is known well enough for a question, the
question is asked. Where it is not, nobody knows the answer, and the request is decided once with no and once with yes:
only if all that can come of it is the same, it is known what becomes of the request.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Generic, TypeVar

from sidecar.compile.time_slices import at_once
from sidecar.insight.preview.restore import Name, Restored, State
from sidecar.message import RequestHead
from sidecar.proxy.plan import Side
from sidecar.routing.actions import Route
from sidecar.routing.match import Condition, Match
from sidecar.routing.matchers import ValueMatcher
from sidecar.routing.table import TableBuilder
from sidecar.security.authorization.authorization import Authorization, RuleSpec, make_authorization
from sidecar.security.authorization.rules import Clause

MAX_RUNS: Final = 64
"""Ways to answer what nobody knows that are tried for a request; with more, it is not known what becomes of it."""

_Result = TypeVar("_Result", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Settled(Generic[_Result]):
    """
    What becomes of a request.

    Attributes:
        result: That; one of what may be, where `needs` is not empty.
        needs: Of which it depends and is not known: `header x-tenant`; empty: of nothing.
        why: Why it is not known: `not recorded`.
    """

    result: _Result
    needs: str = ""
    why: str = ""


class Probe:
    """Answers the wrapped questions, about one request at a time (`settle`)."""

    __slots__ = ("_assumed", "_opened", "_restored")

    def __init__(self) -> None:
        self._restored: Restored | None = None
        self._assumed: dict[int, bool] = {}
        self._opened: dict[int, Name] = {}

    def settle(self, restored: Restored, decide: Callable[[], _Result]) -> Settled[_Result]:
        """
        What becomes of a request.

        Args:
            restored: The request.
            decide: Asks wrapped sides about it, and returns what they say; called as often as need be.
        """
        self._restored = restored
        first: _Result | None = None
        todo: list[tuple[dict[int, bool], Name | None]] = [({}, None)]
        for _ in range(MAX_RUNS):
            assumed, supposed = todo.pop(0)
            self._assumed, self._opened = assumed, {}
            result = decide()
            if first is None:
                first = result
            elif result != first:
                assert supposed is not None
                return self._unsettled(restored, first, supposed)
            no: dict[int, bool] = {}
            for question, name in self._opened.items():
                todo.append(({**assumed, **no, question: True}, name))
                no[question] = False
            if not todo:
                return Settled(first)
        assert first is not None
        return self._unsettled(restored, first, todo[0][1] or ("", ""))

    def _unsettled(self, restored: Restored, result: _Result, name: Name) -> Settled[_Result]:
        return Settled(result, f"{name[0]} {name[1]}", restored.state(name).value)

    def answer(self, condition: Condition, name: Name, head: RequestHead) -> bool:
        """What a condition says, or is supposed to say."""
        assert self._restored is not None
        assert condition.matcher is not None
        if can_answer(condition.matcher, self._restored.state(name)):
            return condition.test(head)
        question = id(condition)
        known = self._assumed.get(question)
        if known is None:
            self._opened[question] = name
            return False
        return known

    # --- wrapping ----------------------------------------------------------------------------------------------

    def side(self, side: Side) -> Side:
        """A side whose questions come here."""
        builder: TableBuilder[Route] = TableBuilder()
        for route in side.table.routes:
            builder.add(replace(route, matches=tuple(self._match(match) for match in route.matches)))
        rules = side.authorization
        return replace(side, table=builder.table(), authorization=self._rules(rules) if rules is not None else None)

    def _match(self, match: Match) -> Match:
        if all(one.matcher is None for one in match.conditions):
            return match
        return replace(match, conditions=tuple(self._conditions(match.conditions)))

    def _conditions(self, conditions: Sequence[Condition]) -> Iterator[Condition]:
        for condition in conditions:
            if condition.matcher is None:
                yield condition
                continue
            part, _, name = condition.part.partition(" ")
            yield replace(condition, test=partial(self.answer, condition, (part, name)))

    def _rules(self, rules: Authorization) -> Authorization:
        specs = [
            RuleSpec(
                rule.name, rule.is_allow, rule.is_audit,
                tuple(Clause(one.sources, self._match(one.match)) for one in rule.clauses), rule.position,
            )
            for rule in rules.rules
        ]  # fmt: skip
        return at_once(
            make_authorization(
                specs, is_default_allow=rules.is_default_allow, is_audit=rules.is_audit,
                admits_unidentified=rules.admits_unidentified,
            )
        )  # fmt: skip


def can_answer(matcher: ValueMatcher, state: State) -> bool:
    """Whether what is known of a value is enough for a question about it."""
    if state is State.KNOWN:
        return True
    if state is State.OTHER:
        return matcher.is_of_equality
    return state is State.THERE and matcher.kind == "present"
