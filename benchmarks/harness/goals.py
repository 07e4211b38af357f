"""What the sidecar is to reach, and what was measured, in one table. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .figures import Spread, ratio
from .tables import Document, by_cpu, by_rate, cell, records_of, table


@dataclass(frozen=True, slots=True)
class Goal:
    """One figure, and what it is to be."""

    figure: str
    limit: float
    measured: Callable[[Document], Spread | None]
    digits: int = 2
    is_at_least: bool = False
    counts_every_round: bool = False  # the worst round has to reach it, not the median

    def row(self, document: Document) -> list[str]:
        """Figure, goal, what was measured, and whether that is enough."""
        bound = f"at {'least' if self.is_at_least else 'most'} {self.limit:g}"
        spread = self.measured(document)
        if spread is None:
            return [self.figure, bound, "not measured", "-"]
        value = spread.median
        if self.counts_every_round:
            value = spread.low if self.is_at_least else spread.high
        is_met = value >= self.limit if self.is_at_least else value <= self.limit
        return [self.figure, bound, cell(spread, self.digits), "yes" if is_met else "no"]


def _against(scenario: str, figure: str, base: str, case: str = "") -> Callable[[Document], Spread | None]:
    return lambda document: records_of(document, scenario).against(figure, "sidecar", base, case)


def _own(scenario: str, figure: str, case: str = "") -> Callable[[Document], Spread | None]:
    return lambda document: records_of(document, scenario).spread(figure, "sidecar", case)


def _growth(document: Document) -> Spread | None:
    found = records_of(document, "routes")
    return ratio(found.series("cpu_us", "sidecar", "10000"), found.series("cpu_us", "sidecar", "10"))


def _slower_around(document: Document) -> Spread | None:
    found = records_of(document, "reload")
    around, rest = found.series("around.p99_ms", "sidecar"), found.series("rest.p99_ms", "sidecar")
    values = [value - rest[number] for number, value in around.items() if number in rest]
    return Spread.of(values) if values else None


GOALS = (
    Goal("`full`: CPU a request, against Envoy", 0.4, _against("full", "cpu_us", "envoy")),
    Goal("`full`: CPU a request, against the relay", 2.5, _against("full", "cpu_us", "relay")),
    Goal("`plain`: CPU a request, against HAProxy", 2.0, _against("plain", "cpu_us", "haproxy")),
    Goal("p99 at half of Envoy's saturation rate, against Envoy", 0.8, _against("latency", "p99_ms", "envoy")),
    Goal("p99.9 at half of Envoy's saturation rate, against Envoy", 0.8, _against("latency", "p999_ms", "envoy")),
    Goal("CPU a request, 10,000 routes against 10", 1.15, _growth),
    Goal("CPU a request at 10,000 routes, against Envoy", 0.1, _against("routes", "cpu_us", "envoy", "10000"), 3),
    Goal("CPU of a response of 1 MiB, against Envoy", 0.7, _against("bodies", "cpu_us", "envoy", "1 MiB")),
    Goal("`full`: PSS after load, against Envoy", 0.75, _against("full", "pss_mib", "envoy")),
    Goal("PSS of an idle connection, KiB", 8, _own("memory", "kib_each"), 1),
    Goal("requests lost in a reload of 10,000 routes", 0, _own("reload", "failed"), 0, counts_every_round=True),
    Goal("p99 around that reload less the rest, ms", 2, _slower_around),
    Goal("longest latency around that reload, ms", 5, _own("reload", "around.max_ms"), 1, counts_every_round=True),
    Goal("two workers' work, by CPU time", 1.8, lambda document: by_cpu(records_of(document, "workers"), 2), 2, True),
    Goal("two workers' work, by rate", 1.8, lambda document: _rate_of_two(document), 2, True),
    Goal("start to the first answer, ms", 400, _own("start", "ready_ms", "20"), 0),
)


def _rate_of_two(document: Document) -> Spread | None:
    """None where the load shares its cores with the workers and so is the limit."""
    if document["surroundings"]["cores"] < 4:
        return None
    return by_rate(records_of(document, "workers"), 2)


def goals(document: Document) -> str:
    """The table of all of them."""
    return table(["figure", "goal", "measured", "reached"], [goal.row(document) for goal in GOALS])
