"""`GET /requests`: what it takes, what it shows, and of several workers by time."""

from __future__ import annotations

import asyncio
import json

import pytest

from sidecar.admin.endpoints import Endpoints, request_of
from sidecar.admin.recent import RequestsWish, merge_requests, requests_wish, shown_requests
from sidecar.compile.time_slices import at_once
from sidecar.redact import NO_SECRETS, Secrets
from tests.support.keeping import Keeping
from tests.unit.admin.process import FakeProcess

FILE = "service: shop\noutbound: {}\nupstreams: {web: {endpoints: []}}\n"


def test_newest_come_first_and_no_more_than_asked_for() -> None:
    """With what became of each."""
    keeping = Keeping(FILE)
    for number in range(3):
        keeping.request("GET", "web" if number else "other", f"/{number}")
    page = at_once(shown_requests(keeping.recent, RequestsWish(limit=2), NO_SECRETS))
    assert (page["keep"], page["kept"], page["not_kept"], page["passed_over"]) == (2000, 3, 0, 0)
    (last, before) = page["requests"]  # type: ignore[misc]
    assert (last["path"], before["path"]) == ("/2", "/1")
    assert {key: value for key, value in last.items() if key not in ("time", "duration_ms")} == {
        "request_id": "r3", "direction": "outbound", "method": "GET", "host": "web", "path": "/2", "status": 200,
        "flag": "", "route": "web", "upstream": "web", "endpoint": None, "attempts": 0,
    }  # fmt: skip
    (found,) = at_once(shown_requests(keeping.recent, RequestsWish(request_id="r1"), NO_SECRETS))["requests"]  # type: ignore[misc]
    assert (found["status"], found["flag"], found["route"]) == (404, "NR", None)


def test_a_call_of_grpc_is_shown_with_its_status_and_what_stands_for_it() -> None:
    """Of what is no call there is neither."""
    keeping = Keeping(FILE)
    keeping.request("POST", "web", "/shop.Orders/Buy", grpc_status=14)
    keeping.request("POST", "web", "/shop.Orders/Buy", grpc_status=0)
    ok, failed = at_once(shown_requests(keeping.recent, RequestsWish(), NO_SECRETS))["requests"]  # type: ignore[misc]
    assert (failed["status"], failed["grpc_status"], failed["counts_as"]) == (200, "UNAVAILABLE", 503)
    assert (ok["status"], ok["grpc_status"], ok["counts_as"]) == (200, "OK", 200)


def test_a_secret_that_is_known_is_hidden_wherever_it_stands() -> None:
    """As on every page."""
    keeping = Keeping(FILE)
    keeping.request("GET", "web", "/files/hunter2hunter2/x")
    page = at_once(shown_requests(keeping.recent, RequestsWish(), Secrets(["hunter2hunter2"])))
    assert page["requests"][0]["path"] == "/files/[redacted]/x"  # type: ignore[index]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ([("limit", "0")], "limit: expected a whole number from 1 to 1000, got '0'"),
        ([("limit", "1e3")], "limit: expected a whole number from 1 to 1000, got '1e3'"),
        ([("limt", "1")], "unknown parameter 'limt'; there are limit, request_id"),
    ],
)
def test_wrong_parameters_are_refused(params: list[tuple[str, str]], message: str) -> None:
    """With what was expected."""
    with pytest.raises(ValueError) as error:
        requests_wish(params)
    assert str(error.value) == message


async def _asked(target: str) -> tuple[int, bytes]:
    reply = await Endpoints.everything(FakeProcess()).answer(request_of("GET", target, False))
    return reply.status, reply.body


def test_endpoint_hands_on_what_is_asked_for() -> None:
    """A worker's number is no parameter of the page."""
    status, body = asyncio.run(_asked("/requests?limit=7&request_id=a%20b"))
    assert (status, json.loads(body)) == (200, {"asked": [7, "a b"]})
    assert asyncio.run(_asked("/requests?limit=x"))[0] == 400


def test_workers_requests_are_one_list_by_time() -> None:
    """Cut to what was asked for; the counts add up."""
    pages = [
        {
            "keep": 2,
            "kept": 2,
            "not_kept": 1,
            "passed_over": 4,
            "requests": [{"time": "T4", "n": 1}, {"time": "T1", "n": 2}],
        },
        {"keep": 2, "kept": 1, "not_kept": 0, "passed_over": 3, "requests": [{"time": "T3", "n": 3}]},
    ]
    merged = merge_requests(pages, 2)
    assert [one["n"] for one in merged["requests"]] == [1, 3]  # type: ignore[attr-defined]
    assert (merged["keep"], merged["kept"], merged["not_kept"], merged["passed_over"]) == (4, 3, 1, 7)
