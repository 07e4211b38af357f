"""What the demonstration shows, gathered from the sidecar's own telemetry and admin address. *Cold.*"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sidecar.demo.collector import Trace
from sidecar.demo.http11 import HTTPError
from sidecar.demo.samples import Samples, total
from sidecar.demo.single.stage import Stage
from sidecar.demo.traffic import percentile

PERIOD_S = 0.25
"""Between two looks at the sidecar; with its own half second, an edit shows within a second."""
RATE_OVER_S = 3.0

Key = tuple[str, str, str]
"""Direction, route, upstream."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table of requests; latencies in milliseconds, of the last requests of this key."""

    direction: str
    route: str
    upstream: str
    code: str
    flag: str
    count: int
    per_second: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Split:
    """A route with weights: what the file says, and how it fell since the file is live."""

    route: str
    weights: Mapping[str, float]
    counts: Mapping[str, int]

    @property
    def total(self) -> int:
        """Requests."""
        return sum(self.counts.values())

    def share(self, upstream: str) -> float:
        """Of the requests, in percent."""
        return 100.0 * self.counts.get(upstream, 0) / self.total if self.total else 0.0

    def weight_share(self, upstream: str) -> float:
        """Of the weights, in percent."""
        return 100.0 * self.weights[upstream] / (sum(self.weights.values()) or 1.0)


@dataclass(slots=True)
class Board:
    """
    One moment of the demonstration.

    Attributes:
        overhead_ms: What the sidecar itself added to an exchange, on average; 0.0 if it has not said.
        generation, config_hash, loaded_at: Of the configuration in force.
        is_refused: Whether the last edit was refused, and the one in force is older.
        problems: Why.
        reloads: Edits that took effect or were refused, counted; a change is worth telling.
        trouble: Why the sidecar cannot be asked, or empty.
    """

    uptime_s: float = 0.0
    rows: Sequence[Row] = ()
    splits: Sequence[Split] = ()
    sent: int = 0
    ok: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    beta: Counter[str] = field(default_factory=Counter)
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    overhead_ms: float = 0.0
    generation: int = 0
    config_hash: str = ""
    loaded_at: str = ""
    is_refused: bool = False
    problems: Sequence[str] = ()
    reloads: int = 0
    traces: Sequence[Trace] = ()
    trouble: str = ""


class Observer:
    """Looks at a stage four times a second; `board` is what it saw last."""

    def __init__(self, stage: Stage) -> None:
        self.board = Board()
        self._stage = stage
        self._began = time.monotonic()
        self._weights: Mapping[str, Mapping[str, float]] = {}
        self._last_load = ""
        self._reloads = -1  # the first load is no reload
        self._history: list[tuple[float, Mapping[tuple[str, str, str, str, str], float]]] = []

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await self.look()
            await asyncio.sleep(PERIOD_S)

    async def look(self) -> None:
        """Make `board` anew."""
        board = Board(uptime_s=time.monotonic() - self._began)
        try:
            samples = await self._stage.metrics()
            await self._see_configuration(board)
        except HTTPError as error:
            board.trouble = str(error)
            self.board = board
            return
        self._see_requests(board, samples)
        self._see_traffic(board)
        ledger = self._stage.ledger
        board.splits = [
            Split(route, weights, {upstream: ledger.split[route, upstream] for upstream in weights})
            for route, weights in self._weights.items()
        ]
        board.traces = list(self._stage.collector.recent)[-3:]
        self.board = board

    async def _see_configuration(self, board: Board) -> None:
        page = await self._stage.admin("/config")
        live, last = page["live"], page["last_load"]
        board.generation, board.config_hash, board.loaded_at = live["generation"], live["hash"], live["loaded_at"]
        board.is_refused = not last["ok"]
        board.problems = [problem["text"] for problem in last["problems"]] or [last["error"] or ""]
        if last["at"] != self._last_load:
            self._last_load = last["at"]
            self._reloads += 1
            if last["ok"]:
                self._weights = _weights(await self._stage.admin("/routes"))
                self._stage.ledger.split_from(live["loaded_at"])
        board.reloads = self._reloads

    def _see_requests(self, board: Board, samples: Samples) -> None:
        now = time.monotonic()
        counts: dict[tuple[str, str, str, str, str], float] = {}
        for (metric, labels), value in samples.items():
            if metric == "sidecar_requests_total" and value:
                have = defaultdict(str, labels)
                counts[have["direction"], have["route"], have["upstream"], have["code"], have["flag"]] = value
        self._history.append((now, counts))
        while len(self._history) > 2 and now - self._history[1][0] > RATE_OVER_S:
            del self._history[0]
        then, before = self._history[0]
        durations = self._durations()
        rows = []
        for (direction, route, upstream, code, flag), count in sorted(counts.items()):
            added = count - before.get((direction, route, upstream, code, flag), 0.0)
            rate = added / (now - then) if now > then else 0.0
            taken = durations[direction, route, upstream]
            p50_ms, p99_ms = percentile(taken, 0.5), percentile(taken, 0.99)
            rows.append(Row(direction, route, upstream, code, flag, int(count), rate, p50_ms, p99_ms))
        board.rows = rows
        board.overhead_ms = overhead_ms(samples)

    def _durations(self) -> defaultdict[Key, list[float]]:
        durations: defaultdict[Key, list[float]] = defaultdict(list)
        for _, direction, route, upstream, duration_ms in self._stage.ledger.recent:
            durations[direction, route, upstream].append(duration_ms)
        for values in durations.values():
            values.sort()
        return durations

    def _see_traffic(self, board: Board) -> None:
        for tally in self._stage.traffic.tallies:
            board.sent += tally.sent
            board.ok += tally.ok
            board.failed += tally.failed
            board.beta += tally.beta
        latencies = sorted(self._stage.traffic.tally.latencies_s)
        board.p50_ms = 1000 * percentile(latencies, 0.5)
        board.p99_ms = 1000 * percentile(latencies, 0.99)


def overhead_ms(samples: Samples) -> float:
    """What the sidecar itself added to an exchange, on average over both directions; 0.0 if none was measured."""
    seconds, count = (total(samples, f"sidecar_overhead_seconds_{part}") for part in ("sum", "count"))
    return 1000 * seconds / count if count else 0.0


def _weights(routes: Any) -> dict[str, dict[str, float]]:
    """Of the outbound routes that have several destinations."""
    return {
        route["name"]: {target["upstream"]: float(target["weight"]) for target in route["to"]}
        for route in routes["outbound"]["routes"]
        if len(route.get("to", ())) > 1
    }
