"""
The mesh as the rollout machine sees it: what this replica hears, what others tell, who is registered. *On the loop.*

A rollout looks at everyone many times, while most have said nothing new, so what a sidecar was seen as is kept until it
reports again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from sidecar.control.discovery.registry import DoubtKey, Registry, doubt_key
from sidecar.control.doubt import Doubt
from sidecar.control.fleet import SILENT_S, Fleet, Member
from sidecar.control.replicas.peers import Peers
from sidecar.control.replicas.summary import joined_instances
from sidecar.control.rollout.view import NO_FILE, Instance, View
from sidecar.link.report import Report


class _Seen(NamedTuple):
    """An instance, and the report that it was made of."""

    report: Report | None
    instance: Instance


class Sight:
    """
    Args:
        replica: Name of this one.
        is_outdated: Whether who knows this language is told none of the newest files of a service.
        clock: Seconds, monotonic.

    Attributes:
        returning: Instances that were registered before this replica started, and that it has not heard from yet.
    """

    def __init__(
        self,
        fleet: Fleet,
        registry: Registry,
        doubt: Doubt[DoubtKey],
        peers: Peers,
        replica: str,
        is_outdated: Callable[[str, int], bool],
        clock: Callable[[], float],
    ) -> None:
        self.returning: set[str] = set()
        self._fleet = fleet
        self._registry = registry
        self._doubt = doubt
        self._peers = peers
        self._replica = replica
        self._is_outdated = is_outdated
        self._clock = clock
        self._seen: dict[str, _Seen] = {}

    def instances(self) -> list[Instance]:
        """Sidecars that this replica hears from."""
        before, self._seen = self._seen, {}
        for member in self._fleet:
            is_registered = self._registry.get(member.id) is not None
            is_lately = self._clock() - member.heard_s < SILENT_S
            if not (member.is_connected or is_registered) or (member.is_draining and not is_lately):
                continue
            is_stale = self._doubt.is_stale(doubt_key(member.id))
            is_outdated = self._is_outdated(member.service, member.language)
            known = before.get(member.id)
            if known is None or not _is_same(known, member, is_stale, is_outdated):
                known = _Seen(member.report, _instance(member, is_stale, is_outdated))
            self._seen[member.id] = known
        return [one.instance for one in self._seen.values()]

    @property
    def unseen(self) -> tuple[str, ...]:
        """Why this replica has not heard yet from all that it should."""
        if not self.returning:
            return ()
        # Who talks to another replica is seen there, and need not return here.
        elsewhere = {one.id for summary in self._peers.summaries for one in summary.instances if one.is_connected}
        return ("a restart",) if self.returning - elsewhere else ()

    def view(self) -> View:
        """What all replicas hear, and who is registered besides."""
        seen = joined_instances((self.instances(), *(one.instances for one in self._peers.summaries)))
        for registration in self._registry:
            name = registration.instance
            if name not in seen:
                is_stale = self._doubt.is_stale(doubt_key(name))
                seen[name] = Instance(name, registration.service, is_connected=False, is_stale=is_stale)
        return View.of(seen.values(), (*self.unseen, *self._peers.unseen), self._replica)


def _is_same(known: _Seen, member: Member, is_stale: bool, is_outdated: bool) -> bool:
    """A report is another object each time, and what comes of it is changed with it; the rest is compared."""
    one = known.instance
    return known.report is member.report and (
        (one.service, one.is_outdated, one.is_stale, one.is_draining, one.connected_s)
        == (member.service, is_outdated, is_stale, member.is_draining, member.connected_s)
    )


def _instance(member: Member, is_stale: bool, is_outdated: bool) -> Instance:
    report = member.report
    return Instance(
        id=member.id,
        service=member.service,
        hash=report.running.hash if report is not None else NO_FILE,
        refused_hash=report.refused.hash if report is not None and report.refused is not None else NO_FILE,
        is_outdated=is_outdated,
        is_connected=member.is_connected,
        is_stale=is_stale,
        is_draining=member.is_draining,
        connected_s=member.connected_s,
        periods=tuple(member.periods),
    )
