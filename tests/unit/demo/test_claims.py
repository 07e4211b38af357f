"""A demonstration that cannot fail shows nothing: every verdict is given numbers that do not hold."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest

from sidecar.demo.claims import Claims
from sidecar.demo.collector import Collector
from sidecar.demo.samples import Samples
from sidecar.demo.single import claims as verdicts
from sidecar.demo.single.configuration import CANARY, EVEN
from sidecar.demo.single.ledger import Ledger
from sidecar.demo.traffic import Tally


def judged(judge: Callable[[Claims], None]) -> tuple[int, int]:
    """How many claims held and how many did not; each has said its line."""
    said: list[str] = []
    claims = Claims(said.append)
    judge(claims)
    assert [bool(re.match(r"(ok    |FAILED)  \S", line)) for line in said] == [True] * (claims.held + claims.failed)
    return claims.held, claims.failed


def tally(v1: int = 0, beta: int = 0, cookie_beta: int = 0, cookie_v1: int = 0, failed: int = 0) -> Tally:
    """What customers counted."""
    made = Tally()
    made.plain.update({"v1": v1, "beta": beta})
    made.beta.update({"v1": cookie_v1, "beta": cookie_beta})
    made.ok = v1 + beta + cookie_beta + cookie_v1
    made.failed.update({"status 503": failed} if failed else {})
    made.sent = made.ok + failed
    return made


def samples(inbound: int, v1: int, beta: int, code: str = "200", timed: int | None = None) -> Samples:
    """What `/metrics` says."""

    def requests(direction: str, upstream: str, value: int) -> Samples:
        labels = {"code": code, "direction": direction, "flag": "-", "route": "r", "upstream": upstream}
        return {("sidecar_requests_total", tuple(labels.items())): float(value)}

    return {
        **requests("inbound", "app", inbound),
        **requests("outbound", "recommendations", v1),
        **requests("outbound", "recommendations-beta", beta),
        ("http_server_request_duration_seconds_count", ()): float(inbound if timed is None else timed),
        ("http_client_request_duration_seconds_count", ()): float(v1 + beta),
    }


@pytest.mark.parametrize(
    ("tallies", "holds"),
    [([tally(9)], True), ([tally(9), tally(1, 1)], True), ([], False), ([tally(9), tally(5, failed=1)], False)],
)
def test_one_failed_request_is_a_failure(tallies: list[Tally], holds: bool) -> None:
    """Every phase counts, and no traffic at all proves nothing."""
    assert judged(lambda claims: verdicts._settle_answers(claims, tallies)) == (int(holds), int(not holds))


@pytest.mark.parametrize(
    ("v1", "beta", "weights", "holds"),
    [
        (950, 50, CANARY, True),
        (985, 15, CANARY, True),
        (1000, 0, CANARY, False),
        (900, 100, CANARY, False),
        (500, 500, CANARY, False),
        (500, 500, EVEN, True),
        (950, 50, EVEN, False),
        (0, 0, CANARY, False),
    ],
)
def test_split_is_judged_by_its_bound(v1: int, beta: int, weights: dict[str, int], holds: bool) -> None:
    """A thousand requests tell 95/5 from 100/0, from 90/10 and from 50/50."""
    assert judged(lambda claims: verdicts._settle_split(claims, tally(v1, beta), weights, "x")) == (holds, not holds)


def line(direction: str, request_id: str, route: str = "canary", upstream: str = "recommendations") -> bytes:
    """A line of the access log."""
    entry = {
        "direction": direction, "request_id": request_id, "route_name": route, "upstream_cluster": upstream,
        "start_time": "2026-01-01T00:00:00.000Z", "duration": 1.5,
    }  # fmt: skip
    return json.dumps(entry).encode()


def ledger(*lines: bytes) -> Ledger:
    """Two requests, `a` and with the cookie `b`, and these lines."""
    made = Ledger()
    made.send("a", has_cookie=False)
    made.send("b", has_cookie=True)
    for one in lines:
        made.read(one)
    return made


INBOUND = (line("inbound", "a", "pages", "app"), line("inbound", "b", "pages", "app"))
TO_BETA = line("outbound", "b", "beta-users", "recommendations-beta")


@pytest.mark.parametrize(
    ("lines", "holds"),
    [
        ((*INBOUND, line("outbound", "a"), TO_BETA), True),
        ((*INBOUND, line("outbound", "a")), False),
        ((*INBOUND, line("outbound", "a"), TO_BETA, TO_BETA), False),
        ((*INBOUND, line("outbound", "c"), TO_BETA), False),
        ((*INBOUND, line("outbound", "a"), TO_BETA, b"{"), False),
        ((INBOUND[0], INBOUND[0], line("outbound", "a"), TO_BETA), False),
    ],
)
def test_log_must_have_each_request_once_a_direction(lines: tuple[bytes, ...], holds: bool) -> None:
    """A line that is missing, repeated, of nobody or unreadable is a failure, also where the sums agree."""
    assert judged(lambda claims: verdicts._settle_log(claims, ledger(*lines))) == (int(holds), int(not holds))


@pytest.mark.parametrize(
    ("lines", "tallies", "outcome"),
    [
        ([line("outbound", "a"), TO_BETA], [tally(1, cookie_beta=1)], (2, 0)),
        ([line("outbound", "a"), line("outbound", "b")], [tally(1, cookie_v1=1)], (0, 2)),
        # The split sent it to the beta by chance: not what the cookie is for.
        ([line("outbound", "b", "canary", "recommendations-beta")], [tally(1, cookie_beta=1)], (1, 1)),
        ([line("outbound", "a", "beta-users", "recommendations-beta"), TO_BETA], [tally(0, 1, cookie_beta=1)], (1, 1)),
        ([], [tally(1)], (0, 2)),
    ],
)
def test_cookie_must_decide_and_nothing_else(
    lines: list[bytes], tallies: list[Tally], outcome: tuple[int, int]
) -> None:
    """All with the cookie reach the beta by the route `beta-users`, and nobody else takes it."""
    assert judged(lambda claims: verdicts._settle_cookie(claims, tallies, ledger(*lines))) == outcome


@pytest.mark.parametrize(
    ("found", "outcome"),
    [
        (samples(10, 9, 1), (4, 0)),
        (samples(11, 9, 1), (3, 1)),
        (samples(10, 9, 1, timed=9), (3, 1)),
        (samples(10, 8, 2), (2, 2)),
        (samples(10, 9, 1, code="503"), (2, 2)),
        ({}, (0, 4)),
    ],
)
def test_metrics_must_agree_with_what_customers_counted(found: Samples, outcome: tuple[int, int]) -> None:
    """By direction, by version, and in the histograms."""
    assert judged(lambda claims: verdicts._settle_metrics(claims, [tally(9, 1)], found)) == outcome


@pytest.mark.parametrize(
    ("counts", "outcome"),
    [
        ({"inbound": 5, "outbound": 5, "children": 5}, (2, 0)),
        ({"inbound": 5, "outbound": 4, "children": 4}, (0, 2)),
        ({"inbound": 5, "outbound": 5, "children": 4, "strangers": 1}, (1, 1)),
        ({"inbound": 5, "outbound": 5, "children": 4}, (1, 1)),
        ({"inbound": 5, "outbound": 5, "children": 5, "others": 1}, (1, 1)),
    ],
)
def test_spans_must_be_complete_and_related(counts: dict[str, int], outcome: tuple[int, int]) -> None:
    """One span a request, and the outbound one is the child of the inbound one."""
    collector = Collector()
    for name, value in counts.items():
        setattr(collector, name, value)
    assert judged(lambda claims: verdicts._settle_spans(claims, 5, collector)) == outcome
