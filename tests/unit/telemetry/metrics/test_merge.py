"""What becomes of series that come and go in several workers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sidecar.exchange import Direction
from sidecar.telemetry.metrics import catalogue, compat_catalogue, merge
from sidecar.telemetry.metrics.exposition import Format, Numbers, Section, written
from sidecar.telemetry.metrics.merge import Merged, Share
from sidecar.telemetry.metrics.report import Piece, Reporter
from tests.support.work import Work
from tests.unit.telemetry.cases import over, request
from tests.unit.telemetry.metrics.test_scrape import telemetry_with_routes


def series(name: str, merged: Merged) -> dict[bytes, float]:
    """What is shown of a metric."""
    return {
        labels: value
        for section in merged.sections()
        if isinstance(section, Numbers) and section.row.name == name
        for labels, value in section.series
    }


class Told:
    """A worker with one counter row and one gauge row, told at once."""

    def __init__(self, merged: Merged, row: catalogue.Metric = catalogue.UPSTREAM_RESETS) -> None:
        self.now: dict[bytes, float] = {}
        self.row = row
        self.share: Share = merged.join()
        self.reporter = Reporter(self.sections)

    def sections(self) -> Iterator[Section]:
        """As a scrape sees it."""
        yield Numbers(self.row, list(self.now.items()))

    def report(self, **now: float) -> list[Piece]:
        """These are the numbers now."""
        self.now = {name.encode(): value for name, value in now.items()}
        pieces = [piece for piece in self.reporter.pieces() if piece is not None]
        for piece in pieces:
            self.share.take(piece)
        return pieces


def test_only_what_changed_is_told() -> None:
    """A report of a quiet second is empty."""
    worker = Told(Merged())
    assert worker.report(a=1, b=2)
    assert worker.report(a=1, b=2) == []
    ((new, numbers, observed, gone),) = worker.report(a=1, b=3)
    assert (new, [value for _, value in numbers], observed, gone) == ([], [3], [], [])


def test_a_series_goes_when_the_last_worker_that_has_it_lets_it_go() -> None:
    """Until then what the others counted stays in the sum, so that it does not go back."""
    merged = Merged()
    first, second = Told(merged), Told(merged)
    first.report(a=5)
    second.report(a=2)
    first.report()
    assert series("sidecar_upstream_resets_total", merged) == {b"a": 7}
    second.report()
    assert series("sidecar_upstream_resets_total", merged) == {}
    second.report(a=1)
    assert series("sidecar_upstream_resets_total", merged) == {b"a": 1}


def test_what_a_dead_worker_counted_goes_with_the_series() -> None:
    """It outlives the worker, but not the route."""
    merged = Merged()
    first, second = Told(merged), Told(merged)
    first.report(a=5)
    first.share.leave()
    second.report(a=2)
    assert series("sidecar_upstream_resets_total", merged) == {b"a": 7}
    second.report()
    assert series("sidecar_upstream_resets_total", merged) == {}


def test_a_counter_that_begins_anew_in_a_worker_does_not_go_back_in_the_sum() -> None:
    """As an upstream's does that comes back after its grace."""
    merged = Merged()
    worker = Told(merged)
    worker.report(a=5)
    worker.report(a=3)
    assert series("sidecar_upstream_resets_total", merged) == {b"a": 8}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (catalogue.UPSTREAM_IDLE, 12),
        (catalogue.UPSTREAM_ENDPOINTS, 7),
        (catalogue.DNS_TIME, 5),
        (compat_catalogue.ENVOY_HEALTHY, 5),
    ],
)
def test_gauges_follow_the_rule_of_their_row(row: catalogue.Metric, expected: float) -> None:
    """What adds up is added; what is the same in each is not."""
    merged = Merged()
    Told(merged, row).report(a=5)
    Told(merged, row).report(a=7)
    assert series(row.name, merged) == {b"a": expected}


def test_orphans_are_forgotten_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that only dead workers knew do not fill memory; those of live ones stay."""
    monkeypatch.setattr(merge, "MAX_SERIES", 2)
    merged = Merged()
    first, second = Told(merged), Told(merged)
    first.report(a=1, b=1)
    first.share.leave()
    assert merged.forget_orphans() == 0
    second.report(b=1, c=1)
    assert merged.forget_orphans() == 1
    assert series("sidecar_upstream_resets_total", merged) == {b"b": 2, b"c": 1}


def test_rows_that_are_not_shown_any_more_are_gone() -> None:
    """Other meshes' names, for example, when a reload turns them off."""
    merged = Merged()
    worker = Told(merged, compat_catalogue.ENVOY_RQ_TOTAL)
    worker.report(a=5)
    worker.sections = lambda: iter(())  # type: ignore[method-assign]
    worker.reporter._sections = worker.sections
    worker.report()
    assert len(merged) == 0


def test_two_workers_read_as_one_with_all_their_requests() -> None:
    """Of the whole telemetry, as text."""
    merged = Merged()
    alone = telemetry_with_routes(3)
    for _ in range(2):
        one = telemetry_with_routes(3)
        share = merged.join()
        for piece in Reporter(lambda one=one: one.numbers.sections()).pieces():  # type: ignore[misc]
            if piece is not None:
                share.take(piece)
    for number in range(3):
        scope = alone.scope(Direction.OUTBOUND, f"route-{number}", f"upstream-{number}", "10.0.0.1")
        alone.record(over(request(), scope=scope, direction=Direction.OUTBOUND, endpoint="10.0.0.1:80"))
    text = b"".join(written(merged.sections(), Format.TEXT)).splitlines()
    names = (b"sidecar_requests_total", b"http_client_request_duration", b"sidecar_request_body_bytes_total")
    expected = [line for line in alone.exposition(Format.TEXT).splitlines() if line.startswith(names)]
    assert len(expected) > 50
    assert [line for line in text if line.startswith(names)] == expected


def test_no_stretch_of_a_report_of_2000_routes_is_much_work() -> None:
    """
    Between two moments to give way a worker executes at most some thousand lines of Python, and a supervisor for a
    piece, which has 512 changes, a hundred each. Some 70 ns a line: 0.2 ms, and 4.
    """
    telemetry = telemetry_with_routes(2000)
    share = Merged().join()
    most_told = most_taken = pieces = 0
    told = Reporter(telemetry.numbers.sections).pieces()
    piece: Piece | str | None = None
    while piece != "over":
        with Work() as telling:
            piece = next(told, "over")
        most_told = max(most_told, telling.lines)
        if isinstance(piece, tuple):
            pieces += 1
            with Work() as taking:
                share.take(piece)
            most_taken = max(most_taken, taking.lines)
    assert pieces > 10
    assert most_told < 3_000
    assert most_taken < 60_000


def test_counts_are_whole_numbers_however_they_were_read() -> None:
    """What other meshes' names read from upstreams comes as floats."""
    merged = Merged()
    Told(merged, compat_catalogue.LINKERD_TCP_OPEN).report(a=5.0)
    Told(merged, compat_catalogue.LINKERD_TCP_OPEN).report(a=2.0)
    (value,) = series("tcp_open_total", merged).values()
    assert (value, type(value)) == (7, int)
