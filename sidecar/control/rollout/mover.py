"""
The mover: one look at the mesh, and every step that can be taken. *Pure.*

Each service goes its own way from the files that its instances run to the one that is wanted, in three parts, and the
parts of different services wait for each other in one direction only:

    part      gives             to            begins when                          is watched for
    widen     `widened`         all at once   at once                              acceptance
    routes    `routed`          waves         all that it calls have widened       acceptance, failures, hold
    narrow    the wanted file   all at once   all that called it have got there    acceptance, failures, hold

A part that changes nothing for a service is left out, and most revisions have one part. What the parts contain, and why
nothing is lost by them, is in `split`. Widenings wait for nothing, routes for widenings, narrowings for routes: there
is no circle, also where services call each other.

    state      event                                            next
    rolling    the part is empty                                the next part; after the last: done
    rolling    the part has not begun, and may                  its first wave
    rolling    the gate is open, there is a wave left           the next wave
    rolling    the gate is open, that was the last wave         the next part; after the last: done
    rolling    refused, late, or worse (`gate`)                 halted
    halted     `hurry`                                          rolling, from the part's first wave
    halted     another file is wanted (`propose`)               rolling, from what runs
    done       another file is wanted                           rolling

**Waves.** A wave is a limit on places. When it begins, the instances that count are sorted by place, and the limit is
the place of the last one of its share, rounded down, but of at least one. From then on the limit stands: who joins gets
what is below or above it, who leaves changes nothing; unless all below it leave while others are there, for a wave of
nobody would prove nothing: then the next instance is in it. Who has vanished has not left: it may be the new file that
ended it, and the next would end, too. So a wave of which more are lost than are here waits for them, until they return
(and accept, or say that they crashed) or are removed. A wave that adds nobody to the one before is passed over.

**Halt.** The service stays where it is in its parts, and the wave gets back what it had before this part. That is not
always what it had before the revision: what the service has widened by stays, because others may lean on it already.
Others go on; only callers wait for a callee that did not widen, and callees that narrow for a caller that still calls
them.

**Takeover.** All that is known is in the record, and a step is a new record of the next version, which is to be written
by compare-and-swap; who loses reads again. So a mover may die at any moment, and two may look at once. Times in the
record are on the clock of the mover who wrote them; when another one takes over, what is under way is watched from the
beginning, which costs a hold and is right however far apart the two clocks are.

**Blindness.** While somebody is unseen (`View.unseen`) or most of a service is (`gate.blindness`), nothing passes, and
nothing begins but a widening, which must not keep a new service from its file. Refusals and failures that are seen do
halt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sidecar.control.rollout.gate import Verdict, blindness, counting, has_file, judge
from sidecar.control.rollout.proposal import Event
from sidecar.control.rollout.record import EVERYONE, NOBODY, PARTS, Counts, Record, Service, place_of
from sidecar.control.rollout.rules import ALL, wave_size
from sidecar.control.rollout.statistics import counted
from sidecar.control.rollout.view import NO_FILE, Instance, View

_IS_NARROWED = len(PARTS)


@dataclass(frozen=True, slots=True)
class Target:
    """What an instance should run: the file's hash, `NO_FILE` for none, and the number that is told with it."""

    hash: str
    revision: int


@dataclass(frozen=True, slots=True)
class Step:
    """
    What comes of a look.

    Attributes:
        record: To be written by compare-and-swap on `version`; the same object if there was no step to take.
        events: For the log, once it is written.
    """

    record: Record
    events: tuple[Event, ...] = ()


def advance(record: Record, view: View, now_s: float) -> Step:
    """
    Take every step that can be taken now.

    Another call with the record that comes out, the same view and the same time takes none: what has just been given to
    someone cannot have been accepted yet.

    Args:
        record: As it is kept.
        view: The mesh now.
        now_s: On the caller's clock; it need not agree with that of another mover.
    """
    after, events = _look_around(record, view, now_s), []
    people = view.by_service()
    services = dict(record.services)
    if after.mover != record.mover:
        services = {name: _watched_anew(service, now_s) for name, service in services.items()}
    moved: list[str] = sorted(services)
    while moved:
        looked, moved = moved, []
        for name in looked:
            walk = _Walk(name, services, people.get(name, ()), after, view, now_s)
            if walk.run():
                events += walk.events
                moved = sorted(services)  # what it gave way to may be anyone's
    after = replace(after, services=services)
    if after == record:
        return Step(record)
    return Step(replace(after, version=record.version + 1), tuple(events))


def target_of(record: Record, service: str, instance: str) -> Target:
    """What one instance should run, known or not: the answer to one that has just connected, at any replica."""
    found = record.services.get(service)
    if found is None:
        return Target(NO_FILE, record.revision)
    place = place_of(instance)
    return Target(found.assigned(place), found.revision_at(place))


def blocked_by(name: str, services: Mapping[str, Service]) -> str:
    """Why a part that has not begun may not begin, by what other services do; an empty text if it may."""
    service = services[name]
    if PARTS[service.part] == "routes":
        for callee in service.callees:
            other = services.get(callee)
            if other is not None and callee != name and not other.is_past(0):
                return f"{callee}, which it calls, {_stands(other, 'widened')}"
    elif PARTS[service.part] == "narrow":
        for caller, other in sorted(services.items()):
            # One that goes has no routes to change: its instances keep what they have until they end.
            is_caller = name in other.called and other.wanted != NO_FILE and caller != name
            if is_caller and not other.is_past(1):
                return f"{caller}, which called it, {_stands(other, 'changed its routes')}"
    return ""


def _stands(service: Service, done: str) -> str:
    return "is halted" if service.state == "halted" else f"has not {done} yet"


def _look_around(record: Record, view: View, now_s: float) -> Record:
    """What the record keeps of the view itself: who looks, and since when everyone is seen."""
    is_blind = bool(view.unseen)
    if view.mover != record.mover:
        return replace(record, mover=view.mover, is_blind=is_blind, clear_s=now_s)
    if is_blind != record.is_blind:
        return replace(record, is_blind=is_blind, clear_s=record.clear_s if is_blind else now_s)
    return record


def _watched_anew(service: Service, now_s: float) -> Service:
    """The same, its clocks set to the new mover's."""
    if service.state != "rolling":
        return service
    return replace(service, since_s=now_s, accepted_s=None if service.accepted_s is None else now_s)


class _Walk:
    """One service, as far as it can go now. Writes into `services`."""

    __slots__ = ("_instances", "_name", "_now_s", "_record", "_services", "_view", "events")

    def __init__(
        self,
        name: str,
        services: dict[str, Service],
        instances: Sequence[Instance],
        record: Record,
        view: View,
        now_s: float,
    ) -> None:
        self.events: list[Event] = []
        self._name = name
        self._services = services
        self._instances = instances
        self._record = record
        self._view = view
        self._now_s = now_s

    def run(self) -> bool:
        """Take steps until there is none; whether there was any."""
        is_moved = False
        while (service := self._services.get(self._name)) is not None and service.state == "rolling":
            after = self._step(service)
            if after == service:
                break
            is_moved = True
            if after.state == "done" and after.wanted == NO_FILE:
                del self._services[self._name]
            else:
                self._services[self._name] = after
        return is_moved

    def _step(self, service: Service) -> Service:
        if service.part == _IS_NARROWED:
            return self._done(service)
        if service.is_empty(service.part):
            return self._next_part(service)
        if service.limit == NOBODY:
            return self._begin_part(service)
        next_place = self._next_of_empty_wave(service)
        if next_place is not None:
            return replace(service, limit=next_place, since_s=self._now_s, accepted_s=None, is_thin=False)
        verdict = judge(service, self._instances, self._record, self._view, self._now_s)
        if verdict.state == "halted":
            return self._halted(service, verdict)
        if verdict.has_accepted and service.accepted_s is None:
            service = replace(service, accepted_s=self._now_s)
        if verdict.state == "thin" and not service.is_thin:
            self._tell("thin", service, why=verdict.why)
            service = replace(service, is_thin=True)
        return self._next_wave(service, service.wave + 1) if verdict.state == "passed" else service

    def _next_of_empty_wave(self, service: Service) -> int | None:
        """The place of who is to be the wave when all of it have left for good, or None while anyone has not."""
        if blindness(self._view, self._instances):
            return None
        if any(has_file(service, one) for one in self._instances if not one.is_draining):
            return None
        places = [place_of(one.id) for one in counting(service, self._instances)]
        return min((place for place in places if service.does_move(place)), default=None)

    def _begin_part(self, service: Service) -> Service:
        is_widening = PARTS[service.part] == "widen"
        if not is_widening and (blocked_by(self._name, self._services) or blindness(self._view, self._instances)):
            return service
        rules = self._record.rules
        look_back_s = max(rules.thin_after_s, rules.hold_s)
        here = [one for one in self._instances if one.is_here]
        before = Counts() if is_widening else counted(here, self._now_s - look_back_s, self._now_s)
        odd = service.odd
        if odd is None:
            given = service.given()
            odd = tuple(one.id for one in self._instances if one.refused_hash and one.refused_hash not in given)
        service = replace(service, before=before, odd=odd)
        self._tell("part", service, part=PARTS[service.part], before=f"{before.failures}/{before.requests}")
        return self._next_wave(service, 0)

    def _next_wave(self, service: Service, wave: int) -> Service:
        """The first wave from this one on that adds somebody, or else the next part."""
        if service.limit == EVERYONE:
            return self._next_part(service)
        names = waves_of(service, self._record)
        judged = counting(service, self._instances)
        places = sorted(place_of(one.id) for one in judged)
        # Where haste or other rules came in the middle, there may be no such wave any more: then the last one is left.
        for index in range(min(wave, len(names) - 1), len(names)):
            limit = EVERYONE
            if index < len(names) - 1 and places:
                limit = places[wave_size(names[index], len(places)) - 1]
            after = replace(service, wave=index, limit=limit, since_s=self._now_s, accepted_s=None, is_thin=False)
            # Invariant: a limit never moves down. One below the present limit, after many have joined, adds nobody.
            added = [one.id for one in judged if place_of(one.id) > service.limit and has_file(after, one)]
            if added or (limit == EVERYONE and service.limit == NOBODY):
                self._tell("wave", after, part=PARTS[after.part], wave=names[index], added=len(added))
                return after
        return self._next_part(service)

    def _next_part(self, service: Service) -> Service:
        bands = service.bands
        if not service.is_empty(service.part):
            bands = tuple(replace(band, revision=service.revision) for band in bands)
        return replace(
            service,
            bands=bands,
            part=service.part + 1,
            wave=0,
            limit=NOBODY,
            since_s=self._now_s,
            accepted_s=None,
            is_thin=False,
        )

    def _halted(self, service: Service, verdict: Verdict) -> Service:
        self._tell("halted", service, part=PARTS[service.part], why=verdict.why)
        # The number that was told never falls, so what is given back is told with this revision's.
        bands = tuple(replace(band, revision=service.revision) for band in service.bands)
        return replace(
            service,
            state="halted",
            why=verdict.why,
            refused=verdict.refused,
            bands=bands,
            limit=NOBODY,
            since_s=self._now_s,
            accepted_s=None,
            is_thin=False,
        )

    def _done(self, service: Service) -> Service:
        self._tell("done", service)
        last = replace(service.bands[-1], upto=EVERYONE, hash=service.wanted, widened=service.wanted)
        return replace(
            service,
            state="done",
            bands=(replace(last, revision=service.revision),),
            routed=service.wanted,
            called=(),
            is_now=False,
            superseded=None,
            before=Counts(),
            since_s=self._now_s,
        )

    def _tell(self, name: str, service: Service, **details: Any) -> None:
        self.events.append(Event(name, self._name, service.revision, details))


def waves_of(service: Service, record: Record) -> tuple[str, ...]:
    """The waves of the part that a service is in."""
    return record.rules.steps if service.part == PARTS.index("routes") and not service.is_now else (ALL,)
