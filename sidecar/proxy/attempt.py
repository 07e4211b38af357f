"""
One exchange's way to its upstream, over one connection or, where that is safe, a second. *Hot path.*

The upstream half of an exchange: it acquires a connection, sends the request, holds what cannot be sent yet, and hands
the response to the client half. It decides about another try, because only it knows what was sent.

A request is sent again only when it cannot have been processed twice: when no connection could be made, or when a
*reused* connection died before the first byte of a response, the request has no body, and its method is idempotent
(RFC 9110, 9.2.2 and RFC 9112, 9.3.1: "a proxy MUST NOT automatically retry non-idempotent requests").
"""

from __future__ import annotations

from typing import cast

from sidecar import clock, errors
from sidecar.errors import Reason
from sidecar.exchange import Exchange
from sidecar.message import Framing, RequestHead, ResponseHead
from sidecar.proxy.dialer import Dialer
from sidecar.proxy.halves import Chooser, ClientHalf
from sidecar.proxy.plan import Limits
from sidecar.proxy.upstream_conn import UpstreamConnection
from sidecar.upstream import pool
from sidecar.upstream.endpoint import Endpoint, IdleConnection

IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))
_MAX_TRIES = 2
# What is held of a body while a connection is being made; then the client is paused.
_MAX_HELD_BYTES = 64 * 1024


class Attempt:
    """
    Args:
        client: Told what comes of it.
        exchange: Its record; attempts, endpoint and times are kept up here.
        head: The request.
        request: The head as it is sent.
        chooser: Asked for an endpoint, for each try.
        limits: Bounds of the response.
        dialer: Opens connections.
        is_tunnel: CONNECT: nothing is sent, and the connection carries bytes from its start.
    """

    __slots__ = (
        "_chooser",
        "_client",
        "_connection",
        "_dialer",
        "_endpoint",
        "_exchange",
        "_head",
        "_held",
        "_is_complete",
        "_is_over",
        "_is_tunnel",
        "_limits",
        "_request",
        "_ticket",
    )

    def __init__(
        self,
        client: ClientHalf,
        exchange: Exchange,
        head: RequestHead,
        request: bytes,
        chooser: Chooser,
        limits: Limits,
        dialer: Dialer,
        is_tunnel: bool = False,
    ) -> None:
        self._client = client
        self._exchange = exchange
        self._head = head
        self._request = request
        self._chooser = chooser
        self._limits = limits
        self._dialer = dialer
        self._is_tunnel = is_tunnel
        self._held: list[bytes] | None = None
        self._is_complete = False
        self._is_over = False
        self._endpoint: Endpoint | None = None
        self._connection: UpstreamConnection | None = None
        self._ticket: pool.Ticket | None = None

    def __repr__(self) -> str:
        where = self._endpoint.label if self._endpoint else "nowhere"
        return f"<Attempt {self._exchange.attempts} at {where} {'over' if self._is_over else 'running'}>"

    # --- the client half's side ------------------------------------------------------------------------------

    def start(self, body: bytes, is_complete: bool) -> Reason | None:
        """
        Choose an endpoint and send, or wait for a connection.

        Args:
            body: What there is of the body already, framed for the upstream.
            is_complete: Whether that is all.

        Returns:
            A reason if there is no endpoint; the attempt is over then.
        """
        self._is_complete = is_complete
        endpoint = self._chooser.choose(self._head, self._exchange.peer[0])
        if endpoint is None:
            self._is_over = True
            return errors.NO_ENDPOINT
        self._enter(endpoint)
        if not self._is_tunnel:
            connection = self._take(endpoint)
            if connection is not None:
                self._send(connection, self._request + body if body else self._request)
                return None
        self._held = [body] if body else []
        self._wait(endpoint)
        return None

    def send_body(self, data: bytes, is_complete: bool) -> None:
        """More of the request, framed for the upstream; empty only together with `is_complete`."""
        self._is_complete = is_complete
        connection = self._connection
        if connection is not None:
            connection.is_request_sent = is_complete
            if data:
                connection.write(data)
        elif self._held is not None and data:
            self._held.append(data)
            if sum(map(len, self._held)) > _MAX_HELD_BYTES:
                self._client.on_upstream_blocked()

    def send_tunnel(self, data: bytes) -> None:
        """Bytes of the tunnel for the upstream."""
        if self._connection is not None:
            self._connection.write(data)
        elif self._held is not None:
            self.send_body(data, False)

    def send_tunnel_eof(self) -> None:
        """The client sends no more."""
        if self._connection is not None:
            self._connection.end_writing()

    def pause(self) -> None:
        """The client does not read."""
        if self._connection is not None:
            self._connection.pause()

    def resume(self) -> None:
        """The client reads again."""
        if self._connection is not None:
            self._connection.resume()

    def cancel(self) -> None:
        """The exchange is over for the client half; a connection that is in use is closed."""
        if self._is_over:
            return
        self._leave()
        if self._ticket is not None:
            self._ticket.cancel()
        if self._connection is not None:
            self._connection.abort()
            self._connection = None

    def finish(self) -> None:
        """Both ends of the tunnel have ended: what was said last is still delivered."""
        if self._connection is not None:
            self._leave()
            self._connection.finish()
            self._connection = None

    # --- trying ----------------------------------------------------------------------------------------------

    def _enter(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        exchange = self._exchange
        exchange.endpoint = endpoint
        exchange.attempts += 1
        endpoint.active += 1
        stats = endpoint.cluster.stats
        stats.requests += 1
        stats.requests_active += 1

    def _exit(self) -> None:
        endpoint = self._endpoint
        if endpoint is not None:
            endpoint.active -= 1
            endpoint.cluster.stats.requests_active -= 1
            self._endpoint = None

    def _leave(self) -> None:
        self._is_over = True
        self._exit()

    def _take(self, endpoint: Endpoint) -> UpstreamConnection | None:
        while True:
            connection: UpstreamConnection | None = pool.take(endpoint)  # type: ignore[assignment]  # all are ours
            if connection is None or self._can_send_again() or connection.is_quiet():
                return connection
            connection.close_idle("stale")

    def _can_send_again(self) -> bool:
        head = self._head
        return head.framing == Framing.NONE and head.method in IDEMPOTENT

    def _wait(self, endpoint: Endpoint) -> None:
        if self._is_tunnel:
            self._dialer.dial_tunnel(endpoint, self)
        else:
            self._ticket = pool.wait(endpoint, self, self._dialer.dial)

    def _send(self, connection: UpstreamConnection, data: bytes) -> None:
        self._connection = connection
        self._exchange.sent_ns = clock.monotonic_ns()
        connection.send(self, self._head.method, self._limits, data, self._is_complete)

    def on_connection(self, connection: IdleConnection) -> None:
        """A connection came, by our dial or another's release."""
        self._ticket = None
        upstream = cast("UpstreamConnection", connection)
        if self._is_over:
            upstream.abort()
            return
        held, self._held = self._held or [], None
        if self._is_tunnel:
            self._connection = upstream
            self._exchange.sent_ns = clock.monotonic_ns()
            upstream.open_tunnel(self)
            self._client.on_switched(None, b"")
            if held:
                upstream.write(b"".join(held))
        elif not self._can_send_again() and upstream.requests and not upstream.is_quiet():
            self._held = held
            upstream.close_idle("stale")
            assert self._endpoint is not None
            self._wait(self._endpoint)
            return
        else:
            self._send(upstream, b"".join((self._request, *held)))
        if not self._is_over and not self._is_complete and not upstream.is_full:
            self._client.on_upstream_writable()

    def on_connect_failed(self, reason: Reason, detail: str) -> None:
        """No connection could be made: nothing was sent, so another endpoint may be tried."""
        self._ticket = None
        if self._is_over:
            return
        failed = self._endpoint
        self._exit()
        if self._exchange.attempts < _MAX_TRIES:
            # A balancer may name the same endpoint again; three draws miss the others only when there are hardly any.
            for _ in range(3):
                endpoint = self._chooser.choose(self._head, self._exchange.peer[0])
                if endpoint is not None and endpoint is not failed:
                    self._enter(endpoint)
                    self._wait(endpoint)
                    return
        self._is_over = True
        self._client.on_failed(reason, detail)

    def on_upstream_lost(self, reason: Reason, detail: str, is_untouched: bool) -> None:
        """The connection died: a reused one may have been dying before we wrote."""
        connection, self._connection = self._connection, None
        if self._is_over:
            return
        self._exit()
        if (
            is_untouched
            and reason.retryable
            and connection is not None
            and connection.requests > 1
            and self._exchange.attempts < _MAX_TRIES
            and self._can_send_again()
        ):
            endpoint = self._chooser.choose(self._head, self._exchange.peer[0])
            if endpoint is not None:
                self._enter(endpoint)
                self._held = []
                # Not from the pool: the other idle connections may have died with this one.
                self._wait(endpoint)
                return
        self._is_over = True
        self._client.on_failed(reason, detail)

    # --- the response ----------------------------------------------------------------------------------------

    def on_informational(self, head: ResponseHead) -> None:
        """Passed on."""
        self._client.on_informational(head)

    def on_response(self, head: ResponseHead, payload: bytes, is_end: bool, trailers: list[bytes]) -> None:
        """Passed on; at its end the connection is no longer ours."""
        if is_end:
            self._connection = None
            self._leave()
        self._client.on_response(head, payload, is_end, trailers)

    def on_payload(self, payload: bytes, is_end: bool, trailers: list[bytes]) -> None:
        """Passed on; at its end the connection is no longer ours."""
        if is_end:
            self._connection = None
            self._leave()
        self._client.on_payload(payload, is_end, trailers)

    def on_switched(self, head: ResponseHead, rest: bytes) -> None:
        """Passed on."""
        self._client.on_switched(head, rest)

    def on_tunnel_data(self, data: bytes) -> None:
        """Passed on."""
        self._client.on_tunnel_data(data)

    def on_tunnel_eof(self) -> bool:
        """Passed on."""
        return self._client.on_tunnel_eof()

    def on_upstream_blocked(self) -> None:
        """Passed on."""
        self._client.on_upstream_blocked()

    def on_upstream_writable(self) -> None:
        """Passed on."""
        self._client.on_upstream_writable()
