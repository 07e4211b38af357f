"""Plans that are no longer in force go when the last exchange has let them go, and not at one go."""

from __future__ import annotations

import asyncio
import gc
from dataclasses import replace

import pytest

from sidecar.compile import time_slices
from sidecar.proxy.plan import Plan
from sidecar.runtime import old_plans
from sidecar.runtime.old_plans import OldPlans
from sidecar.upstream import shared
from tests.support.compiling import compiled, compiler

TEXT = "service: s\noutbound: {routes: [%s]}\nupstreams: {a: {endpoints: ['10.0.0.1:80']}}\n"


COMPILER = compiler()
"""Telemetry outlives plans."""


def plan_of(routes: int) -> Plan:
    """A plan of so many routes and an implicit one."""
    text = TEXT % ", ".join(f"{{match: {{path: /{n}}}, to: a}}" for n in range(routes))
    return compiled(text, COMPILER).plan


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks without a pause."""
    monkeypatch.setattr(old_plans, "FIRST_LOOK_S", 0.0)
    monkeypatch.setattr(old_plans, "LONGEST_LOOK_S", 0.0)


async def turns(count: int = 20) -> None:
    """Let the loop go round."""
    for _ in range(count):
        await asyncio.sleep(0)


def test_a_plan_that_an_exchange_keeps_stays_whole() -> None:
    """It is asked for routes until its last exchange is over, be it hours later; then it goes."""

    async def run() -> None:
        plans = OldPlans(asyncio.get_running_loop(), dict)
        plan = plan_of(3)
        table = plan.sides[1].table
        exchange = [plan]
        plans.add(plan)
        del plan
        await turns()
        assert (len(plans), len(table.routes)) == (1, 4)
        exchange.clear()
        while len(plans):
            await asyncio.sleep(0)
        await turns()
        assert table.routes == ()

    asyncio.run(run())


def test_plans_go_in_any_order() -> None:
    """One that is kept keeps no other."""

    async def run() -> None:
        plans = OldPlans(asyncio.get_running_loop(), dict)
        kept, free = plan_of(1), plan_of(2)
        tables = kept.sides[1].table, free.sides[1].table
        plans.add(kept)
        plans.add(free)
        del free
        while len(plans) > 1:
            await asyncio.sleep(0)
        await turns()
        assert [len(table.routes) for table in tables] == [2, 0]
        plans.close()

    asyncio.run(run())


def test_a_plan_is_let_go_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop goes on in between: with slices of nothing, once for every step."""

    monkeypatch.setattr(time_slices, "LONGEST_SLICE_S", 0.0)

    async def run() -> int:
        plans = OldPlans(asyncio.get_running_loop(), dict)
        plan = plan_of(200)
        table = plan.sides[1].table
        plans.add(plan)
        del plan
        count = 0
        while table.routes:
            await asyncio.sleep(0)
            count += 1
        while len(plans):
            await asyncio.sleep(0)
        return count

    assert asyncio.run(run()) > 100


async def end_without_garbage(plans: OldPlans) -> None:
    """Let all of them go, and nothing of them be left to the collector."""
    gc.collect()
    gc.disable()
    try:
        while len(plans):
            await asyncio.sleep(0)
        await turns()
        assert gc.collect() == 0
    finally:
        gc.enable()


@pytest.mark.parametrize("settings", ["", ", outlier_detection: {}", ", load_balancing: peak_ewma"])
def test_plans_and_their_clusters_leave_no_cyclic_garbage(settings: str) -> None:
    """What was there at a load is exempt from collection, so a removed upstream in a cycle would stay for ever."""

    async def run() -> None:
        text = TEXT.replace("80']", f"80', '10.0.0.2:80']{settings}") % "{match: {path: /}, to: a}"
        plans = OldPlans(asyncio.get_running_loop(), dict)
        plans.add(compiled(text, COMPILER).plan)
        await end_without_garbage(plans)

    asyncio.run(run())


def test_a_plan_whose_requests_shared_connections_leaves_no_cyclic_garbage() -> None:
    """An endpoint knows the connections of HTTP/2 to it, which must not know it in turn."""

    async def run() -> None:
        plans = OldPlans(asyncio.get_running_loop(), dict)
        plan = plan_of(1)
        for endpoint in plan.clusters["a"].endpoints:
            shared.of(endpoint, lambda endpoint: None)
        plans.add(plan)
        del plan, endpoint
        await end_without_garbage(plans)

    asyncio.run(run())


def test_a_plan_whose_splits_still_wait_for_endpoints_leaves_no_cyclic_garbage() -> None:
    """The choice that looks at its targets refers to the split that it is the choice of."""

    async def run() -> None:
        text = (
            "service: s\noutbound: {routes: [{to: {a: 1, b: 1}, sticky: {cookie: c}}, {to: {a: 1, c: 1}}]}\n"
            "upstreams: {a: {endpoints: ['h:1']}, b: {discover: b}, c: {discover: c}}\n"
        )
        plans = OldPlans(asyncio.get_running_loop(), dict)
        plans.add(compiled(text, COMPILER).plan)
        await end_without_garbage(plans)

    asyncio.run(run())


def test_a_cluster_that_another_plan_has_stays_whole() -> None:
    """Be it in force, or kept by an exchange."""

    async def run() -> None:
        plan, other = plan_of(1), plan_of(1)
        cluster = plan.clusters["a"]
        live = dict(plan.clusters)
        plans = OldPlans(asyncio.get_running_loop(), lambda: live)
        plans.add(plan)
        plans.add(replace(other, clusters=dict(plan.clusters)))
        kept = plans._plans[1]
        del plan
        await turns()
        assert (len(plans), len(cluster.endpoints)) == (1, 1)
        live.clear()
        await turns()
        assert len(cluster.endpoints) == 1
        del kept
        while len(plans):
            await asyncio.sleep(0)
        await turns()
        assert cluster.endpoints == ()

    asyncio.run(run())
