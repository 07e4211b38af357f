"""
Sends a request upstream by one attempt or several: an endpoint, a connection, and whether there is another. *Hot path.*

    choosing -> waiting for a connection -> sent, waiting for the head -> relaying the response
        ^                |                            |
        +--- back-off <--+----------------------------+

It stands between who has the request (the course of an exchange, or a mirror's copy) and the server's side of each
attempt, and knows the wire of neither. What an attempt came to is noticed here, because only here it is known what was
sent; whether another follows is decided by `retries`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf
from typing import Final, cast

from sidecar import clock, errors, grpc
from sidecar.errors import Reason, Source
from sidecar.exchange import Exchange
from sidecar.message import NO_TRAILERS, Field, Framing, Kind, ResponseHead
from sidecar.net.timers import NOT_ARMED, Timed
from sidecar.proxy.calls import said_at_end, said_so_far
from sidecar.proxy.exchange.acquire import Acquirer, Acquisition
from sidecar.proxy.exchange.interfaces import Chooser, Dialling, Requester, ResponseSink, ServerStream
from sidecar.proxy.exchange.request import MAX_HELD_BYTES, REFUSABLE_BYTES, WHATEVER_COMES, UpstreamRequest
from sidecar.proxy.exchange.retries import Retries
from sidecar.proxy.plan import Limits
from sidecar.upstream import pool, retry, shared
from sidecar.upstream.endpoint import UNKNOWN_LATENCY_S, Endpoint, Shares
from sidecar.upstream.limits.breaker import Breaker

_GRPC: Final = Kind.GRPC
_GRPC_TIMEOUT: Final = Kind.GRPC_TIMEOUT


class Forwarder(Timed, Acquirer, ResponseSink):
    """
    Args:
        requester: Told what comes of it.
        exchange: Its record; attempts, endpoint and times are kept up here.
        request: What is sent.
        chooser: Asked for an endpoint, for each attempt.
        limits: Bounds of the response.
        dialer: Opens connections.
        policy: What is retried.
        expires_at: As the attribute.
        is_tunnel: CONNECT: nothing is sent, and the connection carries bytes from its start.

    Attributes:
        expires_at: Loop time at which the whole exchange times out; inf for never, or as long as the request comes.
        is_bounded_whole: Whether the policy's time for an attempt bounds the response's body too.
    """

    __slots__ = (
        "_acquisition", "_began_ns", "_breaker", "_chooser", "_dialer", "_endpoint", "_exchange",
        "_has_response", "_is_over", "_is_settled", "_is_tunnel", "_kept_bytes", "_limits", "_policy",
        "_request", "_requester", "_retries", "_stream", "_timer", "bucket", "deadline", "expires_at",
        "is_bounded_whole",
    )  # fmt: skip

    def __init__(
        self,
        requester: Requester,
        exchange: Exchange,
        request: UpstreamRequest,
        chooser: Chooser,
        limits: Limits,
        dialer: Dialling,
        policy: retry.RetryPolicy = retry.NO_POLICY,
        expires_at: float = inf,
        is_tunnel: bool = False,
    ) -> None:
        self._requester = requester
        self._exchange = exchange
        self._request = request
        self._chooser = chooser
        self._limits = limits
        self._dialer = dialer
        self._policy = policy
        self._kept_bytes = policy.max_body_bytes
        self.expires_at = expires_at
        self._is_tunnel = is_tunnel
        self._began_ns = exchange.start_ns
        self._has_response = False
        self._is_over = False
        self._is_settled = False
        self._endpoint: Endpoint | None = None
        self._stream: ServerStream | None = None
        self._acquisition: Acquisition | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._breaker: Breaker | None = None
        self._retries: Retries | None = None
        self.is_bounded_whole = False
        self.deadline = inf
        self.bucket = NOT_ARMED

    def __repr__(self) -> str:
        return f"<Forwarder {self._exchange.attempts} at {self._endpoint!r} {'over' if self._is_over else 'running'}>"

    # --- the requester's side --------------------------------------------------------------------------------

    def start(self, delay_s: float = 0.0, instead: Callable[[], None] | None = None) -> Reason | None:
        """
        Choose an endpoint and send, or wait for a connection; with a delay, do that then, or something `instead`.

        Returns:
            A reason if nothing could be tried; the forwarder is done then.
        """
        if delay_s:
            self._timer = self._dialer.later(delay_s, instead or self._begin_late)
            return None
        reason = self._try(self._chooser.choose(self._request.head, self._exchange.peer[0]), is_fresh=False)
        if reason is not None:
            self._is_over = True
        return reason

    def send_body(self, payload: bytes, is_complete: bool, trailers: list[Field]) -> None:
        """More of the request; empty only together with `is_complete`."""
        request, stream = self._request, self._stream
        request.add(payload, is_complete, trailers, WHATEVER_COMES if stream is None else self._kept_bytes)
        if is_complete:
            self._await_answer()
        if stream is not None:
            stream.send_body(payload, is_complete, trailers)
        elif request.body_bytes > MAX_HELD_BYTES:
            self._requester.on_upstream_blocked()

    def can_splice_request(self) -> bool:
        """Whether more of the request's body may go by: there is somebody to send it to, and nothing of it is kept."""
        return self._stream is not None and self._request.body is None

    def splice_request(self, first: bytes, source: asyncio.Transport, limit: int) -> int:
        """As `send_body`, not to the end, and what the source's socket has: `ServerStream.splice_from`."""
        stream = self._stream
        if stream is None or self._request.body is not None:
            self.send_body(first, False, NO_TRAILERS)
            return 0
        size = stream.splice_from(first, source, limit)
        self._request.body_bytes += len(first) + size
        return size

    def pause(self) -> None:
        """The client does not read."""
        if self._stream is not None:
            self._stream.pause()

    def resume(self) -> None:
        """The client reads again."""
        if self._stream is not None:
            self._stream.resume()

    def cancel(self, reason: Reason | None = None) -> None:
        """The exchange is over for the requester, for this reason; a connection that is in use is closed."""
        if self._is_over:
            return
        if not self._has_response:
            self._report(0, reason)
        else:
            self._end_call(grpc.OK)
        self._leave()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._acquisition is not None:
            self._acquisition.cancel()
            self._acquisition = None
        if self._stream is not None:
            self._stream.abort()
            self._stream = None

    def finish(self) -> None:
        """Both ends of the tunnel have ended: what was said last is still delivered."""
        stream, self._stream = self._stream, None
        if stream is not None:
            self._leave()
            stream.finish()

    # --- one attempt: an endpoint and a connection -------------------------------------------------------------

    def _begin_late(self) -> None:
        """The delay is over."""
        self._timer = None
        self._began_ns = clock.monotonic_ns()
        refused = self.start()
        if refused is not None:
            self._requester.on_failed(refused, "")

    def _try(self, endpoint: Endpoint | None, *, is_fresh: bool) -> Reason | None:
        if endpoint is None:
            return errors.NO_ENDPOINT
        cluster, exchange, policy = endpoint.cluster, self._exchange, self._policy
        breaker = cluster.breaker
        if breaker is not None:
            if not breaker.enter():
                exchange.retry_after_s = breaker.retry_after_s
                return errors.UPSTREAM_OVERLOADED
            self._breaker = breaker
        self._endpoint = endpoint
        exchange.endpoint = endpoint
        exchange.attempts += 1
        endpoint.active += 1
        stats = cluster.stats
        stats.requests += 1
        stats.requests_active += 1
        if policy.per_try_timeout_s < inf and self._request.is_awaited():
            timers = self._dialer.timers
            timers.arm(self, timers.time() + policy.per_try_timeout_s)
        shares = cluster.shares
        is_shared = (
            shares != Shares.NEVER
            and (shares != Shares.GRPC or self._request.head.kinds & _GRPC != 0)
            and not self._is_tunnel
            and shared.carries(endpoint, self._request.head, self._request.upgrade)
        )
        if is_shared and self._kept_bytes < REFUSABLE_BYTES:
            self._kept_bytes = REFUSABLE_BYTES
        if not self._is_tunnel and not is_fresh:
            idle: ServerStream | None
            if is_shared:
                among = endpoint.shared
                idle = None if among is None else cast("shared.Shared", among).take(endpoint)  # type: ignore[assignment]  # all are ours
            else:
                idle = pool.take(endpoint)  # type: ignore[assignment]
            if idle is not None:
                self._send(idle)
                return None
        return self._acquire(endpoint, is_shared)

    def _await_answer(self) -> None:
        """The request is complete: from here the upstream's time runs, and not the client's."""
        if self._stream is not None and not self._has_response:
            self._exchange.awaited_ns = clock.monotonic_ns()
        if self._policy.per_try_timeout_s < inf and self._endpoint is not None and not self._has_response:
            self._dialer.timers.arm(self, self._dialer.timers.time() + self._policy.per_try_timeout_s)

    def suspend(self, expires_at: float) -> None:
        """The client is to speak next: the upstream's time does not run, but for what ends the whole."""
        self.expires_at = expires_at
        if self.bucket != NOT_ARMED:
            self._dialer.timers.forget(self)

    def _choose_other(self, avoided: Endpoint) -> Endpoint | None:
        return self._chooser.choose_other(self._request.head, self._exchange.peer[0], (avoided,))

    def _acquire(self, endpoint: Endpoint, is_shared: bool) -> Reason | None:
        acquisition = Acquisition(self, endpoint, self._breaker, self._dialer, self._is_tunnel, is_shared)
        refused = acquisition.start()
        if refused is not None:
            self._exchange.retry_after_s = 0.0 if self._breaker is None else self._breaker.retry_after_s
            self._exit()
            return refused
        self._acquisition = acquisition
        return None

    def _send(self, stream: ServerStream) -> None:
        request = self._request
        self._stream = stream
        self._exchange.server = stream.secured
        self._exchange.sent_ns = clock.monotonic_ns()
        if request.head.kinds & _GRPC_TIMEOUT and request.head.kinds & _GRPC:
            expires_at = min(self.expires_at, self.deadline) if self.is_bounded_whole else self.expires_at
            fields = request.shorten(expires_at - self._dialer.timers.time())
            stream.send(self, request, self._limits)
            request.fields = fields
        else:
            stream.send(self, request, self._limits)
        if request.body_bytes:
            if request.body_bytes > self._kept_bytes:
                request.body = None
            if not stream.is_full:
                # The client may have been paused for want of a connection, or for one that is gone.
                self._requester.on_upstream_writable()

    def on_acquired(self, stream: ServerStream) -> None:
        """A connection came, by our dial or another's release."""
        self._acquisition = None
        if self._is_tunnel:
            self._stream = stream
            self._exchange.server = stream.secured
            self._exchange.sent_ns = clock.monotonic_ns()
            self.on_switched(None, b"")
        else:
            self._send(stream)

    # --- what an attempt comes to ------------------------------------------------------------------------------

    def on_deadline(self, now: float) -> None:
        """The attempt took too long."""
        if self._is_over or self._endpoint is None:
            return
        acquisition, self._acquisition = self._acquisition, None
        stream, self._stream = self._stream, None
        if acquisition is not None:
            acquisition.cancel()
        if self._has_response:
            self._end_call(grpc.OK)
            self._leave()
        if stream is not None:
            stream.abort()
        if not self._is_over:
            self._on_attempt_failed(
                errors.TRY_TIMEOUT, "retry.per_try_timeout", is_unsent=acquisition is not None, is_stale=False
            )

    def on_not_acquired(self, reason: Reason, detail: str) -> None:
        """No connection could be had: nothing was sent."""
        self._acquisition = None
        if self._breaker is not None and reason.source is Source.PROXY:
            self._exchange.retry_after_s = self._breaker.retry_after_s
        self._on_attempt_failed(reason, detail, is_unsent=True, is_stale=False)

    def on_upstream_lost(self, reason: Reason, detail: str, is_untouched: bool) -> None:
        """The connection died; a reused one may have been dying before we wrote."""
        stream, self._stream = self._stream, None
        if not self._is_over:
            is_stale = is_untouched and stream is not None and stream.requests > 1
            # Who refuses our certificate has read nothing behind it (RFC 8446, 4.4.2.4): as if nothing had been sent.
            is_unread = reason is errors.UPSTREAM_REFUSED_CERTIFICATE and is_untouched
            # A refused stream has not been looked at (RFC 9113, 8.7), and another connection may be all it takes.
            is_refused = reason is errors.STREAM_REFUSED
            self._on_attempt_failed(
                reason, detail, is_unsent=is_unread or is_refused, is_stale=is_stale, is_elsewhere=not is_refused
            )

    def _on_attempt_failed(
        self, reason: Reason, detail: str, *, is_unsent: bool, is_stale: bool, is_elsewhere: bool = True
    ) -> None:
        endpoint = self._endpoint
        assert endpoint is not None
        self._end_call(grpc.OK)
        self._report(0, reason)
        self._exit()
        other: Endpoint | None = None
        if is_unsent and is_elsewhere and not self._policy.names(reason):
            # Nobody asked for it, so it must be worth it: at another endpoint, or not at all.
            other = self._choose_other(endpoint)
            if other is endpoint or other is None:
                self._fail(endpoint, reason, detail)
                return
        retries = self._recorded_retries()
        delay_s = retries.after_failure(
            endpoint.cluster, reason, self._dialer.timers.time(), self.expires_at,
            is_unsent=is_unsent, is_stale=is_stale, has_started=self._has_response,
        )  # fmt: skip
        if delay_s is None:
            self._fail(endpoint, reason, detail)
        else:
            self._retry(retries, delay_s, endpoint, other, reason, detail, 0, -1, is_fresh=is_stale)

    def _recorded_retries(self) -> Retries:
        if self._retries is None:
            self._retries = Retries(self._policy, self._exchange, self._request)
        return self._retries

    def _fail(self, endpoint: Endpoint, reason: Reason, detail: str) -> None:
        if self._retries is not None and self._retries.count and not self._has_response:
            endpoint.cluster.stats.retries_exhausted += 1
        self._is_over = True
        self._requester.on_failed(reason, detail)

    def _retry(
        self,
        retries: Retries,
        delay_s: float,
        failed: Endpoint,
        other: Endpoint | None,
        reason: Reason | None,
        detail: str,
        status: int,
        grpc_status: int,
        *,
        is_fresh: bool,
    ) -> None:
        """Make another attempt, at once or later; if that cannot be, the requester hears of the one before."""
        retries.begin(failed, self._began_ns, status, reason, grpc_status)

        def again() -> None:
            self._timer = self._exchange.server = None
            self._began_ns = clock.monotonic_ns()
            refused = self._try(other or self._choose_other(failed), is_fresh=is_fresh)
            if refused is not None:
                retries.refuse(refused)
                retries.end()
                self._is_over = True
                self._requester.on_failed(reason or refused, detail if reason is not None else "")

        if delay_s:
            self._timer = self._dialer.later(delay_s, again)
        else:
            again()

    # --- the response ----------------------------------------------------------------------------------------

    def on_informational(self, head: ResponseHead) -> None:
        """Passed on."""
        self._requester.on_informational(head)

    def on_response(self, head: ResponseHead, payload: bytes, is_end: bool, trailers: list[Field]) -> None:
        """Passed on, unless another attempt is worth more; at its end the connection is no longer ours."""
        endpoint = self._endpoint
        assert endpoint is not None
        status = head.status
        if self._request.head.kinds & _GRPC:
            status = self._on_grpc_response(endpoint, head, is_end, trailers)
            if status == 0:
                return
        elif status >= endpoint.cluster.observes_from:
            self._report(status, None)
        statuses = self._policy.statuses
        if statuses and head.status in statuses and self._is_retried(endpoint, head, -1, is_end):
            return
        self._has_response = True
        self._request.body = None
        if self._retries is not None and (self._exchange.grpc_status >= 0 or not self._request.head.kinds & _GRPC):
            self._retries.on_answered(endpoint.cluster, status)
        if is_end:
            self._stream = None
            self._leave()
        else:
            self._go_on(head.framing != Framing.LENGTH)
        self._requester.on_response(head, payload, is_end, trailers)

    def _on_grpc_response(self, endpoint: Endpoint, head: ResponseHead, is_end: bool, trailers: list[Field]) -> int:
        """
        Judge a response to gRPC by its head, or leave that for its end.

        Returns:
            The status of HTTP that it counts as; 0 if it is discarded, for another attempt.
        """
        said = said_so_far(head, is_end, trailers)
        if said < 0:
            return head.status
        status = grpc.counts_as(head.status, said)
        if status >= endpoint.cluster.observes_from:
            self._report(status, None)
        is_alone = is_end and head.kinds & Kind.GRPC_STATUS != 0
        if is_alone and said in self._policy.grpc_statuses and self._is_retried(endpoint, head, said, is_end):
            return 0
        self._exchange.grpc_status = said
        return status

    def _end_call(self, said: int) -> None:
        """Report how a call ended, if its head did not say; OK if it was broken off, for which that was good enough."""
        endpoint, exchange, status = self._endpoint, self._exchange, grpc.http_status(said)
        if endpoint is None or not self._has_response or exchange.grpc_status >= 0:
            return
        if self._request.head.kinds & _GRPC:
            if status >= endpoint.cluster.observes_from:
                self._report(status, None, exchange.first_byte_ns)
            if self._retries is not None:
                self._retries.on_answered(endpoint.cluster, status)

    def _is_retried(self, endpoint: Endpoint, head: ResponseHead, grpc_status: int, is_end: bool) -> bool:
        """Whether this response is one to discard, for another attempt."""
        retries, now = self._recorded_retries(), self._dialer.timers.time()
        delay_s = retries.after_response(endpoint.cluster, head, grpc_status, now, self.expires_at)
        if delay_s is None:
            return False
        stream, self._stream = self._stream, None
        if stream is not None and not is_end:
            stream.abort()
        self._exit()
        # What this one said is not how the call ends.
        self._exchange.grpc_status = -1
        self._retry(retries, delay_s, endpoint, None, None, "", head.status, grpc_status, is_fresh=False)
        return True

    def on_payload(self, payload: bytes, is_end: bool, trailers: list[Field]) -> None:
        """Passed on; at its end the connection is no longer ours."""
        if is_end:
            exchange = self._exchange
            if exchange.grpc_status < 0 and self._request.head.kinds & _GRPC:
                said = said_at_end(trailers)
                self._end_call(said)
                exchange.grpc_status = said
            self._stream = None
            self._leave()
        self._requester.on_payload(payload, is_end, trailers)

    def splice_response(self, first: bytes, source: asyncio.Transport, limit: int) -> int:
        """Passed on."""
        return self._requester.splice_response(first, source, limit)

    def on_switched(self, head: ResponseHead | None, rest: bytes) -> None:
        """The server agrees to speak another protocol."""
        stream = self._stream
        assert stream is not None
        self._has_response = True
        self._request.body = None
        self._report(200, None)
        self._go_on(True)
        self._requester.on_switched(stream, head, rest)

    def on_upstream_blocked(self) -> None:
        """Passed on."""
        self._requester.on_upstream_blocked()

    def on_upstream_writable(self) -> None:
        """Passed on."""
        self._requester.on_upstream_writable()

    def _report(self, status: int, failure: Reason | None, head_ns: int = 0) -> None:
        """Let the upstream's detectors learn what the attempt came to, by a head that came now, or then."""
        endpoint = self._endpoint
        if endpoint is not None and endpoint.cluster.observer is not None:
            # Who answers what is still being sent was not waited for: that is no sample of its latency.
            since_ns = self._exchange.awaited_ns or self._exchange.sent_ns or self._began_ns
            until_ns = head_ns or clock.monotonic_ns()
            latency_s = (until_ns - since_ns) / 1e9 if self._request.is_complete else UNKNOWN_LATENCY_S
            endpoint.cluster.observer(endpoint, status, failure, latency_s, self._dialer.timers.time())

    def _go_on(self, may_last: bool) -> None:
        """More follows the head; if it may last for ever, it is no load that an adaptive limit should count."""
        if self.bucket != NOT_ARMED and not self.is_bounded_whole:
            self._dialer.timers.forget(self)
        if may_last and self._breaker is not None:
            self._is_settled = True
            self._breaker.settle()

    def _exit(self) -> None:
        """The attempt is over."""
        endpoint = self._endpoint
        if endpoint is not None:
            endpoint.active -= 1
            endpoint.cluster.stats.requests_active -= 1
            self._endpoint = None
            if self._breaker is not None:
                self._breaker.leave(self._is_settled)
                self._breaker = None
        if self._retries is not None:
            self._retries.end()
        if self.bucket != NOT_ARMED:
            self._dialer.timers.forget(self)

    def _leave(self) -> None:
        self._is_over = True
        self._exit()
