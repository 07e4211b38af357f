"""
Connections to upstreams are opened here: the only coroutines behind a request, and only when no connection waits.
*Cold.*
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, cast

from sidecar import clock, errors
from sidecar.errors import Reason
from sidecar.net import dial
from sidecar.net.descriptors import Descriptors, are_gone, is_local
from sidecar.net.flow import Outbox
from sidecar.net.names import Names
from sidecar.net.resolve import ResolveError
from sidecar.net.timers import TICK_S, Timers
from sidecar.net.tls.handshakes import Handshakes
from sidecar.net.tls.securing import Securing, SecuringError, usable
from sidecar.net.tls.sides import MESH_HTTP2, OUTSIDE_HTTP2, ClientSide
from sidecar.peer import Peer
from sidecar.proxy.server.http1 import ServerConnection
from sidecar.proxy.server.http2 import Http2ServerConnection
from sidecar.upstream import pool
from sidecar.upstream.endpoint import Endpoint
from sidecar.upstream.shared import Shared

log = logging.getLogger("sidecar.proxy")

# Part of the time for connecting that a new answer for a name is waited for where there is an older one.
_PATIENCE: Final = 0.25
_RESOLVE_REASONS: Final[dict[str, Reason]] = {
    "failed": errors.RESOLVE_FAILED,
    "timeout": errors.RESOLVE_TIMEOUT,
    "refused": errors.RESOLVE_OVERLOADED,
}


class _Attempt:
    """
    A connection that is being opened; `connected` or `failed` is told what comes of it.

    Args:
        waiter: Whose it is alone, of CONNECT and of what is no HTTP; None: the pool's.
        is_shared: It is to be one that many exchanges share.

    Attributes:
        side: How its server is spoken to; None: in clear.
        is_resolving: The addresses of its name are not known yet.
        began_ns: When they were, or else its start.
        epoch: That of the endpoint then.
        securing: Its handshake, as soon as there is a socket for it.
        is_late: Its time was over before there was a connection; one that comes all the same is not handed out.
        is_made: It is connected; nothing is timed any more.
    """

    __slots__ = (
        "_waiter", "began_ns", "endpoint", "epoch", "is_late", "is_made", "is_resolving", "is_shared", "securing",
        "side",
    )  # fmt: skip

    def __init__(self, endpoint: Endpoint, waiter: pool.Waiter | None, is_shared: bool = False) -> None:
        self.endpoint = endpoint
        self.is_shared = is_shared
        self._waiter = waiter
        self.side: ClientSide | None = None
        self.is_resolving = endpoint.is_named
        self.began_ns = clock.monotonic_ns()
        self.epoch = endpoint.epoch
        self.securing: Securing | None = None
        self.is_late = False
        self.is_made = False

    def connected(self, connection: ServerConnection) -> None:
        """It is there."""
        self.is_made = True
        waiter = self._waiter
        if waiter is None:
            pool.connected(connection)
        else:
            self.endpoint.cluster.stats.connections_opened += 1
            waiter.on_connection(connection)

    def failed(self, reason: Reason, detail: str) -> None:
        """There will be none."""
        waiter = self._waiter
        if self.is_shared:
            cast("Shared", self.endpoint.shared).failed(self.endpoint, reason, detail)
        elif waiter is None:
            pool.failed(self.endpoint, reason, detail)
        else:
            pool.forgo(self.endpoint)
            waiter.on_connect_failed(reason, detail)


class _Deadline:
    """
    The end of the time for an attempt: its task is cancelled, unless its connection is handed out already.

    If it was us who were late, what has come meanwhile is seen first, once (`net.timers`).
    """

    __slots__ = ("_attempt", "_due", "_handle", "_loop", "_task")

    def __init__(self, loop: asyncio.AbstractEventLoop, attempt: _Attempt, task: asyncio.Task[None]) -> None:
        self._loop = loop
        self._attempt = attempt
        self._task = task
        self._due = loop.time() + attempt.endpoint.cluster.connect_timeout_s
        self._handle = loop.call_at(self._due, self._on_due)

    def cancel(self) -> None:
        """The attempt has ended."""
        self._handle.cancel()

    def _on_due(self) -> None:
        now = self._loop.time()
        if now - self._due > TICK_S:
            self._due = math.inf  # once
            self._handle = self._loop.call_at(now + TICK_S, self._on_due)
        elif not self._attempt.is_made:
            self._attempt.is_late = True
            self._task.cancel()


class Dialer:
    """
    Dials endpoints of one event loop.

    Args:
        loop: Used for tasks and connections.
        timers: Given to each connection.
        outbox: Given to each connection.
        connected: Told the upstream's name and the nanoseconds of each connect that succeeded, resolving aside.
        names: Resolves the endpoints that are names; default: some of its own.
        descriptors: Must have room for another.
        handshakes: Lets those by TLS do their steps; default: one of its own.
        secured: Told who a server is with which a handshake is over.
        not_secured: Told why one has failed.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        timers: Timers,
        outbox: Outbox,
        connected: Callable[[str, int], None] | None = None,
        names: Names | None = None,
        descriptors: Descriptors | None = None,
        handshakes: Handshakes | None = None,
        secured: Callable[[Peer], None] | None = None,
        not_secured: Callable[[Reason], None] | None = None,
    ) -> None:
        self._loop = loop
        self._names = names or Names()
        self._owns_names = names is None
        self._turn = 0
        self._connected = connected
        self._descriptors = descriptors if descriptors is not None else Descriptors()
        self._handshakes = handshakes if handshakes is not None else Handshakes(loop)
        self._secured = secured
        self._not_secured = not_secured
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
        self._spawn(_Attempt(endpoint, None))

    def dial_shared(self, endpoint: Endpoint) -> None:
        """Open a connection that many exchanges share, and report it to `endpoint.shared`."""
        self._spawn(_Attempt(endpoint, None, is_shared=True))

    def dial_tunnel(self, endpoint: Endpoint, waiter: pool.Waiter) -> None:
        """Open a connection that no exchange has used or will share, for CONNECT; it is claimed from the pool."""
        self._spawn(_Attempt(endpoint, waiter))

    def stop(self) -> None:
        """Cancel what is under way."""
        for task in self._tasks:
            task.cancel()
        if self._owns_names:
            self._names.close()

    def _spawn(self, attempt: _Attempt) -> None:
        task = self._loop.create_task(self._dial(attempt))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _dial(self, attempt: _Attempt) -> None:
        if not self._can_dial(attempt):
            return
        task = asyncio.current_task()
        assert task is not None
        # Not `asyncio.timeout`, which would take away a connection that was handed out a moment before.
        deadline = _Deadline(self._loop, attempt, task)
        try:
            await self._open(attempt)
        except asyncio.CancelledError:
            if not attempt.is_late:
                raise
            self._on_timeout(attempt)
        except Exception as error:  # Whatever it is, nobody may wait forever.
            self._on_error(attempt, error)
        finally:
            deadline.cancel()
            # It knows the attempt, which nobody else needs any more: no cycle is left to the collector.
            attempt.securing = None

    def _can_dial(self, attempt: _Attempt) -> bool:
        """Whether there is all that it takes; else it has failed."""
        endpoint = attempt.endpoint
        if endpoint.is_tls:
            try:
                attempt.side = usable(endpoint.cluster.tls, endpoint.label)
            except SecuringError as error:
                self._tell_failed(error.reason)
                attempt.failed(error.reason, error.detail)
                return False
        if not self._descriptors.has_room():
            attempt.failed(errors.LOCAL_EXHAUSTION, "descriptors of the process")
            return False
        return True

    async def _open(self, attempt: _Attempt) -> None:
        """Resolve, connect, and have the handshake done where there is one."""
        endpoint = attempt.endpoint
        hosts: Sequence[str] = (endpoint.host,)
        if attempt.is_resolving:
            hosts = await self._names.addresses(endpoint.host, endpoint.cluster.connect_timeout_s * _PATIENCE)
            attempt.is_resolving = False
            attempt.epoch = endpoint.epoch  # A name that moves from now on moves away from these.
            attempt.began_ns = clock.monotonic_ns()
        await self._connect(partial(self._protocol_for, attempt), endpoint, hosts)
        if attempt.securing is not None:
            peer = await attempt.securing.done
            if self._secured is not None:
                self._secured(peer)

    def _protocol_for(self, attempt: _Attempt) -> asyncio.Protocol:
        """Of the socket: the connection itself, or the handshake that goes before it."""
        make = partial(self._connection_for, attempt)
        if attempt.side is None:
            return make()
        endpoint = attempt.endpoint
        attempt.securing = Securing(
            attempt.side, endpoint.label, endpoint.host, self._handshakes, make, attempt.is_shared
        )
        return cast("asyncio.Protocol", attempt.securing.transport)

    def _connection_for(self, attempt: _Attempt) -> asyncio.Protocol:
        connection: ServerConnection | Http2ServerConnection
        if attempt.is_shared and self._is_http2(attempt):
            made_shared, failed = partial(self._on_made_shared, attempt), partial(self._on_said_nothing, attempt)
            connection = Http2ServerConnection(
                attempt.endpoint, self.timers, self._outbox, made_shared, failed, self._not_secured
            )
        else:
            made = partial(self._on_made, attempt)
            connection = ServerConnection(attempt.endpoint, self.timers, self._outbox, made, self._not_secured)
        connection.epoch = attempt.epoch
        return cast("asyncio.Protocol", connection)

    def _is_http2(self, attempt: _Attempt) -> bool:
        """What the server speaks: what it has agreed on, or else what the file says of it."""
        if attempt.securing is None:
            return True
        peer = attempt.securing.transport.peer
        protocol = peer.protocol if peer is not None else ""
        is_said = attempt.endpoint.cluster.is_http2 and not protocol
        return protocol in (MESH_HTTP2, OUTSIDE_HTTP2) or is_said

    def _on_made(self, attempt: _Attempt, connection: ServerConnection) -> None:
        if attempt.is_late:
            connection.forgo()
            return
        self._tell_connected(attempt)
        if attempt.is_shared:
            attempt.is_made = True
            cast("Shared", attempt.endpoint.shared).refused(attempt.endpoint, connection, self.dial)
        else:
            attempt.connected(connection)

    def _on_said_nothing(self, attempt: _Attempt, reason: Reason, detail: str) -> None:
        """There is a connection, and nobody who speaks HTTP/2 at its other end."""
        if attempt.is_late:
            return  # it has been told already
        stats = attempt.endpoint.cluster.stats
        if reason is errors.CONNECT_TIMEOUT:
            stats.connect_timeouts += 1
        else:
            stats.connect_failures += 1
        attempt.failed(reason, detail)

    def _on_made_shared(self, attempt: _Attempt, connection: Http2ServerConnection) -> None:
        if attempt.is_late:
            connection.forgo()
            return
        self._tell_connected(attempt)
        attempt.is_made = True
        cast("Shared", attempt.endpoint.shared).connected(connection)

    def _tell_connected(self, attempt: _Attempt) -> None:
        if self._connected is not None:
            self._connected(attempt.endpoint.cluster.name, clock.monotonic_ns() - attempt.began_ns)

    def _on_timeout(self, attempt: _Attempt) -> None:
        cluster = attempt.endpoint.cluster
        waited = f"{attempt.endpoint.label}: no answer in {cluster.connect_timeout_s} s"
        if attempt.securing is not None:
            attempt.securing.transport.abort()
            cluster.stats.connect_timeouts += 1
            self._tell_failed(errors.UPSTREAM_TLS_TIMEOUT)
            attempt.failed(errors.UPSTREAM_TLS_TIMEOUT, f"{waited} to the handshake")
        elif attempt.is_resolving:
            cluster.stats.resolve_failures_timeout += 1
            attempt.failed(errors.RESOLVE_TIMEOUT, f"{waited} from a name server")
        else:
            cluster.stats.connect_timeouts += 1
            attempt.failed(errors.CONNECT_TIMEOUT, waited)

    def _on_error(self, attempt: _Attempt, error: Exception) -> None:
        label, stats = attempt.endpoint.label, attempt.endpoint.cluster.stats
        if isinstance(error, ResolveError):
            if are_gone():
                attempt.failed(errors.LOCAL_EXHAUSTION, f"{label}: {error}")
                return
            count = f"resolve_failures_{error.cause}"
            setattr(stats, count, getattr(stats, count) + 1)
            attempt.failed(_RESOLVE_REASONS[error.cause], f"{label}: {error}")
        elif isinstance(error, OSError) and is_local(error):
            attempt.failed(errors.LOCAL_EXHAUSTION, f"{label}: {error}")
        else:
            stats.connect_failures += 1
            if isinstance(error, SecuringError):
                self._tell_failed(error.reason)
                attempt.failed(error.reason, error.detail)
            elif isinstance(error, OSError):
                attempt.failed(errors.CONNECT_FAILED, f"{label}: {error}")
            else:
                log.exception("dial_failed endpoint=%s", label)
                attempt.failed(errors.CONNECT_FAILED, f"{label}: {type(error).__name__}")

    def _tell_failed(self, reason: Reason) -> None:
        if self._not_secured is not None:
            self._not_secured(reason)

    async def _connect(self, factory: Callable[[], asyncio.Protocol], endpoint: Endpoint, hosts: Sequence[str]) -> None:
        """Open a connection to one of these addresses of the endpoint."""
        if endpoint.unix_path is not None:
            await self._loop.create_unix_connection(factory, endpoint.unix_path)
        elif len(hosts) == 1:
            await self._loop.create_connection(factory, hosts[0], endpoint.port)
        else:
            self._turn += 1
            peer = await dial.connect(dial.in_turn(hosts, self._turn), endpoint.port)
            await self._loop.create_connection(factory, sock=peer)
