"""
The course of an exchange: from a request's head through route, policies, attempts and response to its record.
*Hot path.*

It knows no wire. A client's connection *has* courses, one after another (HTTP/1.1) or many at once (a stream each),
tells them what the client does, and is told what to send (`interfaces`). Upstream a course has a `Forwarder`, and once
the exchange has become a tunnel, a `Tunnel`.

    begin: may it pass -> the route -> its rate limit, fault, rewrite -> forward or answer -> response -> end: recorded

Whatever ends an exchange goes through `_end`, once; the call before it writes, the call behind it gives the client's
side back to its connection.
"""

from __future__ import annotations

import asyncio
from functools import partial
from math import inf
from random import random
from typing import Final

from sidecar import clock, errors
from sidecar.errors import ProtocolError, Reason
from sidecar.exchange import Exchange, ScopeLike
from sidecar.http1.upgrade import is_extended_connect, offered, switched_to
from sidecar.message import NO_TRAILERS, Field, Kind, RequestHead, ResponseHead
from sidecar.net.flow import MUCH_BYTES
from sidecar.peer import Peer
from sidecar.proxy.admission import refusal
from sidecar.proxy.calls import end_local, time_of
from sidecar.proxy.exchange.absent import AbsentClient
from sidecar.proxy.exchange.destination import Destination, chooser_for, side_of, stream_route
from sidecar.proxy.exchange.forwarder import Forwarder
from sidecar.proxy.exchange.interfaces import Chooser, ClientStream, Requester, ResponseWriter, ServerStream
from sidecar.proxy.exchange.mirror import MIRROR_TIMEOUT_S, Copies, copies_of
from sidecar.proxy.exchange.replies import abort_call, end_for, explain, parting
from sidecar.proxy.exchange.steps import ByAuthority, find_route, local_answer, name_client, request_to_send
from sidecar.proxy.exchange.tunnel import Tunnel, TunnelOwner
from sidecar.proxy.live import ListenerState, Live
from sidecar.proxy.plan import Listener, Plan, Side
from sidecar.proxy.told import Telling, told
from sidecar.routing.actions import Forward, HeaderEdits, Redirect, Respond, Route
from sidecar.upstream.retry import NO_POLICY

_UPGRADE: Final = Kind.UPGRADE
_EXPLAIN: Final = Kind.EXPLAIN
_GRPC_TIMEOUT: Final = Kind.GRPC_TIMEOUT


class Course(Requester, TunnelOwner):
    """
    One object for the exchanges of one stream, one after another: `begin` forgets the one before.

    Args:
        live: What all connections share.
        listener_state: The listener by which the client came.
        client: The client's side, as far as it lives.
        writer: The client's side, as far as something is sent.
        peer: Who the client is: address and port.
        forwarded: Lines that say so, for requests that do not say so themselves.
        identified: Who it is by TLS, or None.
        destination: Where its connection was meant to go that was led here; None: here.

    Attributes:
        exchange: The record; None while no exchange is running.
        tunnel: What the exchange has become, or None.
        expires_at: Loop time at which the exchange times out, inf for never.
        has_client_ended: The client sends no more, and may be gone.
        is_upstream_blocked: Read no more of the request.
    """

    __slots__ = (
        "_client", "_copies", "_destination", "_ends_at", "_forwarded", "_forwarder", "_has_client_left",
        "_has_response", "_identified", "_is_client_blocked", "_is_delivering", "_is_request_complete",
        "_listener_state", "_live", "_peer", "_response_edits", "_timeout_s", "_upgrade", "_writer", "exchange",
        "expires_at", "has_client_ended", "is_upstream_blocked", "tunnel",
    )  # fmt: skip

    def __init__(
        self, live: Live, listener_state: ListenerState, client: ClientStream, writer: ResponseWriter,
        peer: tuple[str, int], forwarded: bytes, identified: Peer | None = None, destination: Destination | None = None,
    ) -> None:  # fmt: skip
        self._live = live
        self._listener_state = listener_state
        self._client = client
        self._writer = writer
        self._peer = peer
        self._forwarded = forwarded
        self._identified = identified
        self._destination = destination
        self.exchange: Exchange | None = None
        self.tunnel: Tunnel | None = None
        self.expires_at = inf
        self.has_client_ended = self.is_upstream_blocked = False
        self._forwarder: Forwarder | None = None
        self._copies: Copies | None = None
        self._has_client_left = self._has_response = False
        self._is_delivering = self._is_client_blocked = False
        self._is_request_complete = False
        self._response_edits: HeaderEdits | None = None
        self._timeout_s: float | None = None
        self._ends_at = inf
        self._upgrade = b""

    def __repr__(self) -> str:
        return f"<Course {self.exchange!r}>"

    # --- the client's side -----------------------------------------------------------------------------------

    def begin(self, head: RequestHead, payload: bytes, is_complete: bool, trailers: list[Field]) -> None:
        """Open the record of a request, and take it through the rooms with what there is of its body."""
        live, listener = self._live, self._listener_state.listener
        plan = live.plan
        destination = self._destination
        side = plan.side_of[listener.side] if destination is None else side_of(plan, listener, destination)
        exchange = self.exchange = Exchange(
            listener.direction, clock.monotonic_ns(), head, self._peer, side.unrouted, self._identified, side.kept
        )
        self._has_response = self._is_client_blocked = False
        self._is_request_complete = is_complete
        self.expires_at = inf
        if payload:
            exchange.bytes_received = len(payload)
        if side.client_address is not None:
            name_client(side.client_address, exchange, head)
        added = live.telemetry.begin(exchange)
        if listener.host is not None:
            head.host, head.port = listener.host, listener.port
        if destination is not None:
            exchange.is_captured = True
            head.port = destination.port  # whatever port the request names
        refused = refusal(live, side, self._listener_state, exchange, head, self._peer[0], destination)
        if refused is not None:
            self.fail(refused, exchange.detail)
            return
        found = find_route(side, head, exchange.peer[0], is_captured=destination is not None)
        if isinstance(found, Reason):
            self.fail(found, "")
        elif type(found.action) is Forward:
            self._forward(
                live, listener, plan, side, exchange, head, found, found.action, added, payload, is_complete, trailers
            )
        else:
            action = found.action
            assert not isinstance(action, Forward)
            self._answer(action, found.response_edits, found.scope)

    def begin_stream(self, head: RequestHead, protocol: str) -> None:
        """Open the record of a connection that is no HTTP's (`Exchange.protocol`), and carry it to where it goes."""
        side = self.begin_unread(head, b"", protocol)
        live, state, exchange = self._live, self._listener_state, self.exchange
        assert exchange is not None
        refused = refusal(live, side, state, exchange, head, self._peer[0], self._destination)
        route = refused or stream_route(side, head, self._destination)
        if isinstance(route, Reason):
            self.fail(route, exchange.detail)
            return
        action = route.action
        assert type(action) is Forward
        self._forward(live, state.listener, live.plan, side, exchange, head, route, action, b"", b"", True, NO_TRAILERS)

    def begin_unread(self, head: RequestHead | None, raw_line: bytes = b"", protocol: str = "") -> Side:
        """
        Open the record of a request, or of what should have been one; `fail` or `on_client_lost` follows.

        Returns:
            Whose routes it would take.
        """
        live, listener = self._live, self._listener_state.listener
        destination = self._destination
        side = live.plan.side_of[listener.side] if destination is None else side_of(live.plan, listener, destination)
        exchange = self.exchange = Exchange(
            listener.direction, clock.monotonic_ns(), head, self._peer, side.unrouted, self._identified
        )
        exchange.raw_line, exchange.protocol = raw_line, protocol
        self._has_response = self._is_client_blocked = self._is_request_complete = False
        self.expires_at = inf
        if head is not None:
            if side.client_address is not None:
                name_client(side.client_address, exchange, head)
            live.telemetry.begin(exchange)
            if listener.host is not None:
                head.host, head.port = listener.host, listener.port
        return side

    def on_body(self, payload: bytes, is_complete: bool, trailers: list[Field]) -> None:
        """More of the request's body; empty only together with `is_complete`."""
        exchange, forwarder = self.exchange, self._forwarder
        assert exchange is not None
        exchange.bytes_received += len(payload)
        self._is_request_complete = is_complete
        if forwarder is None:
            return  # it is answered, and the answer is on its way
        if self._copies is not None:
            self._copies.add(payload, is_complete, trailers)
        if not is_complete:
            self._suspend(forwarder)
        elif self._timeout_s is not None and self.tunnel is None:
            # The route's time is the upstream's: what the client takes to send is not charged to it (as Envoy does).
            live, now = self._live, self._live.timers.time()
            self.expires_at = forwarder.expires_at = min(now + self._timeout_s, self._ends_at)
            live.timers.arm(self._client, min(now + live.plan.limits.stream_idle_timeout_s, self.expires_at))
        forwarder.send_body(payload, is_complete, trailers)

    def can_splice_request(self) -> bool:
        """Whether the rest of a large body may go by: nobody keeps it, for a retry or a mirror."""
        forwarder, copies = self._forwarder, self._copies
        return forwarder is not None and (copies is None or copies.is_over) and forwarder.can_splice_request()

    def splice_request(self, first: bytes, source: asyncio.Transport, limit: int) -> int:
        """As `on_body`, not to the end, and what the source's socket has: `ServerStream.splice_from`."""
        exchange, forwarder = self.exchange, self._forwarder
        assert exchange is not None
        if forwarder is None or not self.can_splice_request():
            self.on_body(first, False, NO_TRAILERS)
            return 0
        exchange.bytes_received += len(first)
        size = forwarder.splice_request(first, source, limit)
        exchange.bytes_received += size
        return size

    def _suspend(self, forwarder: Forwarder) -> None:
        """The client is to speak next: no time of the upstream's runs, but the time of a call does."""
        if self.expires_at < self._ends_at or forwarder.deadline < inf:
            self.expires_at = self._ends_at
            forwarder.suspend(self._ends_at)
            self._client.touch()

    def on_client_lost(self, detail: str) -> None:
        """The client is gone: with it goes its request, unless that is to be finished without it."""
        forwarder, live = self._forwarder, self._live
        is_finished = live.plan.limits.finishes_without_client and self._is_request_complete
        if forwarder is None or self.tunnel is not None or not is_finished:
            self._end(None if self.tunnel is not None else errors.CLIENT_LEFT, detail)
            return
        self._client = self._writer = absent = AbsentClient(live, self._listener_state, self)
        self._has_client_left = True
        self._is_client_blocked = False
        forwarder.resume()
        absent.touch()

    def on_client_blocked(self) -> None:
        """The client reads slower than the upstream sends."""
        self._is_client_blocked = True
        if self._forwarder is not None:
            self._forwarder.pause()

    def on_client_writable(self) -> None:
        """The client has caught up."""
        self._is_client_blocked = False
        if self._is_delivering:
            self._is_delivering = False
            self._end(None)
            self._client.on_exchange_over()
        elif self._forwarder is not None:
            self._forwarder.resume()

    def on_deadline(self, now: float) -> None:
        """Whatever was awaited took too long."""
        if now >= self._ends_at and not self._is_delivering:
            self.fail(errors.RESPONSE_TIMEOUT, "grpc-timeout")
        elif now >= self.expires_at and not (self._has_response and self._is_client_blocked):
            self.fail(errors.RESPONSE_TIMEOUT, "the route's timeout")
        elif self.tunnel is not None:
            self._end(None, "limits.tunnel_idle_timeout")
            self._client.reset()
        elif self._is_client_blocked or self._is_delivering:
            # It may be the route's time that is up; the upstream answered in it, and the client did not read.
            self.fail(
                errors.CLIENT_STALLED, "limits.stream_idle_timeout" if now < self.expires_at else "the route's timeout"
            )
        elif not self._is_request_complete and not self.is_upstream_blocked:
            self.fail(errors.BODY_TIMEOUT, "limits.stream_idle_timeout")
        else:
            reason = errors.RESPONSE_STALLED if self._has_response else errors.RESPONSE_TIMEOUT
            self.fail(reason, "limits.stream_idle_timeout")

    def abort(self) -> None:
        """The process ends."""
        self._end(errors.DRAINING if self.tunnel is None else None)

    # --- forward or answer -----------------------------------------------------------------------------------

    def _forward(
        self, live: Live, listener: Listener, plan: Plan, side: Side, exchange: Exchange, head: RequestHead,
        route: Route, action: Forward, added: bytes, payload: bytes, is_complete: bool, trailers: list[Field],
    ) -> None:  # fmt: skip
        """Send the request on, or answer it as its route's rate limit or fault says."""
        now = live.timers.time()
        if action.rate_limit is not None:
            exchange.scope = route.scope
            wait_s = action.rate_limit.check(head, exchange.peer[0], now)
            if wait_s is not None:
                exchange.retry_after_s = wait_s
                self.fail(errors.RATE_LIMITED, "")
                return
        target = action.choose(head, exchange.peer[0])
        exchange.scope = target.scope
        if target.redirect is not None:
            self._answer(target.redirect, target.response_edits, target.scope)
            return
        fault: tuple[float, int | None] | None = None
        if action.fault is not None:
            fault = action.fault.decide(random, head)
            if fault[1] is not None and not fault[0]:
                self._inject(fault[1], action.fault.abort_grpc_status)
                return
        self._response_edits = edits = target.response_edits
        if head.kinds & _EXPLAIN:
            self._response_edits = Telling(edits, exchange, side.table.routes)
        self._upgrade = offered(head, action.upgrades) if head.kinds & _UPGRADE else b""
        self._ends_at = inf
        try:
            if head.kinds & _GRPC_TIMEOUT:
                self.expires_at = self._ends_at = now + time_of(head)
            request = request_to_send(head, target, listener, self._forwarded, added, self._upgrade)
        except ProtocolError as error:
            self.fail(error.reason, error.detail)
            return
        if payload or trailers or not is_complete:
            request.begin(payload, is_complete, trailers)
        chooser: Chooser = target.upstream
        if self._destination is not None:
            chooser = chooser_for(side.captured, self._destination, route, target.upstream)
        elif route is side.passthrough_route and side.passthrough is not None:
            chooser = ByAuthority(side.passthrough)
        self._timeout_s = timeout_s = action.timeout_s
        deadline = now + plan.limits.stream_idle_timeout_s
        if timeout_s is not None and request.is_awaited():
            self.expires_at = min(now + timeout_s, self._ends_at)
        live.timers.arm(self._client, deadline if deadline < self.expires_at else self.expires_at)
        is_tunnel = head.method == b"CONNECT"
        policy = action.retry or NO_POLICY
        self._forwarder = forwarder = Forwarder(
            self, exchange, request, chooser, plan.limits, live.dialer, policy, self.expires_at, is_tunnel
        )
        if fault is None:
            reason = forwarder.start()
        elif fault[1] is None:
            reason = forwarder.start(fault[0])
        else:
            assert action.fault is not None
            forwarder.start(fault[0], partial(self._inject, fault[1], action.fault.abort_grpc_status))
            return
        if reason is not None:
            self._forwarder = None
            self.fail(reason, "")
        elif action.mirrors and not is_tunnel and not self._upgrade:
            timeout_s = action.timeout_s or MIRROR_TIMEOUT_S
            copies = copies_of(action.mirrors, random, exchange, request, plan.limits, live.dialer, timeout_s)
            if copies is not None:
                self._copies = copies
                copies.add(payload, is_complete, trailers)

    def _inject(self, status: int, grpc_status: int | None) -> None:
        """Answer with a fault."""
        exchange = self.exchange
        if exchange is not None:
            abort_call(exchange, status, grpc_status)
            self.fail(errors.FAULT_INJECTED, "")

    def _answer(self, action: Redirect | Respond, edits: HeaderEdits | None, scope: ScopeLike) -> None:
        """Answer as the route says, or the side of it that was chosen, without an upstream."""
        exchange = self.exchange
        assert exchange is not None
        assert exchange.head is not None
        exchange.scope = scope
        try:
            status, fields, body = local_answer(action, edits, exchange.head)
        except ProtocolError as error:
            self.fail(error.reason, error.detail)
            return
        end_local(exchange, status, fields)
        self._reply(status, fields, body)
        self._finish(len(body) > MUCH_BYTES)

    def fail(self, reason: Reason, detail: str, may_answer: bool = True) -> None:
        """End the exchange for a reason of the table: answer if nothing was answered yet and it may, else cut."""
        exchange = self.exchange
        if exchange is None:
            self._client.reset()
        elif self._has_response or not may_answer or exchange.protocol:
            is_heard = self._has_response and may_answer and not self._is_client_blocked and not self._is_delivering
            trailers = parting(reason, exchange) if is_heard else NO_TRAILERS
            if trailers:
                self._writer.send_payload(b"", True, trailers)
            self._end(reason, detail)
            self._client.on_exchange_over() if trailers else self._client.reset()
        else:
            # A fault's status is its route's.
            status, fields, body = explain(reason, exchange)
            is_last = reason.status in (400, 408) or reason is errors.CLEAR_REFUSED
            self._reply(status, fields, body, is_last=is_last)
            self._end(reason, detail)
            self._client.on_exchange_over()

    def _reply(self, status: int, fields: list[Field], body: bytes, *, is_last: bool = False) -> None:
        exchange = self.exchange
        assert exchange is not None
        head = exchange.head
        exchange.status = status
        self._has_response = True
        if status not in (204, 304) and (head is None or head.method != b"HEAD"):
            exchange.bytes_sent = len(body)
        if head is not None and head.method == b"CONNECT":
            # What follows is meant for the other end of the tunnel, and may look like a request (RFC 9110, 9.3.6).
            is_last = True
        if head is not None and head.kinds & _EXPLAIN:
            fields = [*fields, told(exchange, self._live.plan.sides[exchange.direction].table.routes)]
        self._writer.send_reply(head, status, fields, body, is_last=is_last)

    # --- the upstream's side ---------------------------------------------------------------------------------

    def on_informational(self, head: ResponseHead) -> None:
        """Pass a 1xx response on."""
        exchange, forwarder = self.exchange, self._forwarder
        if exchange is not None and exchange.head is not None:
            if head.status == 100 and forwarder is not None and not self._is_request_complete:
                self._suspend(forwarder)
            fields = head.fields if self._response_edits is None else self._response_edits.apply_to_response(head)
            self._writer.send_informational(exchange.head, head, fields)

    def on_response(self, head: ResponseHead, payload: bytes, is_end: bool, trailers: list[Field]) -> None:
        """Pass the head on, and what there is of the body."""
        exchange = self.exchange
        assert exchange is not None
        request = exchange.head
        assert request is not None
        if request.kinds & _UPGRADE and head.status < 300 and is_extended_connect(request):
            self.fail(errors.BAD_RESPONSE, f"{head.status} to an extended CONNECT, for which it would be a tunnel")
            return
        exchange.first_byte_ns = now_ns = clock.monotonic_ns()
        exchange.status = head.status
        exchange.bytes_sent = len(payload)
        self._has_response = True
        if is_end:
            self._forwarder = None
            exchange.received_ns = now_ns
        fields = head.fields if self._response_edits is None else self._response_edits.apply_to_response(head)
        self._writer.send_response(request, head, fields, payload, is_end, trailers)
        if is_end:
            self._finish(len(payload) > MUCH_BYTES)
        else:
            self._client.touch()
            if self._is_client_blocked and self._forwarder is not None:
                self._forwarder.pause()

    def on_payload(self, payload: bytes, is_end: bool, trailers: list[Field]) -> None:
        """Pass more of the body on."""
        exchange = self.exchange
        assert exchange is not None
        exchange.bytes_sent += len(payload)
        if is_end:
            self._forwarder = None
            exchange.received_ns = clock.monotonic_ns()
        self._writer.send_payload(payload, is_end, trailers)
        self._finish(True) if is_end else self._client.touch()

    def splice_response(self, first: bytes, source: asyncio.Transport, limit: int) -> int:
        """Let more of the body go by, whose length the client was told."""
        exchange = self.exchange
        assert exchange is not None
        exchange.bytes_sent += len(first)
        size = self._writer.splice_from(first, source, limit)
        exchange.bytes_sent += size
        self._client.touch()
        return size

    def on_failed(self, reason: Reason, detail: str) -> None:
        """No attempt has brought a complete response."""
        self._forwarder = None
        self.fail(reason, detail)

    def on_upstream_blocked(self) -> None:
        """Read no more of the request."""
        self.is_upstream_blocked = True
        self._client.update_reading()

    def on_upstream_writable(self) -> None:
        """Read on."""
        if self.is_upstream_blocked:
            self.is_upstream_blocked = False
            self._client.touch()
            self._client.update_reading()

    # --- tunnels ---------------------------------------------------------------------------------------------

    def on_switched(self, stream: ServerStream, head: ResponseHead | None, rest: bytes) -> None:
        """The exchange becomes a tunnel."""
        exchange = self.exchange
        assert exchange is not None
        protocol = switched_to(head, self._upgrade) if head is not None and self._upgrade else b""
        if head is not None and not protocol:
            self.fail(errors.BAD_RESPONSE, "101 that nobody asked for")
            return
        exchange.first_byte_ns = clock.monotonic_ns()
        exchange.status = 200 if head is None else 101
        exchange.bytes_sent = len(rest)
        self._has_response = True
        self.expires_at = inf
        self.tunnel = tunnel = Tunnel(self, self._client, self._writer, stream, exchange)
        stream.open_tunnel(tunnel)
        fields: list[Field] = []
        if head is not None:
            fields = head.fields if self._response_edits is None else self._response_edits.apply_to_response(head)
        self._writer.send_switch(head, fields, protocol, rest)
        self._client.on_switched()

    def on_tunnel_ended(self) -> None:
        """Both have ended in order."""
        if self._forwarder is not None:
            self._forwarder.finish()
        self._end(None)
        self._client.close()

    def on_tunnel_lost(self, detail: str) -> None:
        """The server is gone."""
        self._end(errors.RESPONSE_CUT if detail else None, detail)
        self._client.reset() if detail else self._client.close()

    # --- the end ---------------------------------------------------------------------------------------------

    def _finish(self, is_large: bool) -> None:
        """The response is written whole; it is over, and can be said to have gone well, when that has left."""
        self.expires_at = inf  # the upstream has done its part; the client may take its time
        if (is_large or self._is_client_blocked or self.has_client_ended) and self._client.awaits_delivery():
            self._is_delivering = True
        else:
            self._end(None)
            self._client.on_exchange_over()

    def _end(self, reason: Reason | None, detail: str = "") -> None:
        """The exchange is over: free what it holds and record it, once."""
        exchange, forwarder = self.exchange, self._forwarder
        assert exchange is not None
        if self._copies is not None:
            self._copies.drop("client_left" if reason is errors.CLIENT_LEFT else "answered_early")
            self._copies = None
        self.exchange = self.tunnel = None
        self.is_upstream_blocked = False
        if forwarder is not None:
            self._forwarder = None
            forwarder.cancel(reason)
        exchange.end_ns = clock.monotonic_ns()
        if self._has_client_left:
            reason, detail = errors.CLIENT_LEFT, f"finished without it {reason.name if reason else ''}".rstrip()
        if reason is not None:
            end_for(reason, detail, exchange)
        self._live.telemetry.record(exchange)
