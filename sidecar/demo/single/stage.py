"""Everything that runs during the demonstration: made in order, and given back in order whatever happens."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from sidecar.demo.collector import Collector
from sidecar.demo.http11 import Client, HTTPError, is_ready, listen
from sidecar.demo.processes import Child, DemoError, choose_ports, port_of, replace_file, start, until_ready
from sidecar.demo.samples import Samples, read_samples
from sidecar.demo.single.configuration import CANARY, Addresses, configuration
from sidecar.demo.single.ledger import Ledger
from sidecar.demo.traffic import Traffic

DEFAULT_PORTS = (15000, 15001, 15020, 9901)
"""Inbound, outbound, metrics, admin: what the product listens on."""
START_TIMEOUT_S = 30.0
V1_MS, BETA_MS = 2.0, 6.0
"""What the versions take to answer; the beta is slower, and the table shows it."""


class Stage:
    """
    What is running.

    Attributes:
        at: Ports.
        file: The YAML file; yours to edit.
        sidecar: The process.
        apps: The other processes.
    """

    def __init__(self, directory: Path, at: Addresses, sidecar: Child, apps: list[Child], parts: _Parts) -> None:
        self.at = at
        self.file = directory / "sidecar.yaml"
        self.sidecar = sidecar
        self.apps = apps
        self.collector = parts.collector
        self.ledger = parts.ledger
        self.traffic = Traffic(at.inbound, parts.per_second, parts.ledger)
        self._admin = Client(at.admin)
        self._log = asyncio.create_task(_follow(sidecar, parts.ledger))

    def write(self, text: str) -> None:
        """Replace the YAML file as editors do: a new file is renamed over it."""
        replace_file(self.file, text)

    async def admin(self, path: str) -> Any:
        """What the sidecar's admin address answers, as JSON."""
        return json.loads((await self._ask(path)).decode())

    async def metrics(self) -> Samples:
        """Every sample of the sidecar's metrics."""
        return read_samples((await self._ask("/metrics")).decode())

    async def stop_sidecar(self) -> int:
        """SIGTERM, then the end of its log; returns the exit code."""
        self._admin.close()
        code = await self.sidecar.stop()
        await self._log
        return code

    async def end(self) -> None:
        """End what runs, traffic first and the apps last."""
        self.traffic.abandon()
        await self.stop_sidecar()
        for app in self.apps:
            await app.stop()

    async def _ask(self, path: str) -> bytes:
        response = await self._admin.get(path)
        if response.status != 200:
            raise HTTPError(f"{path} answered {response.status}")
        return response.body


class _Parts:
    def __init__(self, per_second: float) -> None:
        self.per_second = per_second
        self.collector = Collector()
        self.ledger = Ledger()


@asynccontextmanager
async def running(per_second: float) -> AsyncIterator[Stage]:
    """
    Everything, ready and without traffic yet.

    Raises:
        DemoError: Something did not start.
    """
    parts = _Parts(per_second)
    async with AsyncExitStack() as stack:
        directory = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="sidecar-demo-", ignore_cleanup_errors=True))
        )
        collector = await listen(parts.collector.answer)
        stack.callback(collector.close)
        try:
            stage = await _start(directory, collector.port, parts, DEFAULT_PORTS)
        except DemoError as error:
            if "in use" not in str(error):
                raise
            # Somebody took a port between our look and the start.
            stage = await _start(directory, collector.port, parts, (0, 0, 0, 0))
        stack.push_async_callback(stage.end)
        yield stage


async def _start(directory: Path, collector_port: int, parts: _Parts, wanted: tuple[int, ...]) -> Stage:
    inbound, outbound, metrics, admin = choose_ports(wanted)
    module = "sidecar.demo.apps"
    async with AsyncExitStack() as undo:

        async def child(name: str, arguments: list[str], extra: dict[str, str] | None = None) -> Child:
            started = await start(name, arguments, directory, extra)
            undo.push_async_callback(started.stop)
            return started

        through = {"HTTP_PROXY": f"http://127.0.0.1:{outbound}"}
        apps = [
            await child("storefront", [module, "storefront", "v1", "0", "recommendations"], through),
            await child("recommendations", [module, "recommendations", "v1", str(V1_MS)]),
            await child("recommendations-beta", [module, "recommendations", "beta", str(BETA_MS)]),
        ]
        storefront, v1, beta = [await port_of(app, START_TIMEOUT_S) for app in apps]
        at = Addresses(inbound, outbound, metrics, admin, storefront, v1, beta, collector_port)
        file = directory / "sidecar.yaml"
        replace_file(file, configuration(at, CANARY))
        sidecar = await child("sidecar", ["sidecar", "run", "--config", str(file)])
        await until_ready(sidecar, lambda: is_ready(metrics), START_TIMEOUT_S)
        undo.pop_all()  # from here on they are the stage's
        return Stage(directory, at, sidecar, apps, parts)


async def _follow(sidecar: Child, ledger: Ledger) -> None:
    """Enter the access log, which is the sidecar's standard output, into the ledger until it ends."""
    rest = b""
    while octets := await sidecar.output.read(65536):
        *lines, rest = (rest + octets).split(b"\n")
        for line in lines:
            ledger.read(line)
