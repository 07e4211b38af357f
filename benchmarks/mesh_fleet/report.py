"""Figures as lines, what must be 0, and what the sizes of a mesh promise beside what was measured. *Pure.*"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.harness.records import NOTHING, table

OUGHT_TO_BE_ZERO = (
    "failed", "unanswered", "refused", "faults", "not_within_30_s", "not_back_within_120_s", "config_octets_received",
    "config_octets_sent_by_its_own_count",
)  # fmt: skip
MB = 1e6 / 2**20  # MiB

Figures = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Goal:
    """One figure, where it is found, and the most that it is to be."""

    figure: str
    limit: float
    measured: Callable[[Figures], Any]
    digits: int = 0


def _at(scenario: str, *path: str, scale: float = 1.0) -> Callable[[Figures], Any]:
    def find(document: Figures) -> Any:
        found: Any = document["scenarios"].get(scenario, {}).get("figures", {})
        for name in path:
            found = found.get(name) if isinstance(found, Mapping) else None
        return None if found is None else found * scale

    return find


def _lost(document: Figures) -> Any:
    counts = [_at("whole", "real", name)(document) for name in ("failed", "unanswered")]
    return None if None in counts else sum(counts)


GOALS = (
    Goal("endpoint change to applied by all, p99 of changes, ms", 250,
         _at("whole", "endpoint_change_by_report", "slowest", "p99_ms")),
    Goal("route change to in force at all concerned, p99 of changes, s", 1.5,
         _at("whole", "route_change", "slowest", "p99_ms", scale=1e-3), 2),
    Goal("control plane's CPU of an endpoint change, ms", 50,
         _at("whole", "endpoint_change_by_report", "cpu_ms_net_of_idle")),
    Goal("control plane's CPU of a route change, median, s", 0.8, _at("whole", "route_change", "cpu_s_median"), 2),
    Goal("memory of all its processes, peak, MB", 300, _at("whole", "control", "pss_peak_mib", scale=1 / MB)),
    Goal("all back after it was killed, s", 5, _at("whole", "killed", "all_back_s"), 1),
    Goal("octets of configuration sent then", 0, _at("whole", "killed", "config_octets_sent_by_its_own_count")),
    Goal("requests of real sidecars lost", 0, _lost),
    Goal("push to a node, p99 of its traffic less the rest, ms", 5, _at("node", "p99_more_ms", "spread"), 1),
    Goal("the same, at once", 5, _at("node", "p99_more_ms", "at_once"), 1),
    Goal("CPU a request with `control`, against a file", 1.01,
         _at("control-cost", "told_against_file", "median"), 3),
)  # fmt: skip


def goals(document: Figures) -> str:
    """The table of all of them."""
    rows = []
    for goal in GOALS:
        value = goal.measured(document)
        reached = NOTHING if value is None else "yes" if value <= goal.limit else "no"
        said = "not measured" if value is None else f"{value:.{goal.digits}f}"
        rows.append([goal.figure, f"at most {goal.limit:g}", said, reached])
    return table(["figure", "goal", "measured", "reached"], rows)


def lines(figures: Figures, above: str = "") -> Iterator[str]:
    """A line for each figure, named by its way; rounds are left to the file."""
    for way, value in _leaves(figures, above):
        yield f"{way:62} {value}"


def faults(figures: Figures) -> list[str]:
    """What ought to be 0 in any run, and is not; clients that no sidecar stands before tell of the machine alone."""
    return [
        f"{way} {value}"
        for way, value in _leaves(figures)
        if way.rpartition(".")[2] in OUGHT_TO_BE_ZERO and "no_sidecar" not in way and ".by_event." not in way and value
    ]


def _leaves(figures: Figures, above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in figures.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{above}{name}.")
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            if name != "records":
                for one in value:
                    yield from _leaves(one, f"{above}{name}[{one['sidecars']}, {one['services']}].")
        else:
            yield above + name, value
