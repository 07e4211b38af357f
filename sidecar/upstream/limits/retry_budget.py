"""How much of an upstream's traffic retries may be. *Pure; asked only when an attempt has failed.*"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Final


@dataclass(frozen=True, slots=True)
class RetryBudgetSpec:
    """
    How much of an upstream's traffic retries may be.

    Attributes:
        percent: Of the requests of the last ten seconds, 0 to 100 or more.
        min_per_second: Retries that are always allowed, for upstreams with little traffic.
    """

    percent: float = 20.0
    min_per_second: float = 3.0

    def __post_init__(self) -> None:
        if not (0 <= self.percent < inf and 0 <= self.min_per_second < inf):
            raise ValueError("expected a percentage and a number of retries per second of at least 0")


DEFAULT_BUDGET: Final = RetryBudgetSpec()
"""Of an upstream whose file says nothing about it: Istio's figures."""


class RetryBudget:
    """
    Keeps retries from multiplying an outage: an upstream that fails everything gets a fifth more requests, not three
    times as many.

    Over a sliding window of ten seconds, retries are at most `percent` of first attempts plus `min_per_second` times
    ten (Finagle's `RetryBudget`, which Linkerd took over). It costs a request nothing: what is counted anyhow is read
    when a retry is asked for, and what came since the last time is taken to have come evenly.
    """

    __slots__ = ("_asked_at", "_ratio", "_requests", "_requests_seen", "_reserve", "_retries", "spec")

    WINDOW_S = 10

    def __init__(self, spec: RetryBudgetSpec) -> None:
        self._requests = [0.0] * self.WINDOW_S
        self._retries = [0] * self.WINDOW_S
        self._asked_at = -inf
        self._requests_seen = 0
        self.configure(spec)

    def __repr__(self) -> str:
        return f"<RetryBudget {sum(self._retries)} of {self._allowed():.1f}>"

    def configure(self, spec: RetryBudgetSpec) -> None:
        """Change the limits; what is spent stays spent."""
        self.spec = spec
        self._ratio = spec.percent / 100
        self._reserve = spec.min_per_second * self.WINDOW_S

    def take(self, now: float, requests: int, is_forced: bool = False) -> bool:
        """
        Spend one retry.

        Args:
            now: Seconds of loop time.
            requests: First attempts so far, ever; only ever grows.
            is_forced: Spend it even if there is none left.

        Returns:
            Whether it may be made.
        """
        self._turn(now, requests)
        if not is_forced and sum(self._retries) + 1 > self._allowed():
            return False
        self._retries[int(now) % self.WINDOW_S] += 1
        return True

    def _allowed(self) -> float:
        return self._ratio * sum(self._requests) + self._reserve

    def _turn(self, now: float, requests: int) -> None:
        """Bring the window's seconds up to date: at most ten steps."""
        new = requests - self._requests_seen
        self._requests_seen = requests
        before, self._asked_at = self._asked_at, now
        if before == -inf:
            return  # How long those requests took to come is not known: they allow nothing.
        seconds = int(now) - int(before)
        if seconds <= 0:
            self._requests[int(now) % self.WINDOW_S] += new
            return
        share = new / (now - before)
        first = max(int(before) + 1, int(now) - self.WINDOW_S + 1)
        for second in range(first, int(now) + 1):
            self._requests[second % self.WINDOW_S] = share * min(1.0, now - second)
            self._retries[second % self.WINDOW_S] = 0
        if seconds < self.WINDOW_S:
            self._requests[int(before) % self.WINDOW_S] += share * (int(before) + 1 - before)
