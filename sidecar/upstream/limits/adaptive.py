"""
How many requests an upstream can work on at once, found from its latency. *Hot path: `on_sample`. Pure.*

An upstream works on some number of requests at once; more than that only wait in its queue, where they make everybody
slow. So latency tells: at or below that number it is the latency of an idle upstream, above it grows with the queue.
The limit follows the ratio of the two (the gradient of Netflix's concurrency-limits, `Gradient2Limit`, and of Envoy's
`adaptive_concurrency` filter), a window at a time:

    gradient = clamp(1.5 * baseline / latency of the window, 0.5, 1)
    limit    = limit * gradient + sqrt(limit)

The square root is the queue that is allowed, and what lets the limit grow. At rest latency is 1.5 to 1.7 times the
baseline: the upstream is never idle and its queue is short. The limit does not move while less than half of it is
used, for then nothing is learnt about it.

The baseline must not be learnt under load, or a slow drift into overload would be taken for normal. It is measured:
while fewer requests than half of the limit are in flight, by just looking; else by a probe as in Envoy, but stepwise.
The limit is halved until latency falls no further, which is where no queue is left. A probe comes once a minute, a
second after the start, and sooner while the limit is at its floor: then the upstream has become slower for good.

All of that needs results, and a limit that lets nobody in gets none: of what is in flight nothing ends, being streams,
or hung. So `on_tick` lets time do its part. A step of a probe ends when its time is up, and while requests are refused
and nothing has been heard for a while, one more is let in each second: a half-open circuit breaker, whatever the
number of those that do not end. The first of them that is answered is a result, and the rest is as above.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf, sqrt
from random import random as system_random
from typing import Final

MIN_LIMIT: Final = 3
"""Requests that are always let through (Envoy's `min_concurrency`)."""

INITIAL_LIMIT: Final = 64
"""Where a limit begins: at sqrt(limit) a window it passes 1,000 within five seconds."""

TOLERANCE: Final = 1.5
"""By how much latency may exceed the baseline before the limit shrinks (Netflix's `rttTolerance`)."""

WINDOW_S: Final = 0.1
"""Seconds between two changes of the limit (Envoy's `concurrency_update_interval`)."""

MIN_RESULTS: Final = 10
"""Results that a window needs; it lasts until it has them (Netflix's `minWindowSize`)."""

MAX_SAMPLES: Final = 256
"""Latencies that a window keeps; of more the latest."""

PROBE_SAMPLES: Final = 50
"""Results that a step of a probe needs (Envoy's `min_rtt_calc_params.request_count`)."""

PROBE_PERIOD_S: Final = 60.0
"""Seconds between two probes (Envoy's `min_rtt_calc_params.interval`)."""

PROBE_JITTER: Final = 0.15
"""Part of the period that is added at random, so that sidecars do not probe in step (Envoy's `jitter`)."""

FIRST_WINDOW_S: Final = 1.0
"""Seconds at the start whose results do not count: the first to come back are the fastest."""

FIRST_PROBE_S: Final = 1.0
FLOOR_PROBE_S: Final = 10.0
PROBE_STEP_MAX_S: Final = 5.0
"""Seconds that a step of a probe lasts at most; then what was found counts, or the probe is given up."""

SILENCE_S: Final = 5.0
"""Seconds without a result after which requests that are refused are taken for a reason to let one in."""

_FALLS: Final = 0.9


class AdaptiveLimit:
    """
    Args:
        max_limit: Upper bound of the limit.
        random: Source of chance for the time of the next probe.

    Attributes:
        limit: Requests that may be in flight now.
        baseline_s: Latency of the upstream without a queue, in seconds; 0 while unknown.
        is_probing: Whether the limit is held down to measure the baseline.
    """

    __slots__ = (
        "_drained_at",
        "_drops",
        "_estimate",
        "_heard_at",
        "_last_probe_at",
        "_lowest_s",
        "_max_limit",
        "_peak",
        "_probe_at",
        "_random",
        "_results",
        "_samples",
        "_starts_at",
        "_step_ends_at",
        "_to_skip",
        "_window_ends_at",
        "baseline_s",
        "is_probing",
        "limit",
    )

    def __init__(self, max_limit: int, random: Callable[[], float] = system_random) -> None:
        self._max_limit = max(max_limit, 1)
        self._random = random
        self._estimate = float(min(INITIAL_LIMIT, self._max_limit))
        self.limit = int(self._estimate)
        self.baseline_s = 0.0
        self.is_probing = False
        self._samples: list[float] = []
        self._results = 0
        self._drops = 0
        self._peak = 0
        self._starts_at = 0.0
        self._to_skip = 0
        self._window_ends_at = 0.0
        self._probe_at = inf
        self._last_probe_at = -inf
        self._step_ends_at = inf
        self._drained_at = inf
        self._lowest_s = inf
        self._heard_at = -inf

    def __repr__(self) -> str:
        state = "PROBING" if self.is_probing else "FOLLOWING"
        return f"<AdaptiveLimit {self.limit} [{state} | Baseline: {self.baseline_s * 1000:.1f} ms]>"

    def set_max(self, max_limit: int) -> None:
        """Change the upper bound."""
        self._max_limit = max(max_limit, 1)
        self._estimate = min(self._estimate, float(self._max_limit))
        self.limit = min(self.limit, self._max_limit)

    def on_sample(self, latency_s: float, in_flight: int, did_drop: bool, now: float) -> None:
        """
        Learn from one result.

        Args:
            latency_s: Seconds from the request to the response's head; of no account if `did_drop`.
            in_flight: Requests in flight, this one included.
            did_drop: The upstream gave up on it for overload: a timeout, or a status that says so. Other failures tell
                nothing about load and are no sample.
            now: Seconds of loop time.
        """
        self._heard_at = now
        if now < self._starts_at or (self.is_probing and not self._is_of_probe(latency_s, in_flight, now)):
            return
        if self._starts_at == 0.0:
            self._starts_at = now + FIRST_WINDOW_S
            return
        if in_flight > self._peak:
            self._peak = in_flight
        if did_drop:
            self._drops += 1
        elif len(self._samples) < MAX_SAMPLES:
            self._samples.append(latency_s)
        else:
            self._samples[self._results % MAX_SAMPLES] = latency_s
        self._results += 1
        if now >= self._window_ends_at and self._results >= self._needed(now):
            self._end_window(now)

    def on_tick(self, in_flight: int, has_refused: bool, now: float) -> None:
        """
        Let time do its part; call it about once a second.

        Args:
            in_flight: Requests in flight.
            has_refused: Whether the limit kept any out since the last call.
            now: Seconds of loop time.
        """
        if self._heard_at == -inf:
            self._heard_at = now  # Silence is counted from when somebody could have been heard.
        if self.is_probing and now >= self._step_ends_at:
            self._end_window(now)
        if has_refused and not self.is_probing and now >= self._heard_at + SILENCE_S and in_flight >= self.limit:
            self._estimate = min(float(in_flight + 1), float(self._max_limit))
            self.limit = int(self._estimate)

    def _needed(self, now: float) -> int:
        return PROBE_SAMPLES if self.is_probing or self.baseline_s == 0.0 or now >= self._probe_at else MIN_RESULTS

    def _is_of_probe(self, latency_s: float, in_flight: int, now: float) -> bool:
        """Whether a result belongs to the step under way: it began when the queue was gone, as did those before it."""
        if now >= self._step_ends_at:
            self._end_window(now)
            return False
        if self._drained_at == inf and in_flight <= self.limit:
            self._drained_at = now
        if now - latency_s < self._drained_at:
            return False
        # Of those that began together the fastest come back first: they alone would make a baseline that is too low.
        self._to_skip -= 1
        return self._to_skip < 0

    def _end_window(self, now: float) -> None:
        latency_s = _typical(self._samples)
        drop_share = self._drops / self._results if self._results else 0.0
        is_busy = self._peak * 2 >= self.limit
        self._samples = []
        self._results = self._drops = self._peak = 0
        self._window_ends_at = now + WINDOW_S
        if self.is_probing:
            self._end_step(latency_s, now)
        elif is_busy:
            self._follow(latency_s, drop_share, now)
        elif latency_s is not None and (self.baseline_s == 0.0 or now >= self._probe_at):
            # With so little in flight the upstream has no queue: this is the baseline, without a probe.
            self._found(latency_s, now)

    def _follow(self, latency_s: float | None, drop_share: float, now: float) -> None:
        if latency_s is not None and self.baseline_s == 0.0:
            self.baseline_s = latency_s
            self._probe_at = now + FIRST_PROBE_S  # What was found under load may be a queue's latency.
        is_at_floor = self.limit <= 2 * MIN_LIMIT + 2
        if now >= self._probe_at or (is_at_floor and now >= self._last_probe_at + FLOOR_PROBE_S and latency_s):
            self._lowest_s = latency_s or inf
            self._begin_step(self.limit // 2, now)
            return
        gradient = 1.0 if latency_s is None else TOLERANCE * self.baseline_s / max(latency_s, 1e-6)
        gradient = max(0.5, min(1.0, gradient, 1.0 - drop_share))
        estimate = self._estimate * gradient + sqrt(self._estimate)
        self._estimate = min(max(estimate, MIN_LIMIT), float(self._max_limit))
        self.limit = max(1, int(self._estimate))

    # --- the probe -------------------------------------------------------------------------------------------

    def _begin_step(self, limit: int, now: float) -> None:
        self.is_probing = True
        self.limit = min(max(limit, MIN_LIMIT), self._max_limit)
        self._drained_at = inf
        self._to_skip = self.limit
        self._step_ends_at = now + PROBE_STEP_MAX_S

    def _end_step(self, latency_s: float | None, now: float) -> None:
        falls = latency_s is not None and latency_s < self._lowest_s * _FALLS
        if latency_s is not None:
            self._lowest_s = min(self._lowest_s, latency_s) if falls else latency_s
        if falls and self.limit > MIN_LIMIT:
            self._begin_step(self.limit // 2, now)
            return
        self.is_probing = False
        self.limit = max(1, int(self._estimate))
        # Without a result the old baseline stands.
        self._found(self._lowest_s if latency_s is not None else self.baseline_s, now)

    def _found(self, baseline_s: float, now: float) -> None:
        self.baseline_s = baseline_s
        self._last_probe_at = now
        self._probe_at = now + PROBE_PERIOD_S * (1 + PROBE_JITTER * self._random())


def _typical(samples: list[float]) -> float | None:
    """
    The mean of all but the slowest tenth, or None without samples.

    A median leaps between the two kinds of an upstream that answers half of its requests from a cache; a mean follows
    a single request that hung.
    """
    if not samples:
        return None
    kept = sorted(samples)[: max(1, len(samples) - len(samples) // 10)]
    return sum(kept) / len(kept)
