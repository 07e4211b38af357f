"""Which protocol a client's connection begins with. *Once a connection.*"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from sidecar.proxy.client.detecting import DetectingConnection
from sidecar.proxy.client.http1 import ClientConnection
from sidecar.proxy.client.opening import OpeningConnection
from sidecar.proxy.live import ListenerState, Live


def protocol_factory(live: Live, state: ListenerState) -> Callable[[], asyncio.Protocol]:
    """A factory of protocols for a listener's server."""

    def make() -> asyncio.Protocol:
        side = state.tls
        if state.listener.captures:
            return cast("asyncio.Protocol", DetectingConnection(live, state))
        if side is None:
            return cast("asyncio.Protocol", ClientConnection(live, state))
        return cast("asyncio.Protocol", OpeningConnection(live, state, side))

    return make
