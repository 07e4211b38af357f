"""
What a route may do besides forwarding: hurt a request for a test, copy it, refuse it for its rate. *Hot path; pure.*

Everything here decides and nothing acts: no transport, no timer, no clock but the time that the caller gives, and
chance only from the caller's source. `compile.plan` makes these from the file, a `Forward` holds them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b
from math import ceil
from typing import Final

from sidecar.message import RequestHead
from sidecar.upstream.cluster import Cluster

Random = Callable[[], float]
"""A number from 0 up to and not including 1, as `random.random`."""

MAX_KEYS: Final = 10_000
"""Keys that one limiter tells apart; with 48 bytes a key and its entry it grows to about 1.5 MB."""

_MAX_KEY_BYTES: Final = 32
"""Longer keys are kept as their digest, so that a client's 64 KiB header does not cost 64 KiB."""

_ROUNDING_S: Final = 1e-9

MIRROR_NAME: Final = b"x-sidecar-mirror"
MIRROR_FIELD: Final = MIRROR_NAME + b": true"
"""The header field by which a server tells a copy from the request itself; without the line end."""


def happens(percent: float, random: Random) -> bool:
    """Whether something that happens to `percent` (0 to 100) of all requests happens to this one."""
    return percent > 0 and random() * 100 < percent


@dataclass(frozen=True, slots=True)
class Fault:
    """
    Harm done on purpose, to see whether the callers stand it.

    Attributes:
        delay_percent: Share of the requests that are delayed, 0 to 100.
        delay_s: By how much, in seconds, before anything is sent.
        abort_percent: Share of the requests that are answered without being sent, drawn independently.
        abort_status: With this status.
        abort_grpc_status: With this error of gRPC instead, 1 to 16; None: as HTTP says it.
        header: Asked first: only requests for which it is true can be hit; None hits any.
    """

    delay_percent: float = 0.0
    delay_s: float = 0.0
    abort_percent: float = 0.0
    abort_status: int = 503
    abort_grpc_status: int | None = None
    header: Callable[[RequestHead], bool] | None = None

    def decide(self, random: Random, head: RequestHead) -> tuple[float, int | None]:
        """
        What is done to this request.

        Returns:
            Seconds to wait first (0.0 for none), then the status to answer with (None to go on). A request may be hit
            by both: it is answered after the delay, as Envoy does.
        """
        if self.header is not None and not self.header(head):
            return 0.0, None
        delay_s = self.delay_s if happens(self.delay_percent, random) else 0.0
        return delay_s, self.abort_status if happens(self.abort_percent, random) else None


@dataclass(frozen=True, slots=True)
class Mirror:
    """
    A copy of requests for another upstream, whose answers nobody waits for.

    Attributes:
        upstream: Where copies go.
        percent: Share of the requests that are copied, 0 to 100.
        max_body_bytes: A body is kept for the copy up to this; a request whose body is longer is not copied.
    """

    upstream: Cluster
    percent: float = 100.0
    max_body_bytes: int = 64 * 1024

    def wants(self, random: Random) -> bool:
        """Whether this request is copied; ask once a request."""
        return happens(self.percent, random)


@dataclass(frozen=True, slots=True)
class RateLimit:
    """
    How often is too often; equal limits mean the same, so that a reload keeps the counts.

    Attributes:
        requests: So many, 1 or more.
        per_s: In so many seconds.
        burst: So many at once after a pause, 1 or more.
        key: Kind and name of what tells clients apart, `("header", "x-api-key")`; None counts all together.
    """

    requests: int
    per_s: float
    burst: int
    key: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        if self.requests < 1 or self.burst < 1 or self.per_s <= 0:
            raise ValueError("expected at least one request, a burst of at least one and a positive time")


@dataclass(slots=True, eq=False)
class RateLimiter:
    """
    A bucket of tokens for every key, each as one number.

    This is the generic cell rate algorithm (ITU-T I.371, annex A): kept is the time at which the bucket will be full
    again. Requests of a key whose bucket is full and that nobody remembers are the same, so forgetting the keys that
    were quiet for longest costs nothing until more than `max_keys` are busy at once. Beyond that a forgotten key begins
    with a full bucket: the limit is then too generous, never too strict, and memory stays bounded.

    Attributes:
        limit: As configured.
        read_key: Reads the key from a head and the client's address; None counts all together. Requests without the
            key share one bucket, so that leaving it out wins nothing.
        max_keys: Keys that are told apart.
        full_at: When the bucket of each key will be full again; a limiter with the same limit may go on with it.
    """

    limit: RateLimit
    read_key: Callable[[RequestHead, str], bytes | None] | None = None
    max_keys: int = MAX_KEYS
    full_at: OrderedDict[bytes, float] = field(default_factory=OrderedDict)
    _interval_s: float = field(init=False)
    _tolerance_s: float = field(init=False)

    def __post_init__(self) -> None:
        self._interval_s = self.limit.per_s / self.limit.requests
        self._tolerance_s = self._interval_s * (self.limit.burst - 1) + _ROUNDING_S

    def __len__(self) -> int:
        """Keys that are remembered."""
        return len(self.full_at)

    def key_of(self, head: RequestHead, peer_ip: str) -> bytes:
        """The key of a request; empty for those without one."""
        if self.read_key is None:
            return b""
        key = self.read_key(head, peer_ip) or b""
        return key if len(key) <= _MAX_KEY_BYTES else blake2b(key, digest_size=_MAX_KEY_BYTES).digest()

    def allow(self, key: bytes, now: float) -> float | None:
        """
        Count a request, or refuse it; a refused one is not counted.

        Args:
            key: Of `key_of`.
            now: Seconds, on a clock that never goes back.

        Returns:
            None when it may pass; else the seconds, more than 0, after which the next one would.
        """
        full_at = self.full_at
        until_full_s = full_at.get(key, now) - now
        if until_full_s > self._tolerance_s:
            full_at.move_to_end(key)
            return until_full_s - self._tolerance_s
        full_at[key] = max(until_full_s, 0.0) + now + self._interval_s
        full_at.move_to_end(key)
        if len(full_at) > self.max_keys:
            full_at.popitem(last=False)
        return None

    def check(self, head: RequestHead, peer_ip: str, now: float) -> float | None:
        """`allow` for a request."""
        return self.allow(self.key_of(head, peer_ip), now)


@dataclass(frozen=True, slots=True, eq=False)
class BothLimits:
    """
    Two limits that a request must pass: its route's, then that of everything that comes in.

    In this order, so that a client who exceeds its own limit takes nothing from the others.
    """

    own: RateLimiter
    common: RateLimiter

    def check(self, head: RequestHead, peer_ip: str, now: float) -> float | None:
        """As `RateLimiter.check`, of the first that refuses."""
        wait_s = self.own.check(head, peer_ip, now)
        return self.common.check(head, peer_ip, now) if wait_s is None else wait_s


def retry_after(seconds: float) -> bytes:
    """The value of `Retry-After` for a wait: whole seconds, rounded up, at least 1 (RFC 9110, 10.2.3)."""
    return b"%d" % max(1, ceil(seconds))
