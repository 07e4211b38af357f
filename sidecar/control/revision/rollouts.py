"""
What is wanted, kept by the engine: the record of revisions and rollouts, and the files that it names. *On the loop.*

`control.rollout` decides; here its record is read and written by compare-and-swap, its files are kept before the record
that names them, and what it wants of each instance is given to the streams (`Targets`). Every replica reads the record;
the one that has the engine's lease takes the steps.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Final

from sidecar.control.engines.interface import Conflict, Engine, EngineError, Gone, Unavailable, Versioned
from sidecar.control.revision.compiled import CompiledFile, Octets, Origin
from sidecar.control.revision.judged import Judged
from sidecar.control.revision.targets import Wanted
from sidecar.control.revision.trees import render, tree_of, tree_of_values
from sidecar.control.rollout.mover import advance, target_of
from sidecar.control.rollout.proposal import Event, Made, Proposal, RolloutError, hurry, propose, rollback
from sidecar.control.rollout.proposal import Wanted as WantedFiles
from sidecar.control.rollout.record import File, Record, RecordError
from sidecar.control.rollout.rules import Rules
from sidecar.control.rollout.status import rollouts
from sidecar.control.rollout.view import NO_FILE, View
from sidecar.link.fields import MessageError
from sidecar.mesh.told import LANGUAGE, Told
from sidecar.process_log import event

logger = logging.getLogger(__name__)

_TRIES: Final = 5
"""Of a compare-and-swap, each on what the other has written."""
RETRY_S: Final = 1.0
"""After which what another replica wrote is read again, where it could not be."""


class Rollouts:
    """
    Args:
        engine: Keeps the record and the files.
        now_s: Since the Unix epoch.
        on_change: Told when what is wanted of somebody may be another.
        running: Gives the hashes of files that sidecars run: those are known as long as they are, though no record
            names them any more, for their endpoints.
        is_now: Whether waves are skipped whatever the mesh's files say.

    Attributes:
        record: As it was read or written last.
        judged: What the mesh's files said when they were good last, in this process's life.
    """

    def __init__(
        self,
        engine: Engine,
        now_s: Callable[[], float],
        on_change: Callable[[], None],
        running: Callable[[], Collection[str]] = frozenset,
        *,
        is_now: bool = False,
    ) -> None:
        self.record = Record()
        self.judged: Judged | None = None
        self._engine = engine
        self._now_s = now_s
        self._on_change = on_change
        self._running = running
        self._is_now = is_now
        self._version = ""
        self._files: dict[str, CompiledFile] = {}
        self._values: dict[str, bytes] = {}
        """Of those that were compiled in this process's life, for whoever wants their trees."""
        self._one_at_a_time = asyncio.Lock()
        self._is_open = False

    @property
    def revision(self) -> int:
        """The number of the wanted revision; 0 before there is one."""
        return self.record.revision

    @property
    def pinned(self) -> int | None:
        """The revision whose files are wanted until the mesh's files differ from what they are; None if none is."""
        return self.record.pin.revision if self.record.pin is not None else None

    def mesh_name(self) -> str:
        """As its files have it; empty while they are not known to be good."""
        return self.judged.name if self.judged is not None else ""

    def services_of(self, identity: str) -> tuple[str, ...]:
        """Services whose file lists this SPIFFE ID."""
        services = self.judged.services if self.judged is not None else {}
        return tuple(name for name, facts in services.items() if identity in facts.identities)

    def lifetime_s(self) -> float:
        """For which the mesh's certificates are signed; 0 while its files are not known to be good."""
        return self.judged.lifetime_s if self.judged is not None else 0.0

    def known(self, hash_: str) -> CompiledFile | None:
        """A compiled file that some instance may have or get."""
        return self._files.get(hash_)

    def wanted(self, service: str, instance: str, language: int) -> tuple[Wanted | None, str]:
        """As `Targets` says."""
        facts = self.judged.services.get(service) if self.judged is not None else None
        if facts is not None and facts.kind == "external":
            return None, f"`{service}` is outside of the mesh: it has no sidecars"
        target = target_of(self.record, service, instance)
        if target.hash == NO_FILE:
            is_known = self.record.revision > 0
            return None, f"the mesh has no service `{service}`" if is_known and facts is None else ""
        file = self._files.get(target.hash)
        if file is None:
            return None, ""
        if language < file.language:
            return None, f"this sidecar knows language {language}, and the mesh needs {file.language}: update it"
        return Wanted(target.revision, target.hash), ""

    def needs(self, service: str) -> int:
        """The language that sidecars of a service have to know for all files that some of them are to have."""
        found = self.record.services.get(service)
        files = (self._files.get(hash_) for hash_ in (found.hashes() if found is not None else ()))
        return max((file.language for file in files if file is not None), default=0)

    def is_outdated(self, service: str, language: int) -> bool:
        """Whether who knows this language is told none of the files of its service that need a newer one."""
        return language < LANGUAGE and language < self.needs(service)

    def origins(self) -> set[Origin]:
        """Of all endpoints that somebody is to be told."""
        hashes = {hash_ for service in self.record.services.values() for hash_ in service.hashes()}
        hashes |= set(self._running())
        files = [self._files[hash_] for hash_ in hashes if hash_ in self._files]
        return {origin for file in files for origin in file.discovers.values()}

    def rows(self, view: View) -> list[dict[str, Any]]:
        """`rollouts` of `/v1/mesh`."""
        return rollouts(self.record, view, self._now_s())

    async def open(self) -> None:
        """
        Read what there is.

        Raises:
            EngineError: It cannot be read, or another release's control plane wrote it.
        """
        found = await self._engine.record.read()
        if found is not None:
            try:
                await self._take(found, _parsed(found))
            except RecordError as error:
                raise EngineError(str(error)) from None
        self._is_open = True

    async def follow(self) -> None:
        """Take over what other replicas write; ends only by being cancelled."""
        async for change in self._engine.record.watch():
            if isinstance(change, Gone):
                async with self._one_at_a_time:
                    self._lost()
                continue
            if not isinstance(change, Versioned):
                logger.warning(event("record_not_followed", error=change.error or "over"))
                continue
            while not await self._follow_to(change):
                await asyncio.sleep(RETRY_S)

    async def _follow_to(self, change: Versioned) -> bool:
        """
        Take over what was told, or what has been written over it since; whether that came to an end.

        What a watch tells may lag behind what was written or read here meanwhile. A record whose number is not higher
        than that of ours is read again, and what stands in the engine holds.
        """
        async with self._one_at_a_time:
            if change.version == self._version:
                return True
            try:
                record = _parsed(change)
                if record.version > self.record.version:
                    await self._take(change, record)
                else:
                    await self._read()
            except RecordError as error:
                # Another release's; it is told again when it is another one.
                logger.error(event("record_not_taken", error=error))
            except EngineError as error:
                logger.error(event("record_not_taken", error=error, retry_s=RETRY_S))
                return False
            return True

    async def confirm(self) -> None:
        """
        Know the record as it is now, whatever the watch has brought.

        Raises:
            EngineError: It cannot be read.
        """
        async with self._one_at_a_time:
            try:
                await self._read()
            except RecordError as error:
                raise EngineError(str(error)) from None

    async def propose(self, judged: Judged, view: View, is_wanted: Callable[[], Awaitable[bool]] | None = None) -> bool:
        """
        Make this the wanted revision; whether it is another one than before.

        Args:
            is_wanted: Whether the content is still what the source says (`MeshSource.is_wanted`). If not, nothing is
                done: the next content is on its way. None: it is.

        Raises:
            EngineError: It could not be written.
        """
        fresh = {one.hash: one for one in judged.compiled}
        # Of a good content everything is known: what is not new was there before, unless this process is new.
        self._files |= fresh
        self._values |= judged.values
        callees = {name: facts.callees for name, facts in judged.services.items()}
        files = {name: File(hash_, callees.get(name, ())) for name, hash_ in judged.files.items()}
        said = judged.rollout
        is_now = self._is_now or said is None
        wanted = WantedFiles(judged.hash, files, Rules(**said) if said is not None else Rules(), is_now)
        before = self.record.revision

        def make(record: Record) -> Proposal:
            return propose(record, wanted, self._tree, render, self._now_s())

        self.judged = judged
        await self._change(make, view, is_wanted)
        return self.record.revision != before

    async def rollback(self, number: int, view: View, *, is_now: bool) -> None:
        """
        Make an earlier revision's files wanted until the mesh's files differ from what they are.

        Raises:
            RolloutError: It is not kept.
            EngineError: It could not be written.
        """
        is_now = is_now or self._is_now or (self.judged is not None and self.judged.rollout is None)

        def make(record: Record) -> Proposal:
            return rollback(record, number, self._tree, render, self._now_s(), is_now=is_now)

        await self._change(make, view)

    async def hurry(self, view: View, services: Collection[str] | None = None) -> tuple[str, ...]:
        """
        Skip the waves that are left, of these services or of all; of which there were some.

        Raises:
            RolloutError: There is no such service.
            EngineError: It could not be written.
        """
        hurried: tuple[str, ...] = ()

        def make(record: Record) -> Proposal:
            nonlocal hurried
            unknown = sorted(set(services or ()) - record.services.keys())
            if unknown:
                raise RolloutError(f"the mesh has no service {unknown[0]!r}")
            proposal = hurry(record, self._now_s(), services)
            hurried = tuple(one.service for one in proposal.events)
            return proposal

        await self._change(make, view)
        return hurried

    def told(self) -> dict[str, Told]:
        """What the sidecars of each service are to have when all rollouts are done."""
        files = self.record.revisions[-1].files if self.record.revisions else {}
        return {
            name: Told(file.hash, self._files[file.hash].text if file.hash in self._files else "")
            for name, file in files.items()
        }

    async def advance(self, view: View) -> None:
        """
        Take the steps that can be taken now, if this replica has the lease.

        Raises:
            EngineError: What was decided could not be written; nothing of it is in force.
        """
        if not self._engine.mover.is_ours or not self.record.revisions:
            return
        async with self._one_at_a_time:
            step = await asyncio.to_thread(advance, self.record, view, self._now_s())
            if step.record is self.record and self._version:
                return
            if not self._version:
                await self._keep(step.record)
            try:
                await self._write(step.record, step.events)
            except Conflict:
                await self._read()
        self._on_change()

    async def _change(
        self, make: Callable[[Record], Proposal], view: View, is_wanted: Callable[[], Awaitable[bool]] | None = None
    ) -> None:
        async with self._one_at_a_time:
            for _ in range(_TRIES):
                # Invariant: asked after the record was read that is written over. A replica that has taken a newer
                # content since has written it anew, and the write below is a conflict.
                if is_wanted is not None and not await is_wanted():
                    return
                proposal = await asyncio.to_thread(make, self.record)
                if proposal.record is self.record and self._version:
                    return
                made = self._made(proposal.record, proposal.made)
                step = await asyncio.to_thread(advance, proposal.record, view, self._now_s())
                self._files |= made
                await self._keep(proposal.record)
                try:
                    await self._write(step.record, (*proposal.events, *step.events))
                except Conflict:
                    await self._read()
                    continue
                self._on_change()
                try:
                    await self._engine.files.retain(self._forget())
                except EngineError as error:
                    # They are in nobody's way; the next change tries again.
                    logger.warning(event("files_not_let_go", error=error))
                return
            raise Unavailable("another control plane writes the record all the time")

    async def _keep(self, record: Record) -> None:
        """Store the files that a record names, before it is written."""
        named = record.hashes()
        kept = {hash_: file for hash_, file in self._files.items() if hash_ in named}
        await self._engine.files.keep(Octets(kept))

    async def _write(self, record: Record, events: tuple[Event, ...]) -> None:
        value = json.dumps(record.to_json(), separators=(",", ":")).encode()
        self._version = await self._engine.record.swap(value, self._version)
        self.record = record
        for one in events:
            details = {name: detail for name, detail in one.details.items() if detail not in ("", None)}
            service = one.service or None
            logger.info(event(f"rollout_{one.name}", service=service, revision=one.revision, **details))

    async def _read(self) -> None:
        found = await self._engine.record.read()
        if found is None:
            self._lost()
            return
        if found.version == self._version:
            return
        try:
            await self._take(found, _parsed(found))
        except RecordError as error:
            raise EngineError(str(error)) from None

    def _lost(self) -> None:
        """
        Somebody deleted the record. What is wanted is what was: it is written anew with the next step, which the
        replica that moves rollouts takes within a second, and no sidecar is told anything.
        """
        if self._version:
            logger.warning(event("record_gone", revision=self.record.revision))
        self._version = ""

    async def _take(self, found: Versioned, record: Record) -> None:
        """Make a stored record ours, with the files that it names."""
        for hash_ in record.hashes():
            if hash_ in self._files or hash_ == NO_FILE:
                continue
            octets = await self._engine.files.fetch(hash_)
            if octets is None:
                logger.warning(event("file_missing", hash=hash_))
                continue
            try:
                self._files[hash_] = CompiledFile.from_octets(octets)
            except MessageError as error:
                logger.error(event("file_damaged", hash=hash_, error=error))
        self.record, self._version = record, found.version
        self._forget()
        if self._is_open:
            self._on_change()

    def _forget(self) -> set[str]:
        """Let go of files that nobody needs any more; what is left."""
        needed = set(self.record.hashes()).union(self._running())
        if self.judged is not None:
            needed |= set(self.judged.files.values())
        for hash_ in self._files.keys() - needed:
            del self._files[hash_]
            self._values.pop(hash_, None)
        return needed

    def _tree(self, hash_: str) -> Any:
        if hash_ in self._values:
            return tree_of_values(self._values[hash_])
        file = self._files.get(hash_)
        return tree_of(file.text) if file is not None else None

    def _made(self, record: Record, made: Mapping[str, Made]) -> dict[str, CompiledFile]:
        """Files in between, with the origins of what they discover, which those before and after them know."""
        found: dict[str, CompiledFile] = {}
        for name, service in record.services.items():
            hashes = set(service.hashes())
            discovers: dict[str, Origin] = {}
            language = max((self._files[hash_].language for hash_ in hashes if hash_ in self._files), default=1)
            for hash_ in (*hashes - {service.wanted}, service.wanted):
                if hash_ in self._files:
                    discovers |= self._files[hash_].discovers
            for hash_ in hashes & made.keys():
                upstreams = made[hash_].tree.get("upstreams", {})
                named = {str(one["discover"]) for one in upstreams.values() if isinstance(one.get("discover"), str)}
                here = {key: origin for key, origin in discovers.items() if key in named}
                found[hash_] = CompiledFile(name, hash_, made[hash_].text, here, service.callees, language)
        return found


def _parsed(found: Versioned) -> Record:
    """
    A stored record.

    Raises:
        RecordError: It is none, or another release's.
    """
    try:
        said = json.loads(found.value)
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise RecordError("the rollout record is not JSON; remove it, and all get the wanted revision at once")
    return Record.from_json(said)
