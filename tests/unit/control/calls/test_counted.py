"""Numbers side by side in one integer, packed minutes, and what is read out of them."""

from __future__ import annotations

import pytest

from sidecar.control.calls.counted import MAX_REASONS, Packed, Span, Tally, numbers_of, quantile, summed
from sidecar.link.report import LATENCY_BOUNDS_S, Carried, Edge

ZEROS = (0,) * (len(LATENCY_BOUNDS_S) + 1)
MOST = 1 << 53
"""That a report may say."""


def edge(requests: int = 10, **values: object) -> Edge:
    return Edge("outbound", "callee.v2", "callee.r", requests, **values)  # type: ignore[arg-type]


def span(*edges: Edge) -> Span[str]:
    found: Span[str] = Span()
    for one in edges:
        found.add("key", numbers_of(one), one.failures)
    return found


def tally(*edges: Edge) -> Tally:
    return summed([span(*edges)], lambda key: True)["key"]


def test_every_number_is_added_by_itself() -> None:
    """Also the largest that a report may say, a thousand times: none runs over into its neighbour."""
    most = edge(MOST, statuses={"5xx": MOST}, latency=(MOST,) * len(ZEROS), request_bytes=MOST, response_bytes=MOST)
    most = most._replace(tcp=Carried(MOST, MOST, MOST, MOST))
    other = edge(
        1, tcp=Carried(1, 2, 3, 4), statuses={"2xx": 1, "5xx": 2}, latency=tuple(range(len(ZEROS))), response_bytes=5
    )
    found = tally(*[most] * 1000, other)
    assert (found.requests, found.errors) == (1000 * MOST + 1, 1000 * MOST + 2)
    assert (found.request_bytes, found.response_bytes) == (1000 * MOST, 1000 * MOST + 5)
    assert found.tcp == Carried(*(1000 * MOST + number for number in (1, 2, 3, 4)))
    assert found.latency == [1000 * MOST + number for number in range(len(ZEROS))]


def test_more_than_fits_is_nonsense_and_no_fault() -> None:
    """Who reports the largest of all numbers again and again is shown anything, and others what is theirs."""
    flood = span(*[edge(MOST, latency=(MOST,) * len(ZEROS))] * 5000)
    flood.add("other", numbers_of(edge(3)), {})
    assert summed([flood], lambda key: True)["other"].requests == 3
    assert dict(Packed(flood).tallies())["other"].requests == 3


def test_packed_is_what_was_packed() -> None:
    """Keys, numbers and failures; of several keys each has its own."""
    one = span(
        edge(
            7, failures={"UH": 2, "UF": 1}, latency=tuple(range(len(ZEROS))), request_bytes=9, tcp=Carried(3, 1, 40, 50)
        )
    )
    one.add("second", numbers_of(edge(5, statuses={"5xx": 5})), {})
    one.add("third", numbers_of(edge(1)), {"UT": 1})
    assert dict(Packed(one).tallies()) == summed([one], lambda key: True)
    assert dict(Packed(Span()).tallies()) == {}


def test_sums_have_what_is_wanted_of_all_spans() -> None:
    """Numbers and failures of one key from each; the other is left out."""
    one, two = span(edge(4, failures={"UH": 1})), span(edge(5, failures={"UH": 2, "UF": 3}))
    two.add("other", numbers_of(edge(1)), {"UT": 1})
    found = summed([one, two], lambda key: key == "key")
    assert found.keys() == {"key"}
    assert found["key"].requests == 9
    assert found["key"].failures == {"UH": 3, "UF": 3}


def test_reasons_of_one_edge_are_bounded() -> None:
    """A report may name any reason; only so many are kept."""
    assert len(tally(edge(1000, failures={f"R{index}": 1 for index in range(100)})).failures) == MAX_REASONS


def test_success_counts_a_request_once() -> None:
    """A failure that was answered 5xx is one failure."""
    assert tally(edge(10, failures={"UH": 2}, statuses={"5xx": 3, "2xx": 7})).success == 0.7
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
