"""
Which server is next, and how long to wait before it is asked. *Pure.*

Servers are tried in their order from a random start. A wait is of full jitter: anything from 0 to a ceiling that
doubles with each round of all servers, so that a thousand sidecars that lost the same server come back spread out. It
stays low for the first minute or so: who restarts a control plane has all of them back within seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import random as system_random
from typing import Final

from sidecar.link.transport.server import Server

BASE_S: Final = 0.5
SOON_CAP_S: Final = 5.0
"""A thousand sidecars ask a server that is away some 400 times a second then, each refused at once."""
SOON_ROUNDS: Final = 24
"""Of the low ceiling: a minute, as a wait is half of it on average."""
CAP_S: Final = 30.0
MAX_RETRY_AFTER_S: Final = 300.0
"""Nobody is told to stay away for longer."""
RETRY_AFTER_JITTER: Final = 0.25
"""Part of what a server asks for by which the wait is longer at random, so that those it turned away spread out."""


class Rota:
    """
    The servers, one of them in turn.

    Args:
        servers: At least one.
        chance: From 0 to below 1.

    Attributes:
        failures: In a row.
    """

    __slots__ = ("_at", "_chance", "_not_before", "_servers", "failures")

    def __init__(self, servers: Sequence[Server], chance: Callable[[], float] = system_random) -> None:
        if not servers:
            raise ValueError("expected at least one address of a control plane")
        self._servers = tuple(servers)
        self._chance = chance
        self._at = int(chance() * len(servers))
        self._not_before: dict[Server, float] = {}
        self.failures = 0

    @property
    def current(self) -> Server:
        """Whose turn it is."""
        return self._servers[self._at]

    def all(self) -> list[Server]:
        """Every server, the current one first."""
        return [*self._servers[self._at :], *self._servers[: self._at]]

    def jitter(self, ceiling_s: float) -> float:
        """Anything from 0 to so much."""
        return self._chance() * ceiling_s

    def on_lived(self) -> None:
        """The current one served for a while: what was before does not count any more."""
        self.failures = 0
        self._not_before.pop(self.current, None)

    def on_failure(self, now: float, retry_after_s: float = 0.0, *, stays: bool = False) -> float:
        """
        The current one failed: the next has its turn.

        Args:
            now: By the clock of all calls.
            retry_after_s: What the server asked for; others are asked sooner, if there are any.
            stays: The server has done nothing wrong: it stays the current one.

        Returns:
            Seconds to wait.
        """
        self.failures += 1
        if retry_after_s > 0:
            asked_s = min(retry_after_s, MAX_RETRY_AFTER_S) * (1 + self._chance() * RETRY_AFTER_JITTER)
            self._not_before[self.current] = now + asked_s
        rounds = (self.failures - 1) // len(self._servers)
        ceiling_s = min(SOON_CAP_S, BASE_S * 2 ** min(rounds, 16)) if rounds < SOON_ROUNDS else CAP_S
        wait_s = self.jitter(ceiling_s)
        if not stays:
            self._pick(now + wait_s)
        return max(wait_s, self._not_before.get(self.current, 0.0) - now)

    def on_end(self, now: float) -> float:
        """
        The current one let go in order, or asked to be left: another has its turn, if there is one. Returns the wait.
        """
        wait_s = self.jitter(BASE_S)
        self._pick(now + wait_s)
        return max(wait_s, self._not_before.get(self.current, 0.0) - now)

    def _pick(self, at: float) -> None:
        """The next in order that may be asked then; the one that may be asked soonest if there is none."""
        others = [(self._at + step) % len(self._servers) for step in range(1, len(self._servers) + 1)]
        self._at = min(others, key=lambda index: max(0.0, self._not_before.get(self._servers[index], 0.0) - at))
