"""
An agent that is listened to for as long as a process lives: one connection, one task, nothing for any request. *Cold.*

    agent = Agent(ADDRESS, took=..., failed=...)
    agent.start()
    await agent.answered.wait()         something was taken, or could not be had
    agent.close()                       at once; no descriptor is left once the loop has turned

It is asked again whatever happens, sooner at first and every 10 s in the end. Each failure is told; that a connection
ended after it had served, as when an agent is replaced, only if the next one does not come about. "No entry"
(PermissionDenied) takes away nothing, though "the client SHOULD cease using the redacted SVIDs" (SPIFFE Workload API,
5.2.1): SPIRE's agent says it, too, when it could not find out who asks, for the kubelet or Docker did not answer, and a
whole machine that gives itself up then is no help to anybody. What is held ends by itself, soon.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
from collections.abc import Awaitable, Callable
from typing import Final, Literal

from sidecar import __version__
from sidecar.net.grpc.call import (
    INVALID_ARGUMENT,
    PERMISSION_DENIED,
    UNAVAILABLE,
    UNIMPLEMENTED,
    Call,
    Over,
)
from sidecar.process_log import event

logger = logging.getLogger(__name__)

PATH: Final = "/SpiffeWorkloadAPI/FetchX509SVID"
SECURITY_HEADER: Final = ("workload.spiffe.io", "true")
"""SPIFFE Workload Endpoint, 3: so that nobody who makes others ask for him gets an answer."""

CONNECT_S: Final = 5.0
ANSWER_S: Final = 30.0
"""For the first message of a connection, and for the rest of one that has begun. "The first response message MUST be
sent as soon as possible, without delay" (SPIFFE Workload API, 4.3)."""
PING_S: Final = 600.0
"""Of silence, after which a sign of life is asked for. Servers of gRPC end connections that ask more often than every
5 min (grpc-go, `keepalive.EnforcementPolicy`)."""
PONG_S: Final = 30.0
FIRST_PAUSE_S: Final = 1.0
MAX_PAUSE_S: Final = 10.0
"""The socket is on this machine: to wait longer spares nobody, and whoever has just made an entry waits for it."""
FINAL_PAUSE_S: Final = 600.0
"""After what one "SHOULD NOT retry" (SPIFFE Workload Endpoint, 6): another agent may have been put there by then."""
BROKEN_PAUSE_S: Final = 10.0
STEADY_S: Final = 30.0
"""A connection that lasted as long was a good one."""
_PIECE_BYTES: Final = 65536

State = Literal["connecting", "following", "waiting"]
Took = Callable[[bytes], Awaitable[None]]
"""Called with each message, the newest of several that came at once; it has judged it when it returns."""


class _FailedError(Exception):
    """There is no connection, and why."""


class Agent:
    """
    Args:
        address: `unix:///PATH` or `tcp://IP:PORT` (SPIFFE Workload Endpoint, 4).
        took: Told what it says.
        failed: Told why there is nothing, in one line.
        chance: From 0 to below 1.

    Attributes:
        answered: Set once it is known what comes of it.
        state: `waiting` to ask again.
        connections: How many there were.
    """

    def __init__(
        self,
        address: str,
        took: Took,
        failed: Callable[[str], None],
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.address = address
        self.answered = asyncio.Event()
        self.state: State = "connecting"
        self.connections = 0
        self._took = took
        self._failed = failed
        self._chance = chance
        self._failures = 0
        self._has_served = False
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Agent {self.address} [{self.state.upper()}]>"

    def start(self) -> None:
        """Ask from now on."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="workload_api")

    def answer_to(self, took: Took, failed: Callable[[str], None]) -> None:
        """Tell somebody else from now on."""
        self._took, self._failed = took, failed

    def close(self) -> None:
        """Ask no more."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    # --- asking again ------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            try:
                pause_s = await self._once()
            except Exception:  # a fault of ours must not end this for good
                logger.exception(event("workload_api_broken", address=self.address))
                self._tell("a fault of the sidecar: see the process log")
                pause_s = BROKEN_PAUSE_S
            self.state = "waiting"
            await asyncio.sleep(pause_s)

    async def _once(self) -> float:
        """One connection; returns how long to wait before the next."""
        self.state, self._has_served = "connecting", False
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        try:
            over = await self._follow()
        except _FailedError as error:
            over = Over(UNAVAILABLE, str(error))
        if over.code in (INVALID_ARGUMENT, UNIMPLEMENTED):
            self._tell(
                f"{self.address}: what answers there is no agent that serves the SPIFFE Workload API: {over.text}"
            )
            return FINAL_PAUSE_S
        if self._has_served and loop.time() - began_s >= STEADY_S:
            self._failures = 0
        pause_s = self._pause_s()
        self._failures += 1
        if self._has_served and over.code == UNAVAILABLE:
            logger.info(event("workload_api_lost", address=self.address, reason=over.text))
        else:
            self._tell(self._sentence(over))
        return pause_s

    def _pause_s(self) -> float:
        """Soon after a good connection (SPIFFE Workload API, 4.2), then twice as long each time, and never together."""
        if self._has_served and not self._failures:
            return FIRST_PAUSE_S * self._chance()
        most_s = min(MAX_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(self._failures, 10))
        return most_s * (0.5 + 0.5 * self._chance())

    def _tell(self, text: str) -> None:
        self._failed(text)
        self.answered.set()

    def _sentence(self, over: Over) -> str:
        if over.code == PERMISSION_DENIED:
            return (
                f"{self.address}: the agent has no identity for this process ({over.text}); create an entry whose "
                f"selectors match it (it runs as user {os.geteuid()}, group {os.getegid()}, and is {os.getpid()} "
                "where it counts its processes)"
            )
        return f"{self.address}: the agent gives no identity: {over.text}"

    # --- one connection ----------------------------------------------------------------------------------------

    async def _follow(self) -> Over:
        """Until it is over."""
        sock = await self._connect()
        try:
            self.connections += 1
            return await self._converse(sock)
        except TimeoutError:
            return Over(UNAVAILABLE, f"it takes nothing for {CONNECT_S:g} s")
        except OSError as error:
            return Over(UNAVAILABLE, f"the connection broke: {_why(error)}")
        finally:
            sock.close()

    async def _connect(self) -> socket.socket:
        family, where = _socket_of(self.address)
        try:
            sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        except OSError as error:
            raise _FailedError(f"there is no socket to ask by: {_why(error)}") from None
        try:
            async with asyncio.timeout(CONNECT_S):
                await asyncio.get_running_loop().sock_connect(sock, where)
        except TimeoutError:
            sock.close()
            raise _FailedError(f"it does not accept within {CONNECT_S:g} s") from None
        except OSError as error:
            sock.close()
            raise _FailedError(f"{_why(error)}; is the agent running, and is its socket mounted here?") from None
        except BaseException:
            sock.close()
            raise
        return sock

    async def _converse(self, sock: socket.socket) -> Over:
        loop = asyncio.get_running_loop()
        # The name is nobody's: it is what clients of gRPC say at a Unix socket.
        call = Call(PATH, "localhost", [("user-agent", f"sidecar/{__version__}"), SECURITY_HEADER])
        await self._send(sock, call)
        owed_until = loop.time() + ANSWER_S
        is_pinged = False
        while call.over is None:
            left_s = owed_until - loop.time() if call.is_owed else PONG_S if is_pinged else PING_S
            try:
                async with asyncio.timeout(max(0.0, left_s)):
                    received = await loop.sock_recv(sock, _PIECE_BYTES)
            except TimeoutError:
                if call.is_owed or is_pinged:
                    what = f"it does not answer within {ANSWER_S if call.is_owed else PONG_S:g} s"
                    return Over(UNAVAILABLE, what + (", having begun to" if call.has_answered and call.is_owed else ""))
                is_pinged = True
                call.ping()
                await self._send(sock, call)
                continue
            is_pinged = False
            if not received:
                call.end()
                break
            was_owed = call.is_owed
            messages = call.feed(received)
            await self._send(sock, call)
            if messages:
                # Each has everything (SPIFFE Workload API, 4.3).
                await self._took(messages[-1])
                self._has_served, self.state = True, "following"
                self.answered.set()
            if call.is_owed and (messages or not was_owed):
                owed_until = loop.time() + ANSWER_S
        assert call.over is not None
        return call.over

    async def _send(self, sock: socket.socket, call: Call) -> None:
        octets = call.to_send()
        if octets:
            # What it does not read is no more than it asked for: signs of life, and leave to send.
            async with asyncio.timeout(CONNECT_S):
                await asyncio.get_running_loop().sock_sendall(sock, octets)


def _socket_of(address: str) -> tuple[socket.AddressFamily, str | tuple[str, int]]:
    """As `config.values.identities` has checked it."""
    if address.startswith("unix://"):
        return socket.AF_UNIX, address.removeprefix("unix://")
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    bare = host.strip("[]")
    return socket.AF_INET6 if ":" in bare else socket.AF_INET, (bare, int(port))


def _why(error: OSError) -> str:
    why = (error.strerror or str(error)).lower()
    if isinstance(error, PermissionError):
        return f"{why}; the process runs as user {os.geteuid()}, group {os.getegid()}"
    return why
