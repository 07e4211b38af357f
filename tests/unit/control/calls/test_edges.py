"""Rates of the last minute and the last hour, by clocks that the test holds."""

from __future__ import annotations

import pytest

from sidecar.control.calls import edges as module
from sidecar.control.calls.edges import HISTORY_MINUTES, SLOT_S, SLOTS, EdgeKey, Edges, Pair
from sidecar.link.report import LATENCY_BOUNDS_S, Edge
from tests.support.octets import octets

ZEROS = (0,) * (len(LATENCY_BOUNDS_S) + 1)


class Wall:
    now_s = 6_000_000.0

    def __call__(self) -> float:
        return self.now_s


def service(upstream: str) -> str:
    return upstream.partition(".")[0]


def edge(requests: int = 10, **values: object) -> Edge:
    return Edge("outbound", "callee.v2", "callee.r", requests, **values)  # type: ignore[arg-type]


def requests(edges: Edges, first: int, last: int) -> dict[Pair, dict[int, int]]:
    """Of the hour, by pair and minute."""
    found: dict[Pair, dict[int, int]] = {}
    for minute, packed in edges.minutes(first, last).items():
        for pair, tally in packed.tallies():
            found.setdefault(pair, {})[minute] = tally.requests
    return found


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


def test_edges_tell_how_much_of_them_is_by_tls() -> None:
    """All, some, none, or nothing where nothing was answered; also after they were packed."""
    for edge_, tls in (
        (edge(10, secured=10), "all"), (edge(10, secured=8, clear=2), "some"), (edge(10), "none"),
        (edge(10, failures={"UF": 4}, secured=6), "all"), (edge(4, failures={"UF": 4}), None),
    ):  # fmt: skip
        edges = Edges(Wall())
        edges.add("caller", "c-1", service, [edge_])
        assert edges.window()[KEY].tls == tls
        [packed] = edges.minutes(0, 1 << 40).values()
        assert [tally.tls for _, tally in packed.tallies()] == [tls]


def test_history_has_minutes_of_an_hour_by_pair() -> None:
    """Each minute stands at its place; one without requests is left out."""
    wall = Wall()
    edges = Edges(wall)
    edges.add("caller", "c-1", service, [edge(10)])
    wall.now_s += 120
    edges.add("caller", "c-1", service, [edge(7), Edge("outbound", "callee", "other", 3)])
    last = int(wall.now_s) // 60
    assert requests(edges, last - 4, last) == {("caller", "callee"): {last - 2: 10, last: 10}}
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


def test_pairs_of_the_hour_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that are new every minute do not fill the hour; those that are forgotten make room."""
    monkeypatch.setattr(module, "MAX_EDGES", 3)
    wall = Wall()
    edges = Edges(wall)
    for minute in range(5):
        edges.add("caller", "c-1", service, [Edge("outbound", f"u{minute}", "r", 1)])
        wall.now_s += 60
        edges.sweep()
    assert edges.left_out == 2
    assert len(requests(edges, 0, 1 << 40)) == 3
    wall.now_s += 3600
    edges.sweep()
    edges.add("caller", "c-1", service, [Edge("outbound", "u9", "r", 1)])
    assert edges.left_out == 2
    assert set(requests(edges, 0, 1 << 40)) == {("caller", "u9")}


def test_an_hour_takes_no_more_than_its_minutes() -> None:
    """Of 20 services that call 5 each by two routes: after an hour it is full, and stays as it is."""
    wall = Wall()
    edges = Edges(wall)
    sizes: list[int] = []
    for step in range(2 * HISTORY_MINUTES * 60 // SLOT_S):
        wall.now_s += SLOT_S
        latency = tuple((step * index) % 997 for index in range(len(ZEROS)))
        failures, statuses = {"UH": 1} if step % 3 else {}, {"5xx": step % 5}
        said = [
            Edge(
                "outbound", f"s{callee}", route, 1000 + step, failures, statuses, latency,
                10_000 + 7 * step, 50_000 + 11 * step,
            )
            for callee in range(5)
            for route in ("a", "b")
        ]  # fmt: skip
        for caller in range(20):
            edges.add(f"c{caller}", f"c{caller}-1", service, said)
        if wall.now_s % 60 < SLOT_S:
            edges.sweep()
            sizes.append(octets(edges))
    pairs, ways = 100, 200
    # Some 30 octets of a minute that is packed; of a slot an integer of 170, and what a failure takes.
    assert max(sizes) < 60 * pairs * HISTORY_MINUTES + 450 * ways * (SLOTS + 1)
    assert max(sizes[HISTORY_MINUTES:]) < 1.05 * min(sizes[HISTORY_MINUTES:])


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
