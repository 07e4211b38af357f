"""Listeners through reloads: what stays is not touched, what is new is bound first, what is gone drains."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest
import uvloop

from sidecar.compile.listener_spec import ListenerSpec, Role
from sidecar.net.listen import bind, bound_address
from sidecar.runtime.listeners import ListenerError, Listeners
from tests.support.wait import free_port


class Hello(asyncio.Protocol):
    """Says a name and closes."""

    def __init__(self, name: str) -> None:
        self._name = name

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)  # uvloop's is not a subclass
        transport.write(self._name.encode())
        transport.close()


class FakeHandler:
    """Remembers what happened to it."""

    def __init__(self, spec: ListenerSpec) -> None:
        self.name = f"{spec.role.value} {spec.address}"
        self.specs = [spec]
        self.is_announced = False
        self.is_drained = False

    def protocol(self) -> asyncio.BaseProtocol:
        return Hello(self.name)

    def update(self, spec: ListenerSpec) -> None:
        self.specs.append(spec)

    def announce(self) -> None:
        self.is_announced = True

    def drain(self, patience_s: float = 0.0) -> None:
        self.is_drained = True


class House:
    """Listeners with fake handlers."""

    def __init__(self) -> None:
        self.handlers: list[FakeHandler] = []
        self.listeners = Listeners(asyncio.get_running_loop(), self._handler)

    def _handler(self, spec: ListenerSpec) -> FakeHandler:
        self.handlers.append(FakeHandler(spec))
        return self.handlers[-1]

    async def become(self, *specs: ListenerSpec) -> None:
        change = await self.listeners.open(specs)
        await change.commit()

    def close(self) -> None:
        self.listeners.close(list(Role), "test")


def inside(conversation: Callable[[House], Awaitable[None]]) -> None:
    """Run with a house, on the loop that the product uses; leaves nothing open."""

    async def run() -> None:
        house = House()
        try:
            async with asyncio.timeout(20):
                await conversation(house)
        finally:
            house.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


async def ask(address: str) -> str:
    """What whoever listens there says."""
    if address.startswith("unix:"):
        reader, writer = await asyncio.open_unix_connection(address[5:])
    else:
        host, port = address.rsplit(":", 1)
        reader, writer = await asyncio.open_connection(host, int(port))
    answer = await reader.read()
    writer.close()
    return answer.decode()


def spec(address: str, role: Role = Role.OUTBOUND) -> ListenerSpec:
    return ListenerSpec(role, address, ("outbound", "listen", 0))


def local() -> str:
    return f"127.0.0.1:{free_port()}"


def test_what_a_reload_keeps_is_not_rebound() -> None:
    """The same socket and handler serve on; the handler learns of the new spec."""

    async def conversation(house: House) -> None:
        kept, other = local(), local()
        await house.become(spec(kept))
        before = house.listeners.current[Role.OUTBOUND, kept]
        await house.become(spec(kept), spec(other))
        assert house.listeners.current[Role.OUTBOUND, kept] is before
        assert len(house.handlers) == 2
        assert len(house.handlers[0].specs) == 2
        assert await ask(kept) == f"outbound {kept}"
        assert await ask(other) == f"outbound {other}"

    inside(conversation)


def test_a_new_listener_is_bound_before_the_swap_and_answers_after_it() -> None:
    """Who connects in between waits in the backlog instead of being refused."""

    async def conversation(house: House) -> None:
        address = local()
        change = await house.listeners.open([spec(address)])
        early = asyncio.create_task(ask(address))
        await asyncio.sleep(0)
        assert house.listeners.current == {}
        await change.commit()
        assert await early == f"outbound {address}"

    inside(conversation)


def test_a_removed_listener_stops_accepting_and_its_door_drains() -> None:
    """Nobody gets in any more, and who is in is told."""

    async def conversation(house: House) -> None:
        address = local()
        await house.become(spec(address))
        await house.become()
        assert house.handlers[0].is_drained
        assert house.listeners.current == {}
        with pytest.raises(ConnectionRefusedError):
            await ask(address)

    inside(conversation)


def test_an_address_in_use_refuses_the_change_and_gives_back_what_was_bound() -> None:
    """All or nothing: the first new address is free again, the old listener serves on."""

    async def conversation(house: House) -> None:
        old, new = local(), local()
        await house.become(spec(old))
        with closing(bind("127.0.0.1:0")) as taken:
            where = bound_address(taken)
            with pytest.raises(ListenerError, match="already in use") as caught:
                await house.listeners.open([spec(new), spec(where)])
            assert caught.value.spec.address == where
        assert await ask(old) == f"outbound {old}"
        with closing(bind(new)):
            assert list(house.listeners.current) == [(Role.OUTBOUND, old)]

    inside(conversation)


def test_a_listener_moves_between_overlapping_addresses() -> None:
    """0.0.0.0 and 127.0.0.1 with one port exclude each other, but not while one takes the other's place."""

    async def conversation(house: House) -> None:
        port = free_port()
        everywhere, loopback = f"0.0.0.0:{port}", f"127.0.0.1:{port}"
        await house.become(spec(everywhere))
        await house.become(spec(loopback))
        assert await ask(loopback) == f"outbound {loopback}"
        await house.become(spec(everywhere))
        assert await ask(loopback) == f"outbound {everywhere}"

    inside(conversation)


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_an_address_that_changes_its_role_is_never_refused(kind: str, tmp_path: Path) -> None:
    """The listening socket itself is handed over, and its file stays."""

    async def conversation(house: House) -> None:
        address = f"unix:{tmp_path}/s" if kind == "unix" else local()
        await house.become(spec(address))
        await house.become(spec(address, Role.INBOUND))
        assert await ask(address) == f"inbound {address}"
        house.close()
        assert not (tmp_path / "s").exists()

    inside(conversation)


def test_a_change_of_role_that_is_abandoned_leaves_the_old_one_serving(tmp_path: Path) -> None:
    """Also the file of a Unix socket is still there, and goes with its owner."""

    async def conversation(house: House) -> None:
        address = f"unix:{tmp_path}/s"
        await house.become(spec(address))
        change = await house.listeners.open([spec(address, Role.INBOUND)])
        change.abandon()
        assert await ask(address) == f"outbound {address}"
        house.close()
        assert not (tmp_path / "s").exists()

    inside(conversation)


def test_port_zero_tells_where_it_is_bound() -> None:
    """The kernel's choice is shown, and the listener keeps it through reloads."""

    async def conversation(house: House) -> None:
        await house.become(spec("127.0.0.1:0"))
        (opened,) = house.listeners.with_role(Role.OUTBOUND)
        bound = opened.bound
        assert not bound.endswith(":0")
        await house.become(spec("127.0.0.1:0"))
        assert house.listeners.with_role(Role.OUTBOUND)[0].bound == bound
        assert await ask(bound) == "outbound 127.0.0.1:0"

    inside(conversation)


def test_closing_one_role_leaves_the_others_open() -> None:
    """A drain closes inbound first."""

    async def conversation(house: House) -> None:
        first, second = local(), local()
        await house.become(spec(first, Role.INBOUND), spec(second))
        house.listeners.close([Role.INBOUND], "drain")
        with pytest.raises(ConnectionRefusedError):
            await ask(first)
        assert await ask(second) == f"outbound {second}"

    inside(conversation)


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_who_has_connected_before_the_end_is_served(kind: str, tmp_path: Path) -> None:
    """Closing resets a backlog, so it is emptied first, however late the loop would have looked at it."""
    address = local() if kind == "tcp" else f"unix:{tmp_path}/s"

    async def conversation(house: House) -> None:
        await house.become(spec(address))
        clients = []
        for _ in range(50):  # none of which the loop has seen when the listener closes
            family, where = (socket.AF_UNIX, address[5:]) if kind == "unix" else (socket.AF_INET, _pair(address))
            client = socket.socket(family)
            client.connect(where)
            client.setblocking(False)
            clients.append(client)
        house.listeners.close([Role.OUTBOUND], "drain")
        loop = asyncio.get_running_loop()
        answers = await asyncio.gather(*(loop.sock_recv(client, 100) for client in clients))
        assert set(answers) == {f"outbound {address}".encode()}
        for client in clients:
            client.close()

    inside(conversation)


def test_what_is_not_this_process_business_is_not_opened() -> None:
    """A worker leaves the metrics and admin listeners to its supervisor."""

    async def conversation(house: House) -> None:
        house.listeners.wants = lambda spec: spec.role is not Role.ADMIN
        await house.become(spec(local()), spec(local(), Role.ADMIN))
        assert [one.spec.role for one in house.listeners.current.values()] == [Role.OUTBOUND]

    inside(conversation)


def test_a_lent_socket_stays_its_lender_s(tmp_path: Path) -> None:
    """Neither its file nor its port goes when the borrower closes."""

    class Lender:
        is_lent = True

        def take(self, _: ListenerSpec) -> socket.socket:
            return sock.dup()

    address = f"unix:{tmp_path}/s"
    sock = bind(address)

    async def conversation(house: House) -> None:
        async def meet(_: object) -> Lender:
            return Lender()

        house.listeners.meet = meet
        await house.become(spec(address))
        assert await ask(address) == f"outbound {address}"
        house.close()
        assert Path(address[5:]).exists()
        house.listeners.meet = meet
        await house.become(spec(address))
        assert await ask(address) == f"outbound {address}"

    with sock:
        inside(conversation)


def _pair(address: str) -> tuple[str, int]:
    host, port = address.rsplit(":", 1)
    return host, int(port)
