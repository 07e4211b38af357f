"""Connecting to one of several addresses: real sockets where they answer, a held clock where they do not."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from sidecar.net.dial import STAGGER_S, connect, in_turn
from tests.support.held_loop import run_held


class TestOrder:
    """Families take turns, the servers of a name share its connections (RFC 8305, 4)."""

    @pytest.mark.parametrize(
        ("hosts", "turn", "expected"),
        [
            (["10.0.0.1"], 5, ["10.0.0.1"]),
            (["::1", "127.0.0.1"], 1, ["::1", "127.0.0.1"]),
            (["a", "b", "c"], 0, ["a", "b", "c"]),
            (["a", "b", "c"], 1, ["b", "c", "a"]),
            (["a", "b", "c"], 3, ["a", "b", "c"]),
            (["::1", "::2", "::3", "a"], 0, ["::1", "a", "::2", "::3"]),
            (["a", "::1", "b", "::2"], 1, ["b", "::2", "a", "::1"]),
        ],
    )
    def test_order(self, hosts: list[str], turn: int, expected: list[str]) -> None:
        """The family of the first address keeps its place."""
        assert in_turn(hosts, turn) == expected


class Net:
    """In the place of `sock_connect`: addresses that answer after a while, refuse, or swallow packets."""

    def __init__(self, **takes_s: float | None) -> None:
        self.takes_s = {host.replace("_", "."): seconds for host, seconds in takes_s.items()}
        self.tried: list[tuple[float, str]] = []
        self.sockets: list[socket.socket] = []

    async def sock_connect(self, peer: socket.socket, address: tuple[Any, ...]) -> None:
        loop = asyncio.get_running_loop()
        self.tried.append((loop.time(), address[0]))
        self.sockets.append(peer)
        seconds = self.takes_s[f"h{address[0]}"]
        if seconds is None:
            await loop.create_future()
        elif seconds < 0:
            raise ConnectionRefusedError(111, f"{address[0]} refused")
        else:
            await asyncio.sleep(seconds)

    def connect(self, *hosts: str, timeout_s: float = 1.0) -> str:
        """The address that is connected to; every other socket must be closed."""

        async def main() -> str:
            asyncio.get_running_loop().sock_connect = self.sock_connect  # type: ignore[method-assign,assignment]
            async with asyncio.timeout(timeout_s):
                winner = await connect(hosts, 80)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            at = self.sockets.index(winner)
            winner.close()
            return self.tried[at][1]

        try:
            return run_held(main())
        finally:
            assert all(peer.fileno() < 0 for peer in self.sockets)


class TestCourse:
    """Who is tried when."""

    def test_first_that_answers_is_the_only_one_tried(self) -> None:
        """Within the delay."""
        net = Net(h10_0_0_1=0.2, h10_0_0_2=0.0)
        assert net.connect("10.0.0.1", "10.0.0.2") == "10.0.0.1"
        assert net.tried == [(0.0, "10.0.0.1")]

    def test_next_is_tried_at_once_when_one_refuses(self) -> None:
        """As it has always been."""
        net = Net(h10_0_0_1=-1, h10_0_0_2=-1, h10_0_0_3=0.0)
        assert net.connect("10.0.0.1", "10.0.0.2", "10.0.0.3") == "10.0.0.3"
        assert [at for at, _ in net.tried] == [0.0, 0.0, 0.0]

    def test_next_is_tried_beside_one_that_swallows_packets(self) -> None:
        """It was waited for until the deadline, and the others were never tried."""
        net = Net(h10_0_0_1=None, h10_0_0_2=None, h10_0_0_3=0.0)
        assert net.connect("10.0.0.1", "10.0.0.2", "10.0.0.3") == "10.0.0.3"
        assert [at for at, _ in net.tried] == [0.0, STAGGER_S, 2 * STAGGER_S]

    def test_slow_one_may_still_win(self) -> None:
        """The one that is tried beside it is closed."""
        net = Net(h10_0_0_1=0.4, h10_0_0_2=0.4)
        assert net.connect("10.0.0.1", "10.0.0.2") == "10.0.0.1"
        assert len(net.sockets) == 2

    def test_two_that_answer_together_are_one_connection(self) -> None:
        """The other is closed."""
        net = Net(h10_0_0_1=STAGGER_S, h10_0_0_2=0.0)
        assert net.connect("10.0.0.1", "10.0.0.2") in ("10.0.0.1", "10.0.0.2")

    def test_error_is_the_firsts(self) -> None:
        """When all refuse."""
        with pytest.raises(ConnectionRefusedError, match=r"10\.0\.0\.1 refused"):
            Net(h10_0_0_1=-1, h10_0_0_2=-1).connect("10.0.0.1", "10.0.0.2")

    def test_deadline_is_the_callers_and_leaves_no_socket(self) -> None:
        """However many are under way."""
        with pytest.raises(TimeoutError):
            Net(h10_0_0_1=None, h10_0_0_2=None).connect("10.0.0.1", "10.0.0.2")


def test_it_connects_for_real() -> None:
    """To the second of two addresses of this machine, of which the first refuses."""

    async def main() -> None:
        server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.2", 0)
        port = server.sockets[0].getsockname()[1]
        peer = await connect(["127.0.0.1", "127.0.0.2"], port)
        assert peer.getpeername() == ("127.0.0.2", port)
        assert not peer.getblocking()
        peer.close()
        server.close()
        await server.wait_closed()

    asyncio.run(main())
