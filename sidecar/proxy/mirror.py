"""
Copies of requests for another upstream, whose answers nobody waits for. *Hot path only where a route has a mirror.*

A copy is sent when its request is complete, as an exchange of its own that is not recorded: the upstream's counters
know it, the log and the spans do not. Nothing that happens to it reaches the client, its request or its timing.
"""

from __future__ import annotations

from typing import Final

from sidecar import clock
from sidecar.errors import Reason
from sidecar.exchange import Exchange
from sidecar.message import RequestHead, ResponseHead
from sidecar.proxy.attempt import Attempt
from sidecar.proxy.halves import Dialling
from sidecar.proxy.plan import Limits
from sidecar.proxy.policies import MIRROR_FIELD, Mirror
from sidecar.upstream.retry import RetryPolicy

# Copies under way at one upstream; more are not made, so that a slow one costs no memory.
_MAX_UNDER_WAY: Final = 256


class Copy:
    """
    One copy: collects the request's body, sends, and ignores what comes back.

    Args:
        mirror: Where to.
        exchange: Of the request.
        head: Of the request.
        request: The head as it is sent to the request's own upstream.
        limits: Bounds of the answer.
        dialer: Opens connections.
        timeout_s: Seconds from the sending to the end of the answer.
    """

    __slots__ = (
        "_attempt",
        "_body",
        "_body_bytes",
        "_dialer",
        "_head",
        "_limits",
        "_mirror",
        "_peer",
        "_request",
        "_side",
        "_timeout_s",
    )

    def __init__(
        self,
        mirror: Mirror,
        exchange: Exchange,
        head: RequestHead,
        request: bytes,
        limits: Limits,
        dialer: Dialling,
        timeout_s: float,
    ) -> None:
        self._mirror = mirror
        self._side = exchange.direction
        self._peer = exchange.peer
        self._head = head
        # Behind the last line, before the empty one.
        self._request = b"%b%b\r\n\r\n" % (request[:-2], MIRROR_FIELD)
        self._limits = limits
        self._dialer = dialer
        self._body: list[bytes] | None = []
        self._body_bytes = 0
        self._timeout_s = timeout_s
        self._attempt: Attempt | None = None

    def add(self, data: bytes, is_complete: bool) -> None:
        """More of the request's body, framed; with its last byte the copy is sent."""
        body = self._body
        if body is None:
            return
        self._body_bytes += len(data)
        if not self._mirror.can_keep(self._body_bytes):
            self._body = None
            return
        if data:
            body.append(data)
        if is_complete:
            self._body = None
            self._send(b"".join(body))

    def _send(self, body: bytes) -> None:
        cluster = self._mirror.upstream
        if cluster.stats.requests_active >= _MAX_UNDER_WAY:
            return
        exchange = Exchange(self._side, clock.monotonic_ns(), self._head, self._peer)
        policy = RetryPolicy(attempts=0, per_try_timeout_s=self._timeout_s)
        attempt = Attempt(self, exchange, self._head, self._request, cluster, self._limits, self._dialer, policy)
        attempt.is_bounded_whole = True
        self._attempt = attempt
        attempt.start(body, True)

    # --- the client half that nobody is ----------------------------------------------------------------------

    def on_informational(self, head: ResponseHead) -> None:
        """Ignored."""

    def on_response(self, head: ResponseHead, payload: bytes, is_end: bool, trailers: list[bytes]) -> None:
        """Ignored."""

    def on_payload(self, payload: bytes, is_end: bool, trailers: list[bytes]) -> None:
        """Ignored."""

    def on_lent(self, payload: memoryview, is_end: bool) -> None:
        """Ignored."""

    def on_switched(self, head: ResponseHead | None, rest: bytes) -> None:
        """A copy asks for no switch, and is not answered with one."""
        if self._attempt is not None:
            self._attempt.cancel()

    def on_tunnel_data(self, data: bytes) -> None:
        """Ignored."""

    def on_tunnel_eof(self) -> bool:
        """Ignored."""
        return False

    def on_failed(self, reason: Reason, detail: str) -> None:
        """Ignored."""

    def on_upstream_blocked(self) -> None:
        """The copy is sent whole, so there is nothing to pause."""

    def on_upstream_writable(self) -> None:
        """As above."""
