"""
The listening sockets of a group of workers: bound and kept by the supervisor, lent to the workers. *Cold.*

Of a TCP address each worker has a socket of its own (SO_REUSEPORT), among which the kernel spreads connections by a
hash of their addresses, so that no two workers are woken for one connection. The supervisor keeps all of them open:
when a worker dies, who waits in its backlog is not reset but waits for its successor, which gets the same socket. Of a
Unix socket there is one, which all workers accept from.

While a worker is away for longer, `steer` has the kernel leave its socket out: a filter of classic BPF picks one of
the others at random (SO_ATTACH_REUSEPORT_CBPF, socket(7)). Where the kernel has no such thing, its share waits.

The first socket is bound without SO_REUSEPORT, so that a port that somebody else holds stays an error, also when that
somebody is another sidecar of the same user; only then is it shared with the others.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import socket
import struct
from collections.abc import Collection, Sequence
from contextlib import suppress
from functools import partial

from sidecar.compile.listener_spec import ListenerSpec, Role
from sidecar.net.address import TcpAddress, parse_address
from sidecar.net.listen import BindError, bind, bound_address, identity, unlink
from sidecar.process_log import event
from sidecar.runtime.listeners import BIND_LIMIT_S, too_slow
from sidecar.runtime.takeover import Predecessor
from sidecar.runtime.threads import in_time
from sidecar.workers.channel import Key

logger = logging.getLogger(__name__)

SO_ATTACH_REUSEPORT_CBPF = 51
SO_DETACH_REUSEPORT_BPF = 68
"""asm-generic/socket.h; Python's socket module does not have them."""

_INSTRUCTION = struct.Struct("HBBI")
_LOAD_RANDOM = (0x20, 0, 0, 0xFFFFF000 + 56)  # BPF_LD | BPF_W | BPF_ABS, SKF_AD_OFF + SKF_AD_RANDOM
_MODULO, _JUMP_IF_EQUAL, _RETURN = 0x94, 0x15, 0x06


class Shared:
    """
    The sockets of one listener.

    Args:
        address: As in the file.
        sockets: In the order of their workers; a single one is for all.

    Attributes:
        bound: Where they really listen: tells what port 0 became.
        owns_file: Of a Unix socket: whether its file goes with it.
    """

    __slots__ = ("_identity", "_is_steered", "_sockets", "address", "bound", "owns_file")

    def __init__(self, address: str, sockets: Sequence[socket.socket], *, owns_file: bool = True) -> None:
        self.address = address
        self.owns_file = owns_file
        self.bound = bound_address(sockets[0])
        self._sockets = list(sockets)
        self._identity = identity(sockets[0])
        self._is_steered = False

    @classmethod
    def bind(cls, address: str, count: int, *, is_overlapping: bool = False) -> Shared:
        """
        Bind a socket for each of so many workers. May block on a name.

        Args:
            is_overlapping: Another listener of this process has the port at an address that overlaps, and gives it up.

        Raises:
            BindError: The address cannot be had; nothing is open.
        """
        return cls(address, _multiply([bind(address, reuse_port=is_overlapping)], count))

    @classmethod
    def adopt(cls, address: str, sockets: Sequence[socket.socket], count: int) -> Shared:
        """
        Have a socket for each of so many workers, of which another process had the first, or all.

        Raises:
            BindError: There cannot be more; those that were given are closed.
        """
        shared = cls(address, _multiply(list(sockets), count), owns_file=False)
        shared._is_steered = len(shared._sockets) > 1  # perhaps, by whoever had them
        shared.steer(())
        return shared

    def of(self, worker: int) -> socket.socket:
        """The socket that a worker accepts from."""
        return self._sockets[worker if len(self._sockets) > 1 else 0]

    def steer(self, workers: Collection[int]) -> None:
        """From now on only these get connections; all or none of them: as the kernel likes."""
        if len(self._sockets) == 1:
            return
        is_all = not workers or len(workers) == len(self._sockets)
        if is_all and not self._is_steered:
            return
        try:
            if is_all:
                self._sockets[0].setsockopt(socket.SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, 0)
            else:
                _attach(self._sockets[0], sorted(workers))
            self._is_steered = not is_all
        except OSError as error:
            logger.debug(event("steering_not_possible", address=self.address, error=error.strerror or str(error)))

    def close(self) -> None:
        """Give the supervisor's hold on them up; workers that have them go on."""
        if self.owns_file:
            unlink(self._sockets[0], self._identity)
        for sock in self._sockets:
            sock.close()

    def offered(self, role: Role) -> list[Offered]:
        """What a successor may have."""
        return [Offered(self, ListenerSpec(role, self.address, ()), sock) for sock in self._sockets]


class Offered:
    """One of the sockets of a listener: `takeover.Offered`."""

    def __init__(self, shared: Shared, spec: ListenerSpec, sock: socket.socket) -> None:
        self.spec = spec
        self.fileno = sock.fileno
        self._shared = shared

    def disown(self) -> None:
        """A successor serves."""
        self._shared.owns_file = False


def _multiply(sockets: list[socket.socket], count: int) -> list[socket.socket]:
    """So many sockets at the address of these; they are closed if that cannot be."""
    try:
        if sockets[0].family != socket.AF_UNIX:
            sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            bound = bound_address(sockets[0])
            while len(sockets) < count:
                sockets.append(bind(bound, reuse_port=True))
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _attach(sock: socket.socket, workers: Sequence[int]) -> None:
    """Pick one of these at random; sockets stand in their group in the order in which they began to listen."""
    program = [_LOAD_RANDOM, (_MODULO, 0, 0, len(workers))]
    for place, worker in enumerate(workers):
        program += [(_JUMP_IF_EQUAL, 0, 1, place), (_RETURN, 0, 0, worker)]
    program.append((_RETURN, 0, 0, workers[0]))
    octets = ctypes.create_string_buffer(b"".join(_INSTRUCTION.pack(*instruction) for instruction in program))
    filter_program = struct.pack("HP", len(program), ctypes.addressof(octets))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, filter_program)


class SocketChange:
    """
    What a reload does to the sockets. Exactly one of `commit` and `abandon` must follow.

    Attributes:
        added: Bound, and to be lent to every worker.
    """

    def __init__(self, sockets: Sockets) -> None:
        self._sockets = sockets
        self.added: dict[Key, Shared] = {}
        self._moved: dict[Key, Key] = {}
        self._removed: list[Key] = []

    def plan(self, wanted: Collection[Key]) -> list[Key]:
        """Find what is to go, and what only serves another purpose from now on; returns what is to be bound."""
        current = self._sockets.current
        self._removed = [key for key in current if key not in wanted]
        missing = []
        for key in wanted:
            old = next((gone for gone in self._removed if gone[1] == key[1]), None)
            if key in current:
                continue
            if old is None:
                missing.append(key)
            else:
                self._moved[key] = old
        return missing

    def overlaps(self, address: str) -> bool:
        """Whether a listener that is to go has the port of this address."""
        port = _port(address)
        return bool(port) and any(_port(self._sockets.current[key].bound) == port for key in self._removed)

    def commit(self) -> None:
        """
        It is in force. Call it before workers are told: so their closing is the last, and empties the backlogs.
        """
        current = self._sockets.current
        for key, old in self._moved.items():
            current[key] = current.pop(old)
            self._removed.remove(old)
        for key in self._removed:
            current.pop(key).close()
        current.update(self.added)

    def abandon(self) -> None:
        """Nothing has changed."""
        for shared in self.added.values():
            shared.close()


class Sockets:
    """
    All of them.

    Args:
        count: Of workers.

    Attributes:
        current: By role and address.
        predecessor: The process whose sockets are inherited, if there is one.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self.predecessor: Predecessor | None = None
        self.current: dict[Key, Shared] = {}

    async def open(self, wanted: Collection[Key]) -> SocketChange:
        """
        Bind what is wanted and not open yet.

        Raises:
            SocketError: An address cannot be had; everything that was bound for this change is closed again.
        """
        change = SocketChange(self)
        for key in change.plan(wanted):
            try:
                change.added[key] = await self._bind(key, change)
            except BindError as error:
                change.abandon()
                raise SocketError(key, error) from None
            except BaseException:
                change.abandon()
                raise
        return change

    def lent(self, worker: int) -> list[tuple[Key, socket.socket]]:
        """What a new worker gets."""
        return [(key, shared.of(worker)) for key, shared in self.current.items()]

    def steer(self, workers: Collection[int]) -> None:
        """See `Shared.steer`; of all."""
        for shared in self.current.values():
            shared.steer(workers)

    def close(self, roles: Collection[Role]) -> None:
        """Give up those of these roles. Call it before workers are told to close theirs."""
        for key in [key for key in self.current if key[0] in roles]:
            self.current.pop(key).close()

    def offered(self) -> list[Offered]:
        """All that a successor may have."""
        return [one for key, shared in self.current.items() for one in shared.offered(key[0])]

    def own(self) -> None:
        """The predecessor gave them up: this process removes files at the end."""
        for shared in self.current.values():
            shared.owns_file = True

    async def _bind(self, key: Key, change: SocketChange) -> Shared:
        address = key[1]
        inherited = self.predecessor.take_all(key) if self.predecessor is not None else []
        if inherited:
            return Shared.adopt(address, inherited, self._count)
        try:
            # In a thread, because a name may have to be resolved and a stale Unix socket to be probed.
            return await self._bind_in_time(address)
        except BindError as error:
            if error.errno != errno.EADDRINUSE or not change.overlaps(address):
                raise
            return await self._bind_in_time(address, is_overlapping=True)

    async def _bind_in_time(self, address: str, *, is_overlapping: bool = False) -> Shared:
        binding = partial(Shared.bind, address, self._count, is_overlapping=is_overlapping)
        try:
            return await in_time(binding, BIND_LIMIT_S, Shared.close)
        except TimeoutError:
            raise BindError(address, too_slow()) from None


class SocketError(Exception):
    """
    An address of a configuration could not be listened on.

    Attributes:
        key: Which.
    """

    def __init__(self, key: Key, error: BindError) -> None:
        super().__init__(str(error))
        self.key = key


def _port(address: str) -> int:
    """Port of a TCP address, 0 for a Unix socket."""
    with suppress(ValueError):
        where = parse_address(address)
        return where.port if isinstance(where, TcpAddress) else 0
    return 0
