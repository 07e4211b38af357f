"""Connecting to one of several addresses: Happy Eyeballs (RFC 8305) after the lookup. *Cold.*"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Final

STAGGER_S: Final = 0.25
"""Seconds until the next address is tried beside one that does not answer (RFC 8305, 5: "Connection Attempt Delay")."""


def in_turn(hosts: Sequence[str], turn: int) -> list[str]:
    """
    The order in which to try the addresses of a name.

    The families take turns, the first address's first (RFC 8305, 4), so that a host whose IPv6 leads nowhere waits for
    one address and not for all of them. Within a family it goes on where the last connection began: an answer is used
    for a while, and the servers behind a name share its connections.

    Args:
        hosts: As the resolver sorted them.
        turn: One more for each connection.
    """
    preferred = [host for host in hosts if (":" in host) == (":" in hosts[0])]
    others = [host for host in hosts if (":" in host) != (":" in hosts[0])]
    ordered: list[str] = []
    for family in (preferred, others):
        first = turn % len(family) if family else 0
        family[:] = family[first:] + family[:first]
    for index in range(max(len(preferred), len(others))):
        ordered += preferred[index : index + 1] + others[index : index + 1]
    return ordered


async def connect(hosts: Sequence[str], port: int) -> socket.socket:
    """
    Connect to the first of these that answers.

    Each is tried when the one before has failed, or beside it when it has not answered for a while, so that one that
    swallows packets costs a moment and not the whole deadline, which is the caller's to set.

    Args:
        hosts: IP addresses, at least one, in the order of `in_turn`.

    Returns:
        A connected socket that does not block. The others are closed, however this ends.

    Raises:
        OSError: All failed; the error is the first's.
    """
    loop = asyncio.get_running_loop()
    under_way: set[asyncio.Task[socket.socket]] = set()
    first_error: OSError | None = None
    left = list(reversed(hosts))
    try:
        while left or under_way:
            if left:
                under_way.add(loop.create_task(_connect(loop, left.pop(), port)))
            done, under_way = await asyncio.wait(
                under_way, timeout=STAGGER_S if left else None, return_when=asyncio.FIRST_COMPLETED
            )
            winner: socket.socket | None = None
            for task in done:
                error = task.exception()
                if error is None and winner is None:
                    winner = task.result()
                elif error is None:
                    task.result().close()  # Two answered in the same turn of the loop.
                elif not isinstance(error, OSError):
                    raise error
                else:
                    first_error = first_error or error
            if winner is not None:
                return winner
    finally:
        for task in under_way:
            task.cancel()
            task.add_done_callback(_close_late)
    raise first_error or OSError("no address")


async def _connect(loop: asyncio.AbstractEventLoop, host: str, port: int) -> socket.socket:
    address = ip_address(host)
    where: tuple[str, int] | tuple[str, int, int, int] = (host, port)
    if address.version == 6:
        plain, _, scope = host.partition("%")
        # A scope is a name or a number; a socket's address wants the number.
        where = (plain, port, 0, (int(scope) if scope.isdigit() else socket.if_nametoindex(scope)) if scope else 0)
    peer = socket.socket(socket.AF_INET6 if address.version == 6 else socket.AF_INET, socket.SOCK_STREAM)
    try:
        peer.setblocking(False)
        await loop.sock_connect(peer, where)
    except BaseException:
        peer.close()
        raise
    return peer


def _close_late(task: asyncio.Task[socket.socket]) -> None:
    """One that was given up, and had connected all the same."""
    if not task.cancelled() and task.exception() is None:
        task.result().close()
