"""A dial by TLS, whatever becomes of it, leaves nothing for the collector: a reload would exempt it for ever."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path

import pytest
import uvloop

from sidecar.errors import Reason
from sidecar.net.flow import Outbox
from sidecar.net.timers import Timers
from sidecar.net.tls.sides import ClientSide
from sidecar.net.tls.transport import TlsTransport
from sidecar.proxy.server.dialer import Dialer
from sidecar.upstream import pool
from sidecar.upstream.cluster import Cluster, ClusterSpec
from sidecar.upstream.endpoint import IdleConnection
from tests.soak.tls.recorder import server_context
from tests.soak.tls.world import SEALED, STORM, World


class Waiter:
    """Takes the connection, or hears why there is none."""

    def __init__(self) -> None:
        self.told = asyncio.Event()
        self.reason: Reason | None = None

    def on_connection(self, connection: IdleConnection) -> None:
        connection.close_idle("not wanted")
        self.told.set()

    def on_connect_failed(self, reason: Reason, detail: str) -> None:
        self.reason = reason
        self.told.set()


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("", None),
        ("expired", "upstream_certificate_expired"),
        ("wrong_name", "upstream_identity_mismatch"),
        ("alpn", "upstream_tls_alpn"),
        ("hang", "upstream_tls_timeout"),
    ],
)
def test_a_dial_by_tls_leaves_no_cycle(tmp_path: Path, mode: str, reason: str | None) -> None:
    """Nothing of it is left when it is over, though nobody collects."""
    world = World(tmp_path)
    world.give_others()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.read(1000):
                pass
        except OSError:
            pass
        writer.close()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        context = None if mode == "hang" else server_context(Path(world.sealed), mode)
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        side = ClientSide(identities=frozenset([SEALED]))
        side.replace(world.client(world.root.workload(STORM)))
        timeout_s = 0.3 if mode == "hang" else 30.0
        cluster = Cluster(ClusterSpec("web", ((address, 1.0),), connect_timeout_s=timeout_s))
        cluster.tls, endpoint = side, cluster.endpoints[0]
        endpoint.is_tls = True
        dialer = Dialer(loop, Timers(loop), Outbox(loop))
        waiter = Waiter()
        pool.wait(endpoint, waiter, dialer.dial)
        await waiter.told.wait()
        await asyncio.gather(*dialer._tasks, return_exceptions=True)
        assert (waiter.reason.name if waiter.reason is not None else None) == reason
        async with asyncio.timeout(30):
            while any(isinstance(one, TlsTransport) for one in gc.get_objects()):
                await asyncio.sleep(0.01)
        server.close()

    gc.collect()
    gc.disable()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main())
    finally:
        gc.enable()
