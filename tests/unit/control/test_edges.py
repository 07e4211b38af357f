"""Rates of the last minute and the last hour, by clocks that the test holds."""

from __future__ import annotations

import pytest

from sidecar.control import edges as module
from sidecar.control.edges import EdgeKey, Edges, Tally, quantile
from sidecar.link.report import LATENCY_BOUNDS_S, Edge

ZEROS = (0,) * (len(LATENCY_BOUNDS_S) + 1)


class Wall:
    now_s = 6_000_000.0

    def __call__(self) -> float:
        return self.now_s


def service(upstream: str) -> str:
    return upstream.partition(".")[0]


def edge(requests: int = 10, **values: object) -> Edge:
    return Edge("outbound", "callee.v2", "callee.r", requests, **values)  # type: ignore[arg-type]


KEY = EdgeKey("caller", "callee", "callee.v2", "callee.r")


def test_window_has_the_last_minute_and_no_more() -> None:
    """What was reported more than 60 s ago is not in it."""
    wall = Wall()
    edges = Edges(wall)
    edges.add("caller", "c-1", service, [edge(10)])
    wall.now_s += 30
    edges.add("caller", "c-1", service, [edge(5, failures={"UH": 2}, statuses={"5xx": 2})])
    assert edges.window()[KEY].requests == 15
    assert edges.window()[KEY].failures == {"UH": 2}
    wall.now_s += 40
    assert edges.window()[KEY].requests == 5
    wall.now_s += 60
    assert edges.window() == {}


def test_history_has_minutes_of_an_hour_by_pair() -> None:
    """Each minute stands at its place; one without requests is left out."""
    wall = Wall()
    edges = Edges(wall)
    edges.add("caller", "c-1", service, [edge(10)])
    wall.now_s += 120
    edges.add("caller", "c-1", service, [edge(7), Edge("outbound", "callee", "other", 3)])
    last = int(wall.now_s) // 60
    row = edges.minutes(last - 4, last)["caller", "callee"]
    assert {minute - last: tally.requests for minute, tally in row.items()} == {-2: 10, 0: 10}
    assert edges.minutes(last - 1, last - 1) == {}
    wall.now_s += 3600
    edges.sweep()
    assert edges.minutes(0, last + 60) == {}


def test_edges_are_bounded_and_what_finds_no_room_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood of names costs no memory, and those that were there before go on."""
    monkeypatch.setattr(module, "MAX_EDGES", 3)
    edges = Edges(Wall())
    edges.add("caller", "c-1", service, [Edge("outbound", f"u{index}", "r", 1) for index in range(10)])
    assert len(edges.window()) == 3
    assert edges.left_out == 7
    edges.add("caller", "c-1", service, [Edge("outbound", "u0", "r", 1)])
    assert edges.window()["caller", "u0", "u0", "r", "outbound"].requests == 2  # type: ignore[index]


def test_reasons_of_one_edge_are_bounded() -> None:
    """A report may name any reason; only so many are kept."""
    tally = Tally()
    tally.add(edge(1000, failures={f"R{index}": 1 for index in range(100)}))
    assert len(tally.failures) == module.MAX_REASONS


def test_success_counts_a_request_once() -> None:
    """A failure that was answered 5xx is one failure."""
    tally = Tally()
    tally.add(edge(10, failures={"UH": 2}, statuses={"5xx": 3, "2xx": 7}))
    assert tally.success == 0.7
    assert Tally().success is None


def test_quantile_lies_within_its_bucket() -> None:
    """By proportion; what is beyond the last bound is told as that."""
    counts = list(ZEROS)
    assert quantile(counts, 0.5) is None
    counts[2] = 100
    low, high = LATENCY_BOUNDS_S[1:3]
    assert quantile(counts, 0.5) == pytest.approx((low + high) / 2)
    assert quantile(counts, 0.99) == pytest.approx(low + 0.99 * (high - low))
    counts[-1] = 900
    assert quantile(counts, 0.99) == LATENCY_BOUNDS_S[-1]


def test_inbound_edges_stand_apart() -> None:
    """What a callee counted is not added to what its callers counted."""
    edges = Edges(Wall())
    edges.add("callee", "e-1", service, [Edge("inbound", "", "r", 4, caller="caller")])
    assert edges.window()[EdgeKey("caller", "callee", "", "r", "inbound")].requests == 4
    assert edges.minutes(0, 1 << 40) == {}


def test_instances_are_told_by_what_they_answered() -> None:
    """Whoever asked; of the last minute."""
    wall = Wall()
    edges = Edges(wall)
    edges.add(
        "callee", "e-1", service, [Edge("inbound", "", "r", 4, caller="a"), Edge("inbound", "", "s", 2, caller="b")]
    )
    edges.add("callee", "e-2", service, [Edge("outbound", "x", "r", 9)])
    assert {name: tally.requests for name, tally in edges.of_instances("callee").items()} == {"e-1": 6}
    wall.now_s += 70
    assert edges.of_instances("callee") == {}
