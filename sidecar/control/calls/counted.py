"""
What was counted in a span of time, by key. *Pure.*

A control plane keeps some thousand calls for a dozen spans of seconds and sixty of a minute. A `Tally` of each would be
half a kilobyte: 150 MB in an hour, for 4,000 calls. So while a span lasts, what was counted of a call is one integer
with all its numbers side by side, which is added to in one addition; and a minute that is over is packed.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import add
from typing import Final, Generic, Literal, TypeVar

from sidecar.link.report import LATENCY_BOUNDS_S, NOTHING_CARRIED, Carried, Edge

MAX_REASONS: Final = 40
"""Of failures of one edge; there are fewer (docs/errors.md), but a report may say anything."""

_BUCKETS: Final = len(LATENCY_BOUNDS_S) + 1
_NO_LATENCY: Final = (0,) * _BUCKETS
_LANES: Final = struct.Struct(f"<{6 + _BUCKETS + len(Carried._fields)}Q")
"""
Requests, errors, octets of requests and of responses, requests by TLS and in clear, then the histogram, whose highest
counts are nearly always zero and take no room, and what was carried, which a way of requests has none of. A report says
at most 2^53, so 2,000 of the largest fit into a lane. Whoever sends more of them is shown nonsense of its own calls,
and nothing else happens.
"""
_MASK: Final = (1 << 8 * _LANES.size) - 1
_FASTEST: Final = 1
Tls = Literal["all", "some", "none"]
"""Of requests, how many."""
_K = TypeVar("_K", bound=Hashable)


@dataclass(slots=True)
class Tally:
    """Sums over some time."""

    requests: int = 0
    request_bytes: int = 0
    response_bytes: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    errors: int = 0
    """Answers of 5xx that the callee itself gave; together with failures, what did not succeed."""
    latency: list[int] = field(default_factory=lambda: [0] * _BUCKETS)
    secured: int = 0
    """By TLS; and those in clear, since there was one: `link.report.Edge`."""
    clear: int = 0
    tcp: Carried = NOTHING_CARRIED

    def merge(self, other: Tally) -> None:
        """Another time's, or another edge's."""
        self.requests += other.requests
        self.request_bytes += other.request_bytes
        self.response_bytes += other.response_bytes
        self.errors += other.errors
        self.secured += other.secured
        self.clear += other.clear
        self.tcp = Carried(*map(add, self.tcp, other.tcp))
        self.failures.update(other.failures)
        self.latency = list(map(add, self.latency, other.latency))

    @property
    def failed(self) -> int:
        """
        Requests that did not succeed: those that their caller's sidecar had to answer itself, most of them with 5xx, or
        that the callee answered so; a request counts once, so the larger of both, and never more than all.
        """
        return min(self.requests, max(sum(self.failures.values()), self.errors))

    @property
    def success(self) -> float | None:
        """Share of requests that succeeded; None if there was none."""
        return 1 - self.failed / self.requests if self.requests else None

    @property
    def tls(self) -> Tls | None:
        """How many were by TLS; None if nothing was answered."""
        if self.secured:
            return "some" if self.clear else "all"
        return "none" if self.requests > sum(self.failures.values()) else None

    def quantile(self, share: float) -> float | None:
        """Upper bound in seconds below which so many ended, between two bounds by proportion; None if none did."""
        return quantile(self.latency, share)


def quantile(counts: Sequence[int], share: float) -> float | None:
    """Of counts by `LATENCY_BOUNDS_S`, in seconds; what is beyond the last bound is told as that."""
    total = sum(counts)
    if not total:
        return None
    wanted = share * total
    below = 0
    for index, number in enumerate(counts):
        if below + number >= wanted and number:
            if index == len(LATENCY_BOUNDS_S):
                break
            low = LATENCY_BOUNDS_S[index - 1] if index else 0.0
            return low + (LATENCY_BOUNDS_S[index] - low) * max(0.0, wanted - below) / number
        below += number
    return LATENCY_BOUNDS_S[-1]


def numbers_of(edge: Edge) -> int:
    """The numbers that a report has of an edge, side by side in one integer."""
    sums = (
        edge.requests, edge.statuses.get("5xx", 0), edge.request_bytes, edge.response_bytes, edge.secured, edge.clear
    )  # fmt: skip
    return int.from_bytes(_LANES.pack(*sums, *(edge.latency or _NO_LATENCY), *edge.tcp), "little")


def numbers_of_asked(requests: int, refused: int) -> int:
    """The same of who asked, as whom was asked tells it: what a rule refused stands where errors are."""
    return int.from_bytes(_LANES.pack(requests, refused, 0, 0, 0, 0, *_NO_LATENCY, *NOTHING_CARRIED), "little")


class Span(Generic[_K]):
    """
    What was counted while it lasted.

    Attributes:
        numbers: By key, side by side in one integer.
        failures: By reason, of the keys that had any.
    """

    __slots__ = ("failures", "numbers")

    def __init__(self) -> None:
        self.numbers: dict[_K, int] = {}
        self.failures: dict[_K, dict[str, int]] = {}

    def add(self, key: _K, numbers: int, failures: Mapping[str, int]) -> None:
        """What `numbers_of` an edge gave, and its failures."""
        self.numbers[key] = self.numbers.get(key, 0) + numbers
        if failures:
            known = self.failures.setdefault(key, {})
            for reason, number in failures.items():
                if reason in known or len(known) < MAX_REASONS:
                    known[reason] = known.get(reason, 0) + number


def summed(spans: Iterable[Span[_K]], is_wanted: Callable[[_K], bool]) -> dict[_K, Tally]:
    """Sums of several spans, of the keys that are wanted."""
    numbers: defaultdict[_K, int] = defaultdict(int)
    failures: defaultdict[_K, Counter[str]] = defaultdict(Counter)
    for span in spans:
        for key, number in span.numbers.items():
            if is_wanted(key):
                numbers[key] += number
        for key, reasons in span.failures.items():
            failures[key].update(reasons)
    return {key: _tally(_LANES.unpack(_octets(number)), failures.get(key, {})) for key, number in numbers.items()}


class Packed(Generic[_K]):
    """
    A span that does not change any more, as few octets; it may be read in any thread.

    Args:
        span: Is not kept.
    """

    __slots__ = ("_failures", "_numbers", "keys")

    def __init__(self, span: Span[_K]) -> None:
        self.keys = tuple(span.numbers)
        self._numbers = zlib.compress(b"".join(map(_octets, span.numbers.values())), _FASTEST)
        failures = [(index, span.failures[key]) for index, key in enumerate(self.keys) if key in span.failures]
        self._failures = zlib.compress(json.dumps(failures).encode(), _FASTEST) if failures else b""

    def tallies(self) -> Iterator[tuple[_K, Tally]]:
        """What was counted, by key."""
        failures = dict(json.loads(zlib.decompress(self._failures))) if self._failures else {}
        every = _LANES.iter_unpack(zlib.decompress(self._numbers))
        for index, (key, numbers) in enumerate(zip(self.keys, every, strict=True)):
            yield key, _tally(numbers, failures.get(index, {}))


def _octets(numbers: int) -> bytes:
    return (numbers & _MASK).to_bytes(_LANES.size, "little")


def _tally(numbers: Sequence[int], failures: Mapping[str, int]) -> Tally:
    requests, errors, request_bytes, response_bytes, secured, clear, *latency = numbers[: 6 + _BUCKETS]
    tcp = Carried(*numbers[6 + _BUCKETS :])
    return Tally(requests, request_bytes, response_bytes, Counter(failures), errors, latency, secured, clear, tcp)
