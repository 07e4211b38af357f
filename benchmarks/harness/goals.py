"""What the sidecar is to reach, and what was measured, in one table. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .figures import Spread, ratio
from .h2_tables import more_by_resets
from .records import CORES_FOR_RATE, NOTHING, OURS, Document, cell, records_of, table
from .tables import by_cpu, by_rate, slower_around
from .tls_tables import longer_around, more_by_rules

Measured = Callable[[Document, str], Spread | None]  # of one of our subjects


@dataclass(frozen=True, slots=True)
class Goal:
    """One figure, and what it is to be."""

    figure: str
    limit: float
    measured: Measured
    digits: int = 2
    is_at_least: bool = False
    counts_every_round: bool = False  # the worst round has to reach it, not the median

    @property
    def text(self) -> str:
        return f"at {'least' if self.is_at_least else 'most'} {self.limit:g}"

    def is_met(self, spread: Spread) -> bool:
        """Whether what was measured is enough."""
        value = spread.median
        if self.counts_every_round:
            value = spread.low if self.is_at_least else spread.high
        return value >= self.limit if self.is_at_least else value <= self.limit

    def cells(self, document: Document, name: str) -> list[str]:
        """What was measured of a subject, and whether that is enough."""
        spread = self.measured(document, name)
        if spread is None:
            return ["not measured", NOTHING]
        return [cell(spread, self.digits), "yes" if self.is_met(spread) else "no"]


def _against(scenario: str, figure: str, base: str, case: str = "") -> Measured:
    return lambda document, name: records_of(document, scenario).against(figure, name, base, case)


def _own(scenario: str, figure: str, case: str = "") -> Measured:
    return lambda document, name: records_of(document, scenario).spread(figure, name, case)


def _growth(document: Document, name: str) -> Spread | None:
    found = records_of(document, "routes")
    return ratio(found.series("cpu_us", name, "10000"), found.series("cpu_us", name, "10"))


def _around(document: Document, name: str) -> Spread | None:
    return slower_around(records_of(document, "reload"), name)


def _by_cpu(document: Document, name: str) -> Spread | None:
    return by_cpu(records_of(document, "workers"), name, 2)


def _by_rate(document: Document, name: str) -> Spread | None:
    """None where the load shares its cores with the workers and so is the limit."""
    if document["surroundings"]["cores"] < CORES_FOR_RATE:
        return None
    return by_rate(records_of(document, "workers"), name, 2)


def _tls_p99(case: str) -> Measured:
    return _against("tlslatency", "p99_ms", "envoy", case)


def _h2(case: str) -> Measured:
    return _against("h2", "cpu_us", "envoy", case)


def _resets(document: Document, name: str) -> Spread | None:
    return more_by_resets(records_of(document, "h2reset"), name, "at once")


def _connection(case: str) -> Measured:
    return _against("tlsconnections", "cpu_us", "envoy", case)


def _flood(document: Document, name: str) -> Spread | None:
    return longer_around(records_of(document, "flood"), name)


def _rules(document: Document, name: str) -> Spread | None:
    return more_by_rules(records_of(document, "authorization"), name)


GOALS = (
    Goal("`full`: CPU a request, against Envoy", 0.4, _against("full", "cpu_us", "envoy")),
    Goal("`full`: CPU a request, against the relay", 2.5, _against("full", "cpu_us", "relay")),
    Goal("`plain`: CPU a request, against HAProxy", 2.0, _against("plain", "cpu_us", "haproxy")),
    Goal("p99 at half of Envoy's saturation rate, against Envoy", 0.8, _against("latency", "p99_ms", "envoy")),
    Goal("p99.9 at half of Envoy's saturation rate, against Envoy", 0.8, _against("latency", "p999_ms", "envoy")),
    Goal("CPU a request, 10,000 routes against 10", 1.15, _growth),
    Goal("CPU a request at 10,000 routes, against Envoy", 0.1, _against("routes", "cpu_us", "envoy", "10000"), 3),
    Goal("CPU of a response of 1 MiB, against Envoy", 0.6, _against("bodies", "cpu_us", "envoy", "1 MiB")),
    Goal("`full`: PSS after load, against Envoy", 0.75, _against("full", "pss_mib", "envoy")),
    Goal("PSS of an idle connection, KiB", 8, _own("memory", "kib_each"), 1),
    Goal("requests lost in a reload of 10,000 routes", 0, _own("reload", "failed"), 0, counts_every_round=True),
    Goal("p99 around that reload less the rest, ms", 2, _around),
    Goal("longest latency around that reload, ms", 5, _own("reload", "around.max_ms"), 1, counts_every_round=True),
    Goal(
        "longest in that round while no core stood still, ms",
        5,
        _own("reload", "awake_max_ms"),
        1,
        counts_every_round=True,
    ),
    Goal("two workers' work, by CPU time, times one's", 1.8, _by_cpu, is_at_least=True),
    Goal("two workers' work, by rate, times one's", 1.8, _by_rate, is_at_least=True),
    Goal("start to the first answer, ms", 400, _own("start", "ready_ms", "20"), 0),
    Goal("TLS in: CPU a request, against Envoy", 0.5, _against("tls", "cpu_us", "envoy", "in")),
    Goal("mutual TLS out: CPU a request, against Envoy", 0.42, _against("tls", "cpu_us", "envoy", "out")),
    Goal(
        "`full`, mutual TLS in and out: CPU a request, against Envoy", 0.4, _against("tls", "cpu_us", "envoy", "both")
    ),
    Goal("TLS in: CPU of a response of 1 MiB, against Envoy", 0.6, _against("tlsbodies", "cpu_us", "envoy", "in")),
    Goal("mutual TLS out: CPU of 1 MiB, against Envoy", 1.0, _against("tlsbodies", "cpu_us", "envoy", "out")),
    Goal("TLS in: p99 at half of Envoy's saturation, against Envoy", 0.5, _tls_p99("in")),
    Goal("mutual TLS out: p99 at half of Envoy's saturation, against Envoy", 0.5, _tls_p99("out")),
    Goal("a connection with mutual TLS and one GET: CPU, against Envoy", 1.1, _connection("full")),
    Goal("the same, session resumed", 1.0, _connection("resumed")),
    Goal("100 ClientHellos at once: longest latency of others more, ms", 5, _flood, 1, counts_every_round=True),
    Goal("PSS of an idle connection with mutual TLS, KiB", 26, _own("tlsmemory", "kib_each", "fresh"), 1),
    Goal("the same after 1 MiB, KiB", 40, _own("tlsmemory", "kib_each", "1 MiB"), 1),
    Goal("HTTP/2 to HTTP/2, 4 connections of 16 streams: CPU a call, against Envoy", 0.45, _h2("2 to 2, 4 x 16")),
    Goal("the same, 32 connections of 1 stream", 0.6, _h2("2 to 2, 32 x 1")),
    Goal("HTTP/1.1 to HTTP/2: CPU a call, against Envoy", 0.5, _h2("1 to 2")),
    Goal("HTTP/2 to HTTP/1.1: CPU a call, against Envoy", 0.5, _h2("2 to 1")),
    Goal("HTTP/2 by mutual TLS in and out: CPU a call, against Envoy", 0.5, _h2("mutual TLS")),
    Goal("HTTP/2: CPU of a message of 1 MiB, against Envoy", 0.8, _against("h2bodies", "cpu_us", "envoy", "1 MiB")),
    Goal("HTTP/2: p99 at half of Envoy's saturation, against Envoy", 0.6, _against("h2latency", "p99_ms", "envoy")),
    Goal("HTTP/2: one peer resets 10,000 requests a second at once: p99 of others more, ms", 5, _resets),
    Goal("PSS of an idle connection of HTTP/2, KiB", 6, _own("h2memory", "kib_each", "connection"), 1),
    Goal("PSS of an idle stream, KiB", 2, _own("h2memory", "kib_each", "stream"), 1),
    Goal("CPU a request, 1,000 rules of authorization against none", 1.02, _rules, 3),
    Goal(
        "rotations every 10 s: requests and connections lost", 0, _own("rotation", "lost"), 0, counts_every_round=True
    ),
)


def goals(document: Document) -> str:
    """The table of all of them, with two columns for each of our subjects that was measured."""
    names = [name for name in OURS if any(goal.measured(document, name) is not None for goal in GOALS)]
    head = ["figure", "goal", *(text for name in names for text in (name, "reached"))]
    rows = [
        [goal.figure, goal.text, *(text for name in names for text in goal.cells(document, name))] for goal in GOALS
    ]
    return table(head, rows)
