"""
The sockets that are open, and how a reload changes them without losing one that stays. *Cold.*

A listener's identity is its role and its address. What a new configuration adds is bound first, so that an address
that cannot be had refuses the whole reload while nothing has changed; only then does the plan swap, the added
sockets begin to accept, and what the configuration no longer has stops accepting.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Protocol

from sidecar.compile.listener_spec import ListenerSpec, Role
from sidecar.net.address import TcpAddress, parse_address
from sidecar.net.listen import BACKLOG, BindError, admit_no_more, bind, bound_address, has_family, identity, unlink
from sidecar.process_log import event
from sidecar.runtime.threads import in_time

logger = logging.getLogger(__name__)

BIND_LIMIT_S = 10.0
"""For one address. A name that does not resolve may take longer, and a mount that hangs takes for ever."""


class ConnectionHandler(Protocol):
    """What stands behind a listening socket."""

    def protocol(self) -> asyncio.BaseProtocol:
        """A protocol for one new connection."""
        ...

    def update(self, spec: ListenerSpec) -> None:
        """The listener stays, but the new configuration says something else about it."""
        ...

    def announce(self) -> None:
        """It will drain soon: let clients know by their next response, while everything goes on."""
        ...

    def drain(self, patience_s: float = 0.0) -> None:
        """
        Accepting has stopped: let its connections end by themselves.

        Args:
            patience_s: How long idle ones are kept at least, for requests that are on their way.
        """
        ...


class InheritedSockets(Protocol):
    """
    Sockets of another process: `takeover` has the class for one before this one, `workers` for a supervisor.

    Attributes:
        is_lent: Whether it goes on having them, and removes the files of those that have one.
    """

    is_lent: bool

    def take(self, spec: ListenerSpec) -> socket.socket | None:
        """The socket of a listener, which then is the caller's, or None."""
        ...


HandlerFactory = Callable[[ListenerSpec], ConnectionHandler]


class OpenListener:
    """
    A socket that listens, the server that accepts from it, and the handler behind.

    Attributes:
        spec: What the configuration says about it.
        handler: What serves its connections.
        bound: Where it really listens: tells what port 0 became.
    """

    __slots__ = (
        "_has_served",
        "_identity",
        "_is_lent",
        "_is_shared",
        "_late",
        "_owns_file",
        "_server",
        "_sock",
        "bound",
        "handler",
        "spec",
    )

    def __init__(
        self,
        spec: ListenerSpec,
        sock: socket.socket,
        server: asyncio.Server,
        handler: ConnectionHandler,
        *,
        owns_file: bool,
        is_lent: bool = False,
    ) -> None:
        self.spec = spec
        self.handler = handler
        self.bound = bound_address(sock)
        self._sock = sock
        self._server = server
        self._identity = identity(sock)
        # Of a Unix socket: exactly one of the listeners that share it removes its file at the end.
        self._owns_file = owns_file
        self._is_lent = is_lent
        self._has_served = False
        self._is_shared = False
        self._late: set[asyncio.Task[object]] = set()

    async def serve(self) -> None:
        """Begin to accept; what connected since the bind has waited in the backlog."""
        self._owns_file, self._has_served = not self._is_lent, True
        await self._server.start_serving()
        logger.info(event("listener_opened", role=self.spec.role.value, address=self.spec.address, bound=self.bound))

    def duplicate(self) -> socket.socket:
        """The same listening socket once more, for another role: nobody who connects meanwhile is refused."""
        self._owns_file, self._is_shared = False, True
        return self._sock.dup()

    def keep(self) -> None:
        """Take back `duplicate`: the change it was for is not to be."""
        self._owns_file, self._is_shared = not self._is_lent, False

    def fileno(self) -> int:
        """The descriptor of the socket, for passing it on."""
        return self._sock.fileno()

    def disown(self) -> None:
        """Another process serves the socket, too, and removes its file, if it has one, at the end."""
        self._owns_file, self._is_shared = False, True

    def share_port(self) -> None:
        """Let another socket of this user bind an overlapping address."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)

    def close(self, reason: str) -> None:
        """Stop accepting; connections stay, and who has connected before now is served, too."""
        if self._owns_file:
            unlink(self._sock, self._identity)
        if self._has_served and not self._is_shared:
            # Closing resets what waits in the backlog: since the loop looked last, whose turns may take milliseconds.
            with self._sock.dup() as again:
                self._server.close()
                if not self._is_lent or again.family != socket.AF_UNIX:  # that one is other workers', too
                    admit_no_more(again)
                self._accept_late(again)
        else:
            self._server.close()
        if self._has_served:
            logger.info(event("listener_closed", role=self.spec.role.value, address=self.spec.address, reason=reason))

    def _accept_late(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(BACKLOG):
            try:
                accepted, _ = sock.accept()
            except OSError:  # nobody (any more), or no descriptor left for them
                return
            accepted.setblocking(False)
            task = loop.create_task(loop.connect_accepted_socket(self.handler.protocol, accepted))
            self._late.add(task)
            task.add_done_callback(self._late.discard)


class Change:
    """
    What a reload does to the listeners: bound, but not yet in force. Exactly one of `commit` and `abandon` must follow.

    Attributes:
        added: Bound and waiting.
        removed: To be closed.
    """

    __slots__ = ("_listeners", "_specs", "added", "removed")

    def __init__(self, listeners: Listeners, specs: Sequence[ListenerSpec], removed: list[OpenListener]) -> None:
        self._listeners = listeners
        self._specs = specs
        self.added: list[OpenListener] = []
        self.removed = removed

    async def commit(self) -> None:
        """Begin to serve what was added, close and drain what was removed. Call it after the plan was swapped."""
        current = self._listeners.current
        for spec in self._specs:
            if spec.key in current:
                current[spec.key].spec = spec
                current[spec.key].handler.update(spec)
        for opened in self.added:
            current[opened.spec.key] = opened
            await opened.serve()
        for gone in self.removed:
            del current[gone.spec.key]
            gone.close("reload")
            gone.handler.drain()

    def abandon(self) -> None:
        """Give the added sockets back; nothing has changed."""
        for gone in self.removed:
            gone.keep()
        for opened in self.added:
            opened.close("refused")


class Listeners:
    """
    All open listeners of the process.

    Args:
        loop: Where connections are served.
        handler_for: Makes what stands behind a new listener.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, handler_for: HandlerFactory) -> None:
        self._loop = loop
        self._handler_for = handler_for
        self.meet: Callable[[Sequence[ListenerSpec]], Awaitable[InheritedSockets | None]] | None = None
        """Asked once after it was set, before the next binding: finds the sockets of another process."""
        self.wants: Callable[[ListenerSpec], bool] = lambda spec: True
        """Which of the configuration's listeners are this process's business; the others are not opened."""
        self.consent: Callable[[], Awaitable[None]] | None = None
        """Asked when all is bound; whatever it raises gives the change up."""
        self._inherited: InheritedSockets | None = None
        self.current: dict[tuple[Role, str], OpenListener] = {}

    async def open(self, specs: Sequence[ListenerSpec]) -> Change:
        """
        Bind what is wanted and not open yet.

        Raises:
            ListenerError: An address cannot be had; everything that was bound for this change is closed again.
        """
        if self.meet is not None:
            meet, self.meet = self.meet, None
            self._inherited = await meet(specs)
        specs = [spec for spec in specs if self.wants(spec) and is_possible(spec)]
        wanted = {spec.key for spec in specs}
        change = Change(self, specs, [opened for key, opened in self.current.items() if key not in wanted])
        for spec in specs:
            if spec.key in self.current:
                continue
            try:
                change.added.append(await self._bind(spec, change.removed))
            except BindError as error:
                change.abandon()
                raise ListenerError(spec, error) from None
            except BaseException:
                change.abandon()
                raise
        if self.consent is not None:
            try:
                await self.consent()
            except BaseException:
                change.abandon()
                raise
        return change

    def with_role(self, role: Role) -> list[OpenListener]:
        """Open listeners of one role, in the order in which they were opened."""
        return [opened for opened in self.current.values() if opened.spec.role is role]

    def announce(self, role: Role) -> None:
        """Let the clients of a role know that it will drain."""
        for opened in self.with_role(role):
            opened.handler.announce()

    def close(self, roles: Sequence[Role], reason: str, patience_s: float = 0.0) -> None:
        """Stop accepting for these roles; connections stay, and their handlers drain."""
        for role in roles:
            for opened in self.with_role(role):
                del self.current[opened.spec.key]
                opened.close(reason)
                opened.handler.drain(patience_s)

    async def _bind(self, spec: ListenerSpec, removed: Sequence[OpenListener]) -> OpenListener:
        lender = next((gone for gone in removed if gone.spec.address == spec.address), None)
        inherited = self._inherited.take(spec) if self._inherited is not None and lender is None else None
        if lender is not None:
            sock = lender.duplicate()
        else:
            sock = inherited or await self._socket(spec.address, removed)
        try:
            handler = self._handler_for(spec)
            create = self._loop.create_unix_server if sock.family == socket.AF_UNIX else self._loop.create_server
            server = await create(handler.protocol, sock=sock, backlog=BACKLOG, start_serving=False)
        except BaseException:
            sock.close()
            raise
        # A lent or inherited file stays its owner's until this listener serves.
        is_lent = inherited is not None and self._inherited is not None and self._inherited.is_lent
        owns_file = lender is None and inherited is None
        return OpenListener(spec, sock, server, handler, owns_file=owns_file, is_lent=is_lent)

    async def _socket(self, address: str, removed: Sequence[OpenListener]) -> socket.socket:
        try:
            # In a thread, because a name may have to be resolved and a stale Unix socket to be probed.
            return await bind_in_time(address)
        except BindError as error:
            # The address may overlap one that this reload gives up, such as 0.0.0.0:80 moved to 127.0.0.1:80.
            sharing = [gone for gone in removed if _port(gone.bound) == _port(address)]
            if error.errno != errno.EADDRINUSE or not _port(address) or not sharing:
                raise
            for gone in sharing:
                gone.share_port()
            return await bind_in_time(address, reuse_port=True)


def is_possible(spec: ListenerSpec) -> bool:
    """
    Whether this kernel has addresses of its kind; it is told if not.

    Only those that capture may be left out: nobody can be led there by a kernel that has no such addresses.
    """
    if not spec.captures or has_family(spec.address):
        return True
    logger.warning(event("listener_skipped", address=spec.address, reason="this kernel has no such addresses"))
    return False


async def bind_in_time(address: str, *, reuse_port: bool = False) -> socket.socket:
    """As `net.listen.bind`, which may block; gives up after BIND_LIMIT_S."""
    try:
        return await in_time(partial(bind, address, reuse_port=reuse_port), BIND_LIMIT_S, socket.socket.close)
    except TimeoutError:
        raise BindError(address, too_slow()) from None


def too_slow() -> str:
    """Why an address cannot be had that took too long."""
    return f"not done within {BIND_LIMIT_S:g} s; does its name resolve, and does the mount of its socket answer?"


class ListenerError(Exception):
    """
    A listener of a configuration could not be opened.

    Attributes:
        spec: Which one.
        error: Why.
    """

    def __init__(self, spec: ListenerSpec, error: BindError) -> None:
        super().__init__(str(error))
        self.spec = spec
        self.error = error


def _port(address: str) -> int:
    """Port of a TCP address, 0 for a Unix socket."""
    where = parse_address(address)
    return where.port if isinstance(where, TcpAddress) else 0
