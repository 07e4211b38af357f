"""The numbers of several workers, merged, are the sum of theirs, whatever happens to the workers."""

from __future__ import annotations

import marshal
from collections.abc import Iterator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.telemetry.metrics import catalogue
from sidecar.telemetry.metrics.exposition import (
    Format,
    Histograms,
    Numbers,
    Section,
    histograms_of,
    numbers_of,
    written,
)
from sidecar.telemetry.metrics.instruments import CounterFamily, HistogramFamily
from sidecar.telemetry.metrics.merge import Merged, Share
from sidecar.telemetry.metrics.report import Reporter
from tests.support.thoroughness import examples

ROUTES = ("a", "b", "c")


class Worker:
    """Counts, and tells about it through the octets that a supervisor would get."""

    def __init__(self, merged: Merged) -> None:
        self.retries = CounterFamily(catalogue.RETRIES)
        self.connects = HistogramFamily(catalogue.CONNECT_DURATION)
        self.idle: dict[str, float] = {}
        self.clock_ns = 0
        self.reporter = Reporter(self.sections)
        self.share: Share = merged.join()

    def sections(self) -> Iterator[Section]:
        """What a scrape of this worker would see."""
        yield numbers_of(self.retries)
        yield None
        yield histograms_of(self.connects)
        yield Numbers(catalogue.UPSTREAM_IDLE, [(name.encode(), value) for name, value in self.idle.items()])
        yield Numbers(catalogue.BUILD_INFO, [(b"", 1)])

    def count(self, route: str, value: int) -> None:
        """Something happens."""
        self.retries.child(route, "connect_failed").value += value
        self.connects.child(route).observe(value * 1_000_000)
        self.clock_ns += 1
        self.connects.child(route).exemplars[0] = (b"t", b"s", value, self.clock_ns)
        self.idle[route] = value

    def report(self, pieces: int | None = None) -> None:
        """All of a report, or only so many pieces before the worker dies."""
        sent = 0
        for piece in self.reporter.pieces():
            if piece is not None and (pieces is None or sent < pieces):
                sent += 1
                self.share.take(marshal.loads(marshal.dumps(piece)))


def counters(sections: Iterator[Section]) -> dict[tuple[str, bytes], list[int]]:
    """Every number that may only grow, by name and labels."""
    found: dict[tuple[str, bytes], list[int]] = {}
    for section in sections:
        if isinstance(section, Histograms):
            for child in section.children:
                found[section.row.name, child.labels] = [child.sum, *child.counts]
        elif isinstance(section, Numbers) and section.row.type == "counter":
            for labels, value in section.series:
                found[section.row.name, labels] = [int(value)]
    return found


def gauges(sections: Iterator[Section]) -> dict[bytes, float]:
    """Idle connections by upstream."""
    return {
        labels: value
        for section in sections
        if isinstance(section, Numbers) and section.row is catalogue.UPSTREAM_IDLE
        for labels, value in section.series
    }


def added(parts: list[dict[Any, list[int]]]) -> dict[Any, list[int]]:
    """The sum of parts, element by element."""
    total: dict[Any, list[int]] = {}
    for part in parts:
        for key, numbers in part.items():
            total[key] = [sum(pair) for pair in zip(total.get(key, [0] * len(numbers)), numbers, strict=True)]
    return total


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("count"), st.integers(0, 2), st.sampled_from(ROUTES), st.integers(0, 5000)),
        st.tuples(st.just("report"), st.integers(0, 2)),
        st.tuples(st.just("replace"), st.integers(0, 2), st.booleans()),
    ),
    max_size=60,
)


@given(STEPS)
@settings(max_examples=examples(150), deadline=None)
def test_merged_is_the_sum_of_what_was_told_and_never_goes_back(steps: list[Any]) -> None:
    """Whoever counts, reports, dies or ends in order, and in which order whatever."""
    merged = Merged()
    workers = [Worker(merged) for _ in range(3)]
    told: list[dict[Any, list[int]]] = [{}, {}, {}]
    ended: list[dict[Any, list[int]]] = []
    before: dict[Any, list[int]] = {}
    for what, index, *rest in steps:
        worker = workers[index]
        if what == "count":
            worker.count(*rest)
        elif what == "report":
            worker.report()
            told[index] = counters(worker.sections())
        else:
            if rest[0]:  # in order: with last words
                worker.report()
                told[index] = counters(worker.sections())
            worker.share.leave()
            ended.append(told[index])
            workers[index], told[index] = Worker(merged), {}
        now = counters(merged.sections())
        assert now == added([*told, *ended])
        for key, numbers in before.items():
            assert all(new >= old for new, old in zip(now[key], numbers, strict=True))
        before = now


@given(st.lists(st.dictionaries(st.sampled_from(ROUTES), st.integers(0, 9)), min_size=1, max_size=4))
@settings(max_examples=examples(50), deadline=None)
def test_gauges_add_up_and_go_with_their_worker(idle: list[dict[str, float]]) -> None:
    """What a dead worker had open is open no more."""
    merged = Merged()
    workers = []
    for values in idle:
        worker = Worker(merged)
        worker.idle = dict(values)
        worker.report()
        workers.append(worker)
    while workers:
        expected: dict[bytes, float] = {}
        for worker in workers:
            for name, value in worker.idle.items():
                expected[name.encode()] = expected.get(name.encode(), 0) + value
        assert gauges(merged.sections()) == expected
        workers.pop().share.leave()
    assert gauges(merged.sections()) == {}


@given(st.lists(st.tuples(st.sampled_from(ROUTES), st.integers(0, 5000)), max_size=40))
@settings(max_examples=examples(50), deadline=None)
def test_one_worker_merged_reads_as_the_worker_itself(counted: list[tuple[str, int]]) -> None:
    """Line by line, buckets and exemplars included."""
    merged = Merged()
    worker = Worker(merged)
    for route, value in counted:
        worker.count(route, value)
        worker.report()
    own = set(
        b"".join(written((s for s in worker.sections() if s and s.row.merge != "own"), Format.OPENMETRICS)).splitlines()
    )
    assert own <= set(b"".join(written(merged.sections(), Format.OPENMETRICS)).splitlines())
