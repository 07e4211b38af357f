"""
Restart without loss: a second process inherits the listening sockets of the first, which then drains. *Cold.*

    first                                     second (`sidecar run --takeover`)
    LIVE, offers                <- connects   reads its file, binds nothing yet
    lists its sockets, sends them ->          uses those that its file names, binds the others, begins to serve
    stops accepting, drains     <- "go"       LIVE
    "done"                      ->            offers in its turn
    exits when its exchanges are over

The sockets themselves are passed (SCM_RIGHTS, unix(7)), not their addresses: connections that wait in a backlog are the
second's to accept, where SO_REUSEPORT would reset them when the first closes its socket (the kernel gives each socket a
backlog of its own). And no port has to be bound with SO_REUSEPORT, so one that a stranger holds stays an error.

The two meet at an abstract Unix socket (unix(7)): it lives in the network namespace, as the ports do, and needs no
file. Its name holds the address of an admin listener, which tells the sidecars of one namespace apart; of several
addresses, one in common is enough. Each side asks the kernel who the other is: only the same user may hand over or take
over. A second that fails before "go", for whatever reason, leaves the first as it was.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import BinaryIO, Protocol

from sidecar.compile.listener_spec import ListenerSpec, Role
from sidecar.loader.config_loader import NotNowError
from sidecar.process_log import event

logger = logging.getLogger(__name__)

PATIENCE_S = 5.0
"""What each step of the conversation may take."""

NOT_TAKEN = "the sidecar that serves is not taken over, and goes on: this one has {}"
"""With the reason why a successor would be of no use."""

_MAX_SOCKETS = 250  # SCM_MAX_FD is 253.
_MAX_LIST_BYTES = 64 * 1024
_GO, _DONE = b"go", b"done"
_SAID = "said"
_MAX_SAID_BYTES = 64 * 1024 * 1024
_CREDENTIALS = struct.Struct("iII")


class Offered(Protocol):
    """
    A listening socket that is offered: `listeners.OpenListener`, or one of a supervisor's.

    Attributes:
        spec: Which listener's; several sockets may be of one.
    """

    spec: ListenerSpec

    def fileno(self) -> int:
        """Its descriptor."""
        ...

    def disown(self) -> None:
        """Another process serves it, too, and removes its file, if it has one, at the end."""
        ...


class TakeoverError(NotNowError):
    """The first process cannot be taken over; the message says why, in one line."""


class Offer:
    """
    What a live process offers to its successor.

    Args:
        loop: Of the process.
        listeners: Names what is open, when asked.
        on_taken: The successor serves: stop accepting now and drain. Called at most once.
        said: What it is to know besides, when asked; empty for nothing.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listeners: Callable[[], Sequence[Offered]],
        on_taken: Callable[[], None],
        said: Callable[[], bytes] = bytes,
    ) -> None:
        self._loop = loop
        self._listeners = listeners
        self._on_taken = on_taken
        self._said = said
        self._is_taken = False
        self._socks: list[socket.socket] = []
        self._tasks: list[asyncio.Task[None]] = []
        self.addresses: tuple[str, ...] = ()

    def open(self, addresses: Sequence[str]) -> None:
        """Be found by the addresses of the admin listeners; a name that is taken is logged and not offered."""
        self.close()
        self.addresses = tuple(addresses)
        for address in addresses:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
            try:
                sock.bind(_name(address))
                sock.listen(1)
            except OSError as error:
                sock.close()
                logger.warning(event("takeover_not_offered", address=address, error=str(error)))
                continue
            self._socks.append(sock)
            self._tasks.append(self._loop.create_task(self._serve(sock), name="takeover"))

    def close(self) -> None:
        """Offer nothing more."""
        self.addresses = ()
        for task in self._tasks:
            task.cancel()
        self._tasks.clear()
        self._give_up_names()

    def _give_up_names(self) -> None:
        for sock in self._socks:
            sock.close()
        self._socks.clear()

    async def _serve(self, sock: socket.socket) -> None:
        while not self._is_taken:
            peer, _ = await self._loop.sock_accept(sock)
            with peer:
                try:
                    await self._hand_over(peer)
                except (OSError, TimeoutError) as error:
                    logger.warning(event("takeover_given_up", error=str(error) or type(error).__name__))

    async def _hand_over(self, peer: socket.socket) -> None:
        if _user_of(peer) not in (os.getuid(), 0):
            logger.warning(event("takeover_refused", reason="another user"))
            return
        peer.setblocking(False)
        opened = list(self._listeners())[:_MAX_SOCKETS]
        names = [[one.spec.role.value, one.spec.address] for one in opened]
        descriptors = [one.fileno() for one in opened]
        with _memory(self._said()) as said:
            if said is not None:
                names.append([_SAID, ""])
                descriptors.append(said.fileno())
            socket.send_fds(peer, [json.dumps(names).encode()], descriptors)
        # No limit: the successor may look names up. If it fails, this reads an end.
        if await self._loop.sock_recv(peer, len(_GO)) != _GO:
            logger.warning(event("takeover_given_up", error="the successor did not start"))
            return
        if self._is_taken:
            logger.warning(event("takeover_refused", reason="another one has it"))
            return
        self._is_taken = True
        for one in self._listeners():
            one.disown()
        self._on_taken()
        # Before the answer, after which the successor wants the names.
        self._give_up_names()
        with suppress(OSError):
            peer.send(_DONE)


class Predecessor:
    """
    A live process whose sockets are inherited.

    Args:
        addresses: Of this process's admin listeners, one of which is one of its.
        workers: How many this sidecar has; one that has more cannot be taken over, for somebody must accept from each
            of its sockets.
    """

    is_lent = False

    def __init__(self, addresses: Sequence[str], workers: int = 1) -> None:
        self._addresses = tuple(addresses)
        self._workers = workers
        self._sock: socket.socket | None = None
        self.handed_over = b""
        """What it said besides."""
        self.inherited: dict[tuple[Role, str], list[socket.socket]] = {}

    async def meet(self) -> bool:
        """
        Get its sockets. False if there is nobody to take over from.

        Raises:
            TakeoverError: There is somebody who does not hand over.
        """
        return await asyncio.to_thread(self._meet)

    def take(self, spec: ListenerSpec) -> socket.socket | None:
        """The inherited socket for a listener, or None; the caller owns it."""
        return next(iter(self.take_all(spec.key)), None)

    def take_all(self, key: tuple[Role, str]) -> list[socket.socket]:
        """All inherited sockets for a listener, in the order of their workers; the caller owns them."""
        return self.inherited.pop(key, [])

    async def take_over(self) -> None:
        """Tell it to stop accepting: this process serves. Does nothing if there is nobody."""
        await asyncio.to_thread(self._take_over)

    def close(self) -> None:
        """Give back what was not taken; without `take_over` it goes on as before."""
        for sockets in self.inherited.values():
            for sock in sockets:
                sock.close()
        self.inherited.clear()
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _meet(self) -> bool:
        return any(self._meet_at(address) for address in self._addresses)

    def _meet_at(self, address: str) -> bool:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            sock.settimeout(PATIENCE_S)
            try:
                sock.connect(_name(address))
            except ConnectionRefusedError:
                sock.close()
                return False
            if _user_of(sock) not in (os.getuid(), 0):
                raise TakeoverError("it runs as another user")
            listed, descriptors, _, _ = socket.recv_fds(sock, _MAX_LIST_BYTES, _MAX_SOCKETS + 1)
            names = json.loads(listed) if listed else []
            if names and names[-1][0] == _SAID and len(descriptors) == len(names):
                names.pop()
                with os.fdopen(descriptors.pop(), "rb") as said:
                    self.handed_over = said.read(_MAX_SAID_BYTES)
            sockets = [socket.socket(fileno=descriptor) for descriptor in descriptors]
            if not listed:
                raise TakeoverError("it does not hand over to this user")
            for (role, address), inherited in zip(names, sockets, strict=True):
                inherited.setblocking(False)
                self.inherited.setdefault((Role(role), address), []).append(inherited)
            most = max((len(each) for each in self.inherited.values()), default=0)
            if most > self._workers:
                raise TakeoverError(f"it has {most} workers and this one {self._workers}; start with as many or more")
        except (OSError, ValueError, TakeoverError) as error:
            sock.close()
            self.close()
            raise TakeoverError(f"cannot take over from the sidecar at {address}: {error}") from None
        self._sock = sock
        return True

    def _take_over(self) -> None:
        sock = self._sock
        if sock is None:
            return
        try:
            sock.send(_GO)
            if sock.recv(len(_DONE)) != _DONE:
                raise OSError("it ended")
        except OSError as error:
            # It is gone or hung; this process serves all the same.
            logger.warning(event("takeover_unanswered", error=str(error)))
        finally:
            self.close()


@contextmanager
def _memory(content: bytes) -> Iterator[BinaryIO | None]:
    """A file that is nowhere but in memory, at its beginning; None for nothing."""
    if not content:
        yield None
        return
    with os.fdopen(os.memfd_create("said"), "w+b") as file:
        file.write(content)
        file.flush()
        file.seek(0)
        yield file


def meeting_points(specs: Sequence[ListenerSpec]) -> tuple[str, ...]:
    """By which two sidecars recognise each other: the admin addresses, but those whose port the system chooses."""
    return tuple(one.address for one in specs if one.role is Role.ADMIN and not one.address.endswith(":0"))


def _name(address: str) -> str:
    return f"\0sidecar-takeover/{address}"


def _user_of(sock: socket.socket) -> int:
    """User id of the process at the other end, as the kernel knows it."""
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(raw)[1])
