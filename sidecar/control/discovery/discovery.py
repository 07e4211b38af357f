"""
The endpoints of every origin that some sidecar's file discovers. *Cold, on the loop.*

An origin's sources are registrations, which the registry tells, and others, each followed once however many origins
have it. Changes are gathered for `GATHER_S`: a deployment is many, and each costs a line to everyone concerned.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from sidecar.control.discovery.registry import DoubtKey, Registry, doubt_key, entry_of, matching
from sidecar.control.discovery.views import Views
from sidecar.control.doubt import Candidate, Doubt, usable
from sidecar.control.engines.interface import Discoverer, Registration, Sighted, Sighting, Trouble
from sidecar.control.revision.compiled import Origin, Source
from sidecar.link.messages import EndpointEntry
from sidecar.net.address import TcpAddress, parse_address
from sidecar.process_log import event

logger = logging.getLogger(__name__)

GATHER_S: Final = 0.05
RETURN_S: Final = 30.0
"""After a start without a copy of the registrations, in which all sidecars reconnect and report."""

JOINED: Final = frozenset({"kubernetes"})
"""Kinds whose endpoints are dialled as their own sidecar says, where one is registered at the same address."""

DEPARTED_S: Final = 30.0
"""For which an endpoint of these kinds whose sidecar said goodbye is taken at its word: its pod is terminating, and who
watches pods says so a moment later. Until then it must not be dialled past its sidecar."""


class _Followed:
    """A source that is not the registry."""

    __slots__ = ("endpoints", "error", "name", "task", "vanished", "was_heard")

    def __init__(self, source: Source) -> None:
        self.name = f"{source.kind}:{source.said}"
        self.endpoints: dict[str, Sighted] = {}
        self.vanished: dict[str, Sighted] = {}
        self.error = ""
        self.was_heard = False
        self.task: asyncio.Task[None] | None = None


@dataclass(frozen=True, slots=True)
class OriginStatus:
    """
    What people see of an origin.

    Attributes:
        endpoints: That its callers are told.
        stale: Of all that are known, those in doubt.
        plain: Sighted ones without a registration, dialled in clear at their own port, where there could be one.
        error: Why a source of it says nothing new.
    """

    endpoints: int
    stale: int
    plain: int
    error: str


class Discovery:
    """
    Args:
        registry: Whose `on_change` is to be `service_changed`.
        doubt: Where it stands with each endpoint.
        discoverers: By kind.
        on_change: Told of the origins whose views changed.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        registry: Registry,
        doubt: Doubt[DoubtKey],
        discoverers: Mapping[str, Discoverer],
        on_change: Callable[[Collection[Origin]], None],
        clock: Callable[[], float],
    ) -> None:
        self._registry = registry
        self._doubt = doubt
        self._discoverers = discoverers
        self._on_change = on_change
        self._clock = clock
        self._started_s = clock()
        self._views: dict[Origin, Views] = {}
        self._by_service: defaultdict[str, set[Origin]] = defaultdict(set)
        self._followed: dict[Source, _Followed] = {}
        self._joined: dict[Origin, frozenset[str]] = {}
        self._departed: defaultdict[Origin, dict[str, float]] = defaultdict(dict)
        self._dirty: set[Origin] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._ending: set[asyncio.Task[None]] = set()

    def use(self, origins: Collection[Origin]) -> None:
        """Know the endpoints of exactly these origins from now on."""
        wanted = set(origins)
        for origin in self._views.keys() - wanted:
            del self._views[origin]
            self._dirty.discard(origin)
            self._joined.pop(origin, None)
            self._departed.pop(origin, None)
            self._by_service[origin.service].discard(origin)
        new = wanted - self._views.keys()
        for origin in new:
            self._views[origin] = Views()
            self._by_service[origin.service].add(origin)
        sources = {source for origin in wanted for source in origin.sources if source.kind != "registered"}
        for source in self._followed.keys() - sources:
            self._let_go(self._followed.pop(source))
        for source in sources - self._followed.keys():
            followed = self._followed[source] = _Followed(source)
            followed.task = asyncio.create_task(self._follow(source, followed), name=f"discover {followed.name}")
        for origin in new:
            self._compute(origin)

    def views(self, origin: Origin) -> Views | None:
        """Of an origin that is in use."""
        return self._views.get(origin)

    def of_service(self, service: str) -> Iterator[tuple[Origin, Views]]:
        """The origins of a service that are in use, with their views."""
        return ((origin, self._views[origin]) for origin in self._by_service.get(service, ()))

    def service_changed(self, service: str) -> None:
        """Something changed in the registrations of this service."""
        self._spoil(self._by_service.get(service, ()))

    def judged(self, keys: Iterable[DoubtKey], *, are_removed: bool) -> None:
        """Doubt judged of these otherwise than before; registrations that are removed the caller removes itself."""
        by_name = {followed.name: followed for followed in self._followed.values()}
        for name, rest in keys:
            if not name:
                registration = self._registry.get(rest)
                if registration is not None:
                    self.service_changed(registration.service)
            elif (followed := by_name.get(name)) is not None:
                if are_removed:
                    followed.vanished.pop(rest, None)
                self._spoil_source(followed)

    def surely(self) -> None:
        """Everyone had the time to return, to be called `RETURN_S` after the start: what is known now is all."""
        self._spoil(self._views)

    def status(self) -> Iterator[tuple[Origin, OriginStatus]]:
        """Of each origin."""
        for origin, views in self._views.items():
            errors = [self._followed[source].error for source in origin.sources if source in self._followed]
            every = list(self._candidates(origin))
            yield (
                origin,
                OriginStatus(
                    len(views.current.entries) if views.current is not None else 0,
                    sum(candidate.is_stale for candidate, _ in every),
                    sum(is_plain for _, is_plain in every),
                    next(filter(None, errors), ""),
                ),
            )

    def is_gathering(self, origin: Origin) -> bool:
        """Whether something has changed of which `views` do not know yet."""
        return origin in self._dirty

    async def close(self) -> None:
        """Follow nothing any more."""
        self.use(())
        if self._timer is not None:
            self._timer.cancel()
        await asyncio.gather(*self._ending, return_exceptions=True)

    def _spoil(self, origins: Iterable[Origin]) -> None:
        self._dirty.update(origins)
        if self._dirty and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(GATHER_S, self._flush)

    def _spoil_source(self, followed: _Followed) -> None:
        self._spoil(
            origin for origin in self._views if any(self._followed.get(source) is followed for source in origin.sources)
        )

    def _flush(self) -> None:
        self._timer = None
        dirty, self._dirty = self._dirty, set()
        changed = [origin for origin in dirty if origin in self._views and self._compute(origin)]
        if changed:
            self._on_change(changed)

    def _compute(self, origin: Origin) -> bool:
        self._note_departures(origin)
        entries: dict[str, EndpointEntry] = {}
        for entry in usable(candidate for candidate, _ in self._candidates(origin)):
            known = entries.get(entry.address)
            # Twice at one address, by two sources: registrations come first and know best.
            if known is None:
                entries[entry.address] = entry
        views = self._views[origin]
        if not entries and views.current is None and not self._has_answers(origin):
            return False  # nobody has said yet that there is nothing
        return views.set(entries.values(), is_sure=self._is_sure(origin))

    def _note_departures(self, origin: Origin) -> None:
        if not any(source.kind in JOINED for source in origin.sources):
            return
        hosts = frozenset(_by_host(self._registry.of_service(origin.service).values(), origin.port))
        now_s, departed = self._clock(), self._departed[origin]
        for host in self._joined.get(origin, frozenset()) - hosts:
            departed[host] = now_s + DEPARTED_S
            asyncio.get_running_loop().call_later(DEPARTED_S, self._spoil, (origin,))
        for host in [host for host, until_s in departed.items() if host in hosts or until_s <= now_s]:
            del departed[host]
        self._joined[origin] = hosts

    def _has_answers(self, origin: Origin) -> bool:
        """Whether each source of it that is followed has said once what there is."""
        return all(source.kind == "registered" or self._followed[source].was_heard for source in origin.sources)

    def _is_sure(self, origin: Origin) -> bool:
        """
        Whether what is known of an origin is all there is. Of registrations it is if there was a copy of them; else
        when everyone had the time to return and somebody did: that nobody is there at all is nothing that one knows.
        """
        if any(source.kind == "registered" for source in origin.sources) and not self._registry.has_copy:
            has_waited = self._clock() - self._started_s >= RETURN_S
            if not (has_waited and self._registry.was_ever(origin.service)):
                return False
        return self._has_answers(origin)

    def _candidates(self, origin: Origin) -> Iterator[tuple[Candidate[EndpointEntry], bool]]:
        """Each with whether it is one without a registration where there could be one."""
        registrations = self._registry.of_service(origin.service)
        for source in sorted(origin.sources, key=lambda one: one.kind != "registered"):
            if source.kind == "registered":
                for one in matching(registrations.values(), source.values or {}):
                    entry = entry_of(one, origin.port)
                    if entry is not None:
                        is_stale = self._doubt.is_stale(doubt_key(one.instance))
                        yield Candidate(entry, is_stale, one.health == "healthy"), False
                continue
            followed = self._followed[source]
            is_joined = source.kind in JOINED
            joined = _by_host(registrations.values(), origin.port) if is_joined else {}
            departed = self._departed[origin] if is_joined else {}
            for address, sighted in (followed.endpoints | followed.vanished).items():
                if not sighted.is_ready:
                    continue
                entry, is_healthy = EndpointEntry(address, sighted.weight, sighted.zone), True
                host = _host(address) if is_joined else ""
                own = joined.get(host)
                if own is not None:
                    is_healthy = own[1]
                    entry = replace(own[0], weight=sighted.weight, zone=sighted.zone or own[0].zone)
                elif departed.get(host, 0.0) > self._clock():
                    continue
                is_stale = self._doubt.is_stale((followed.name, address))
                yield Candidate(entry, is_stale, is_healthy), is_joined and own is None

    async def _follow(self, source: Source, followed: _Followed) -> None:
        discoverer = self._discoverers.get(source.kind)
        if discoverer is None:
            followed.error = f"this control plane's engine knows no `{source.kind}`"
            logger.error(event("discovery_unsupported", source=followed.name, error=followed.error))
            return
        while True:
            try:
                async for change in discoverer.follow(source.values):
                    self._on_source(followed, change)
            except Exception as error:  # a fault of ours must not end it for good
                logger.exception("discovery_broken source=%s", followed.name)
                followed.error = repr(error)
            await asyncio.sleep(RETURN_S)

    def _on_source(self, followed: _Followed, change: Sighting | Trouble) -> None:
        if isinstance(change, Trouble):
            if change.error != followed.error:
                logger.warning(event("discovery_failed", source=followed.name, error=change.error or "over"))
            # A source that fails changes nothing.
            followed.error = change.error
            return
        before = followed.endpoints | followed.vanished
        followed.endpoints = {one.address: one for one in change.endpoints}
        followed.was_heard, followed.error = True, ""
        followed.vanished = {}
        for address in followed.endpoints:
            self._doubt.heard((followed.name, address))
        for address, sighted in before.items():
            if address in followed.endpoints:
                continue
            if address in change.gone:
                self._doubt.forget((followed.name, address))
            else:
                followed.vanished[address] = sighted
                self._doubt.lost((followed.name, address))
        self._spoil_source(followed)

    def _let_go(self, followed: _Followed) -> None:
        for address in (*followed.endpoints, *followed.vanished):
            self._doubt.forget((followed.name, address))
        if followed.task is not None:
            followed.task.cancel()
            self._ending.add(followed.task)
            followed.task.add_done_callback(self._ending.discard)


def _by_host(registrations: Iterable[Registration], port: str) -> dict[str, tuple[EndpointEntry, bool]]:
    """Where each is reached, and whether its app is healthy."""
    found = {}
    for registration in registrations:
        entry = entry_of(registration, port)
        if entry is not None:
            found[_host(entry.address)] = entry, registration.health == "healthy"
    return found


def _host(address: str) -> str:
    try:
        parsed = parse_address(address)
    except ValueError:
        return address
    return parsed.host if isinstance(parsed, TcpAddress) else address
