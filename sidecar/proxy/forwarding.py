"""
The part of a client connection that sends a request on: what its route does to it first, and the attempt. *Hot path.*

It stands between `bodies.BodyReader` and `downstream.DownstreamConnection`, which reads heads and has the essay on
states.
"""

from __future__ import annotations

from random import random
from typing import TYPE_CHECKING, Final

from sidecar import errors
from sidecar.errors import ProtocolError
from sidecar.message import Kind
from sidecar.proxy.attempt import Attempt
from sidecar.proxy.bodies import BodyReader
from sidecar.proxy.halves import Chooser
from sidecar.proxy.mirror import Copy
from sidecar.proxy.plan import Plan
from sidecar.proxy.steps import ByAuthority, request_to_send, upgrade_of
from sidecar.routing.actions import Forward, Route
from sidecar.upstream.retry import NO_POLICY

if TYPE_CHECKING:
    from sidecar.proxy.live import ListenerState, Live

# Of a copy whose route has no timeout: App Mesh's and Envoy's time for a request.
_MIRROR_TIMEOUT_S: Final = 15.0


class Forwarder(BodyReader):
    """
    Args:
        live: What all connections share.
        listener_state: The listener that accepted it.
    """

    __slots__ = ("_forwarded", "_peer", "listener_state")

    def __init__(self, live: Live, listener_state: ListenerState) -> None:
        super().__init__(live)
        self.listener_state = listener_state
        self._peer: tuple[str, int] = ("", 0)
        self._forwarded = b""

    def _forward(self, plan: Plan, route: Route, action: Forward, added: bytes, body: bytes, is_complete: bool) -> None:
        """Send the exchange's request on, or answer it as its route's rate limit or fault says."""
        live, exchange, listener = self._live, self._exchange, self.listener_state.listener
        assert exchange is not None
        head = exchange.head
        assert head is not None
        now = live.timers.time()
        if action.rate_limit is not None:
            exchange.scope = route.scope
            wait_s = action.rate_limit.check(head, self._peer[0], now)
            if wait_s is not None:
                exchange.retry_after_s = wait_s
                self._fail(errors.RATE_LIMITED, "")
                return
        target = action.choose(head, self._peer[0])
        exchange.scope = target.scope
        delay_s, abort_status = (0.0, None) if action.fault is None else action.fault.decide(random, head)
        if abort_status is not None and not delay_s:
            self._inject(abort_status)
            return
        self._response_edits = target.response_edits
        self._upgrade = upgrade_of(head) if head.kinds & Kind.UPGRADE else b""
        try:
            request = request_to_send(head, action, target, listener, self._forwarded, added, self._upgrade)
        except ProtocolError as error:
            self._fail(error.reason, error.detail)
            return
        side = plan.sides[listener.direction]
        chooser: Chooser = target.upstream
        if route is side.passthrough_route and side.passthrough is not None:
            chooser = ByAuthority(side.passthrough)
        if action.timeout_s is not None:
            self._deadline_of_exchange = now + action.timeout_s
        live.timers.arm(self, min(now + plan.limits.idle_timeout_s, self._deadline_of_exchange))
        is_tunnel = head.method == b"CONNECT"
        self._attempt = attempt = Attempt(
            self,
            exchange,
            head,
            request,
            chooser,
            plan.limits,
            live.dialer,
            action.retry or NO_POLICY,
            self._deadline_of_exchange,
            is_tunnel,
        )
        if abort_status is not None:
            attempt.start(body, is_complete, delay_s, lambda: self._inject(abort_status))
            return
        reason = attempt.start(body, is_complete, delay_s)
        if reason is not None:
            self._attempt = None
            self._fail(reason, "")
        elif action.mirror is not None and not is_tunnel and not self._upgrade and action.mirror.wants(random):
            timeout_s = action.timeout_s or _MIRROR_TIMEOUT_S
            attempt.copy = Copy(action.mirror, exchange, head, request, plan.limits, live.dialer, timeout_s)
            attempt.copy.add(body, is_complete)

    def _inject(self, status: int) -> None:
        """Answer with a fault."""
        exchange = self._exchange
        if exchange is not None:
            exchange.status = status
            self._fail(errors.FAULT_INJECTED, "")
