"""
Which endpoints may be chosen now, and with what share: health, ejection, panic, slow start, zones. *Cold, pure;
`Probation.choose` hot, and there only while an endpoint is on probation.*
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from sidecar.message import Framing, RequestHead
from sidecar.upstream.endpoint import Endpoint, Health
from sidecar.upstream.retry import IDEMPOTENT_METHODS

OVERPROVISIONING: Final = 1.4
"""
How much more than its part the own zone is thought to bear: while at least 1/1.4 = 71 % of it is usable, it takes all
(Envoy's `overprovisioning_factor`).
"""

SLOW_START_FLOOR: Final = 0.1
"""Share of its weight with which an endpoint begins (Envoy's `min_weight_percent`)."""

_SLOW_START_STEPS: Final = 20
# Requests that an endpoint on probation may let pass while it waits for one that can be sent again.
_PATIENCE: Final = 32


@dataclass(frozen=True, slots=True)
class Selection:
    """
    Attributes:
        endpoints: Those to choose among; their `share` is set.
        is_panic: Too few are usable, so all are in.
        is_warming: A slow start is under way: select again in a second.
    """

    endpoints: list[Endpoint]
    is_panic: bool
    is_warming: bool


def is_usable(endpoint: Endpoint) -> bool:
    """Whether nothing speaks against the endpoint. One that was not checked yet is taken to be healthy."""
    return endpoint.health != Health.UNHEALTHY and endpoint.ejected_until == 0


def select(
    endpoints: Sequence[Endpoint], now: float, panic_threshold: float = 50.0, slow_start_s: float = 0.0, zone: str = ""
) -> Selection:
    """
    Narrow a cluster's endpoints to those that get requests, and set their shares.

    Args:
        endpoints: All of the cluster; those of weight 0 get nothing and count for nothing.
        now: Seconds of loop time.
        panic_threshold: Percentage of usable endpoints below which all are used; 0 for never.
        slow_start_s: Seconds in which an endpoint that joined reaches its full weight; 0 for none.
        zone: Where this sidecar is; empty for no preference.
    """
    weighted = [endpoint for endpoint in endpoints if endpoint.weight > 0]
    good = [endpoint for endpoint in weighted if is_usable(endpoint)]
    for endpoint in weighted:
        endpoint.share = endpoint.weight
    if len(good) < len(weighted) and 100 * len(good) < panic_threshold * len(weighted):
        return Selection(weighted, True, False)
    is_warming = False
    if slow_start_s > 0:
        for endpoint in good:
            elapsed_s = now - endpoint.joined_at
            if elapsed_s < slow_start_s:
                is_warming = True
                endpoint.share *= _warmth(elapsed_s / slow_start_s)
    if zone:
        good = _prefer_zone(good, weighted, zone)
    return Selection(good, False, is_warming)


def _warmth(part: float) -> float:
    # In steps, so that weights stay fractions of small numbers, which round robin needs.
    return max(SLOW_START_FLOOR, round(part * _SLOW_START_STEPS) / _SLOW_START_STEPS)


def _prefer_zone(good: list[Endpoint], weighted: list[Endpoint], zone: str) -> list[Endpoint]:
    """The own zone's endpoints, and as much of the others as the own zone cannot bear."""
    near = [endpoint for endpoint in good if endpoint.zone == zone]
    far = [endpoint for endpoint in good if endpoint.zone != zone]
    if not near or not far:
        return good
    part = OVERPROVISIONING * len(near) / sum(endpoint.zone == zone for endpoint in weighted)
    if part >= 1:
        return near
    scale = (1 - part) / part * sum(one.share for one in near) / sum(one.share for one in far)
    for endpoint in far:
        endpoint.share *= scale
    return good


class Probation:
    """
    Sends one request to each endpoint that comes back from an ejection, and everything else where it would go anyway.

    The request should be one that can be sent again, for the endpoint may still be ill; an upstream that gets none is
    not waited for for ever.

    Args:
        choose: Where requests go otherwise.
        waiting: Endpoints on probation, each to be named once.
        on_done: Told when each has been.
    """

    __slots__ = ("_choose", "_on_done", "_patience", "_waiting")

    def __init__(
        self,
        choose: Callable[[RequestHead, str], Endpoint | None],
        waiting: list[Endpoint],
        on_done: Callable[[], None],
    ) -> None:
        self._choose = choose
        self._waiting = waiting
        self._on_done = on_done
        self._patience = _PATIENCE

    def choose(self, head: RequestHead, peer_ip: str) -> Endpoint | None:
        """An endpoint that waits for its request, or whatever is chosen otherwise."""
        can_repeat = head.framing is Framing.NONE and head.method in IDEMPOTENT_METHODS
        if not can_repeat and self._patience > 0:
            self._patience -= 1
            return self._choose(head, peer_ip)
        endpoint = self._waiting.pop()
        endpoint.is_probed = True
        if not self._waiting:
            self._on_done()
        return endpoint
