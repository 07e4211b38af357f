"""
Copies of requests for another upstream, whose answers nobody waits for. *Hot path only where a route has a mirror.*

A copy is sent when its request is complete, as an exchange of its own that is not recorded: the upstream's counters
know it, the log and the spans do not. Nothing that happens to it reaches the client, its request or its timing.
"""

from __future__ import annotations

import asyncio
from typing import Final

from sidecar import clock, errors
from sidecar.errors import Reason
from sidecar.exchange import Exchange
from sidecar.http1.body import NO_TRAILERS
from sidecar.message import ResponseHead
from sidecar.proxy.exchange.forwarder import Forwarder
from sidecar.proxy.exchange.interfaces import Dialling, Requester, ServerStream
from sidecar.proxy.exchange.policies import MIRROR_FIELD, MIRROR_NAME, Mirror
from sidecar.proxy.exchange.request import UpstreamRequest
from sidecar.proxy.plan import Limits
from sidecar.upstream.retry import RetryPolicy

# Copies under way at one upstream; more are not made, so that a slow one costs no memory.
_MAX_UNDER_WAY: Final = 256
MIRROR_TIMEOUT_S: Final = 15.0
"""Of a copy whose route has no timeout: App Mesh's and Envoy's time for a request."""


class Copy(Requester):
    """
    One copy: collects the request's body, sends, and ignores what comes back.

    Args:
        mirror: Where to.
        exchange: Of the request.
        request: As it is sent to the request's own upstream.
        limits: Bounds of the answer.
        dialer: Opens connections.
        timeout_s: Seconds from the sending to the end of the answer.

    Attributes:
        is_over: It was sent or will not be: no more of the body is needed.
    """

    __slots__ = ("_dialer", "_forwarder", "_limits", "_mirror", "_peer", "_request", "_side", "_timeout_s", "is_over")

    def __init__(
        self,
        mirror: Mirror,
        exchange: Exchange,
        request: UpstreamRequest,
        limits: Limits,
        dialer: Dialling,
        timeout_s: float,
    ) -> None:
        self._mirror = mirror
        self._side = exchange.direction
        self._peer = exchange.peer
        added = b"%b%b\r\n" % (request.added, MIRROR_FIELD)
        # What a client says there must not contradict us: the first of two is what many servers read.
        fields = [field for field in request.fields if field.name != MIRROR_NAME]
        self._request = UpstreamRequest(request.head, fields, request.path, request.host, added, b"")
        self._limits = limits
        self._dialer = dialer
        self._request.begin(b"", False, NO_TRAILERS)
        self._timeout_s = timeout_s
        self._forwarder: Forwarder | None = None
        self.is_over = False

    def add(self, payload: bytes, is_complete: bool, trailers: list[bytes]) -> None:
        """More of the request's body; with its last byte the copy is sent."""
        request = self._request
        if self.is_over:
            return
        request.add(payload, is_complete, trailers, self._mirror.max_body_bytes)
        if request.body is None:
            self.drop("body_too_large")
        elif is_complete:
            self.is_over = True
            self._send()

    def drop(self, reason: str) -> None:
        """Make no copy, if it has not been sent; counted by the reason, one of `ClusterStats.mirror_skipped_*`."""
        if not self.is_over:
            self.is_over = True
            self._count(reason)

    def _count(self, reason: str) -> None:
        stats, name = self._mirror.upstream.stats, f"mirror_skipped_{reason}"
        setattr(stats, name, getattr(stats, name) + 1)

    def _send(self) -> None:
        cluster = self._mirror.upstream
        if cluster.stats.requests_active >= _MAX_UNDER_WAY:
            self._count("too_many")
            return
        exchange = Exchange(self._side, clock.monotonic_ns(), self._request.head, self._peer)
        policy = RetryPolicy(attempts=0, per_try_timeout_s=self._timeout_s)
        forwarder = Forwarder(self, exchange, self._request, cluster, self._limits, self._dialer, policy)
        forwarder.is_bounded_whole = True
        self._forwarder = forwarder
        refused = forwarder.start()
        if refused is not None:
            self._forwarder = None
            self._count("no_endpoint" if refused is errors.NO_ENDPOINT else "overloaded")

    # --- what nobody waits for ---------------------------------------------------------------------------------
    # With its end it lets go of what sent it, which has it: a reload exempts what is a cycle then from collection.

    def on_informational(self, head: ResponseHead) -> None:
        """Ignored."""

    def on_response(self, head: ResponseHead, payload: bytes, is_end: bool, trailers: list[bytes]) -> None:
        """Ignored."""
        if is_end:
            self._forwarder = None

    def on_payload(self, payload: bytes, is_end: bool, trailers: list[bytes]) -> None:
        """Ignored."""
        if is_end:
            self._forwarder = None

    def splice_response(self, first: bytes, source: asyncio.Transport, limit: int) -> int:
        """It is to be read, and ignored."""
        return 0

    def on_switched(self, stream: ServerStream, head: ResponseHead | None, rest: bytes) -> None:
        """A copy asks for no switch, and is not answered with one."""
        forwarder, self._forwarder = self._forwarder, None
        if forwarder is not None:
            forwarder.cancel()

    def on_failed(self, reason: Reason, detail: str) -> None:
        """Ignored."""
        self._forwarder = None

    def on_upstream_blocked(self) -> None:
        """The copy is sent whole, so there is nothing to pause."""

    def on_upstream_writable(self) -> None:
        """As above."""
