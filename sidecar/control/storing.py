"""What the engine did not take, why, and since when. *On the loop; the clock is the caller's.*"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

What: TypeAlias = Literal["registrations", "revision", "rollouts"]
EVERY: Final[tuple[What, ...]] = ("registrations", "revision", "rollouts")
"""Who is registered; the files that are wanted; how far rollouts are."""


@dataclass(frozen=True, slots=True)
class NotStored:
    """
    Something that waits in memory for the engine, and is tried again until it is taken.

    Attributes:
        error: One line.
        since_s: Since the Unix epoch.
        waiting: How many of them, where they are counted.
    """

    what: What
    error: str
    since_s: float
    waiting: int | None = None


class Storing:
    """
    Args:
        now_s: Since the Unix epoch.
    """

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._failing: dict[What, NotStored] = {}

    def get(self, what: What) -> NotStored | None:
        """What is known of it; None if nothing failed since it was written last."""
        return self._failing.get(what)

    def failed(self, what: What, error: object) -> None:
        """It was not written; it has been so since the first time."""
        before = self._failing.get(what)
        self._failing[what] = NotStored(what, str(error), before.since_s if before is not None else self._now_s())

    def written(self, what: What) -> None:
        """It was."""
        self._failing.pop(what, None)
