"""
The record: all that is known about a rollout, so that whoever reads it can go on with it. *Pure.*

It holds no file, only hashes: the files are kept beside it by the server (`Record.hashes` says which are needed),
written before the record that names them. It is written as JSON by compare-and-swap on `version`. Fields that a release
does not know it ignores; a form that it cannot read (`FORM`) it refuses.

**Bands.** Each instance has a place (`place_of`), a hash of its id, for as long as it lives. What a service's instances
should run is a step function of the place: a few bands, each up to a place. A wave is a limit that moves up through
the places. So the file of an instance that has only just joined follows from the record alone, at every replica.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import lru_cache
from typing import Any

from sidecar.control.rollout.rules import Rules
from sidecar.control.rollout.view import NO_FILE

FORM = 1
KEPT_REVISIONS = 4
"""The wanted one, and three to go back to."""
EVERYONE = 1 << 52
"""Above every place; small enough for JSON's numbers."""
NOBODY = -1
PARTS = ("widen", "routes", "narrow")


class RecordError(ValueError):
    """The record is not one that this release can go on with."""


@lru_cache(maxsize=1 << 17)
def place_of(instance: str) -> int:
    """Where an instance stands among all, evenly spread, by its id alone."""
    return int.from_bytes(hashlib.sha256(instance.encode()).digest()[:8], "big") >> 12


@dataclass(frozen=True, slots=True)
class Band:
    """
    Instances with neighbouring places, which run the same file.

    Attributes:
        upto: The last place that belongs to it; it begins after the band before.
        hash: Of the file, or `NO_FILE`.
        revision: What is told as the number of that file; it never falls.
        widened: Hash of what this file widens to on the way; itself where nothing widens.
    """

    upto: int
    hash: str
    revision: int
    widened: str


@dataclass(frozen=True, slots=True)
class Counts:
    """Requests and failures of some instances in some time."""

    requests: int = 0
    failures: int = 0

    @property
    def share(self) -> float:
        """Of failures, 0 to 1."""
        return self.failures / self.requests if self.requests else 0.0


@dataclass(frozen=True, slots=True)
class Service:
    """
    One service on its way from the files in `bands` to `wanted`.

    Attributes:
        revision: To which.
        wanted: Hash of the file that all are to run; `NO_FILE` if the mesh has the service no longer.
        routed: Hash of the file between, `NO_FILE` for none.
        bands: What ran before; the last one ends at `EVERYONE`.
        callees: Whom it calls by the wanted file, and `called` whom by those before.
        state: `rolling`, `halted` or `done`. What it waits for is not kept, but judged anew at every look.
        why: Why it was halted.
        part: Index in `PARTS`; 3 after the last.
        wave: Index of the wave, and `limit` the last place that has this part's file; `NOBODY` before the part begins.
        since_s: When the wave began; `accepted_s` when all of it had accepted.
        begun_s: When the service's rollout began, and `begun` with which revision; `previous` what most ran then.
        is_thin: Whether it has been told that there are too few requests.
        is_now: Whether waves, and what they wait for, are skipped.
        odd: Who refused the revision before and does not count; None until the first look.
        before: What was counted before the part.
        superseded: What this rollout took over from before its end: revision, hash, part and wave.
        refused: Who refused when it was halted.
    """

    revision: int
    wanted: str
    routed: str
    bands: tuple[Band, ...]
    callees: tuple[str, ...] = ()
    called: tuple[str, ...] = ()
    state: str = "rolling"
    why: str = ""
    part: int = 0
    wave: int = 0
    limit: int = NOBODY
    since_s: float = 0.0
    accepted_s: float | None = None
    begun_s: float = 0.0
    begun: int = 0
    previous: str = NO_FILE
    is_thin: bool = False
    is_now: bool = False
    odd: tuple[str, ...] | None = None
    before: Counts = Counts()
    superseded: tuple[int, str, int, int] | None = None
    refused: tuple[str, ...] = ()

    def chain(self, band: Band) -> tuple[str, str, str, str]:
        """What a band runs before the first part, and after each."""
        if self.wanted == NO_FILE:
            return (band.hash, band.hash, band.hash, NO_FILE)
        return (band.hash, band.widened, self.routed, self.wanted)

    def band_of(self, place: int) -> Band:
        """The band that a place is in."""
        return next(band for band in self.bands if place <= band.upto)

    def assigned(self, place: int) -> str:
        """Hash of the file that the instance at this place should run now."""
        chain = self.chain(self.band_of(place))
        return chain[min(self.part + (place <= self.limit), 3)]

    def revision_at(self, place: int) -> int:
        """The number that is told with it."""
        return self.revision if place <= self.limit or self.part > 2 else self.band_of(place).revision

    def does_move(self, place: int) -> bool:
        """Whether the present part gives the instance at this place another file."""
        chain = self.chain(self.band_of(place))
        return self.part < 3 and chain[self.part] != chain[self.part + 1]

    def is_empty(self, part: int) -> bool:
        """Whether a part changes nothing for anyone."""
        return all(chain[part] == chain[part + 1] for chain in map(self.chain, self.bands))

    def is_past(self, part: int) -> bool:
        """Whether nothing of a part is left to be done."""
        return self.state == "done" or self.part > part or (self.part == part and self.is_empty(part))

    def settled(self) -> tuple[Band, ...]:
        """What everyone should run now, as the bands of the next rollout."""
        edges = sorted({band.upto for band in self.bands} | ({self.limit} if self.limit != NOBODY else set()))
        found: list[Band] = []
        for edge in edges:
            one = Band(edge, self.assigned(edge), self.revision_at(edge), self.assigned(edge))
            if found and found[-1].hash == one.hash:
                one = replace(one, revision=max(one.revision, found.pop().revision))
            found.append(one)
        return tuple(found)

    def given(self) -> frozenset[str]:
        """Every file that this rollout brings."""
        brought = {one for band in self.bands for one in self.chain(band)[1:]}
        return frozenset(brought - {band.hash for band in self.bands})

    def hashes(self) -> Iterator[str]:
        """Every file that it may still give to someone."""
        yield from (one for band in self.bands for one in self.chain(band) if one != NO_FILE)


@dataclass(frozen=True, slots=True)
class File:
    """A service's file in a revision: its hash, and whom it calls."""

    hash: str
    callees: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Revision:
    """
    A revision that was wanted.

    Attributes:
        number: Grows by one.
        source: Hash of the mesh files that it was compiled from.
        files: By service.
        at_s: When it became wanted.
        again: The revision whose files these are, for a rollback; else 0.
    """

    number: int
    source: str
    files: Mapping[str, File]
    at_s: float
    again: int = 0


@dataclass(frozen=True, slots=True)
class Pin:
    """A rollback holds until the mesh's source is no longer what it was: its hash then."""

    revision: int
    source: str


@dataclass(frozen=True, slots=True)
class Record:
    """
    Everything.

    Attributes:
        version: Grows by one with every change; what compare-and-swap compares.
        source: Hash of the mesh files that were last proposed.
        rules: Of the wanted revision.
        revisions: Oldest first, the wanted one last; at most `KEPT_REVISIONS`.
        services: Every service that has, had or will have a file.
        pin: Whether a rollback holds.
        mover: Who moved last.
        is_blind: Whether someone was unseen at the last look; `clear_s` since when no longer.
    """

    version: int = 0
    source: str = ""
    rules: Rules = field(default_factory=Rules)
    revisions: tuple[Revision, ...] = ()
    services: Mapping[str, Service] = field(default_factory=dict)
    pin: Pin | None = None
    mover: str = ""
    is_blind: bool = False
    clear_s: float = 0.0

    @property
    def revision(self) -> int:
        """Number of the wanted revision; 0 before the first."""
        return self.revisions[-1].number if self.revisions else 0

    def hashes(self) -> frozenset[str]:
        """The files that must be kept: of the revisions, and of those in between that someone runs or will run."""
        kept = {file.hash for revision in self.revisions for file in revision.files.values()}
        return frozenset(kept.union(*(service.hashes() for service in self.services.values())))

    def to_json(self) -> dict[str, Any]:
        """
        As values of JSON, small: of a revision only the files that differ from the one before, of a service only what
        is not as at its beginning. A ConfigMap holds 1 MiB, an etcd value 1.5 MB.
        """
        return {
            **_plain(replace(self, services={}, revisions=())),
            "form": FORM,
            "rules": self.rules.to_json(),
            "revisions": list(_differences(self.revisions)),
            "services": {name: _shortened(service) for name, service in self.services.items()},
        }

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> Record:
        """
        What `to_json` gave, by this release or another.

        Raises:
            RecordError: It is no record, or of a later form.
        """
        if said.get("form") != FORM:
            raise RecordError(
                f"rollout record: expected form {FORM}, found {said.get('form')!r}; a control plane of another release"
                " wrote it: run that one, or remove the record, and all get the wanted revision at once"
            )
        try:
            known = _known(cls, said)
            known["rules"] = Rules.from_json(known.get("rules", {}))
            known["revisions"] = tuple(_restored(known.get("revisions", ())))
            known["services"] = {name: _service(one) for name, one in known.get("services", {}).items()}
            known["pin"] = Pin(**_known(Pin, known["pin"])) if known.get("pin") else None
            return cls(**known)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise RecordError(f"rollout record: {error}; it was changed by hand or cut short") from error


def _known(form: type, said: Mapping[str, Any]) -> dict[str, Any]:
    return {one.name: said[one.name] for one in fields(form) if one.name in said}


def _differences(revisions: Iterable[Revision]) -> Iterator[dict[str, Any]]:
    before: Mapping[str, File] = {}
    for revision in revisions:
        files = {name: _plain(file) for name, file in revision.files.items() if before.get(name) != file}
        gone = [name for name in before if name not in revision.files]
        yield {**_plain(replace(revision, files={})), "files": files, "gone": gone}
        before = revision.files


def _restored(said: Iterable[Mapping[str, Any]]) -> Iterator[Revision]:
    files: dict[str, File] = {}
    for one in said:
        files = {name: file for name, file in files.items() if name not in one.get("gone", ())}
        for name, file in one["files"].items():
            files[name] = File(**{**_known(File, file), "callees": tuple(file.get("callees", ()))})
        yield Revision(**{**_known(Revision, one), "files": files})


def _shortened(service: Service) -> dict[str, Any]:
    values = ((one, getattr(service, one.name)) for one in fields(Service))
    return {one.name: _plain(value) for one, value in values if value != one.default}


def _plain(value: Any) -> Any:
    """As `dataclasses.asdict`, which takes ten times as long; of mappings only the empty ones come here."""
    if is_dataclass(value):
        return {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
    return tuple(map(_plain, value)) if isinstance(value, tuple) else value


def _service(said: Mapping[str, Any]) -> Service:
    known = _known(Service, said)
    for name in ("callees", "called", "refused", "odd", "superseded"):
        if known.get(name) is not None:
            known[name] = tuple(known[name])
    known["bands"] = tuple(Band(**_known(Band, one)) for one in said["bands"])
    if not known["bands"] or known["bands"][-1].upto != EVERYONE:
        raise ValueError("the last band ends before the last place")
    if "before" in known:
        known["before"] = Counts(**_known(Counts, known["before"]))
    return Service(**known)
