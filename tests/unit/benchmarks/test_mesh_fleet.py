"""The figures of a mesh: what a request met, how a figure grows, what the mesh that is measured is like."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.mesh_fleet.control import sum_of_samples
from benchmarks.mesh_fleet.control_cost import summary as cost_summary
from benchmarks.mesh_fleet.control_cost import with_endpoints
from benchmarks.mesh_fleet.directory import HUB, Plan, name_of
from benchmarks.mesh_fleet.figures import QUIET, Happened, Sent, by_event, growth, spread_of, summary
from benchmarks.mesh_fleet.node import p99_more
from benchmarks.mesh_fleet.report import faults, goals, lines
from benchmarks.mesh_fleet.sidecars import Content, _with_edges
from sidecar.link.messages import EndpointEntry, Endpoints, endpoints_version
from sidecar.link.report import Port, Report, read_report, write_report
from sidecar.mesh.read import read_mesh

MS = 1_000_000
SPANS = [("endpoint", 100 * MS, 130 * MS), ("route", 120 * MS, 220 * MS), ("endpoint", 300 * MS, 330 * MS)]


@pytest.mark.parametrize(
    ("begin", "end", "kind"),
    [(0, 99, QUIET), (99, 101, "endpoint"), (110, 125, "route"), (219, 221, "route"), (220, 299, QUIET),
     (329, 340, "endpoint"), (330, 340, QUIET), (0, 999, "route")],
)  # fmt: skip
def test_a_request_met_what_happened_while_it_was_on_its_way(begin: int, end: int, kind: str) -> None:
    """From when it was due to when it was answered; of two the one that is named first."""
    assert Happened(SPANS, ("route", "endpoint")).at(begin * MS, end * MS) == kind


def test_all_requests_of_all_loads_are_somewhere() -> None:
    """A failure too, at the moment at which it was due; a slow request belongs to what it waited for."""
    loads = [Sent([0.001] * 10, 0, 50 * MS), Sent([0.001, math.nan, 0.060], 60 * MS, 50 * MS)]
    found = by_event(loads, Happened(SPANS, ("route", "endpoint")))
    assert sum(map(len, found.values())) == 13
    # Due at 100, 150, 200 and 300 ms; 60, 110 (failed) and 160 ms.
    assert [len(found[kind]) for kind in ("endpoint", "route")] == [3, 3]
    assert math.isnan(found["endpoint"][2])
    assert summary(found["endpoint"]) == {"requests": 3, "failed": 1, "p50_ms": 1.0, "p99_ms": 1.0, "max_ms": 1.0}


def test_figures_of_nothing_are_none() -> None:
    """No percentile out of thin air."""
    assert summary([math.nan]) == {"requests": 1, "failed": 1}
    assert spread_of([]) == {}


def test_spread_is_by_nearest_rank() -> None:
    """In milliseconds."""
    times = [number / 1000 for number in range(1, 201)]
    assert spread_of(times) == {"p50_ms": 100.0, "p99_ms": 198.0, "max_ms": 200.0}


@pytest.mark.parametrize(
    ("values", "power"),
    [([5.0, 5.0, 5.0], 0.0), ([1.0, 3.0, 10.0], 1.0), ([1.0, 9.0, 100.0], 2.0), ([0.0, 1.0, 2.0], None), ([1.0], None)],
)
def test_growth_is_the_power_of_the_size(values: list[float], power: float | None) -> None:
    """From the first size to the last, here tenfold."""
    found = growth([100.0, 300.0, 1000.0][: len(values)], values)
    assert found == (None if power is None else pytest.approx(power))


def _plan(services: int = 12, calls: int = 4, fixed: int = 3) -> Plan:
    return Plan(services, calls, fixed, 8080, Path("/pool.json"))


def test_everybody_calls_the_hub_and_as_many_others_as_are_asked_for() -> None:
    """Who calls and who is called agree, and the mesh is a good one."""
    plan = _plan()
    assert plan.callers(0) == list(range(1, 12))
    assert {len(plan.callees(one)) for one in range(1, 9)} == {4}
    assert all(one in plan.callees(caller) for one in range(12) for caller in plan.callers(one))
    mesh = read_mesh({name: text.encode() for name, text in plan.files()})
    assert set(mesh.services) == {name_of(one) for one in range(12)}
    assert HUB in mesh.services


def test_addresses_are_all_different_and_of_this_machine() -> None:
    """Hundreds for each of hundreds of services."""
    plan = _plan(services=200, fixed=490)
    found = [address for one in range(200) for address in plan.fixed_of(one)]
    assert len(set(found)) == len(found) == 98_000
    assert all(address.startswith("127.") and address.endswith(":8080") for address in found)
    assert all(0 <= int(part) <= 255 for address in found for part in address.rpartition(":")[0].split("."))


def test_another_edition_is_another_file_and_another_weight_another_pool() -> None:
    """A change that changes nothing would be waited for in vain."""
    plan = _plan()
    assert plan.service_file(3, 1) != plan.service_file(3, 2)
    assert plan.pool_file(1.0) != plan.pool_file(2.0)
    assert _plan(fixed=1).pool_file(2.0) == '[{"targets": ["127.1.0.1:8080"], "labels": {"weight": "2"}}]'


def _entry(address: str, weight: float = 1.0) -> EndpointEntry:
    return EndpointEntry(address, weight, "", False)


def test_content_is_worked_out_once_and_checked_then() -> None:
    """A version is a hash: who has it has the same, and a change that does not lead to it is refused."""
    content = Content()
    first, second = [_entry("a:1")], [_entry("a:1"), _entry("b:1", 2.0)]
    one, two = endpoints_version(first), endpoints_version(second)
    snapshot = content.after(Endpoints("up", one, "", tuple(first)))
    assert snapshot is not None
    assert snapshot is content.after(Endpoints("up", one, "", tuple(first)))
    changed = content.after(Endpoints("up", two, one, (second[1],)))
    assert changed is not None
    assert list(changed) == ["a:1", "b:1"]
    assert content.after(Endpoints("up", "0" * 16, two, (), ("a:1",))) is None


def test_samples_are_summed_by_name_and_label() -> None:
    """A name that begins alike is another's."""
    text = 'a_total{type="config"} 2\na_total{type="ping"} 3.5\na_total_more{type="config"} 9\n# HELP a_total x\nb 1\n'
    assert sum_of_samples(text, "a_total") == 5.5
    assert sum_of_samples(text, "a_total", '"config"') == 2.0
    assert sum_of_samples(text, "b") == 1.0


def test_what_control_costs_is_taken_within_a_round() -> None:
    """A round in which all were slower changes nothing."""
    figures = {"file": [100.0, 200.0], "told": [101.0, 202.0], "file_again": [100.0, 198.0]}
    records: list[dict[str, Any]] = [
        {"round": number, "subject": name, "cpu_us": value, "failed": 0, "faults": []}
        for name, values in figures.items()
        for number, value in enumerate(values, 1)
    ]
    found = cost_summary(records)
    assert found["told_against_file"] == {"median": 1.01, "low": 1.01, "high": 1.01}
    assert found["file_again_against_file"] == {"median": 0.995, "low": 0.99, "high": 1.0}
    assert (found["failed"], found["faults"]) == (0, 0)


def test_a_file_has_the_endpoints_that_its_sidecar_would_be_told() -> None:
    """Nothing else differs."""
    text = "service: s\nupstreams:\n  a: {discover: a, outlier_detection: {consecutive_connect_failures: 3}}\n"
    assert with_endpoints(text, {"a": ["h:1"]}) == {
        "service": "s",
        "upstreams": {"a": {"outlier_detection": {"consecutive_connect_failures": 3}, "endpoints": ["h:1"]}},
    }


def test_a_push_is_held_against_the_rest() -> None:
    """Where there is a rest, and a push."""
    by_kind = {"quiet": {"p99_ms": 2.0}, "spread": {"p99_ms": 3.5}, "restart": {"p99_ms": 9.0}}
    assert p99_more(by_kind) == {"spread": 1.5}
    assert p99_more({"spread": {"p99_ms": 3.5}}) == {}


def test_what_must_be_zero_is_told_with_its_way() -> None:
    """But for what the machine did to clients without a sidecar; a list of runs is told by its sizes."""
    figures = {
        "real": {"failed": 2, "unanswered": 0, "requests": 5}, "no_sidecar": {"failed": 1},
        "by_sidecars": [{"sidecars": 9, "services": 3, "route": {"not_within_30_s": 1}}],
        "records": [{"failed": 7}],
    }  # fmt: skip
    assert faults(figures) == ["real.failed 2", "by_sidecars[9, 3].route.not_within_30_s 1"]
    assert [line.split() for line in lines({"a": {"b": [1, 2]}})] == [["a.b", "[1,", "2]"]]


def test_goals_say_what_was_not_measured() -> None:
    """And whether the rest is enough."""
    figures = {"killed": {"all_back_s": 4.0}, "real": {"failed": 1, "unanswered": 2}}
    said = goals({"scenarios": {"whole": {"figures": figures}}})
    assert "| all back after it was killed, s | at most 5 | 4.0 | yes |" in said
    assert "| requests of real sidecars lost | at most 0 | 3 | no |" in said
    assert said.count("not measured") == 9


def test_a_report_whose_edges_were_written_before_reads_as_one() -> None:
    """The same octets as if all had been written at once."""
    report = Report("s1", "s1-7", 3, "v1", address="127.0.0.9", ports={"http": Port("127.0.0.9:80")})
    found = read_report(_with_edges(report, ("a", "b")))
    assert [edge.upstream for edge in found.edges] == ["a", "b"]
    assert {edge.requests for edge in found.edges} == {100}
    assert _with_edges(report, ("a", "b")) == write_report(replace(report, edges=found.edges))
    assert read_report(_with_edges(report, ())) == read_report(write_report(report))
