"""Which protocol a client's connection begins with. *Once a connection.*"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from sidecar.proxy.client.detecting import DetectingConnection, carry
from sidecar.proxy.client.http1 import ClientConnection
from sidecar.proxy.client.opening import OpeningConnection
from sidecar.proxy.live import ListenerState, Live


def protocol_factory(live: Live, state: ListenerState) -> Callable[[], asyncio.Protocol]:
    """A factory of protocols for a listener's server."""

    def make() -> asyncio.Protocol:
        side, listener = state.tls, state.listener
        # Where a handshake must come first, what it agrees on says the rest.
        may_be_clear = side is None or (side.is_mesh and side.takes_clear)
        if listener.captures or (listener.protocol != "http" and may_be_clear):
            return cast("asyncio.Protocol", DetectingConnection(live, state))
        if side is None:
            return cast("asyncio.Protocol", ClientConnection(live, state))
        return cast("asyncio.Protocol", OpeningConnection(live, state, side, carry))

    return make
