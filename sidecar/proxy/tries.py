"""
The tries of one exchange: an endpoint, a connection, the request sent, and whether there is another. *Hot path.*

    choosing -> waiting for a connection -> sent, waiting for the head -> relaying the response
        ^                |                            |
        +--- back-off <--+----------------------------+

What a try came to is noticed here, because only here it is known what was sent; `retries.Retries` is this with what
follows from it, and `attempt.Attempt` that with the two sides between which it stands.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, cast

from sidecar import clock, errors
from sidecar.errors import Reason
from sidecar.exchange import Exchange
from sidecar.message import RequestHead
from sidecar.net.flow import MUCH_BYTES
from sidecar.net.timers import NOT_ARMED
from sidecar.proxy.halves import Chooser, ClientHalf, Dialling
from sidecar.proxy.plan import Limits
from sidecar.proxy.upstream_conn import UpstreamConnection
from sidecar.upstream import pool, retry
from sidecar.upstream.endpoint import Endpoint, IdleConnection
from sidecar.upstream.limits.breaker import Breaker

if TYPE_CHECKING:
    import asyncio

    from sidecar.proxy.mirror import Copy


class Tries:
    """
    Args:
        client: Told what comes of it.
        exchange: Its record; attempts, endpoint and times are kept up here.
        head: The request.
        request: The head as it is sent.
        chooser: Asked for an endpoint, for each try.
        limits: Bounds of the response.
        dialer: Opens connections.
        policy: What is retried.
        expires_at: Loop time at which the whole exchange times out; inf for never.
        is_tunnel: CONNECT: nothing is sent, and the connection carries bytes from its start.
    """

    __slots__ = (
        "_began_ns",
        "_body",
        "_body_bytes",
        "_breaker",
        "_chooser",
        "_client",
        "_connection",
        "_dialer",
        "_endpoint",
        "_exchange",
        "_expires_at",
        "_has_response",
        "_head",
        "_is_complete",
        "_is_over",
        "_is_tunnel",
        "_limits",
        "_pending_until",
        "_policy",
        "_request",
        "_retries",
        "_retry_breaker",
        "_ticket",
        "_timer",
        "_try_until",
        "bucket",
        "copy",
        "deadline",
        "is_bounded_whole",
    )

    def __init__(
        self,
        client: ClientHalf,
        exchange: Exchange,
        head: RequestHead,
        request: bytes,
        chooser: Chooser,
        limits: Limits,
        dialer: Dialling,
        policy: retry.RetryPolicy = retry.NO_POLICY,
        expires_at: float = inf,
        is_tunnel: bool = False,
    ) -> None:
        self._client = client
        self._exchange = exchange
        self._head = head
        self._request = request
        self._chooser = chooser
        self._limits = limits
        self._dialer = dialer
        self._policy = policy
        self._expires_at = expires_at
        self._is_tunnel = is_tunnel
        self._began_ns = exchange.start_ns
        self._body: list[bytes] | None = None
        self._body_bytes = 0
        self._is_complete = False
        self._has_response = False
        self._is_over = False
        self._retries = 0
        self._endpoint: Endpoint | None = None
        self._connection: UpstreamConnection | None = None
        self._ticket: pool.Ticket | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._breaker: Breaker | None = None
        self._retry_breaker: Breaker | None = None
        self._try_until = inf
        self._pending_until = inf
        self.copy: Copy | None = None
        """What else receives the body, for a mirror."""
        self.is_bounded_whole = False
        """Whether the policy's time for a try bounds the response's body too."""
        self.deadline = inf
        self.bucket = NOT_ARMED

    def __repr__(self) -> str:
        where = self._endpoint.label if self._endpoint else "nowhere"
        return f"<{type(self).__name__} {self._exchange.attempts} at {where} {'over' if self._is_over else 'running'}>"

    # --- trying ----------------------------------------------------------------------------------------------

    def _begin_late(self) -> None:
        """The delay is over."""
        self._timer = None
        self._began_ns = clock.monotonic_ns()
        self._go_on(self._try(self._choose(None), is_fresh=False), None)

    def _try(self, endpoint: Endpoint | None, *, is_fresh: bool) -> Reason | None:
        """
        Send to an endpoint, or wait for a connection to it.

        Args:
            endpoint: Of `_choose`.
            is_fresh: Not over a connection from the pool, which may have died with the last one.

        Returns:
            A reason if that could not even be tried.
        """
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
        if policy.per_try_timeout_s < inf:
            timers = self._dialer.timers
            self._try_until = timers.time() + policy.per_try_timeout_s
            timers.arm(self, self._try_until)
        if not self._is_tunnel and not is_fresh:
            connection = self._take(endpoint)
            if connection is not None:
                self._send(connection)
                return None
        return self._wait(endpoint)

    def _choose(self, avoided: Endpoint | None) -> Endpoint | None:
        head, peer_ip = self._head, self._exchange.peer[0]
        if avoided is not None:
            return self._chooser.choose_other(head, peer_ip, (avoided,))
        return self._chooser.choose(head, peer_ip)

    def _take(self, endpoint: Endpoint) -> UpstreamConnection | None:
        """
        A connection from the pool that the kernel, too, knows nothing against: neither an end nor a byte unread.

        A byte would be an answer to nothing, and were it read after the request was sent, the answer to it. The system
        call costs some 0.3 us; a 503 that it spares a POST, or another client's answer, costs more.
        """
        while True:
            connection: UpstreamConnection | None = pool.take(endpoint)  # type: ignore[assignment]  # all are ours
            if connection is None or connection.is_quiet():
                return connection
            connection.close_idle("stale")

    def _wait(self, endpoint: Endpoint) -> Reason | None:
        if self._is_tunnel:
            self._dialer.dial_tunnel(endpoint, self)
            return None
        breaker = self._breaker
        if breaker is not None:
            if not pool.can_queue(endpoint, breaker):
                self._exchange.retry_after_s = breaker.retry_after_s
                self._exit()
                return errors.UPSTREAM_OVERLOADED
            timers = self._dialer.timers
            self._pending_until = timers.time() + breaker.pending_timeout_s
            timers.arm(self, min(self._try_until, self._pending_until))
        self._ticket = pool.wait(endpoint, self, self._dialer.dial)
        return None

    def _send(self, connection: UpstreamConnection) -> None:
        body = self._body
        data = self._request
        is_much = self._body_bytes > MUCH_BYTES
        if body:
            if not is_much:
                data = b"".join((data, *body))
            if self._body_bytes > self._policy.max_body_bytes:
                self._body = None
        self._connection = connection
        self._exchange.sent_ns = clock.monotonic_ns()
        # Whoever makes tries is an `Attempt`, and so a sink.
        connection.send(self, self._head.method, self._limits, data, self._is_complete)  # type: ignore[arg-type]
        if body and is_much:
            connection.write_much(body)
        if self._body_bytes and not connection.is_full:
            # The client may have been paused for want of a connection, or for one that is gone.
            self._client.on_upstream_writable()

    def on_connection(self, connection: IdleConnection) -> None:
        """A connection came, by our dial or another's release."""
        self._ticket = None
        upstream = cast("UpstreamConnection", connection)
        if self._is_over:
            upstream.abort()
            return
        if self._is_tunnel:
            self._connection = upstream
            self._exchange.sent_ns = clock.monotonic_ns()
            upstream.open_tunnel(self)  # type: ignore[arg-type]
            body, self._body = self._body, None
            self._has_response = True
            self._report(200, None)
            self._policy = retry.NO_POLICY
            self._disarm()
            self._client.on_switched(None, b"")
            if body:
                upstream.write(b"".join(body))
        elif upstream.requests and not upstream.is_quiet():
            upstream.close_idle("stale")
            assert self._endpoint is not None
            self._go_on(self._wait(self._endpoint), None)
            return
        else:
            # The wait is over; what is left is the time of the try: no earlier, so it is set by assignment.
            self._pending_until = inf
            self.deadline = self._try_until
            self._send(upstream)
            return
        if not self._is_over and not upstream.is_full:
            self._client.on_upstream_writable()

    def on_deadline(self, now: float) -> None:
        """The try, or its wait for a connection, took too long."""
        ticket, endpoint = self._ticket, self._endpoint
        if self._is_over or endpoint is None:
            return
        if ticket is not None and now >= self._pending_until:
            endpoint.cluster.stats.pending_timeouts += 1
            if self._breaker is not None:
                self._exchange.retry_after_s = self._breaker.retry_after_s
            self._give_up(errors.PENDING_TIMEOUT, "circuit_breaker.pending_timeout", is_unsent=True)
        elif self._has_response:
            self._leave()
            if self._connection is not None:
                self._connection.abort()
                self._connection = None
        else:
            self._give_up(errors.TRY_TIMEOUT, "retry.per_try_timeout", is_unsent=ticket is not None)

    def _give_up(self, reason: Reason, detail: str, *, is_unsent: bool) -> None:
        """End a try that is still going on."""
        ticket, self._ticket = self._ticket, None
        connection, self._connection = self._connection, None
        if ticket is not None:
            ticket.cancel()
        if connection is not None:
            connection.abort()
        self._on_try_failed(reason, detail, is_unsent=is_unsent, is_stale=False)

    def on_connect_failed(self, reason: Reason, detail: str) -> None:
        """No connection could be made: nothing was sent."""
        self._ticket = None
        if not self._is_over:
            self._on_try_failed(reason, detail, is_unsent=True, is_stale=False)

    def on_upstream_lost(self, reason: Reason, detail: str, is_untouched: bool) -> None:
        """The connection died; a reused one may have been dying before we wrote."""
        connection, self._connection = self._connection, None
        if not self._is_over:
            is_stale = is_untouched and connection is not None and connection.requests > 1
            self._on_try_failed(reason, detail, is_unsent=False, is_stale=is_stale)

    # --- what follows a try, in `retries` ----------------------------------------------------------------------

    def _on_try_failed(self, reason: Reason, detail: str, *, is_unsent: bool, is_stale: bool) -> None:
        """The try came to nothing: is there another, or is the exchange over?"""
        raise NotImplementedError

    def _go_on(self, refused: Reason | None, before: tuple[Reason | None, str] | None) -> None:
        """After a try was made outside of `start`: tell the client half if it could not be."""
        raise NotImplementedError

    # --- ends ------------------------------------------------------------------------------------------------

    def _report(self, status: int, failure: Reason | None) -> None:
        """Let the upstream's detectors learn what the try came to."""
        endpoint = self._endpoint
        if endpoint is not None and endpoint.cluster.observer is not None:
            latency_s = (clock.monotonic_ns() - (self._exchange.sent_ns or self._began_ns)) / 1e9
            endpoint.cluster.observer(endpoint, status, failure, latency_s, self._dialer.timers.time())

    def _exit(self) -> None:
        """The try is over."""
        endpoint = self._endpoint
        if endpoint is not None:
            endpoint.active -= 1
            endpoint.cluster.stats.requests_active -= 1
            self._endpoint = None
            if self._breaker is not None:
                self._breaker.leave()
                self._breaker = None
        if self._retry_breaker is not None:
            self._retry_breaker.leave_retry()
            self._retry_breaker = None
        if self.bucket != NOT_ARMED:
            self._disarm()

    def _disarm(self) -> None:
        self._pending_until = self._try_until = inf
        self._dialer.timers.forget(self)

    def _leave(self) -> None:
        self._is_over = True
        self._exit()
