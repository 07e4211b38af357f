"""
What goes wrong, when, and to whom: a schedule that a seed decides.

One of the shaky servers at a time is the *victim*, the others are well but for closing idle connections: that is what
makes "no request lost that the policy could save" a promise and not a probability. Beside the victim, and at the same
time as it, configurations come and go, names change and vanish, and slow clients arrive by the hundred.
"""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from tests.soak.recorder import Temper
from tests.soak.servers import Server

SHAKY_CALM = Temper(close_after=0.01, close_idle=0.01, delay_max_s=0.004)
"""Of the shaky servers when nothing is wrong: idle connections close without notice all the time."""

TEMPERS: dict[str, Temper] = {
    "reset_before": replace(SHAKY_CALM, reset_before=0.7),
    "reset_within": replace(SHAKY_CALM, reset_within=0.5),
    "garbage": replace(SHAKY_CALM, garbage=0.7),
    "bad_chunk": replace(SHAKY_CALM, bad_chunk=0.5),
    "error": replace(SHAKY_CALM, error=0.8),
    "trailing": replace(SHAKY_CALM, trailing=0.9),
    "mute": replace(SHAKY_CALM, mute=0.5),
    "slow": replace(SHAKY_CALM, delay_min_s=0.05, delay_max_s=0.7),
    "closing": replace(SHAKY_CALM, close_after=0.5, close_idle=0.5),
}
KINDS = ("kill", "stop", *TEMPERS)
SLACK_S = 2.5
"""After a fault's end its effects still arrive: a request that a stopped server got, a retry that waits."""


@dataclass(frozen=True)
class Fault:
    """One that happened, by the monotonic clock."""

    kind: str
    server: str
    began_s: float
    ended_s: float

    def touches(self, host: str, began_s: float, ended_s: float) -> bool:
        """Whether it can have hurt a request of this time to the servers of this name."""
        is_there = self.server.rstrip("0123456789") == host
        return is_there and self.began_s <= ended_s and began_s <= self.ended_s + SLACK_S


class Victims:
    """
    Hurts one server after the other.

    Args:
        servers: That may be hurt.
        seed: Decides which, how, and for how long.
        wait: Lets so many seconds go by.
        pace: By which the length of each fault is multiplied.
        tempers: Faults by name, beside being killed and stopped.

    Attributes:
        faults: What happened.
    """

    def __init__(
        self, servers: Sequence[Server], seed: str, wait: Callable[[float], None], pace: float = 1.0,
        tempers: Mapping[str, Temper] = TEMPERS,
    ) -> None:  # fmt: skip
        self.faults: list[Fault] = []
        self._servers = servers
        self._chance = random.Random(seed)
        self._wait_s = wait
        self._pace = pace
        self._tempers = tempers
        self._left: list[str] = []

    def strike(self) -> None:
        """One fault, from its beginning to its end; all kinds come before one comes again."""
        chance = self._chance
        if not self._left:
            kinds = ("kill", "stop", *self._tempers)
            self._left = chance.sample(kinds, len(kinds))
        kind, server = self._left.pop(), chance.choice(self._servers)
        began_s = time.monotonic()
        if kind == "kill":
            server.kill()
            self._wait(chance.uniform(0.1, 1.0))
            server.start()
        elif kind == "stop":
            server.signal(signal.SIGSTOP)
            self._wait(chance.uniform(0.3, 1.5))
            server.signal(signal.SIGCONT)
        else:
            server.temper(self._tempers[kind])
            self._wait(chance.uniform(0.3, 1.0))
            server.temper(server.calm)
        self.faults.append(Fault(kind, server.name, began_s, time.monotonic()))
        self._wait(chance.uniform(0.1, 0.6))

    def _wait(self, seconds: float) -> None:
        self._wait_s(seconds * self._pace)

    def counts(self) -> Counter[str]:
        """Faults by kind."""
        return Counter(fault.kind for fault in self.faults)
