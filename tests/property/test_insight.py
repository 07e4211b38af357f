"""Explanations and tests of a file say of any request what the table that routes live traffic says."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.errors import Reason
from sidecar.exchange import Direction
from sidecar.insight.question import Question, head_of
from sidecar.proxy.exchange.steps import find_route
from sidecar.routing.actions import Forward
from tests.support import plans
from tests.support.compiling import compiled, frames_of
from tests.support.explaining import account, told
from tests.support.thoroughness import examples


@settings(max_examples=examples(150), deadline=None)
@given(routes=plans.routes, asked=st.lists(plans.questions, min_size=1, max_size=4))
def test_an_account_and_a_test_agree_with_the_table(routes: list[dict[str, Any]], asked: list[Question]) -> None:
    """For any routes and any request: the route, the side of its key, and what each other route missed."""
    text = plans.file_of(routes)
    side = compiled(text).plan.sides[Direction.OUTBOUND]
    tests: list[dict[str, Any]] = []
    for question in asked:
        found = find_route(side, head_of(question), "127.0.0.1")
        said = account(text, question, is_whole=True)
        told(said)
        assert [one["name"] for one in said["routes"] if one["result"] == "taken"] == (
            [] if isinstance(found, Reason) else [found.name]
        )
        for route, one in zip(side.table.routes, said["routes"], strict=True):
            assert route.is_match(head_of(question)) is (one["result"] != "missed")
            assert len(one["matches"]) == (len(route.matches) if one["result"] == "missed" else 0)
        if isinstance(found, Reason):
            assert said["outcome"]["status"] == found.status
            expect: dict[str, Any] = {"status": found.status}
        else:
            assert said["outcome"]["route"] == found.name
            expect = {"route": found.name}
            if isinstance(found.action, Forward):
                targets = found.action.targets
                taken = [one["upstream"] for one in said["split"]["sides"] if one["is_taken"]]
                if taken:
                    assert found.action.choose(head_of(question), "127.0.0.1").name == taken[0]
                if all(one.redirect is None for one in targets):
                    expect["split"] = {taken[0]: 1} if taken else {one.name: one.weight for one in targets}
        request = {"url": question.url, "method": question.method, "headers": dict(question.headers)}
        tests.append(
            {"name": str(len(tests)), "request": {**request, "cookies": dict(question.cookies)}, "expect": expect}
        )
    frames_of(plans.file_of(routes, tests=tests))  # raises if one of them does not hold
