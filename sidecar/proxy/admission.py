"""
Whether a request, or a connection that is no HTTP's, may pass at all, whatever its route would be. *Hot path.*
"""

from __future__ import annotations

from typing import Final

from sidecar import errors
from sidecar.errors import Reason
from sidecar.exchange import Exchange
from sidecar.message import Kind, RequestHead
from sidecar.proxy.exchange.destination import Destination
from sidecar.proxy.exchange.steps import judge
from sidecar.proxy.live import ListenerState, Live
from sidecar.proxy.plan import Side
from sidecar.proxy.told import hear

_EXPLAIN: Final = Kind.EXPLAIN


def refusal(
    live: Live,
    side: Side,
    state: ListenerState,
    exchange: Exchange,
    head: RequestHead,
    peer_ip: str,
    destination: Destination | None,
) -> Reason | None:
    """
    Why it goes no further than here; the exchange then has the detail. None: it may.

    Args:
        live: Whose lag is looked at, and whose telemetry is told what rules say.
        side: Whose rules hold.
        state: The listener by which it came.
        exchange: Its record.
        head: What is asked for; of what is no HTTP's, where it is meant to go.
        peer_ip: Who connected, whoever that says its client is.
        destination: Where its connection was meant to go that was led here.
    """
    if head.kinds & _EXPLAIN:
        hear(live.plan.askers, exchange, head)
    if destination is not None and destination.is_loop:
        exchange.detail = f"what is sent to {destination} comes back to this sidecar"
        return errors.LOOP
    if live.timers.lag_s > live.plan.limits.max_loop_lag_s:
        # What was accepted finishes; what is new would only wait longer (and its client may have given up).
        exchange.retry_after_s = 1.0
        exchange.detail = "limits.max_loop_lag"
        return errors.OVERLOADED
    tls = state.tls
    if tls is not None and exchange.client is None and tls.refuses(head, peer_ip):
        exchange.detail = "inbound.tls is strict, and none of its `clear` names this"
        return errors.CLEAR_REFUSED
    rules = side.authorization
    if rules is not None:
        if exchange.protocol and rules.reads_requests and not rules.is_audit:
            exchange.detail = f"`inbound.authorization` asks for what requests say, and {exchange.protocol} is none"
            return errors.AUTHORIZATION_DENIED
        decision = judge(rules, side, state.listener, exchange, head)
        live.telemetry.judged(exchange, decision)
        if not decision.is_allowed:
            return errors.AUTHORIZATION_DENIED
    return None
