"""
What this sidecar knew last, and what of it is good: kept on disk while it runs, read when it starts. *Cold.*

    in force for GOOD_AFTER_S -> good; the good one before is kept, too
    condemned (`crashes`)     -> set aside; the one before is the good one

Nothing here ever stops anything. A directory that is absent, read-only, full or hanging is told of once, and the
sidecar goes on without.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final

from sidecar.link.identity.held import Held
from sidecar.link.messages import EndpointEntry
from sidecar.process_log import event
from sidecar.runtime.mesh import crashes
from sidecar.runtime.mesh.crashes import SURVIVED_S, Record
from sidecar.runtime.mesh.kept_identity import KeptIdentity
from sidecar.runtime.mesh.state_directory import DamagedError, StateDirectory, StateError
from sidecar.runtime.threads import in_time

logger = logging.getLogger(__name__)

GOOD_AFTER_S: Final = 30.0
ENDPOINTS_PERIOD_S: Final = 5.0
"""Endpoints may change many times a second; what is on disk is so late."""
OPEN_LIMIT_S: Final = 2.0
"""For reading all at a start; a mount that hangs is done without."""
CLOSE_LIMIT_S: Final = 1.0
LOCK_PERIOD_S: Final = 1.0

Endpoints = Mapping[str, Sequence[EndpointEntry]]


@dataclass(frozen=True, slots=True)
class Kept:
    """
    A pushed file.

    Attributes:
        hash: By which the control plane knows it.
        revision: It came with.
        text: YAML.
    """

    hash: str
    revision: int
    text: str


@dataclass(slots=True)
class Memory:
    """
    What was known before this start.

    Attributes:
        files: That were good, the last one first.
        endpoints: By upstream.
        record: Who this is, and how starts ended.
        crashed: The file that was condemned at this start; None if none was.
        identity: Certificate and key; None if none were kept.
    """

    files: list[Kept] = field(default_factory=list)
    endpoints: dict[str, list[EndpointEntry]] = field(default_factory=dict)
    record: Record = field(default_factory=Record)
    crashed: Kept | None = None
    identity: Held | None = None


class LastGood:
    """
    Args:
        path: Of the directory; empty for none.
        service: Whose it is: what another one has left is not this one's.
        release: Of the sidecar.
        identity: Says whether a certificate's key is kept; None where there is none to keep.
    """

    def __init__(self, path: str, service: str, release: str, identity: KeptIdentity | None = None) -> None:
        self.path = path
        self.why_off = "" if path else "it is switched off"
        self._service = service
        self._release = release
        self._identity = identity
        self._directory: StateDirectory | None = None
        self._record = Record(release=release)
        self._in_force: Kept | None = None
        self._good = ""
        self._waiting: dict[str, Callable[[StateDirectory], None]] = {}
        self._wake = asyncio.Event()
        self._timers: list[asyncio.TimerHandle] = []
        self._task: asyncio.Task[None] | None = None
        self._is_failing = False
        self._endpoints: Callable[[], Endpoints] = dict
        self._endpoints_later: asyncio.TimerHandle | None = None

    # --- at a start --------------------------------------------------------------------------------------------

    async def open(self) -> Memory:
        """What is known from before; nothing if the directory cannot be used, which is told."""
        memory = Memory(record=self._record)
        if self.path:
            try:
                directory = await in_time(lambda: StateDirectory(self.path), OPEN_LIMIT_S, StateDirectory.close)
                self._directory = directory
                memory = await in_time(lambda: self._read(directory), OPEN_LIMIT_S, lambda late: None)
            except (StateError, TimeoutError) as error:
                self._turn_off(str(error) or f"{self.path}: it does not answer within {OPEN_LIMIT_S:g} s")
        self._start(memory.record)
        return memory

    def inherit(self, memory: Memory) -> None:
        """A predecessor has handed over what it knew, and gives the directory up by and by."""
        self._start(memory.record)
        if self.path:
            self._task = asyncio.get_running_loop().create_task(self._take_directory(), name="state")

    def _start(self, record: Record) -> None:
        self._record = record
        if self._directory is not None:
            self._task = asyncio.get_running_loop().create_task(self._write_for_ever(), name="state")

    def _read(self, directory: StateDirectory) -> Memory:
        """On a thread."""
        memory = Memory(record=crashes.at_start(crashes.read_record(_read(directory, "run")), self._release))
        for name in ("good", "good.previous"):
            kept = self._kept(_read(directory, name))
            if kept is None:
                continue
            if kept.hash == memory.record.condemned:
                memory.crashed = kept
                # The one before takes its place, and does not become the one before itself.
                with suppress(StateError):
                    directory.rename(name, f"{name}.crashed")
            else:
                memory.files.append(kept)
        if memory.crashed is None and memory.record.condemned:
            memory.crashed = Kept(memory.record.condemned, 0, "")
        memory.endpoints = endpoints_of(_read(directory, "endpoints"))
        if self._identity is not None:
            memory.identity = self._identity.read(directory)
        if memory.files:
            self._good = memory.files[0].hash
        try:
            directory.write("run", memory.record.shown())
        except StateError as error:
            self._tell_failing(error)
        return memory

    def _kept(self, value: dict[str, Any] | None) -> Kept | None:
        if value is None or value.get("service") != self._service:
            return None
        match value.get("hash"), value.get("revision"), value.get("text"):
            case str(file_hash), int(revision), str(text):
                return Kept(file_hash, revision, text)
        return None

    # --- while it runs -----------------------------------------------------------------------------------------

    def is_condemned(self, file_hash: str) -> bool:
        """Whether the process ended again and again with this file."""
        return bool(file_hash) and file_hash == self._record.condemned

    def record(self) -> Record:
        """For a successor."""
        return self._record

    def name(self, instance: str) -> None:
        """Keep who this is."""
        self._record = replace(self._record, instance=instance)
        self._write_record()

    def put_in_force(self, file: Kept, *, is_news: bool) -> None:
        """This one runs from now on; it is good when it has for GOOD_AFTER_S."""
        self._stop_timers()
        self._in_force = file
        self._record = crashes.in_force(self._record, file.hash, is_news=is_news)
        self._write_record()
        loop = asyncio.get_running_loop()
        self._timers = [
            loop.call_later(GOOD_AFTER_S, self._is_good),
            loop.call_later(SURVIVED_S, self._has_survived),
        ]

    def keep_endpoints(self, endpoints: Callable[[], Endpoints]) -> None:
        """They have changed: keep what they are in a moment."""
        self._endpoints = endpoints
        if self._endpoints_later is None and (self._directory is not None or self._task is not None):
            loop = asyncio.get_running_loop()
            self._endpoints_later = loop.call_later(ENDPOINTS_PERIOD_S, self._write_endpoints)

    def keep_identity(self, held: Held) -> None:
        """This is held from now on."""
        kept = self._identity
        if kept is not None:
            self._write("identity", lambda directory: kept.write(directory, held))

    async def close(self, *, is_clean: bool = True) -> None:
        """
        Write what is to be written, and let another sidecar use the directory.

        Args:
            is_clean: The process was asked to end, so that its end says nothing of the file.
        """
        self._stop_timers()
        if self._endpoints_later is not None:
            self._endpoints_later.cancel()
            self._write_endpoints()
        if is_clean:
            self._record = crashes.ended(self._record)
            self._write_record()
        if self._task is not None:
            deadline = asyncio.get_running_loop().time() + CLOSE_LIMIT_S
            while self._waiting and asyncio.get_running_loop().time() < deadline and self._directory is not None:
                await asyncio.sleep(0.01)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        if self._directory is not None:
            self._directory.close()
            self._directory = None

    def _is_good(self) -> None:
        file = self._in_force
        if file is None or file.hash == self._good:
            return
        self._good = file.hash
        value = {"service": self._service, "hash": file.hash, "revision": file.revision, "text": file.text}

        def write(directory: StateDirectory) -> None:
            directory.write("good.next", value)
            directory.rename("good", "good.previous")
            directory.rename("good.next", "good")

        self._write("good", write)

    def _has_survived(self) -> None:
        self._record = crashes.survived(self._record)
        self._write_record()

    def _write_record(self) -> None:
        value = self._record.shown()
        self._write("run", lambda directory: directory.write("run", value))

    def _write_endpoints(self) -> None:
        self._endpoints_later = None
        value = endpoints_shown(self._endpoints())
        self._write("endpoints", lambda directory: directory.write("endpoints", value))

    def _write(self, name: str, write: Callable[[StateDirectory], None]) -> None:
        if self._task is not None:
            self._waiting[name] = write
            self._wake.set()

    async def _write_for_ever(self) -> None:
        """One thing after the other, each on a thread; of each only the newest."""
        assert self._directory is not None
        directory = self._directory
        while True:
            await self._wake.wait()
            self._wake.clear()
            for name, write in tuple(self._waiting.items()):
                try:
                    await asyncio.to_thread(write, directory)
                except StateError as error:
                    self._tell_failing(error)
                else:
                    if self._is_failing:
                        logger.info(event("last_good_kept_again", state=self.path))
                    self._is_failing = False
                if self._waiting.get(name) is write:
                    del self._waiting[name]
                elif name in self._waiting:
                    self._wake.set()

    async def _take_directory(self) -> None:
        """As soon as the predecessor gives it up."""
        is_told = False
        while self._directory is None:
            try:
                self._directory = await asyncio.to_thread(StateDirectory, self.path)
            except StateError as error:
                if not is_told:
                    logger.info(event("last_good_waits", reason=str(error)))
                is_told = True
                await asyncio.sleep(LOCK_PERIOD_S)
        await self._write_for_ever()

    def _tell_failing(self, error: StateError) -> None:
        """Once, until something can be written again."""
        if not self._is_failing:
            logger.warning(event("last_good_not_kept", reason=str(error)))
        self._is_failing = True

    def _turn_off(self, why: str) -> None:
        self.why_off = why
        logger.warning(event("last_good_off", reason=why))
        if self._directory is not None:
            self._directory.close()
            self._directory = None

    def _stop_timers(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers = []


def _read(directory: StateDirectory, name: str) -> dict[str, Any] | None:
    """What is there; nothing of what is damaged, which is told."""
    try:
        return directory.read(name)
    except DamagedError as error:
        logger.error(event("last_good_damaged", reason=str(error)))
    except StateError as error:
        logger.error(event("last_good_unreadable", reason=str(error)))
    return None


def endpoints_shown(endpoints: Endpoints) -> dict[str, object]:
    """As JSON has them."""
    return {name: [[one.address, one.weight, one.zone, one.is_tls] for one in some] for name, some in endpoints.items()}


def endpoints_of(value: dict[str, Any] | None) -> dict[str, list[EndpointEntry]]:
    """What `endpoints_shown` made; what is not understood is left out."""
    found: dict[str, list[EndpointEntry]] = {}
    for name, some in (value or {}).items():
        with_all: list[EndpointEntry] = []
        for one in some if isinstance(some, list) else ():
            match one:
                case [str(address), int() | float() as weight, str(zone), bool(is_tls)]:
                    with_all.append(EndpointEntry(address, float(weight), zone, is_tls))
        found[name] = with_all
    return found
