"""
What was counted of each way of requests, or of TCP, and of who asked since the last look, read from a scrape's
numbers. *Cold.*

Nothing is counted for it. A single process gives the sections of its own scrape, a supervisor those that its workers'
numbers are merged in, and both are read alike: series by series, giving way to others every millisecond. Requests and
their durations are not read in the same instant, so an edge may have one duration more or less than it has requests;
the next look makes up for it. Calls of gRPC that failed have 200 in HTTP; they are told by the class of the status that
stands for how they ended.

A series that went back was begun anew, as by an upstream that came back after its grace: its number is what it grew by,
as Prometheus has it. Those of a worker that ended do not go back (`telemetry.metrics.merge`).
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Final

from sidecar.link.report import NOTHING_CARRIED, Asked, Carried, Counted, Edge
from sidecar.telemetry.metrics import catalogue
from sidecar.telemetry.metrics.exposition import SLICE_S, Histograms, Numbers, Section

_STEP: Final = 16
"""Series between two looks at the clock; 30 us, or 300 where they are new."""
_LABEL: Final = re.compile(r'([a-z_]+)="((?:[^"\\]|\\.)*)"', re.DOTALL)
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)
_DIRECTIONS: Final = {catalogue.SERVER_DURATION.name: "inbound", catalogue.CLIENT_DURATION.name: "outbound"}
_READ: Final = frozenset(
    row.name
    for row in (
        catalogue.REQUESTS, catalogue.GRPC_REQUESTS, catalogue.SERVER_DURATION, catalogue.CLIENT_DURATION,
        catalogue.REQUEST_BYTES, catalogue.RESPONSE_BYTES, catalogue.TLS_REQUESTS, catalogue.TLS_CLEAR_REQUESTS,
        catalogue.AUTHORIZATION, catalogue.AUTHORIZATION_UNIDENTIFIED, catalogue.TCP_CLOSED, catalogue.TCP_RECEIVED,
        catalogue.TCP_SENT,
    )
)  # fmt: skip
_AGAINST: Final = ("denied", "audit_denied")
_UNIDENTIFIED: Final = "unidentified"
"""As a source of `sidecar_authorization_total`, and as an outcome of `Asked`."""

_TCP: Final = frozenset(row.name for row in (catalogue.TCP_CLOSED, catalogue.TCP_RECEIVED, catalogue.TCP_SENT))

_Way = tuple[str, str, str]
"""Direction, upstream, route; of TCP the route is empty."""
_Who = tuple[str, str, str]
"""Caller, rule, outcome."""


class _Sum:
    """An edge that is being put together."""

    __slots__ = (
        "clear",
        "failures",
        "latency",
        "request_bytes",
        "requests",
        "response_bytes",
        "secured",
        "statuses",
        "tcp",
    )

    def __init__(self) -> None:
        self.requests = self.request_bytes = self.response_bytes = 0
        self.secured = self.clear = 0
        self.failures: dict[str, int] = {}
        self.statuses: defaultdict[str, int] = defaultdict(int)
        self.latency: list[int] = []
        self.tcp = NOTHING_CARRIED


class _Sums:
    """All that is being put together."""

    __slots__ = ("asked", "ways")

    def __init__(self) -> None:
        self.ways: defaultdict[_Way, _Sum] = defaultdict(_Sum)
        self.asked: Counter[_Who] = Counter()


class _Series:
    """One series as it was at the last look."""

    __slots__ = ("counts", "counts_as", "flag", "seen", "status", "value", "way", "who")

    def __init__(self, name: str, labels: bytes) -> None:
        texts = read_labels(labels)
        direction = _DIRECTIONS.get(name) or texts.get("direction", "")
        self.way: _Way = (direction, texts.get("upstream", ""), texts.get("route", texts.get("http_route", "")))
        self.status = status_class(texts.get("code", ""))
        self.counts_as = status_class(texts.get("counts_as", ""))
        self.flag = texts.get("flag", "-")
        self.who = _who(name, direction, texts)
        self.value = 0
        self.counts: list[int] = []
        self.seen = 0

    def grown(self, value: int) -> int:
        """How much more it is than at the last look."""
        grown = value - self.value if value >= self.value else value
        self.value = value
        return grown

    def grown_by_bucket(self, counts: list[int]) -> list[int]:
        """The same of a histogram."""
        before = self.counts
        if len(before) != len(counts) or any(new < old for new, old in zip(counts, before, strict=True)):
            before = [0] * len(counts)
        self.counts = counts[:]
        return [new - old for new, old in zip(counts, before, strict=True)]


class EdgeReader:
    """
    Looks at counters, again and again.

    Args:
        sections: All that a scrape sees: `Scrape.sections`, or `Merged.sections` of a supervisor.
        before: Awaited before each look: a supervisor asks its workers for their numbers of now.
    """

    def __init__(
        self, sections: Callable[[], Iterable[Section]], before: Callable[[], Awaitable[object]] | None = None
    ) -> None:
        self._sections = sections
        self._before = before
        self._known: dict[str, dict[bytes, _Series]] = {}
        self._looks = 0

    async def read(self) -> Counted:
        """
        What was counted since the last look, or since the process began; ways on which nothing was are left out. One
        look at a time.
        """
        if self._before is not None:
            await self._before()
        self._looks += 1
        sums = _Sums()
        end = time.perf_counter() + SLICE_S
        for _ in self._steps(sums):
            if time.perf_counter() >= end:
                await asyncio.sleep(0)
                end = time.perf_counter() + SLICE_S
        edges = tuple(
            Edge(
                direction, upstream, route, total.requests, total.failures, _told(total.statuses),
                tuple(total.latency), total.request_bytes, total.response_bytes, "", total.secured,
                total.clear, total.tcp,
            )
            for (direction, upstream, route), total in sums.ways.items()
        )  # fmt: skip
        # Those that a rule was against come first, should there be too many.
        asked = sorted(sums.asked.items(), key=lambda one: (not one[0][2], one[0]))
        return Counted(edges, tuple(Asked(who, number, rule, outcome) for (who, rule, outcome), number in asked))

    def _steps(self, sums: _Sums) -> Iterator[None]:
        left = set(_READ)
        for section in self._sections():
            yield
            if section is None or section.row.name not in left:
                continue
            left.remove(section.row.name)
            known = self._known.setdefault(section.row.name, {})
            count = 0
            for change in self._changes(section, known, sums):
                count += change
                if not count % _STEP:
                    yield
            if count < len(known):
                for labels in [labels for labels, series in known.items() if series.seen != self._looks]:
                    del known[labels]
            if not left:
                return

    def _changes(self, section: Numbers | Histograms, known: dict[bytes, _Series], sums: _Sums) -> Iterator[int]:
        """One for each series."""
        name = section.row.name
        if isinstance(section, Numbers):
            for labels, value in section.series:
                series = self._of(known, name, labels)
                grown = series.grown(int(value))
                if grown:
                    _count(sums, name, series, grown)
                yield 1
            return
        for child in section.children:
            series = self._of(known, name, child.labels)
            if series.counts != child.counts:
                total = sums.ways[series.way]
                grown_by = series.grown_by_bucket(child.counts)
                total.latency = [a + b for a, b in zip(total.latency or [0] * len(grown_by), grown_by, strict=True)]
            yield 1

    def _of(self, known: dict[bytes, _Series], name: str, labels: bytes) -> _Series:
        series = known.get(labels)
        if series is None:
            series = known[labels] = _Series(name, labels)
        series.seen = self._looks
        return series


def _who(name: str, direction: str, texts: Mapping[str, str]) -> _Who | None:
    """Whom a series is about; None if about nobody that is told."""
    if name == catalogue.TLS_REQUESTS.name:
        peer = texts.get("peer", "")
        return (peer, "", "") if direction == "inbound" and peer else None
    if name == catalogue.AUTHORIZATION_UNIDENTIFIED.name:
        return "", "", _UNIDENTIFIED
    if name == catalogue.AUTHORIZATION.name and texts.get("outcome") in _AGAINST:
        source = texts.get("source", "")
        return "" if source == _UNIDENTIFIED else source, texts.get("rule", ""), texts["outcome"]
    return None


def _count(sums: _Sums, name: str, series: _Series, grown: int) -> None:
    if series.who is not None:
        sums.asked[series.who] += grown
    if name in (catalogue.AUTHORIZATION.name, catalogue.AUTHORIZATION_UNIDENTIFIED.name):
        return
    total = sums.ways[series.way]
    if name in _TCP:
        total.tcp = _carried(total.tcp, name, series.flag, grown)
    elif name == catalogue.TLS_REQUESTS.name:
        total.secured += grown
    elif name == catalogue.TLS_CLEAR_REQUESTS.name:
        total.clear += grown
    elif name == catalogue.REQUEST_BYTES.name:
        total.request_bytes += grown
    elif name == catalogue.RESPONSE_BYTES.name:
        total.response_bytes += grown
    elif name == catalogue.GRPC_REQUESTS.name:
        if series.counts_as != series.status:
            total.statuses[series.status] -= grown
            total.statuses[series.counts_as] += grown
    else:
        total.requests += grown
        total.statuses[series.status] += grown
        if series.flag != "-":
            total.failures[series.flag] = total.failures.get(series.flag, 0) + grown


def _carried(sums: Carried, name: str, flag: str, grown: int) -> Carried:
    if name == catalogue.TCP_RECEIVED.name:
        return sums._replace(received_bytes=sums.received_bytes + grown)
    if name == catalogue.TCP_SENT.name:
        return sums._replace(sent_bytes=sums.sent_bytes + grown)
    return sums._replace(connections=sums.connections + grown, failed=sums.failed + (grown if flag != "-" else 0))


def _told(statuses: Mapping[str, int]) -> dict[str, int]:
    """Without a class that lost more calls than were read in it, as it may by one that ended during the look."""
    return {status: number for status, number in statuses.items() if number > 0}


def status_class(code: str) -> str:
    """`2xx` of `204`; `other` of what is no status code."""
    return f"{code[0]}xx" if len(code) == 3 and code.isascii() and code.isdigit() else "other"


def read_labels(text: bytes) -> dict[str, str]:
    """Names and values of `telemetry.metrics.instruments.label_text`."""
    found = _LABEL.findall(text.decode("utf-8", "replace"))
    return {name: _ESCAPE.sub(_unescaped, value) for name, value in found}


def _unescaped(match: re.Match[str]) -> str:
    return "\n" if match[1] == "n" else match[1]
