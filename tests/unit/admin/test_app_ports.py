"""Ports of the app that are asked in the kubelet's place."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence

import pytest

from sidecar.admin.app_ports import AppPorts


class Connections:
    """Says of every port the same, and remembers who was asked."""

    def __init__(self, error: Exception | None = None) -> None:
        self.asked: list[tuple[tuple[str, ...], int]] = []
        self.may_answer = asyncio.Event()
        self._error = error

    async def connect(self, hosts: Sequence[str], port: int) -> None:
        self.asked.append((tuple(hosts), port))
        await self.may_answer.wait()
        if self._error is not None:
            raise self._error


@pytest.mark.parametrize("value", ["", "x", "8080,x", "0", "70000", "8080;9090", ",".join(map(str, range(1, 100)))])
def test_nobody_may_ask_where_nothing_usable_is_told(value: str) -> None:
    """Without the variable, or with one that is not a list of some ports, no port is ever connected to."""

    async def go() -> None:
        connections = Connections()
        assert await AppPorts({"SIDECAR_PROBED_PORTS": value}, connections.connect).ask("8080") is None
        assert connections.asked == []

    asyncio.run(go())


@pytest.mark.parametrize("written", ["9090", "", "08080x", "-8080", "8080 ", "808000", "\u0668\u0660\u0668\u0660"])
def test_ports_that_are_not_listed_are_not_asked(written: str) -> None:
    """Only the decimal digits of a listed port lead to a connection."""

    async def go() -> None:
        connections = Connections()
        assert await AppPorts({"SIDECAR_PROBED_PORTS": "8080"}, connections.connect).ask(written) is None
        assert connections.asked == []

    asyncio.run(go())


def test_many_who_ask_at_once_cost_one_connection() -> None:
    """Whoever asks while the port is being asked gets the same answer, also if another of them has gone away."""

    async def go() -> None:
        connections = Connections()
        ports = AppPorts({"SIDECAR_PROBED_PORTS": "8080", "POD_IP": "10.0.0.9"}, connections.connect)
        waiting = [asyncio.create_task(ports.ask("8080")) for _ in range(5)]
        while not connections.asked:
            await asyncio.sleep(0)
        waiting[0].cancel()
        connections.may_answer.set()
        answers = await asyncio.gather(*waiting, return_exceptions=True)
        assert isinstance(answers[0], asyncio.CancelledError)
        assert answers[1:] == [(True, "accepts connections")] * 4
        assert connections.asked == [(("10.0.0.9", "127.0.0.1", "::1"), 8080)]
        await ports.ask("8080")
        assert len(connections.asked) == 2

    asyncio.run(go())


def test_a_port_that_refuses_is_told_with_the_reason() -> None:
    """The answer says which port, and what the connection said."""

    async def go() -> None:
        connections = Connections(ConnectionRefusedError(111, "Connection refused"))
        connections.may_answer.set()
        ports = AppPorts({"SIDECAR_PROBED_PORTS": "8080"}, connections.connect)
        assert await ports.ask("8080") == (False, "port 8080: connection refused")

    asyncio.run(go())


def test_real_connections_tell_a_listener_from_none() -> None:
    """A port with a listener on loopback is well, and not well once the listener is gone."""

    async def go() -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = str(server.getsockname()[1])
            ports = AppPorts({"SIDECAR_PROBED_PORTS": port})
            found = await ports.ask(port)
            assert found is not None
            assert found[0]
        found = await ports.ask(port)
        assert found is not None
        assert not found[0]

    asyncio.run(go())
