"""Summaries of replicas: told and read, put together, and who is not seen."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from sidecar.control.calls.counted import Tally
from sidecar.control.calls.edges import AskedKey, EdgeKey
from sidecar.control.engines.files import FilesEngine
from sidecar.control.engines.interface import Replica
from sidecar.control.fleet import REPORTS_AT_ONCE, Fleet
from sidecar.control.plane import Plane, Settings
from sidecar.control.replicas import peers as peers_module
from sidecar.control.replicas.differences import Heard, Teller, hear
from sidecar.control.replicas.summary import Summary, joined_instances, joined_rows
from sidecar.control.replicas.tallies import Window, asked_rows, joined, read_window, tally_rows
from sidecar.control.rollout.view import Instance, Period
from sidecar.link.fields import MessageError
from sidecar.link.report import LATENCY_BOUNDS_S, Carried, Edge, Report
from sidecar.mesh.source import read_directory

ZEROS = [0] * (len(LATENCY_BOUNDS_S) + 1)
KEY = EdgeKey("a", "b", "b.v1", "b.split")
TALLY = Tally(7, 1, 2, Counter({"UH": 2}), 1, [7, *ZEROS[1:]])
SUMMARY = Summary(
    instances=(
        Instance("i", "a", "h", "bad", connected_s=90.0, periods=(Period(80.0, 90.0, 7, 2),)),
        Instance("gone", "a", is_connected=False, is_stale=True, is_draining=True),
    ),
    rows=({"id": "i", "service": "a", "connected": True},),
    unseen=("a restart",),
)


def told(summary: Summary, now_s: float, teller: Teller | None = None, since: str = "") -> bytes:
    return json.dumps(
        (teller or Teller()).tell(summary, {one.id: one.periods for one in summary.instances}, since, now_s)
    ).encode()


def test_summary_is_read_on_ones_own_clock() -> None:
    """What was 10 s ago there was 10 s ago here, however far apart the clocks are."""
    here = hear(Heard(), told(SUMMARY, 100.0), 100.0)
    assert (by_id(here.summary), here.ahead_s) == (by_id(SUMMARY), 0.0)
    there = {one.id: one for one in hear(Heard(), told(SUMMARY, 100.0), 3700.0).summary.instances}
    assert there["i"].connected_s == 3690.0
    assert there["i"].periods == (Period(3680.0, 3690.0, 7, 2),)
    assert there["gone"].connected_s == 0.0


def test_summary_is_told_as_what_has_changed() -> None:
    """Whoever asks gets what is missing since the answer it had, and in the end all know the same as who asks anew."""
    teller, now_s = Teller(), 200.0
    quick = slow = Heard()
    periods: tuple[Period, ...] = ()
    for step in range(12):
        period = Period(90.0 + step, 91.0 + step, step, 0)
        periods = (*periods, period) if step % 3 else periods
        instances = [Instance("busy", "a", f"h{step // 4}", connected_s=90.0, periods=periods)]
        rows: list[dict[str, Any]] = [{"id": "busy", "service": "a", "last_seen": step}]
        instances += [Instance("calm", "a", connected_s=91.0)]
        rows += [{"id": "calm", "service": "a"}]
        if step % 5 < 2:
            instances.append(Instance("odd", "b", connected_s=92.0, periods=(SUMMARY.instances[0].periods[0],)))
        if step % 5 < 3:
            rows.append({"id": "odd", "service": "b"})
        summary = Summary(tuple(instances), tuple(rows), ("a restart",) if step == 3 else ())
        said = told(summary, now_s + step, teller, quick.at)
        assert '"calm"' not in said.decode() or step == 0, "what is as it was"
        quick = hear(quick, said, now_s + step)
        if step % 4 == 3:
            slow = hear(slow, told(summary, now_s + step, teller, slow.at), now_s + step)
            assert by_id(slow.summary) == by_id(summary)
        assert by_id(quick.summary) == by_id(summary) == by_id(hear(Heard(), told(summary, 0.0), 0.0).summary)


def test_summary_of_a_later_release_is_read_as_far_as_it_is_known() -> None:
    """At every depth."""
    said = json.loads(told(SUMMARY, 100.0))
    for one in (said, *said["changed"], *(one["instance"] for one in said["changed"])):
        one["later"] = {"deep": [1, None]}
    assert by_id(hear(Heard(), json.dumps(said).encode(), 100.0).summary) == by_id(SUMMARY)


def by_id(summary: Summary) -> object:
    return (
        {one.id: one for one in summary.instances},
        {row["id"]: row for row in summary.rows},
        summary.unseen,
    )


def test_periods_that_were_joined_are_joined_alike() -> None:
    """There as here: reports that come often are joined, and who asks seldom is told all where it missed some."""
    fleet, wall = Fleet(lambda: 0.0, lambda: wall[0]), [1000.0]
    teller = Teller()
    often = seldom = Heard()
    for step in range(400):
        wall[0] += 0.3 if step % 100 < 50 else 10.0
        fleet.reported(Report("s", "i", step, edges=(Edge("outbound", "u", "r", step),)), "peer")
        member = fleet.get("i")
        assert member is not None
        member.allowance = REPORTS_AT_ONCE
        summary = Summary((Instance("i", "s", connected_s=1.0, periods=tuple(member.periods)),))
        for name, every in (("often", 3), ("seldom", 90)):
            if step % every == 0:
                heard = often if name == "often" else seldom
                said = teller.tell(summary, {"i": member.recent}, heard.at, 0.0)
                if name == "often" and step:
                    assert len(said["changed"][0]["periods"]) == 3
                heard = hear(heard, json.dumps(said).encode(), 0.0)
                # Of neighbours of one length, others may be joined: times are rounded on the way.
                periods = heard.summary.instances[0].periods
                assert len(periods) == len(member.periods)
                assert sum(one.requests for one in periods) == sum(one.requests for one in member.periods)
                assert all(one.end_s <= other.start_s + 0.002 for one, other in pairwise(periods))
                often, seldom = (heard, seldom) if name == "often" else (often, heard)
    assert len(often.summary.instances[0].periods) == 64


def test_difference_from_something_else_is_not_taken() -> None:
    """A teller that started again tells all; a clock that was set, or another difference than asked for, is refused."""
    teller = Teller()
    heard = hear(Heard(), told(SUMMARY, 100.0, teller), 100.0)
    other = json.loads(told(SUMMARY, 100.0, Teller(), heard.at))
    assert other["since"] is None
    assert len(other["changed"]) == 2
    for since in (f"{heard.at}9", heard.at.partition(".")[0], ".", "x.y", heard.at + "\u0662"):
        assert json.loads(told(SUMMARY, 100.0, teller, since))["since"] is None
    difference = told(SUMMARY, 101.0, teller, heard.at)
    assert by_id(hear(heard, difference, 101.0).summary) == by_id(SUMMARY)
    for before, now_s in ((Heard(), 101.0), (heard, 3701.0)):
        with pytest.raises(MessageError, match="since"):
            hear(before, difference, now_s)


@pytest.mark.parametrize(
    "change",
    [
        {"changed": [{"instance": None}]},
        {"changed": 3},
        {"changed": [{"id": "i", "instance": {"service": "a"}, "periods": []}]},
        {"changed": [{"id": "i", "row": {"id": "j", "service": "a"}}]},
        {"changed": [{"id": "i", "row": {"id": "i"}}]},
        *(
            {"changed": [{**json.loads(told(SUMMARY, 0.0))["changed"][0], "id": "i", "periods": periods}]}
            for periods in (None, [3], [[1, 2, 3]], [[1, 2, 3, "4"]], [[float("nan"), 2, 3, 4]], [[1, 2, 3, 4]] * 65)
        ),
        {"unseen": [1]},
        {"gone": [1]},
        {"now": "late"},
    ],
)
def test_summary_of_another_form_is_refused(change: dict[str, Any]) -> None:
    """Whoever wrote it."""
    with pytest.raises(MessageError):
        hear(Heard(), json.dumps({**json.loads(told(SUMMARY, 0.0)), **change}).encode(), 0.0)


def test_tallies_are_read_as_they_were() -> None:
    """And nothing else is."""
    raw = json.dumps({"rows": tally_rows([(KEY[:4], TALLY)])}).encode()
    assert read_window(raw) == Window({KEY: TALLY}, {})
    carried = {KEY: replace(TALLY, tcp=Carried(2, 1, 30, 40))}
    raw_carried = json.dumps({"rows": tally_rows([(KEY[:4], carried[KEY])])}).encode()
    assert read_window(raw_carried) == Window(carried, {})
    good = json.loads(raw)["rows"][0]
    for bad in ([1, 2, 3], [1, 2, 3, -4], "1234", {}, None):
        with pytest.raises(MessageError):
            read_window(json.dumps({"rows": [[*good, bad]]}).encode())
    for index, bad in (
        (0, 1), (0, "x" * 2000), (4, -1), (4, 1.5), (4, True), (8, []), (8, {"UH": "2"}),
        (8, dict.fromkeys("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQ", 1)),
        (9, [1]), (9, [99, 1]), (9, ["0", 1]), (9, None),
    ):  # fmt: skip
        row = [*good[:index], bad, *good[index + 1 :]]
        with pytest.raises(MessageError):
            read_window(json.dumps({"rows": [row]}).encode())
    for rows in ([good[:-1]], {"rows": 1}, [3]):
        with pytest.raises(MessageError):
            read_window(json.dumps({"rows": rows}).encode())
    asked = {AskedKey("catalog", "spiffe://shop/ops", "callers", "denied"): 3, AskedKey("catalog", "", "", ""): 1}
    said = {"rows": [], "asked": asked_rows(asked)}
    assert read_window(json.dumps(said).encode()) == Window({}, asked)
    for row in ([], ["a", "b", "c", 3], ["a", "b", "c", "d", -1], ["a", "b", "c", 1, 1], ["x" * 2000, "", "", "", 1]):
        with pytest.raises(MessageError):
            read_window(json.dumps({"rows": [], "asked": [row]}).encode())


def test_instance_is_as_the_replica_says_that_has_its_stream() -> None:
    """The newest stream, if two think that they have it; what it counted at both counts, in any order of the two."""
    old = Instance("i", "a", "h1", is_connected=False, periods=(Period(1.0, 2.0, 3, 0),))
    new = Instance("i", "a", "h2", connected_s=5.0, periods=(Period(2.0, 3.0, 4, 1),))
    newest = Instance("i", "a", "h3", connected_s=6.0)
    for parts in ([[old], [new], [newest]], [[newest], [new], [old]], [[new], [newest], [old]]):
        found = joined_instances(parts)["i"]
        assert (found.hash, found.is_connected) == ("h3", True)
        assert sorted(period.requests for period in found.periods) == [3, 4]
    rows = [{"id": "i", "connected": False, "by": 1}], [{"id": "i", "connected": True, "by": 2}], [{"id": "j", "by": 3}]
    assert {row["by"] for row in joined_rows(rows).values()} == {2, 3}


def test_what_was_counted_is_added_and_nobodys_own_is_changed() -> None:
    """An edge that several replicas hear of is one edge."""
    mine, its = {KEY: Tally(1, latency=list(ZEROS))}, {KEY: Tally(2, failures=Counter({"UH": 1}), latency=list(ZEROS))}
    found = joined((mine, its))
    assert (found[KEY].requests, found[KEY].failures) == (3, {"UH": 1})
    assert (mine[KEY].requests, its[KEY].requests) == (1, 2)


def test_who_talks_to_another_replica_need_not_return_to_this_one(tmp_path: Path) -> None:
    """After a restart gates wait for those that were here before, wherever they are now."""

    async def test() -> None:
        plane = Plane(FilesEngine(str(tmp_path), read_directory, None), Settings("me"))
        plane.peers.use((Replica("me"), Replica("other")))
        plane.sight.returning = {"i", "gone"}
        plane.peers._known["other"] = peers_module._Known(Heard("", SUMMARY), plane.clock())
        assert plane.sight.unseen == ("a restart",)
        plane.sight.returning = {"i"}
        assert plane.sight.unseen == ()
        assert [one.id for one in plane.sight.view().instances if one.is_connected] == ["i"]
        assert plane.sight.view().unseen == ("other: a restart",)

    asyncio.run(test())
