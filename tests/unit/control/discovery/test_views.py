"""Lines from one set of endpoints to another."""

from __future__ import annotations

from sidecar.control.discovery.views import HISTORY, Views
from sidecar.link.messages import EndpointEntry, Endpoints, apply_endpoints, read_line


def entries(*numbers: int) -> list[EndpointEntry]:
    return [EndpointEntry(f"10.0.0.{number}:80") for number in numbers]


def test_nothing_known_is_told_apart_from_known_to_be_none() -> None:
    """An empty set is a change at first, and none again."""
    views = Views()
    assert views.current is None
    assert views.set([])
    assert not views.set([])
    assert views.current is not None


def test_line_between_two_versions_fits_the_receiver() -> None:
    """What a receiver of the version before makes of the line is the new version."""
    views = Views()
    views.set(entries(1, 2))
    before = views.current
    views.set([*entries(2), EndpointEntry("10.0.0.3:80", 2.0, "z", True)])
    assert before is not None
    assert views.current is not None
    line = read_line(views.current.line("x.beta", before))
    assert isinstance(line, Endpoints)
    assert (line.upstream, line.removed) == ("x.beta", ("10.0.0.1:80",))
    assert len(line.added) == 1
    assert apply_endpoints(before.entries, line) == views.current.entries
    whole = read_line(views.current.line("x.beta", None))
    assert isinstance(whole, Endpoints)
    assert apply_endpoints({}, whole) == views.current.entries


def test_line_is_written_once_for_all_who_have_the_same_version() -> None:
    """A thousand sidecars share one line."""
    views = Views()
    views.set(entries(1))
    before = views.current
    views.set(entries(1, 2))
    assert views.current is not None
    assert views.current.line("x", before) is views.current.line("x", before)


def test_versions_of_before_are_remembered_within_a_bound() -> None:
    """Who is further behind is not recognised."""
    views = Views()
    first = None
    for number in range(HISTORY + 1):
        views.set(entries(number))
        first = first or views.current
    assert first is not None
    assert views.of(first.version) is None
    assert views.current is not None
    assert views.of(views.current.version) is views.current


def test_set_that_was_there_before_is_the_same_view() -> None:
    """Back and forth between two sets makes no third."""
    views = Views()
    views.set(entries(1))
    first = views.current
    views.set(entries(2))
    views.set(entries(1))
    assert views.current is first
