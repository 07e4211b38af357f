"""
Connections to upstreams are opened here: the only coroutines behind a request, and only when no connection waits.
*Cold.*
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import cast

from sidecar import clock, errors
from sidecar.errors import Reason
from sidecar.net.descriptors import Descriptors, is_local
from sidecar.net.flow import Outbox
from sidecar.net.timers import Timers
from sidecar.proxy.server.http1 import ServerConnection
from sidecar.upstream import pool
from sidecar.upstream.endpoint import Endpoint

log = logging.getLogger("sidecar.proxy")


class Dialer:
    """
    Dials endpoints of one event loop.

    Args:
        loop: Used for tasks and connections.
        timers: Given to each connection.
        outbox: Given to each connection.
        connected: Told of each connection: whose it is, and how long it took in nanoseconds.
        descriptors: Must have room for another.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        timers: Timers,
        outbox: Outbox,
        connected: Callable[[str, int], None] | None = None,
        descriptors: Descriptors | None = None,
    ) -> None:
        self._loop = loop
        self._connected = connected
        self._descriptors = descriptors if descriptors is not None else Descriptors()
        self.timers = timers
        self._outbox = outbox
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Dialer {len(self._tasks)} under way>"

    def later(self, delay_s: float, action: Callable[[], None]) -> asyncio.TimerHandle:
        """Do it after so many seconds: the back-off of retries, whose grain is finer than that of `timers`."""
        return self._loop.call_later(delay_s, action)

    def dial(self, endpoint: Endpoint) -> None:
        """Open a connection for the endpoint's pool, and report it with `pool.connected` or `pool.failed`."""

        def on_failed(reason: Reason, detail: str) -> None:
            pool.failed(endpoint, reason, detail)

        self._spawn(endpoint, pool.connected, on_failed)

    def dial_tunnel(self, endpoint: Endpoint, waiter: pool.Waiter) -> None:
        """Open a connection that no exchange has used or will share, for CONNECT."""

        endpoint.connections += 1

        def on_connected(connection: ServerConnection) -> None:
            endpoint.cluster.stats.connections_opened += 1
            waiter.on_connection(connection)

        def on_failed(reason: Reason, detail: str) -> None:
            endpoint.connections -= 1
            waiter.on_connect_failed(reason, detail)

        self._spawn(endpoint, on_connected, on_failed)

    def stop(self) -> None:
        """Cancel what is under way."""
        for task in self._tasks:
            task.cancel()

    def _spawn(
        self,
        endpoint: Endpoint,
        on_connected: Callable[[ServerConnection], None],
        on_failed: Callable[[Reason, str], None],
    ) -> None:
        task = self._loop.create_task(self._dial(endpoint, on_connected, on_failed))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _dial(
        self,
        endpoint: Endpoint,
        on_connected: Callable[[ServerConnection], None],
        on_failed: Callable[[Reason, str], None],
    ) -> None:
        stats = endpoint.cluster.stats
        is_told = False

        began_ns = clock.monotonic_ns()

        def on_made(connection: ServerConnection) -> None:
            nonlocal is_told
            is_told = True
            if self._connected is not None:
                self._connected(endpoint.cluster.name, clock.monotonic_ns() - began_ns)
            on_connected(connection)

        def factory() -> asyncio.Protocol:
            return cast("asyncio.Protocol", ServerConnection(endpoint, self.timers, self._outbox, on_made))

        if not self._descriptors.has_room():
            on_failed(errors.LOCAL_EXHAUSTION, "descriptors of the process")
            return
        try:
            async with asyncio.timeout(endpoint.cluster.connect_timeout_s):
                if endpoint.unix_path is not None:
                    await self._loop.create_unix_connection(factory, endpoint.unix_path)
                else:
                    await self._loop.create_connection(factory, endpoint.host, endpoint.port)
        except TimeoutError:
            if is_told:
                return  # it came in the last moment; whoever has it will hear that it closes
            stats.connect_timeouts += 1
            on_failed(errors.CONNECT_TIMEOUT, f"{endpoint.label}: no answer in {endpoint.cluster.connect_timeout_s} s")
        except OSError as error:
            if is_local(error):
                on_failed(errors.LOCAL_EXHAUSTION, f"{endpoint.label}: {error}")
                return
            stats.connect_failures += 1
            on_failed(errors.CONNECT_FAILED, f"{endpoint.label}: {error}")
        except Exception as error:
            # A name that the resolver cannot even encode raises UnicodeError; whatever it is, nobody may wait forever.
            log.exception("dial_failed endpoint=%s", endpoint.label)
            stats.connect_failures += 1
            on_failed(errors.CONNECT_FAILED, f"{endpoint.label}: {type(error).__name__}")
