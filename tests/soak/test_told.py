"""What the storm holds for a wrong record: none, two, one of something else; and calls that are counted otherwise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.soak.outcome import Kind, Outcome
from tests.soak.told import disagreements

GET = Outcome("a", Kind("get", "GET", "swift", version=2), 1.0, 1.1, 200)
CALL = Outcome("a", Kind("call", "POST", "swift", version=2, is_call=True), 1.0, 1.1, 200, call_status=0)
LINE: dict[str, Any] = {"request_id": "a", "protocol": "HTTP/2", "response_code": 200, "response_flags": "-"}


def test_one_line_that_says_the_same_is_good() -> None:
    """Of a call with its status, which is counted, too."""
    assert disagreements([GET], [LINE], {}) == []
    assert disagreements([CALL], [{**LINE, "grpc_status": "OK"}], {"OK": 1}) == []


@pytest.mark.parametrize("failure", ["left", "unanswered", "refused", "hung"])
def test_who_was_not_answered_may_have_none(failure: str) -> None:
    """But not two."""
    one = replace(GET, failure=failure)
    assert disagreements([one], [], {}) == []
    assert disagreements([one], [LINE, LINE], {})


@pytest.mark.parametrize(
    ("outcome", "lines", "calls"),
    [
        (GET, [], {}),
        (replace(GET, failure="cut"), [], {}),
        (GET, [LINE, LINE], {}),
        (GET, [{**LINE, "protocol": "HTTP/1.1"}], {}),
        (GET, [{**LINE, "response_code": 503}], {}),
        (replace(GET, failure="status", status=503, flag="UH"), [{**LINE, "response_code": 503}], {}),
        (CALL, [{**LINE, "grpc_status": "UNAVAILABLE"}], {"UNAVAILABLE": 1}),
        (CALL, [{**LINE, "grpc_status": "OK"}], {}),
        (CALL, [LINE], {}),
    ],
)
def test_what_does_not_fit_is_told(outcome: Outcome, lines: list[dict[str, Any]], calls: dict[str, int]) -> None:
    """Each for itself."""
    assert len(disagreements([outcome], lines, calls)) == 1
