"""The sockets of a group: who gets connections, and what a reload does to them. Real sockets."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from sidecar.compile.listener_spec import Role
from sidecar.net.listen import BindError, bind
from sidecar.workers.sockets import Shared, SocketError, Sockets
from tests.support.wait import free_port


def local() -> str:
    return f"127.0.0.1:{free_port()}"


def connect(address: str, count: int) -> list[socket.socket]:
    """So many clients."""
    host, port = address.rsplit(":", 1)
    return [socket.create_connection((host, int(port)), 5) for _ in range(count)]


def waiting(shared: Shared, workers: int) -> list[int]:
    """How many connections wait for each worker; they are accepted by that."""
    found = []
    for worker in range(workers):
        count = 0
        while True:
            try:
                shared.of(worker).accept()[0].close()
            except BlockingIOError:
                break
            count += 1
        found.append(count)
    return found


def test_each_worker_gets_connections_of_its_own() -> None:
    """Each connection one worker's; of 60, all three get some."""
    shared = Shared.bind(local(), 3)
    clients = connect(shared.bound, 60)
    spread = waiting(shared, 3)
    assert sum(spread) == 60
    assert min(spread) > 0
    shared.close()
    for client in clients:
        client.close()


def test_connections_are_steered_to_those_that_serve() -> None:
    """And to all again, when they do."""
    shared = Shared.bind(local(), 3)
    clients = []
    for serving, idle in (([1], (0, 2)), ([0, 2], (1,)), ([2], (0, 1))):
        shared.steer(serving)
        clients += connect(shared.bound, 40)
        spread = waiting(shared, 3)
        assert sum(spread) == 40
        assert [spread[index] for index in idle] == [0] * len(idle)
        assert all(spread[index] for index in serving)
    for everybody in ([0, 1, 2], []):
        shared.steer(everybody)
        clients += connect(shared.bound, 60)
        assert min(waiting(shared, 3)) > 0
    shared.close()
    for client in clients:
        client.close()


def test_a_port_of_somebody_else_is_an_error_also_of_another_group() -> None:
    """Sharing is among the workers of one group."""
    shared = Shared.bind(local(), 2)
    with pytest.raises(BindError, match="already in use"):
        Shared.bind(shared.bound, 2)
    shared.close()
    Shared.bind(shared.bound, 2).close()


def test_a_unix_socket_is_one_for_all(tmp_path: Path) -> None:
    """Its file goes with it, unless a successor has it."""
    path = tmp_path / "s"
    shared = Shared.bind(f"unix:{path}", 3)
    assert shared.of(0) is shared.of(2)
    shared.steer([1])
    (offered,) = shared.offered(Role.INBOUND)
    offered.disown()
    shared.close()
    assert path.exists()
    Shared.bind(f"unix:{path}", 3).close()
    assert not path.exists()


def test_sockets_of_a_single_process_become_those_of_several() -> None:
    """At a takeover: what waits in its backlog is the first worker's."""
    address = local()
    inherited = bind(address)
    early = connect(address, 5)
    shared = Shared.adopt(address, [inherited], 2)
    late = connect(address, 40)
    spread = waiting(shared, 2)
    assert sum(spread) == 45
    assert spread[0] >= 5
    assert spread[1] > 0
    shared.close()
    for client in early + late:
        client.close()


def test_a_reload_binds_what_is_new_and_closes_what_is_gone() -> None:
    """What stays is not touched."""

    async def run() -> None:
        sockets = Sockets(2)
        stays, goes, comes = ((Role.INBOUND, local()) for _ in range(3))
        (await sockets.open([stays, goes])).commit()
        kept = sockets.current[stays]
        change = await sockets.open([stays, comes])
        assert list(change.added) == [comes]
        change.commit()
        assert sockets.current[stays] is kept
        assert sockets.current.keys() == {stays, comes}
        with pytest.raises(ConnectionRefusedError):
            connect(goes[1], 1)
        sockets.close(tuple(Role))

    asyncio.run(run())


def test_an_address_that_cannot_be_had_changes_nothing() -> None:
    """What was bound for the change is free again."""

    async def run() -> None:
        sockets = Sockets(2)
        stays, comes = (Role.INBOUND, local()), (Role.INBOUND, local())
        (await sockets.open([stays])).commit()
        with socket.create_server(("127.0.0.1", 0)) as taken:
            refused = (Role.OUTBOUND, f"127.0.0.1:{taken.getsockname()[1]}")
            with pytest.raises(SocketError, match="already in use") as error:
                await sockets.open([comes, refused])
            assert error.value.key == refused
        assert sockets.current.keys() == {stays}
        bind(comes[1]).close()
        sockets.close(tuple(Role))

    asyncio.run(run())


def test_an_address_may_change_its_role_and_its_width() -> None:
    """From inbound to outbound the sockets are the same; from a wildcard to one address they overlap for a moment."""

    async def run() -> None:
        sockets = Sockets(2)
        port = free_port()
        wide, narrow = f"0.0.0.0:{port}", f"127.0.0.1:{port}"
        (await sockets.open([(Role.INBOUND, wide)])).commit()
        before = sockets.current[Role.INBOUND, wide]
        change = await sockets.open([(Role.OUTBOUND, wide)])
        assert not change.added
        change.commit()
        assert sockets.current == {(Role.OUTBOUND, wide): before}
        (await sockets.open([(Role.OUTBOUND, narrow)])).commit()
        clients = connect(narrow, 40)
        assert sum(waiting(sockets.current[Role.OUTBOUND, narrow], 2)) == 40
        sockets.close(tuple(Role))
        for client in clients:
            client.close()

    asyncio.run(run())
