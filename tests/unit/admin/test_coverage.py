"""Which routes were hit: counted by name, through reloads, and of several workers together."""

from __future__ import annotations

import pytest

from sidecar import clock
from sidecar.admin.coverage import coverage_of, merge_coverage
from sidecar.compile.plan import Compiler
from sidecar.compile.time_slices import at_once
from tests.support.compiling import compiled
from tests.support.keeping import Keeping, head_of

FILE = """
service: shop
inbound: {app: "127.0.0.1:1"}
outbound:
  routes:
    - {name: canary, match: {path: /c}, to: [{upstream: one, weight: 1}, {upstream: two, weight: 1}]}
    - {name: gone, match: {path: /g}, respond: {status: 204}}
upstreams: {one: {endpoints: []}, two: {endpoints: []}}
"""


def page_of(keeping: Keeping) -> dict[str, dict[str, object]]:
    sides = {
        "outbound": {"routes": [{"name": "canary"}, {"name": "gone"}, {"name": "one"}], "unmatched": "404"},
        "inbound": {"routes": [], "unmatched": {"name": "app"}},
    }
    return at_once(at_once(coverage_of(keeping.telemetry.numbers.scopes)).annotate(sides))


def test_hits_of_a_route_are_those_of_all_its_upstreams(monkeypatch: pytest.MonkeyPatch) -> None:
    """With when the last one ended, and what share of its direction's requests they are, those without a route too."""
    keeping = Keeping(FILE)
    now_ns = clock.monotonic_ns()
    monkeypatch.setattr(clock, "monotonic_ns", lambda: now_ns)
    for target in ("/c", "/c", "/c", "/none"):
        keeping.live(head_of("GET", "x", target))
    keeping.live(head_of("GET", "x", "/"), "inbound")
    page = page_of(keeping)
    canary, gone, one = page["outbound"]["routes"]  # type: ignore[misc]
    assert (canary["hits"], canary["share"]) == (3, 0.75)
    assert canary["last_hit"] is not None
    assert (gone["hits"], gone["last_hit"], gone["share"]) == (0, None, 0.0)
    assert one["hits"] == 0
    assert page["inbound"]["unmatched"]["hits"] == 1  # type: ignore[index]
    assert page["requests"] == {"inbound": 1, "outbound": 4}
    assert str(page["counted_since"]) <= canary["counted_since"] <= canary["last_hit"]


def test_a_reload_keeps_what_was_counted() -> None:
    """A plan that is compiled anew by the same process finds what its routes have counted."""
    keeping = Keeping(FILE)
    keeping.live(head_of("GET", "x", "/c"))
    before = at_once(coverage_of(keeping.telemetry.numbers.scopes)).routes["outbound", "canary"]
    keeping.plan = compiled(FILE, by=Compiler(keeping.telemetry.scope, keeping.recent), generation=2).plan
    keeping.live(head_of("GET", "x", "/c"))
    after = at_once(coverage_of(keeping.telemetry.numbers.scopes)).routes["outbound", "canary"]
    assert (before.count, after.count) == (1, 2)
    assert after.since_ns == before.since_ns


def _page(hits: int, last: str | None, since: str, total: int) -> dict[str, object]:
    route = {"name": "r", "hits": hits, "last_hit": last, "share": 1.0, "counted_since": since}
    return {
        "outbound": {"routes": [route], "unmatched": "404"},
        "requests": {"inbound": 0, "outbound": total},
        "counted_since": since,
    }


def test_workers_hits_add_up_and_are_known_since_the_last_of_them_began() -> None:
    """What a worker counted that is gone, is gone."""
    merged = merge_coverage([_page(3, "T5", "T1", 4), _page(1, None, "T3", 4), _page(0, "T4", "T2", 0)])
    (route,) = merged["outbound"]["routes"]
    assert (route["hits"], route["last_hit"], route["counted_since"]) == (4, "T5", "T3")
    assert route["share"] == 0.5
    assert (merged["counted_since"], merged["requests"]["outbound"]) == ("T3", 8)
    assert merge_coverage([]) == {}
