"""What the mover sees of the mesh at one moment: the reports of all replicas, put together by the server. *Pure.*"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

NO_FILE = ""
"""Stands for a hash where there is no file."""


@dataclass(frozen=True, slots=True)
class Period:
    """
    What one instance counted in one report, requests in both directions.

    Attributes:
        start_s: When the one before was made: what is counted here happened since.
        end_s: When this one was made, by the clock of whom it was sent to.
        requests: All.
        failures: Those that count as failed; which those are is the server's to say.
    """

    start_s: float
    end_s: float
    requests: int
    failures: int


@dataclass(frozen=True, slots=True)
class Instance:
    """
    A sidecar as it is known.

    Attributes:
        id: Unique in the mesh.
        service: Whose it is.
        hash: Of the file that it runs; empty before its first one.
        refused_hash: Of the file that it last refused, or that made it crash, until it accepts another.
        refused_before: Whether it is known to have refused the revision before; what its `refused_hash` says of
            this when a rollout begins need not be repeated here.
        is_outdated: Whether it knows an older language than the mesh's files need, so that it gets none of them.
        is_connected: Whether it has a stream with one of the replicas.
        is_stale: Whether it has vanished without a goodbye, and may return.
        is_draining: Whether it said goodbye.
        connected_s: When its stream, or its registration, began.
        periods: What it counted, at least as far back as `thin.after`, in any order.
    """

    id: str
    service: str
    hash: str = NO_FILE
    refused_hash: str = NO_FILE
    refused_before: bool = False
    is_outdated: bool = False
    is_connected: bool = True
    is_stale: bool = False
    is_draining: bool = False
    connected_s: float = 0.0
    periods: tuple[Period, ...] = ()

    @property
    def is_here(self) -> bool:
        """Whether it can be expected to do as it is told."""
        return self.is_connected and not self.is_stale and not self.is_draining


@dataclass(frozen=True, slots=True)
class View:
    """
    Everyone, at one moment.

    All times are on the clock of who looks: replicas tell each other ages, not times.

    Attributes:
        instances: All that are registered, those that are stale or draining included. One that is gone for good is not
            in it; so a server that has just started must fill it from its engine, or say in `unseen` that it has
            not heard from everyone yet.
        unseen: Why this is not everyone: names of replicas that do not answer, or `a restart`. No gate opens meanwhile.
        mover: Who looks. When it changes, waves are watched anew: the clocks of two machines are not compared.
    """

    instances: tuple[Instance, ...] = ()
    unseen: tuple[str, ...] = ()
    mover: str = ""

    @classmethod
    def of(cls, instances: Iterable[Instance], unseen: Iterable[str] = (), mover: str = "") -> View:
        """From any order the same view."""
        ordered = sorted(instances, key=lambda one: (one.service, one.id))
        return cls(tuple(ordered), tuple(sorted(unseen)), mover)

    def by_service(self) -> dict[str, list[Instance]]:
        """The instances of each service that has any."""
        found: dict[str, list[Instance]] = {}
        for one in self.instances:
            found.setdefault(one.service, []).append(one)
        return found
