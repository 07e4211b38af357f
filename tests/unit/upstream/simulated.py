"""
Servers on a clock of their own: one with so many workers and a queue behind an adaptive limit, and several among which
a cluster chooses.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from sidecar.upstream.cluster import Cluster
from sidecar.upstream.endpoint import Endpoint
from sidecar.upstream.limits.adaptive import AdaptiveLimit
from tests.unit.upstream.fakes import HEAD


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


@dataclass
class Server:
    """How one endpoint answers: after `good_s` on the average, or with `status` after `bad_s` in this part of cases."""

    good_s: float = 0.05
    bad_s: float = 0.001
    bad_part: float = 0.0
    status: int = 503
    chosen: int = 0


class Balancing:
    """Requests at random at `rate` a second, to the endpoints that a cluster chooses; none waits for another."""

    def __init__(self, cluster: Cluster, servers: list[Server], rate: float, seed: int = 7) -> None:
        self.cluster = cluster
        self.servers = dict(zip(cluster.endpoints, servers, strict=True))
        self.rate = rate
        self.random = Random(seed)
        self.now = 0.0
        self.ends: list[tuple[float, int, Endpoint, float, int]] = []
        self.count = 0

    def run(self, seconds: float) -> list[float]:
        """Go on for so long; the share of each endpoint in it."""
        for server in self.servers.values():
            server.chosen = 0
        end = self.now + seconds
        next_tick = self.now + 1
        while self.now < end:
            self.now += self.random.expovariate(self.rate)
            while self.ends and self.ends[0][0] <= self.now:
                self._finish(*heapq.heappop(self.ends))
            if self.now >= next_tick:
                self.cluster.tick(self.now)
                next_tick += 1
            self._begin()
        total = sum(server.chosen for server in self.servers.values())
        return [server.chosen / total for server in self.servers.values()]

    def _begin(self) -> None:
        endpoint = self.cluster.choose(HEAD, "")
        assert endpoint is not None
        server = self.servers[endpoint]
        server.chosen += 1
        endpoint.active += 1
        is_bad = self.random.random() < server.bad_part
        takes_s = self.random.expovariate(1 / (server.bad_s if is_bad else server.good_s))
        self.count += 1
        status = server.status if is_bad else 200
        heapq.heappush(self.ends, (self.now + takes_s, self.count, endpoint, takes_s, status))

    def _finish(self, at: float, _: int, endpoint: Endpoint, took_s: float, status: int) -> None:
        endpoint.active -= 1
        # As the data path does: good answers are kept back while nobody wants them.
        if self.cluster.observer is not None and status >= self.cluster.observes_from:
            self.cluster.observer(endpoint, status, None, took_s, at)
