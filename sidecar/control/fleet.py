"""
Every sidecar that this replica hears from: what it said last, within bounds. *On the loop; clocks are given.*

A sidecar is one by its instance's name. Whoever says that it is an instance which belongs to another service is
refused, as long as that one is there (the plane looks at those that are registered elsewhere, too). Names come from
outside: how many are remembered is bounded, and those that are gone are forgotten.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from sidecar.control.revision.judged import ProblemTold
from sidecar.control.rollout.statistics import noted
from sidecar.control.rollout.view import Period
from sidecar.link.messages import Watch
from sidecar.link.report import Report

MAX_INSTANCES: Final = 20_000
KEPT_S: Final = 600.0
"""For which one that is gone is remembered, with what it said last."""
SILENT_S: Final = 35.0
"""Without a report, though its stream is open: three periods. Then it is lost, whatever the socket says."""
REPORTS_PER_SECOND: Final = 5.0
REPORTS_AT_ONCE: Final = 20.0
MAX_RECENT: Final = 64
"""Periods that are kept as they came: those of ten seconds and more, in which other replicas ask several times."""


class FleetError(Exception):
    """
    A sidecar is refused; the text is for it.

    Attributes:
        status: Of HTTP.
        retry_after_s: When it may try again; 0: not as it is.
    """

    def __init__(self, status: int, text: str, retry_after_s: int = 0) -> None:
        super().__init__(text)
        self.status = status
        self.retry_after_s = retry_after_s

    @classmethod
    def of_another(cls, instance: str) -> FleetError:
        """Somebody says that it is an instance which belongs to another service."""
        return cls(403, f"the instance `{instance[:100]}` belongs to another service")


@dataclass(slots=True)
class Member:
    """
    One sidecar.

    Attributes:
        report: The last one, without its edges; None before the first.
        problems: Of its registration: why others are not told of it.
        refused: Problems of the file that it refused, at their places in the mesh's files.
        seen_s: When it was heard of last, since the Unix epoch.
        heard_s: The same by the monotonic clock; of its stream or a report.
        connected_s: When its stream began, since the Unix epoch; 0 while it has none.
        reported_s: When its last report came, since the Unix epoch.
        periods: What it counted in its last reports, joined where they are many.
        recent: The last of them as they came.
        peer: Where it comes from.
    """

    id: str
    service: str
    version: str = ""
    zone: str = ""
    language: int = 1
    release: str = ""
    report: Report | None = None
    problems: tuple[str, ...] = ()
    refused: tuple[ProblemTold, ...] = ()
    seen_s: float = 0.0
    heard_s: float = 0.0
    connected_s: float = 0.0
    reported_s: float = 0.0
    is_draining: bool = False
    periods: list[Period] = field(default_factory=list)
    recent: deque[Period] = field(default_factory=lambda: deque(maxlen=MAX_RECENT))
    peer: str = ""
    allowance: float = REPORTS_AT_ONCE
    allowance_s: float = 0.0

    @property
    def is_connected(self) -> bool:
        """Whether it has a stream."""
        return self.connected_s > 0


class Fleet:
    """
    Args:
        clock: Seconds, monotonic.
        now_s: Since the Unix epoch.

    Attributes:
        limited: Reports that were turned away for being too many.
    """

    def __init__(self, clock: Callable[[], float], now_s: Callable[[], float]) -> None:
        self.limited = 0
        self._clock = clock
        self._now_s = now_s
        self._members: dict[str, Member] = {}

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[Member]:
        return iter(self._members.values())

    def get(self, instance: str) -> Member | None:
        """One of them."""
        return self._members.get(instance)

    def opened(self, watch: Watch, peer: str) -> Member:
        """
        Its stream begins.

        Raises:
            FleetError: Its name is another service's, or there is no room.
        """
        member = self._of(watch.instance, watch.service)
        member.version, member.zone = watch.version, watch.zone
        member.language, member.release = watch.language, watch.release
        member.connected_s, member.peer = self._now_s(), peer
        self._heard(member)
        return member

    def closed(self, instance: str) -> None:
        """Its stream ended, and no other began."""
        member = self._members.get(instance)
        if member is not None:
            member.connected_s = 0.0
            self._heard(member)

    def reported(self, report: Report, peer: str) -> tuple[Member, bool]:
        """
        It says something.

        Returns:
            It, and whether what it counted is to be added: a report that comes a second time is not.

        Raises:
            FleetError: Its name is another service's, there is no room, or it says too much.
        """
        member = self._of(report.instance, report.service)
        self._allow(member)
        is_new = member.report is None or report.seq != member.report.seq
        now_s = self._now_s()
        if is_new and member.report is not None and report.edges:
            start_s = member.reported_s
            requests = sum(edge.requests for edge in report.edges)
            failures = sum(min(edge.requests, _failed(edge.failures, edge.statuses)) for edge in report.edges)
            period = Period(start_s, now_s, requests, failures)
            member.periods = noted(member.periods, period)
            member.recent.append(period)
        member.report = replace(report, edges=())
        member.version, member.zone = report.version, report.zone
        member.language, member.release = report.language, report.release
        member.is_draining = report.is_goodbye
        member.reported_s, member.peer = now_s, peer
        if report.refused is None:
            member.refused = ()
        self._heard(member)
        return member, is_new

    def silent(self) -> list[Member]:
        """Those with a stream that have reported before and do not any more."""
        return [one for one in self._members.values() if self.is_silent(one)]

    def is_silent(self, member: Member) -> bool:
        """Whether it has a stream, has reported before, and does not any more."""
        return member.is_connected and member.report is not None and self._clock() - member.heard_s > SILENT_S

    def sweep(self) -> None:
        """Forget those that are gone for long; to be called now and then."""
        until_s = self._clock() - KEPT_S
        for instance, member in tuple(self._members.items()):
            if not member.is_connected and member.heard_s < until_s:
                del self._members[instance]

    def _of(self, instance: str, service: str) -> Member:
        member = self._members.get(instance)
        if member is not None and member.service != service:
            if member.is_connected or self._clock() - member.heard_s < SILENT_S:
                raise FleetError.of_another(instance)
            del self._members[instance]
            member = None
        if member is None:
            if len(self._members) >= MAX_INSTANCES:
                self._make_room()
            member = self._members[instance] = Member(instance, service, allowance_s=self._clock())
        return member

    def _make_room(self) -> None:
        """Forget the one that was not heard of for longest, if there is one without a stream."""
        gone = [one for one in self._members.values() if not one.is_connected]
        if not gone:
            raise FleetError(503, f"more than {MAX_INSTANCES} instances", retry_after_s=30)
        oldest = min(gone, key=lambda one: one.heard_s)
        del self._members[oldest.id]

    def _allow(self, member: Member) -> None:
        now_s = self._clock()
        grown = member.allowance + (now_s - member.allowance_s) * REPORTS_PER_SECOND
        member.allowance, member.allowance_s = min(REPORTS_AT_ONCE, grown), now_s
        if member.allowance < 1:
            self.limited += 1
            raise FleetError(429, f"expected at most {REPORTS_PER_SECOND:g} reports a second", retry_after_s=1)
        member.allowance -= 1

    def _heard(self, member: Member) -> None:
        member.seen_s, member.heard_s = self._now_s(), self._clock()


def _failed(failures: Mapping[str, int], statuses: Mapping[str, int]) -> int:
    return max(sum(failures.values()), statuses.get("5xx", 0))
