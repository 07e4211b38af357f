"""
What an engine does for a control plane. *Pure: protocols and what passes through them.*

    files        a directory that is followed; the rest in memory, with a copy on disk; one replica
    etcd         keys; any number of replicas
    kubernetes   ConfigMaps, EndpointSlices and a Lease; any number of replicas

Rules that hold for every engine, so that nobody else needs to know which one it is:

1.  **A stream of changes never ends by itself and never raises for what the world does.** It begins with all there
    is, connects again on its own, and tells what goes wrong as `Trouble`; what it said before holds until it says
    otherwise. Only cancelling ends it. (A compacted revision, a 410, an EOF, a lost quorum are the engine's to get
    over.)
2.  **No expiry of the engine's own removes anything.** Who is in doubt is judged in one place, `control.doubt`, which
    says `remove`.
3.  **What the engine stores is written by compare-and-swap**, by the opaque version that reading gave; `Conflict` says
    that another was faster, and the caller reads again. `Unavailable` says that the engine does not answer: nothing is
    known of whether the write took place.
4.  **Values are octets** to the record and files, so that a replica of another release loses no field it does not know.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from sidecar.link.report import Health, Port


class EngineError(Exception):
    """The engine did not do it; the text says why, in one line."""


class Conflict(EngineError):  # noqa: N818 - the field's word
    """Somebody else wrote since the version that was named."""


class Unavailable(EngineError):  # noqa: N818
    """The engine does not answer, or cannot decide: no quorum, no permission, a full disk."""


class Unsupported(EngineError):  # noqa: N818
    """This engine does not do that at all; the text says what to do instead."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """
    A stream of changes cannot go on just now; what it said before holds.

    Attributes:
        error: One line, for the log, the metric and the page. Empty: it is over.
    """

    error: str


# --- the mesh's files ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Content:
    """
    All files of the mesh at one moment.

    Attributes:
        files: By name relative to the directory.
        version: Of the content, for `push`; opaque, and comparable only for being equal.
    """

    files: Mapping[str, bytes]
    version: str


class MeshSource(Protocol):
    """The wanted content of the mesh."""

    def follow(self) -> AsyncIterator[Content | Trouble]:
        """What is wanted now, then each change of it, settled: no half of an edit is ever seen."""

    async def is_wanted(self, version: str) -> bool:
        """
        Whether the content of this version is still what is wanted, by a read that is not older than any push that was
        answered. Who makes a revision of a content asks after it has read the record and before it writes it: so a
        replica that was slow to judge never puts an older content over the newer one that another has taken.

        Raises:
            Unavailable: It cannot be known now.
        """

    async def push(self, files: Mapping[str, bytes], expected: str) -> str:
        """
        Make these the wanted files, if what is wanted still has the version `expected`.

        Returns:
            The new version.

        Raises:
            Conflict: It has not.
            Unsupported: The files are edited where they are.
            Unavailable: Whether it was done is not known.
        """


class Files(Protocol):
    """
    What sidecars were told lately, by the hash of the compiled file, so that a halted wave can have its old file again,
    and a restart in front of a bad edit has something to tell. The caller keeps a file before it writes the record that
    names it, and lets go what no record names.
    """

    async def keep(self, files: Mapping[str, bytes]) -> None:
        """Store each under its hash; one that is there stays as it is. Raises `Unavailable`."""

    async def fetch(self, key: str) -> bytes | None:
        """What was kept under this hash. Raises `Unavailable`."""

    async def retain(self, keys: Collection[str]) -> None:
        """Forget all others; those kept within the last minute may stay, for a replica's record may be on its way."""


# --- registrations ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Registration:
    """
    An instance of a service, as it said itself by its sidecar.

    Attributes:
        service: Of the mesh.
        instance: A name that no other instance has.
        version: Of the app.
        weight: Relative to others.
        ports: Where it is reached, by the port's name.
        health: Of its app. Only one that was healthy once is registered at all.
        holder: Name of the replica to which it talks; its announcement tells whether it is still there to know.
        lost_s: Since the Unix epoch, when that replica lost its stream; None while it hears from it.
    """

    service: str
    instance: str
    version: str = ""
    zone: str = ""
    weight: float = 1.0
    ports: Mapping[str, Port] = field(default_factory=dict)
    health: Health = "healthy"
    holder: str = ""
    lost_s: float | None = None


@dataclass(frozen=True, slots=True)
class RegistrationChange:
    """
    One change, or a snapshot.

    Attributes:
        put: New, or other than before.
        left: Names of instances that said goodbye, or that `remove` was called for. A fact.
        vanished: Names of instances whose entries are gone, but not by a goodbye or `remove`: for doubt to judge.
        is_snapshot: `put` is all there is. An instance that was known and is not in it has vanished, too.
    """

    put: tuple[Registration, ...] = ()
    left: tuple[str, ...] = ()
    vanished: tuple[str, ...] = ()
    is_snapshot: bool = False


@dataclass(frozen=True, slots=True)
class Unwritten:
    """
    Registrations that an engine took, but could not write yet.

    Attributes:
        count: Of instances.
        error: Why, in one line.
        since_s: Since the Unix epoch, when a write failed first.
    """

    count: int
    error: str
    since_s: float


class Registrations(Protocol):
    """
    All registrations, those of other replicas included. There is no refreshing: an entry is as fresh as its holder is
    (`Replicas`), and its `lost_s` says otherwise; so a quiet mesh writes nothing.
    """

    @property
    def unwritten(self) -> Unwritten | None:
        """Of an engine that writes later than it takes: what it owes since a write failed. None: nothing."""

    async def put(self, registration: Registration) -> None:
        """Write one; the newest write of an instance wins. Raises `Unavailable`; the caller tries again."""

    async def remove(self, instance: str) -> None:
        """It said goodbye, or doubt has ended. Raises `Unavailable`."""

    def watch(self) -> AsyncIterator[RegistrationChange | Trouble]:
        """
        A snapshot, then changes; what this replica itself wrote may come back or not. No snapshot where nothing was
        ever stored, which is told apart from a store in which there is nothing: then nobody's absence means anything
        before all had the time to return.
        """


# --- rollouts -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Versioned:
    """A stored value, and what to name for writing over it."""

    value: bytes
    version: str


@dataclass(frozen=True, slots=True)
class Gone:
    """Somebody deleted what was stored, behind our backs: it may be written anew, over the version of none."""


class Record(Protocol):
    """The one record of the mesh's revision and its rollouts (`control.rollout` says what is in it)."""

    async def read(self) -> Versioned | None:
        """What stands in it, read so that it is not older than any write that was answered; None if nothing does.
        Raises `Unavailable`."""

    async def swap(self, value: bytes, expected: str) -> str:
        """
        Write over the version `expected`, empty if there should be none.

        Returns:
            The new version.

        Raises:
            Conflict, Unavailable: As the rules above say.
        """

    def watch(self) -> AsyncIterator[Versioned | Gone | Trouble]:
        """What stands in it, if anything, then each change; `Gone` if what was told does not stand there any more."""


class Mover(Protocol):
    """The right to move rollouts, which one replica has at a time. `Record.swap` is what makes two movers harmless."""

    @property
    def is_ours(self) -> bool:
        """Whether this replica has it now, as far as it can know: false as soon as it might have lost it."""

    async def campaign(self) -> None:
        """Come by it and keep it, for as long as this runs; ends only by being cancelled, and then gives it up."""


# --- what the authority keeps -------------------------------------------------------------------------------------


class Secrets(Protocol):
    """
    A few values that nobody but a control plane and who runs it may read: keys, hashes of tokens, what was issued. They
    are read when they are used, so that what another replica or a command wrote counts at once. A command may use them
    beside a control plane that runs.
    """

    async def read(self, name: str) -> Versioned | None:
        """
        What stands under this name, not older than any write that was answered; None if nothing does.

        Args:
            name: Lower-case letters and `-`; of our own choosing, never of a peer's.

        Raises:
            Unavailable: It cannot be read now.
        """

    async def swap(self, name: str, value: bytes, expected: str) -> str:
        """
        Write over the version `expected`; empty: only if there is none.

        Returns:
            The new version.

        Raises:
            Conflict, Unavailable: As the rules above say.
        """


class Accounts(Protocol):
    """Who stands behind a token of a service account."""

    async def reviewed(self, token: str, audience: str) -> tuple[str, str] | None:
        """
        Namespace and name of the account that it was given to for this audience; None: it is no such token.

        Raises:
            Unavailable: It cannot be known now.
        """


# --- replicas -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Replica:
    """
    A control plane of this mesh.

    Attributes:
        name: No other has it.
        address: URL at which the others reach its `/v1/here/...`; empty if it is alone.
        seen_s: Since the Unix epoch, when it last announced itself, by the engine's order of events, not by its clock.
    """

    name: str
    address: str = ""
    release: str = ""
    seen_s: float = 0.0


class Replicas(Protocol):
    """Who else is there."""

    async def announce(self, replica: Replica) -> None:
        """Say that this one lives; to be said again every few seconds. Raises `Unavailable`."""

    async def list(self) -> tuple[Replica, ...]:
        """All that announced themselves lately, this one included. Raises `Unavailable`."""

    async def leave(self, name: str) -> None:
        """This one goes. Raises `Unavailable`."""


# --- endpoints that the engine's world knows ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sighted:
    """
    An endpoint that somebody else than its own sidecar knows of.

    Attributes:
        address: `host:port` or `[v6]:port`.
        is_ready: As its source says; one that is not ready is no endpoint but is there.
    """

    address: str
    weight: float = 1.0
    zone: str = ""
    is_ready: bool = True


@dataclass(frozen=True, slots=True)
class Sighting:
    """
    All endpoints of one origin at one moment.

    Attributes:
        endpoints: What is there.
        gone: Addresses that left since the last sighting with a word: deleted while their slice lives, terminating,
            edited out of a file. Facts. An address that was there before and is in neither has vanished: doubt judges.
    """

    endpoints: tuple[Sighted, ...]
    gone: frozenset[str] = frozenset()


class Discoverer(Protocol):
    """A kind of origin of endpoints."""

    def follow(self, values: Mapping[str, Any]) -> AsyncIterator[Sighting | Trouble]:
        """
        Endpoints of one origin: what there is, then each change.

        Args:
            values: What the mesh's file says of it (`EndpointsOrigin.values`).
        """


# --- the engine ---------------------------------------------------------------------------------------------------


class Engine(Protocol):
    """
    All of it. An engine is made without touching anything, opened once, and closed once.

    Attributes:
        name: As `/v1/mesh` and the page show it: `files`, `etcd`, `kubernetes`.
        discoverers: Of the kinds that this engine's world knows (`etcd`, `kubernetes`), by kind.
        accounts: None where this engine's world has no service accounts.
    """

    @property
    def name(self) -> str: ...
    @property
    def mesh(self) -> MeshSource: ...
    @property
    def files(self) -> Files: ...
    @property
    def registrations(self) -> Registrations: ...
    @property
    def record(self) -> Record: ...
    @property
    def mover(self) -> Mover: ...
    @property
    def secrets(self) -> Secrets: ...
    @property
    def accounts(self) -> Accounts | None: ...
    @property
    def replicas(self) -> Replicas: ...
    @property
    def discoverers(self) -> Mapping[str, Discoverer]: ...

    async def open(self) -> None:
        """
        Make sure that it can work at all.

        Raises:
            EngineError: It cannot, and waiting would not help: a path that is no directory, a password that is wrong.
        """

    async def close(self) -> None:
        """Give back what it holds; what was stored stays."""
