"""
How many handshakes a loop does at once. *Once a handshake.*

A step of one costs the loop 100 to 400 us, so a crowd that begins in the same moment would keep everybody else waiting:
100 ClientHellos at once delayed others by 41 ms. Two steps in a turn of the loop let others be served in between.

A loop that has much else to do has few turns, so where the last one was long, a quarter of that time more is for steps:
by two in each, a crowd of a hundred waited for seconds while the loop was busy with others.

Where both wait, every other step is for a handshake with a server: a request waits for it, and for no longer than the
upstream's `connect_timeout`, whereas a crowd of clients has yet to be let in.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, Protocol

from sidecar import clock

STEPS_A_TURN: Final = 2
"""At least."""
LONG_TURN_NS: Final = 4_000_000
"""From here on a turn has room for more of them."""
SHARE_OF_TURN: Final = 4
MAX_AT_ONCE_NS: Final = 10_000_000
"""Whatever a turn took: a loop that was held has more urgent things to do."""
MAX_UNDER_WAY: Final = 1024
"""Of clients; each holds some 30 KiB, and who comes when all are taken is refused."""


class Handshaking(Protocol):
    """
    Something with a step to do.

    Attributes:
        is_server: The other end is a client.
    """

    is_server: bool

    def step(self) -> None:
        """Do it; nothing if it is not wanted any more."""


class Handshakes:
    """
    Args:
        loop: Asked for one `call_soon` a turn in which there are steps.

    Attributes:
        under_way: Handshakes with clients that have begun and not ended; counted by who begins them.
        maximum: Of those.
    """

    __slots__ = ("_for_clients", "_for_servers", "_left", "_loop", "_turned_ns", "maximum", "under_way")

    def __init__(self, loop: asyncio.AbstractEventLoop, maximum: int = MAX_UNDER_WAY) -> None:
        self._loop = loop
        self._left = STEPS_A_TURN
        self._for_clients: deque[Handshaking] = deque()
        self._for_servers: deque[Handshaking] = deque()
        self._turned_ns = 0
        self.under_way = 0
        self.maximum = maximum

    def __repr__(self) -> str:
        return f"<Handshakes {self.under_way} under way, {len(self._for_clients)} and {len(self._for_servers)} waiting>"

    @property
    def is_full(self) -> bool:
        """Whether no client's may begin."""
        return self.under_way >= self.maximum

    def ask(self, one: Handshaking) -> None:
        """Let it do its step, now or in one of the next turns."""
        if self._left == STEPS_A_TURN:
            self._turned_ns = clock.monotonic_ns()
            self._loop.call_soon(self._on_turn)
        if self._left:
            self._left -= 1
            one.step()
        elif one.is_server:
            self._for_clients.append(one)
        else:
            self._for_servers.append(one)

    def _on_turn(self) -> None:
        clients, servers = self._for_clients, self._for_servers
        began_ns = clock.monotonic_ns()
        took_ns = began_ns - self._turned_ns
        until_ns = began_ns
        if took_ns >= LONG_TURN_NS:
            until_ns += min(took_ns // SHARE_OF_TURN, MAX_AT_ONCE_NS)
        left, is_for_server = STEPS_A_TURN, True
        try:
            while (clients or servers) and (left or clock.monotonic_ns() < until_ns):
                left = max(left - 1, 0)
                self._left = 0  # who asks from inside of a step comes last
                one = servers.popleft() if servers and (is_for_server or not clients) else clients.popleft()
                is_for_server = not is_for_server
                one.step()
        finally:
            # Also after a fault, which is that step's: nobody else would ever have a turn again.
            self._left = left
            if left < STEPS_A_TURN:
                self._turned_ns = clock.monotonic_ns()
                self._loop.call_soon(self._on_turn)
