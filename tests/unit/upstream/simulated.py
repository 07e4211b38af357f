"""A server with so many workers and a queue, on a clock of its own, behind an adaptive limit."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from sidecar.upstream.limits.adaptive import AdaptiveLimit


@dataclass
class Seen:
    """What clients saw in one second."""

    answered: int = 0
    refused: int = 0
    latencies: list[float] = field(default_factory=list)

    @property
    def mean_s(self) -> float:
        return sum(self.latencies) / len(self.latencies) if self.latencies else 0.0


class Simulation:
    """
    Requests come at random at `rate` a second; each takes `service_s()` of one of `workers`, after those before it.

    With a timeout, a request that takes longer is given up by the client, though the server still works on it.
    """

    def __init__(
        self, limit: AdaptiveLimit, workers: int, service_s: Callable[[], float], rate: float, timeout_s: float = 1e9
    ) -> None:
        self.limit = limit
        self.workers = workers
        self.service_s = service_s
        self.rate = rate
        self.timeout_s = timeout_s
        self.random = Random(7)
        self.now = 0.0
        self.in_flight = 0
        self.busy = 0
        self.queue: deque[float] = deque()
        self.events: list[tuple[float, int, str, float]] = []
        self.count = 0
        self.seconds: list[Seen] = []
        self._push(0.0, "arrive", 0.0)

    def _push(self, at: float, what: str, began: float) -> None:
        self.count += 1
        heapq.heappush(self.events, (at, self.count, what, began))

    def _begin(self) -> None:
        while self.queue and self.busy < self.workers:
            self.busy += 1
            self._push(self.now + self.service_s(), "finish", self.queue.popleft())

    def run(self, seconds: float) -> list[Seen]:
        """Go on for so long; what was seen in each second of it."""
        end = self.now + seconds
        first = len(self.seconds)
        while self.events and self.events[0][0] < end:
            self.now, _, what, began = heapq.heappop(self.events)
            while len(self.seconds) <= int(self.now):
                self.seconds.append(Seen())
            seen = self.seconds[-1]
            if what == "arrive":
                self._push(self.now + self.random.expovariate(self.rate), "arrive", 0.0)
                if self.in_flight >= self.limit.limit:
                    seen.refused += 1
                    continue
                self.in_flight += 1
                self.queue.append(self.now)
                self._begin()
                continue
            self.busy -= 1
            latency_s = self.now - began
            is_late = latency_s > self.timeout_s
            self.limit.on_sample(latency_s, self.in_flight, is_late, self.now)
            self.in_flight -= 1
            if not is_late:
                seen.answered += 1
                seen.latencies.append(latency_s)
            self._begin()
        self.now = end
        return self.seconds[first:]
