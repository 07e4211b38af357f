"""
An attempt's wait for a connection, when none was idle: its place in the pool's queue, and how long. *Cold: a dial.*
"""

from __future__ import annotations

from math import inf
from typing import Protocol, cast

from sidecar import errors
from sidecar.errors import Reason
from sidecar.net.timers import NOT_ARMED, Timed
from sidecar.proxy.exchange.interfaces import Dialling, ServerStream
from sidecar.upstream import pool, shared
from sidecar.upstream.endpoint import Endpoint, IdleConnection
from sidecar.upstream.limits.breaker import Breaker


class Acquirer(Protocol):
    """Whose wait it is; told once, unless it cancels."""

    __slots__ = ()

    def on_acquired(self, stream: ServerStream) -> None:
        """The connection is yours."""

    def on_not_acquired(self, reason: Reason, detail: str) -> None:
        """None will come; not one byte was sent."""


class Acquisition(Timed):
    """
    Args:
        acquirer: Told what comes.
        endpoint: Where the connection is to lead.
        breaker: Bounds the wait and the queue, or None.
        dialer: Opens connections.
        is_tunnel: The connection must be new, and is not shared afterwards.
        is_shared: It is one that many requests share.
    """

    __slots__ = (
        "_acquirer",
        "_breaker",
        "_dialer",
        "_endpoint",
        "_is_shared",
        "_is_tunnel",
        "_ticket",
        "bucket",
        "deadline",
    )

    def __init__(
        self, acquirer: Acquirer, endpoint: Endpoint, breaker: Breaker | None, dialer: Dialling, is_tunnel: bool,
        is_shared: bool = False,
    ) -> None:  # fmt: skip
        self._acquirer: Acquirer | None = acquirer
        self._endpoint = endpoint
        self._breaker = breaker
        self._dialer = dialer
        self._is_tunnel = is_tunnel
        self._is_shared = is_shared
        self._ticket: pool.Ticket | None = None
        self.deadline = inf
        self.bucket = NOT_ARMED

    def start(self) -> Reason | None:
        """Wait; or a reason why that would be in vain."""
        if self._is_tunnel:
            if not pool.claim(self._endpoint):
                return errors.UPSTREAM_OVERLOADED  # what others have would come back in their time only, or never
            self._dialer.dial_tunnel(self._endpoint, self)
            return None
        breaker = self._breaker
        if breaker is not None:
            if not pool.can_queue(self._endpoint, breaker):
                return errors.UPSTREAM_OVERLOADED
            timers = self._dialer.timers
            timers.arm(self, timers.time() + breaker.pending_timeout_s)
        if self._is_shared:
            self._ticket = shared.of(self._endpoint, self._dialer.dial_shared).wait(self._endpoint, self)
        else:
            self._ticket = pool.wait(self._endpoint, self, self._dialer.dial)
        return None

    def cancel(self) -> None:
        """Wait no more. A dial that is under way goes on, for the pool."""
        self._settle()
        if self._ticket is not None:
            self._ticket.cancel()
            self._ticket = None

    def _settle(self) -> Acquirer | None:
        acquirer, self._acquirer = self._acquirer, None
        if self.bucket != NOT_ARMED:
            self._dialer.timers.forget(self)
        return acquirer

    def on_connection(self, connection: IdleConnection) -> None:
        """A connection came, by our dial or another's release."""
        self._ticket = None
        stream = cast("ServerStream", connection)
        if self._acquirer is None:
            stream.abort()
        elif not self._is_tunnel and stream.requests and not stream.is_quiet():
            stream.close_idle("stale")
            refused = self.start()
            if refused is not None:
                self._fail(refused, "")
        else:
            acquirer = self._settle()
            assert acquirer is not None
            acquirer.on_acquired(stream)

    def on_connect_failed(self, reason: Reason, detail: str) -> None:
        """No connection could be made."""
        self._ticket = None
        self._fail(reason, detail)

    def on_deadline(self, now: float) -> None:
        """It took longer than the circuit breaker lets requests wait."""
        self._endpoint.cluster.stats.pending_timeouts += 1
        acquirer = self._acquirer
        self.cancel()
        if acquirer is not None:
            acquirer.on_not_acquired(errors.PENDING_TIMEOUT, "circuit_breaker.pending_timeout")

    def _fail(self, reason: Reason, detail: str) -> None:
        acquirer = self._settle()
        if acquirer is not None:
            acquirer.on_not_acquired(reason, detail)
