"""
Who is still there, of those that vanished without a word. *Pure; the clock is the caller's.*

A goodbye is a fact: `forget` at once. Doubt is for what vanished without one: a stream that was lost, a list that
shrank, an engine's error. Its states, each entered by `sweep` and left by `heard`:

    fresh    heard of, or lost for less than `STALE_AFTER_S`: a reconnect takes seconds
    stale    lost for longer: used only where no fresh one is left in its upstream (`usable`)
    removed  lost for `REMOVE_AFTER_S`, and only while at least `LEAST_FRESH` of all are fresh

Where many vanish at once the fault is taken to be ours, a cut network or an engine without quorum, and nothing is
removed, however long it takes. After a restart everything that was known from before is lost since the restart, not
since it was heard of last: so nobody is stale, let alone removed, before it had the time to return.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

STALE_AFTER_S: Final = 30.0
REMOVE_AFTER_S: Final = 600.0
LEAST_FRESH: Final = 0.8
PANIC: Final = 0.5
"""Share of healthy ones below which health is not believed, as a sidecar's own checks have it (`panic_threshold`)."""

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Swept(Generic[K]):
    """
    What a sweep found.

    Attributes:
        stale: Became so.
        removed: Are forgotten from now on.
        kept: Would have been removed if more were fresh.
    """

    stale: tuple[K, ...] = ()
    removed: tuple[K, ...] = ()
    kept: int = 0


class Doubt(Generic[K]):
    """
    Args:
        clock: Seconds, monotonic.

    Attributes:
        is_removing: Whether enough are fresh that what is long gone may be removed.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.is_removing = True
        self._clock = clock
        self._lost: dict[K, float | None] = {}
        self._stale: set[K] = set()

    @property
    def fresh(self) -> int:
        """How many are not stale."""
        return len(self._lost) - len(self._stale)

    @property
    def stale(self) -> int:
        """How many are."""
        return len(self._stale)

    def heard(self, key: K) -> bool:
        """It is there; whether it was stale until now."""
        was_stale = key in self._stale
        self._stale.discard(key)
        self._lost[key] = None
        return was_stale

    def lost(self, key: K) -> None:
        """Nothing is heard of it from now on; what was lost before has been so since then."""
        if self._lost.get(key) is None:
            self._lost[key] = self._clock()

    def forget(self, key: K) -> None:
        """A fact: it is gone, and counts no more."""
        self._lost.pop(key, None)
        self._stale.discard(key)

    def is_stale(self, key: K) -> bool:
        """Whether it is; what is not known is not."""
        return key in self._stale

    def sweep(self) -> Swept[K]:
        """Judge by the time that passed; to be called about once a second."""
        now_s = self._clock()
        lost = [(key, since_s) for key, since_s in self._lost.items() if since_s is not None]
        stale = [key for key, since_s in lost if now_s - since_s >= STALE_AFTER_S and key not in self._stale]
        self._stale.update(stale)
        old = [key for key, since_s in lost if now_s - since_s >= REMOVE_AFTER_S]
        self.is_removing = not self._lost or self.fresh >= LEAST_FRESH * len(self._lost)
        if not self.is_removing:
            return Swept(tuple(stale), (), len(old))
        for key in old:
            self.forget(key)
        return Swept(tuple(stale), tuple(old))


@dataclass(frozen=True, slots=True)
class Candidate(Generic[K]):
    """One that might be an endpoint of an upstream."""

    key: K
    is_stale: bool = False
    is_healthy: bool = True


def usable(candidates: Iterable[Candidate[K]]) -> list[K]:
    """
    Which of an upstream's endpoints its callers are told: the fresh ones, or the stale where no fresh one is left; of
    these those whose app is healthy, or all where that would be less than `PANIC`.
    """
    every = list(candidates)
    chosen = [one for one in every if not one.is_stale] or every
    healthy = [one for one in chosen if one.is_healthy]
    if len(healthy) < PANIC * len(chosen):
        healthy = chosen
    return [one.key for one in healthy]
