"""Which sides of splits are told to have no share, and when."""

from __future__ import annotations

import logging

import pytest

from sidecar.compile.time_slices import at_once
from sidecar.net.address import parse_address
from sidecar.proxy.plan import Plan
from sidecar.proxy.split_sides import SplitSides
from sidecar.routing.actions import Forward
from tests.support.compiling import compiled, compiler, draft_of

TEXT = """
service: s
inbound:
  listen: [{address: "h:15000", name: a, app: "h:1"}, {address: "h:15001", name: b, app: "h:2"}]
  routes: [{name: in, match: {path: /in}, to: {v1: 1, v2: 1}}]
outbound:
  routes:
    - {name: canary, to: {fixed: 1, v1: 1, v2: 1, none: 0}}
    - {name: fixed, to: {fixed: 1, static: 1}}
    - {name: one, to: v1}
upstreams:
  fixed: {endpoints: ["h:3"]}
  static: {endpoints: []}
  v1: {discover: v1}
  v2: {discover: v2}
  none: {discover: none}
"""


def lines(sides: SplitSides, plan: Plan, caplog: pytest.LogCaptureFixture) -> list[str]:
    """What is said of a plan that comes in force."""
    caplog.clear()
    with caplog.at_level(logging.INFO):
        at_once(sides.look(plan))
    return [record.getMessage() for record in caplog.records]


def test_each_side_that_never_had_an_endpoint_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """By route and upstream, whatever listener a route is for; not those without weight, or that are not discovered."""
    sides = SplitSides()
    plan = compiled(TEXT).plan
    plan.clusters["v1"].set_addresses({parse_address("h:9"): 1.0})
    assert lines(sides, plan, caplog) == [
        "split_side_without_endpoints route=canary upstream=v2",
        "split_side_without_endpoints route=in upstream=v2",
    ]
    again = compiled(TEXT).plan
    assert lines(sides, again, caplog) == [
        "split_side_without_endpoints route=canary upstream=v1",
        "split_side_without_endpoints route=in upstream=v1",
    ]
    for name in ("v1", "v2"):
        again.clusters[name].set_addresses({parse_address("h:9"): 1.0})
        again.clusters[name].set_addresses({})
    assert lines(sides, again, caplog) == []
    assert len(lines(sides, plan, caplog)) == 2


def test_splits_that_lack_nothing_choose_plainly_before_the_first_request() -> None:
    """When the plan comes in force."""
    plan = compiled(TEXT).plan
    splits = [route.action.split for route in plan.awaiting if isinstance(route.action, Forward)]
    assert [route.name for route in plan.awaiting] == ["in", "canary", "in"]
    looking = [split.choose for split in splits if split is not None]
    for name in ("v1", "v2"):
        plan.clusters[name].set_addresses({parse_address("h:9"): 1.0})
    at_once(SplitSides().look(plan))
    assert all(split is not None and split.choose is not before for split, before in zip(splits, looking, strict=True))


def test_a_side_whose_upstream_had_endpoints_before_is_not_waited_for() -> None:
    """A reload of a running sidecar knows it; nor is anything where nothing is discovered."""
    draft = draft_of(TEXT)
    first = compiled(TEXT, compiler()).plan
    for name in ("v1", "v2"):
        first.clusters[name].set_addresses({parse_address("h:9"): 1.0})
        first.clusters[name].set_addresses({})
    assert at_once(compiler().compile(draft, first.clusters, 2)).awaiting == ()
    plain = TEXT.replace("discover: v1", "endpoints: []").replace("discover: v2", "dns: 'v2:1'")
    assert compiled(plain).plan.awaiting == ()
