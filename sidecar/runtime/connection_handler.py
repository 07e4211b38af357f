"""What stands behind each listener of the data path; `admin_handler` has the others. *Cold.*"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from sidecar.compile.listener_spec import ListenerSpec
from sidecar.net.tls.sides import ServerSide
from sidecar.process_log import event
from sidecar.proxy.client.accept import protocol_factory
from sidecar.proxy.live import ClientConnection, ListenerState, Live

logger = logging.getLogger(__name__)

IDLE_PATIENCE_S = 0.1
"""For how long idle connections of a listener that drains are kept: more than a round trip within a data centre."""

IDLE_SHARE = 0.2
"""At most so much of `drain.timeout`."""


class ProxyConnectionHandler:
    """
    The connections of one inbound or outbound listener.

    Args:
        live: The data path.
        spec: With its `listener`.
        loop: For the end of a drain.
        side_of: How a listener's clients are spoken to by TLS, or None.
    """

    __slots__ = ("_live", "_loop", "_side_of", "protocol", "state")

    def __init__(
        self,
        live: Live,
        spec: ListenerSpec,
        loop: asyncio.AbstractEventLoop,
        side_of: Callable[[ListenerSpec], ServerSide | None],
    ) -> None:
        assert spec.listener is not None
        self._live = live
        self._loop = loop
        self._side_of = side_of
        self.state = ListenerState(spec.listener)
        self.state.tls = side_of(spec)
        self.protocol = protocol_factory(live, self.state)

    def update(self, spec: ListenerSpec) -> None:
        """
        Requests that come from now on are for the host that the new configuration gives this listener, and clients that
        connect are spoken to by TLS, or not, as it says.
        """
        assert spec.listener is not None
        self.state.listener = spec.listener
        self.state.tls = self._side_of(spec)

    def announce(self) -> None:
        """Responses say `Connection: close` from now on, those on new connections too."""
        self.state.is_draining = True
        for connection in self._connections():
            connection.announce_close()

    def drain(self, patience_s: float = 0.0) -> None:
        """
        Let connections end: idle ones soon, the others after their exchange.

        Idle ones are kept for a moment, because a request may be on its way to them (and a client who has just
        connected has not had the time to send one). What still runs after `drain.timeout` is cut, so that a listener
        that was removed does not live for ever in a stream that never ends.
        """
        self.announce()
        timeout_s = self._live.plan.drain_timeout_s
        self._loop.call_later(min(max(patience_s, IDLE_PATIENCE_S), timeout_s * IDLE_SHARE), self._close_idle)
        self._loop.call_later(timeout_s, self._cut)

    def _connections(self) -> list[ClientConnection]:
        direction = self.state.listener.direction
        return [one for one in self._live.connections[direction] if one.listener_state is self.state]

    def _close_idle(self) -> None:
        for connection in self._connections():
            connection.drain()

    def _cut(self) -> None:
        remaining = self._connections()
        if remaining:
            address = self.state.listener.address
            logger.warning(event("connections_cut", address=address, count=len(remaining), reason="drain_timeout"))
        for connection in remaining:
            connection.abort()
