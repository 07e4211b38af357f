"""
Copies of requests for another upstream, whose answers nobody waits for. *Hot path only where a route has a mirror.*

A copy is sent when its request is complete, as an exchange of its own that is not recorded: the upstream's counters
know it, the log and the spans do not. Nothing that happens to it reaches the client, its request or its timing.

A route may have several mirrors. Each draws for itself whether it takes the request, has its own limit of the body, and
is counted for itself; what they have in common, the head and the octets of the body, is kept once for all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from sidecar import clock, errors
from sidecar.errors import Reason
from sidecar.exchange import Exchange
from sidecar.message import NO_TRAILERS, Field, ResponseHead
from sidecar.proxy.exchange.forwarder import Forwarder
from sidecar.proxy.exchange.interfaces import Dialling, Requester, ServerStream
from sidecar.proxy.exchange.policies import MIRROR_FIELD, MIRROR_NAME, Mirror, Random
from sidecar.proxy.exchange.request import UpstreamRequest
from sidecar.proxy.plan import Limits
from sidecar.upstream.retry import RetryPolicy

# Copies under way at one upstream; more are not made, so that a slow one costs no memory.
_MAX_UNDER_WAY: Final = 256
MIRROR_TIMEOUT_S: Final = 15.0
"""Of a copy whose route has no timeout: App Mesh's and Envoy's time for a request."""


class Copies:
    """
    What is to be copied of a request, collected once for all mirrors that take it.

    Args:
        mirrors: Where to, at least one.
        exchange: Of the request.
        request: As it is sent to the request's own upstream.
        limits: Bounds of the answers.
        dialer: Opens connections.
        timeout_s: Seconds from the sending to the end of an answer.

    Attributes:
        is_over: All were sent or will not be: no more of the body is needed.
    """

    __slots__ = (
        "_dialer", "_limits", "_max_body_bytes", "_min_body_bytes", "_mirrors", "_peer", "_request", "_side",
        "_timeout_s", "is_over",
    )  # fmt: skip

    def __init__(
        self,
        mirrors: Sequence[Mirror],
        exchange: Exchange,
        request: UpstreamRequest,
        limits: Limits,
        dialer: Dialling,
        timeout_s: float,
    ) -> None:
        self._mirrors = mirrors
        self._max_body_bytes = max([mirror.max_body_bytes for mirror in mirrors])
        self._min_body_bytes = min([mirror.max_body_bytes for mirror in mirrors])
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
        self.is_over = False

    def add(self, payload: bytes, is_complete: bool, trailers: list[Field]) -> None:
        """More of the request's body; with its last byte the copies are sent."""
        request = self._request
        if self.is_over:
            return
        request.add(payload, is_complete, trailers, self._max_body_bytes)
        if request.body_bytes > self._min_body_bytes:
            self._leave_out(request.body_bytes)
        if is_complete and not self.is_over:
            self._send()

    def drop(self, reason: str) -> None:
        """Make no copy, if none has been sent; counted by the reason, one of `ClusterStats.mirror_skipped_*`."""
        if not self.is_over:
            self.is_over = True
            for mirror in self._mirrors:
                _count(mirror, reason)

    def _leave_out(self, body_bytes: int) -> None:
        """Make no copy for those that take none of a body as long as this."""
        left: list[Mirror] = []
        for mirror in self._mirrors:
            if body_bytes <= mirror.max_body_bytes:
                left.append(mirror)
            else:
                _count(mirror, "body_too_large")
        self._mirrors = left
        self.is_over = not left

    def _send(self) -> None:
        self.is_over = True
        of = self._request
        for mirror in self._mirrors:
            # What one lets go of when it has been sent, another may still have to send; the octets are there once.
            request = UpstreamRequest(of.head, of.fields, of.path, of.host, of.added, b"")
            request.body, request.body_bytes, request.trailers = of.body, of.body_bytes, of.trailers
            exchange = Exchange(self._side, clock.monotonic_ns(), of.head, self._peer)
            Copy(mirror, self._dialer).send(exchange, request, self._limits, self._timeout_s)
        of.body = None


def copies_of(
    mirrors: Sequence[Mirror],
    random: Random,
    exchange: Exchange,
    request: UpstreamRequest,
    limits: Limits,
    dialer: Dialling,
    timeout_s: float,
) -> Copies | None:
    """The copies that are made of a request, by a chance for each mirror; None if there are none."""
    taking = [mirror for mirror in mirrors if mirror.wants(random)]
    return Copies(taking, exchange, request, limits, dialer, timeout_s) if taking else None


def _count(mirror: Mirror, reason: str) -> None:
    stats, name = mirror.upstream.stats, f"mirror_skipped_{reason}"
    setattr(stats, name, getattr(stats, name) + 1)


class Copy(Requester):
    """
    One copy on its way: what comes back is ignored.

    Args:
        mirror: Where to.
        dialer: Opens connections.
    """

    __slots__ = ("_dialer", "_forwarder", "_mirror")

    def __init__(self, mirror: Mirror, dialer: Dialling) -> None:
        self._mirror = mirror
        self._dialer = dialer
        self._forwarder: Forwarder | None = None

    def send(self, exchange: Exchange, request: UpstreamRequest, limits: Limits, timeout_s: float) -> None:
        """Send it, or count why not."""
        cluster = self._mirror.upstream
        if cluster.stats.requests_active >= _MAX_UNDER_WAY:
            _count(self._mirror, "too_many")
            return
        policy = RetryPolicy(attempts=0, per_try_timeout_s=timeout_s)
        forwarder = Forwarder(self, exchange, request, cluster, limits, self._dialer, policy)
        forwarder.is_bounded_whole = True
        self._forwarder = forwarder
        refused = forwarder.start()
        if refused is not None:
            self._forwarder = None
            _count(self._mirror, "no_endpoint" if refused is errors.NO_ENDPOINT else "overloaded")

    # --- what nobody waits for ---------------------------------------------------------------------------------
    # With its end it lets go of what sent it, which has it: a reload exempts what is a cycle then from collection.

    def on_informational(self, head: ResponseHead) -> None:
        """Ignored."""

    def on_response(self, head: ResponseHead, payload: bytes, is_end: bool, trailers: list[Field]) -> None:
        """Ignored."""
        if is_end:
            self._forwarder = None

    def on_payload(self, payload: bytes, is_end: bool, trailers: list[Field]) -> None:
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
