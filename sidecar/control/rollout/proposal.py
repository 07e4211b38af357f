"""
New revisions: a change of the mesh, a way back, and haste. *Pure.*

A revision is a number and the files of all services. It begins for each service from what that service's instances run,
also where that is several things because an earlier rollout had not ended: what has moved already is not moved back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sidecar.control.rollout.listeners import Tree
from sidecar.control.rollout.record import (
    EVERYONE,
    KEPT_REVISIONS,
    NOBODY,
    Band,
    File,
    Pin,
    Record,
    Revision,
    Service,
)
from sidecar.control.rollout.rules import Rules
from sidecar.control.rollout.split import split
from sidecar.control.rollout.view import NO_FILE

Trees = Callable[[str], Tree | None]
"""Gives the values of a kept file by its hash, those in between included; None if it is not kept."""


class RolloutError(ValueError):
    """What was asked for cannot be done; the text is for who asked."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """A file as sidecars get it: the hash of its values in canonical form, and its text."""

    hash: str
    text: str


Render = Callable[[Tree], Rendered]


@dataclass(frozen=True, slots=True)
class Event:
    """
    Something for the log, which happened at this step.

    Attributes:
        name: `revision`, `part`, `wave`, `halted`, `superseded`, `thin`, `done`, `pinned`, `unpinned`, `hurried`,
        `unsplit`. service: Whose; empty for the mesh.
        revision: Which.
        details: Further fields.
    """

    name: str
    service: str
    revision: int
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wanted:
    """
    What the mesh's files say.

    Attributes:
        source: Hash of the files.
        files: Of each service, as compiled.
        rules: `rollout:` of mesh.yaml.
        is_now: Whether waves are skipped.
    """

    source: str
    files: Mapping[str, File]
    rules: Rules = field(default_factory=Rules)
    is_now: bool = False


@dataclass(frozen=True, slots=True)
class Made:
    """A file in between that a proposal has made."""

    text: str
    tree: Tree


@dataclass(frozen=True, slots=True)
class Proposal:
    """
    What comes of it.

    Attributes:
        record: To be written by compare-and-swap on `version`, after `made`; the same object if nothing changes.
        made: By hash, files that `trees` must give from now on, as it must those of the revision itself.
        events: For the log, once the record is written.
    """

    record: Record
    made: Mapping[str, Made] = field(default_factory=dict)
    events: tuple[Event, ...] = ()


def propose(record: Record, wanted: Wanted, trees: Trees, render: Render, now_s: float) -> Proposal:
    """
    Make what the mesh's files say the wanted revision.

    A source that was wanted when somebody went back (`rollback`) changes nothing: another one ends the pin. Files that
    compile to the same hashes make no revision, however they are written; rules that differ hold from now on. That the
    source still says so its caller knows (`MeshSource.is_wanted`): late files would take everyone back.
    """
    if record.pin is not None and record.pin.source == wanted.source:
        return Proposal(record)
    current = record.revisions[-1].files if record.revisions else None
    after = replace(record, source=wanted.source, rules=wanted.rules, pin=None)
    events = () if record.pin is None else (Event("unpinned", "", record.revision),)
    if current is not None and dict(current) == dict(wanted.files):
        if wanted.is_now:
            hurried = hurry(after, now_s)
            return Proposal(_changed(record, hurried.record), {}, (*events, *hurried.events))
        return Proposal(_changed(record, after), {}, events)
    begun = _begin(after, wanted.files, trees, render, now_s, is_now=wanted.is_now, again=0)
    return Proposal(_changed(record, begun.record), begun.made, (*events, *begun.events))


def rollback(
    record: Record, number: int, trees: Trees, render: Render, now_s: float, *, is_now: bool = False
) -> Proposal:
    """
    Make an earlier revision's files wanted, as a revision with a number of its own, until the source differs.

    Raises:
        RolloutError: The revision is not among those that are kept.
    """
    kept = {revision.number: revision for revision in record.revisions}
    if number not in kept:
        known = ", ".join(map(str, sorted(kept))) or "none"
        raise RolloutError(f"revision {number} is not kept; kept are: {known}")
    after = replace(record, pin=Pin(number, record.source))
    begun = Proposal(after)
    if dict(kept[number].files) != dict(record.revisions[-1].files):
        begun = _begin(after, kept[number].files, trees, render, now_s, is_now=is_now, again=number)
    pinned = Event("pinned", "", begun.record.revision, {"again": number})
    return Proposal(_changed(record, begun.record), begun.made, (pinned, *begun.events))


def hurry(record: Record, now_s: float, services: Iterable[str] | None = None) -> Proposal:
    """
    Skip waves from here on, and begin again where a service was halted.

    Args:
        services: Which; None: all.
    """
    chosen = set(record.services if services is None else services)
    after, events = dict(record.services), []
    for name in sorted(chosen & set(record.services)):
        service = record.services[name]
        if service.state == "done" or (service.is_now and service.state == "rolling"):
            continue
        changes: dict[str, Any] = {"is_now": True}
        if service.state == "halted":
            changes |= {"state": "rolling", "why": "", "refused": (), "since_s": now_s}
        after[name] = replace(service, **changes)
        events.append(Event("hurried", name, service.revision))
    return Proposal(_changed(record, replace(record, services=after)), {}, tuple(events))


def _changed(record: Record, after: Record) -> Record:
    """The next version, or the same object if nothing differs."""
    return record if after == record else replace(after, version=record.version + 1)


def _begin(
    record: Record, files: Mapping[str, File], trees: Trees, render: Render, now_s: float, *, is_now: bool, again: int
) -> Proposal:
    number = record.revision + 1
    made: dict[str, Made] = {}
    events = [Event("revision", "", number, {"again": again} if again else {})]
    services: dict[str, Service] = {}
    for name in sorted({*record.services, *files}):
        old, file = record.services.get(name), files.get(name, File(NO_FILE))
        if old is not None and old.wanted == file.hash:
            services[name] = _kept(old, number, file, is_now=is_now, now_s=now_s)
            continue
        if old is not None and old.state != "done":
            events.append(Event("superseded", name, old.revision, {"by": number, "part": old.part, "wave": old.wave}))
        bands = (Band(EVERYONE, NO_FILE, 0, NO_FILE),) if old is None else old.settled()
        widened, routed = _split(bands, file.hash, trees, render, made)
        if routed is None:
            events.append(Event("unsplit", name, number))
        services[name] = Service(
            revision=number,
            wanted=file.hash,
            routed=routed or file.hash,
            bands=tuple(replace(band, widened=widened.get(band.hash, band.hash)) for band in bands),
            callees=file.callees,
            called=() if old is None else tuple(sorted({*old.callees, *old.called})),
            begun_s=now_s,
            begun=number,
            previous=bands[-1].hash,
            since_s=now_s,
            is_now=is_now,
            superseded=None if old is None or old.state == "done" else (old.revision, old.wanted, old.part, old.wave),
        )
    revision = Revision(number, record.source, dict(files), now_s, again)
    revisions = (*record.revisions, revision)[-KEPT_REVISIONS:]
    return Proposal(replace(record, revisions=revisions, services=services), made, tuple(events))


def _kept(old: Service, number: int, file: File, *, is_now: bool, now_s: float) -> Service:
    """A service whose file is the same as in the revision before: it goes on, or stays halted, or is done."""
    kept = replace(old, revision=number, callees=file.callees)
    if old.state == "done":
        return replace(kept, bands=tuple(replace(band, revision=number) for band in old.bands))
    if not is_now:
        return kept
    if old.state == "halted":
        return replace(kept, is_now=True, state="rolling", why="", refused=(), since_s=now_s, limit=NOBODY)
    return replace(kept, is_now=True)


def _split(
    bands: Iterable[Band], wanted: str, trees: Trees, render: Render, made: dict[str, Made]
) -> tuple[dict[str, str], str | None]:
    """
    The files in between: what each band's widens to, and what all of them lead to.

    A new service's file is all widening, and a service that goes has none in between. Where a file is not kept any
    more there is nothing to cut, and the change is made in one part: None instead of the hash.
    """
    hashes = list(dict.fromkeys(band.hash for band in bands if band.hash != NO_FILE))
    if wanted == NO_FILE:
        return {}, NO_FILE
    widened = {NO_FILE: wanted}
    if not hashes:
        return widened, wanted
    olds, new = [made[one].tree if one in made else trees(one) for one in hashes], trees(wanted)
    known = [old for old in olds if old is not None]
    if new is None or len(known) != len(olds):
        return widened, None

    def kept(tree: Tree) -> str:
        for one, other in ((wanted, new), *zip(hashes, known, strict=True)):
            if tree == other:
                return one
        rendered = render(tree)
        made[rendered.hash] = Made(rendered.text, tree)
        return rendered.hash

    parts = split(known, new)
    return widened | dict(zip(hashes, map(kept, parts.widened), strict=True)), kept(parts.routed)
