"""
Who is registered: what sidecars say of themselves here and at other replicas. *Cold; the clock is the caller's.*

An instance is registered when its app was healthy once; from then on its health decides only how it is used. It leaves
by a goodbye, or when doubt ends (`control.doubt`). Whoever wants to know of changes is told the service.

An entry of another replica is as fresh as that one is: while it lives it says itself whom it lost (`lost_s`); when it
is gone, all that it held is lost since then, until it is heard of elsewhere.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace

from sidecar.control.doubt import Doubt
from sidecar.control.engines.interface import Registration, RegistrationChange
from sidecar.link.messages import EndpointEntry
from sidecar.process_log import event

logger = logging.getLogger(__name__)

DoubtKey = tuple[str, str]
"""Empty and an instance's name; or what a source is called, and an address."""

OnChange = Callable[[str], None]
"""Told the service of which something changed."""


def doubt_key(instance: str) -> DoubtKey:
    """Of a registration."""
    return "", instance


class Registry:
    """
    Args:
        doubt: Where it stands with each, shared with all other sources.
        on_change: Told of each change.

    Attributes:
        has_copy: Whether what was registered before this process began is known: then whoever is missing is gone.
    """

    def __init__(self, doubt: Doubt[DoubtKey], on_change: OnChange) -> None:
        self.has_copy = False
        self._doubt = doubt
        self._on_change = on_change
        self._has_heard = False
        self._known: dict[str, Registration] = {}
        self._by_service: defaultdict[str, dict[str, Registration]] = defaultdict(dict)
        self._ever: set[str] = set()
        self._living: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(self._known)

    def __iter__(self) -> Iterator[Registration]:
        return iter(self._known.values())

    def get(self, instance: str) -> Registration | None:
        """One of them."""
        return self._known.get(instance)

    def of_service(self, service: str) -> Mapping[str, Registration]:
        """All of a service, by instance."""
        return self._by_service.get(service, {})

    def was_ever(self, service: str) -> bool:
        """Whether an instance of this service was known in this process's life: that there is none now is knowledge."""
        return service in self._ever

    def put(self, registration: Registration, *, is_heard: bool = True) -> bool:
        """It is so; whether that is a change. Its sidecar `is_heard` of, here or by another replica, or it is lost."""
        instance = registration.instance
        known = self._known.get(instance)
        if registration.lost_s is None and is_heard:
            was_stale = self._doubt.heard(doubt_key(instance))
        else:
            was_stale = False
            self._doubt.lost(doubt_key(instance))
        if known == registration:
            if was_stale:
                self._on_change(registration.service)
            return False
        if known is not None and known.service != registration.service:
            self._drop(known)
        self._known[instance] = registration
        self._by_service[registration.service][instance] = registration
        self._ever.add(registration.service)
        if known is None:
            logger.info(event("registered", service=registration.service, instance=instance, zone=registration.zone))
        if known is None or was_stale or not _is_same(known, registration):
            self._on_change(registration.service)
        return True

    def lost(self, instance: str) -> None:
        """Nothing is heard of it from now on."""
        if instance in self._known:
            self._doubt.lost(doubt_key(instance))

    def remove(self, instance: str) -> Registration | None:
        """It is gone; what it was."""
        known = self._known.get(instance)
        if known is not None:
            self._drop(known)
            self._doubt.forget(doubt_key(instance))
        return known

    def apply(self, change: RegistrationChange, ours: str) -> None:
        """
        What the engine says: what was known before this process began, if it begins with all there is; then what other
        replicas say. A store that has nothing to begin with, because it is new or has lost everything, is no copy.

        Args:
            ours: Name of this replica, which knows better of those whose streams it holds.
        """
        is_first, self._has_heard = not self._has_heard, True
        self.has_copy = self.has_copy or (is_first and change.is_snapshot)
        for instance in change.left:
            self.remove(instance)
        named = set()
        for registration in change.put:
            named.add(registration.instance)
            known = self._known.get(registration.instance)
            if known is not None and known.holder == ours and registration.holder == ours:
                continue
            # What we held before this process began is lost since now until it returns; so is what nobody holds.
            is_held = not is_first if registration.holder == ours else registration.holder in self._living
            # A change was written just now; what a list has may be as old as its holder.
            self.put(registration, is_heard=is_held or not change.is_snapshot)
            if not is_held:
                self._doubt.lost(doubt_key(registration.instance))
        vanished = set(change.vanished)
        if change.is_snapshot:
            vanished |= self._known.keys() - named
        for known in filter(None, map(self._known.get, vanished)):
            if known.holder != ours:
                self._doubt.lost(doubt_key(known.instance))

    def living(self, replicas: Collection[str], ours: str) -> bool:
        """
        These replicas live, by name; whether that is news. What those held that are gone is lost since now, what those
        hold that have come is heard of.
        """
        before, self._living = self._living, frozenset(replicas)
        came, gone = self._living - before - {ours}, before - self._living - {ours}
        for instance, known in tuple(self._known.items()) if came or gone else ():
            if known.holder in gone:
                self._doubt.lost(doubt_key(instance))
            elif known.holder in came and known.lost_s is None and self._doubt.heard(doubt_key(instance)):
                self._on_change(known.service)
        return bool(came or gone)

    def _drop(self, known: Registration) -> None:
        del self._known[known.instance]
        del self._by_service[known.service][known.instance]
        self._on_change(known.service)


def _is_same(one: Registration, other: Registration) -> bool:
    """Whether two differ in nothing that an endpoint has."""
    return replace(one, holder="", lost_s=None) == replace(other, holder="", lost_s=None)


def matching(registrations: Collection[Registration], labels: Mapping[str, str]) -> Iterator[Registration]:
    """Those that say all of these labels: `version`, `zone`; a label that is not known is said by none."""
    for one in registrations:
        said = {"version": one.version, "zone": one.zone}
        if all(said.get(name) == value for name, value in labels.items()):
            yield one


def entry_of(registration: Registration, port: str) -> EndpointEntry | None:
    """Where it is reached; its only port also if it has another name. None if it has no such port."""
    found = registration.ports.get(port)
    if found is None and not port and len(registration.ports) == 1:
        found = next(iter(registration.ports.values()))
    if found is None:
        return None
    return EndpointEntry(found.address, registration.weight, registration.zone, found.is_tls)
