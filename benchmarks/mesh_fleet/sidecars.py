"""
Sidecars that do nothing but speak the protocol: a stream and a connection for reports each, on one event loop.

They apply what they are told as a real one does, versions checked, and report at once what they run; they have no data
path, so that a thousand of them cost the machine little more than their messages do.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable
from urllib.parse import urlencode

from sidecar.link.messages import (
    Config,
    Current,
    EndpointEntry,
    Endpoints,
    Watch,
    apply_endpoints,
    endpoints_version,
    read_line,
)
from sidecar.link.report import LATENCY_BOUNDS_S, Edge, Port, Report, Running, write_report

BACKOFF_S = 0.5
MAX_BACKOFF_S = 30.0
REPORT_PERIOD_S = 10.0

Seen = Callable[["Sidecar", str, str], None]
"""Told of what a sidecar has put in force: `config` with its hash, or `endpoints` with the upstream's name."""


class Sidecar:
    """
    One.

    Attributes:
        service: Of the mesh.
        has_stream: Lines come.
        hash: Of the file that it has.
        config_octets: Of files that were sent to it.
        endpoints: By upstream, by address.
    """

    def __init__(self, number: int, service: str, port: int, on_seen: Seen) -> None:
        self.service = service
        self.instance = f"{service}-{number}"
        self.address = f"10.{200 + number // 60_000}.{number // 250 % 240}.{number % 250 + 1}"
        self.has_stream = False
        self.hash = ""
        self.revision = 0
        self.config_octets = 0
        self.endpoints: dict[str, dict[str, EndpointEntry]] = {}
        self.weight = 1.0
        self._port = port
        self._on_seen = on_seen
        self._seq = 0
        self._due = asyncio.Event()
        self._edges: tuple[Edge, ...] = ()

    def change(self, weight: float) -> None:
        """Register with another weight, which is a change of an endpoint for all that call the service."""
        self.weight = weight
        self._due.set()

    async def run(self) -> None:
        """Live, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch())
            group.create_task(self._report())

    async def _watch(self) -> None:
        failures = 0
        while True:
            try:
                await self._stream()
                failures = 0
            except (OSError, EOFError, ValueError):
                failures += 1
            self.has_stream = False
            await asyncio.sleep(random.uniform(0, min(MAX_BACKOFF_S, BACKOFF_S * 2**failures)))

    async def _stream(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 24)
        try:
            versions = {name: endpoints_version(known.values()) for name, known in self.endpoints.items()}
            watch = Watch(self.service, self.instance, "v1", config=self.hash, endpoints=versions)
            query = urlencode(watch.to_query())
            writer.write(f"GET /v1/watch?{query} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise ValueError(head)
            rest = b""
            while True:
                size = int(await reader.readuntil(b"\r\n"), 16)
                chunk = await reader.readexactly(size + 2)
                if not size:
                    return
                *lines, rest = (rest + chunk[:-2]).split(b"\n")
                for line in lines:
                    self._take(line)
        finally:
            writer.close()

    def _take(self, raw: bytes) -> None:
        line = read_line(raw)
        self.has_stream = True
        match line:
            case Config():
                self.hash, self.revision = line.hash, line.revision
                self.config_octets += len(raw)
                self._on_seen(self, "config", line.hash)
                self._due.set()
            case Current():
                self.revision = line.revision
                self._due.set()
            case Endpoints():
                found = apply_endpoints(self.endpoints.get(line.upstream, {}), line)
                if found is None:
                    self.endpoints.pop(line.upstream, None)
                    raise ValueError("endpoints do not fit")
                self.endpoints[line.upstream] = found
                self._on_seen(self, "endpoints", line.upstream)
                self._due.set()

    async def _report(self) -> None:
        reader: asyncio.StreamReader | None = None
        writer: asyncio.StreamWriter | None = None
        await asyncio.sleep(random.uniform(0, 0.5))
        while True:
            try:
                if writer is None:
                    reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                assert reader is not None
                self._due.clear()
                await self._post(reader, writer)
            except (OSError, EOFError, ValueError):
                if writer is not None:
                    writer.close()
                    writer = None
                await asyncio.sleep(random.uniform(0, 1))
                continue
            try:
                async with asyncio.timeout(REPORT_PERIOD_S * random.uniform(0.9, 1.1)):
                    await self._due.wait()
                await asyncio.sleep(0.1)  # bursts are one report
            except TimeoutError:
                pass

    async def _post(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._seq += 1
        latency = [0] * (len(LATENCY_BOUNDS_S) + 1)
        latency[4] = 90
        latency[7] = 10
        edges = tuple(
            Edge("outbound", name, f"{name}.main", 100, {}, {"2xx": 100}, tuple(latency), 10_000, 50_000)
            for name in list(self.endpoints)[:20]
        )
        body = write_report(
            Report(
                self.service, self.instance, self._seq, "v1", address=self.address, weight=self.weight,
                ports={"http": Port(f"{self.address}:15000")}, health="healthy",
                running=Running(self.hash, self.revision, time.time(), "pushed" if self.hash else ""),
                endpoints={name: endpoints_version(known.values()) for name, known in self.endpoints.items()},
                edges=edges,
            )
        )  # fmt: skip
        head = f"POST /v1/report HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        fields = answer.lower().split(b"\r\n")
        length = next(int(one.partition(b":")[2]) for one in fields if one.startswith(b"content-length:"))
        text = await reader.readexactly(length)
        if not answer.startswith(b"HTTP/1.1 200"):
            raise ValueError(json.loads(text))


class Fleet:
    """
    Many.

    Attributes:
        sidecars: All.
    """

    def __init__(self, count: int, services: list[str], port: int) -> None:
        self.sidecars = [Sidecar(one, services[one % len(services)], port, self._on_seen) for one in range(count)]
        self._tasks: list[asyncio.Task[None]] = []
        self._seen: dict[tuple[str, str], dict[Sidecar, float]] = {}
        self._config_seen: dict[Sidecar, float] = {}

    async def start(self, spread_s: float) -> None:
        """Start all, one after the other within so many seconds."""
        for sidecar in self.sidecars:
            self._tasks.append(asyncio.create_task(sidecar.run()))
            await asyncio.sleep(spread_s / len(self.sidecars))

    async def stop(self) -> None:
        """End all."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def forget(self) -> None:
        """Look only at what comes from now on."""
        self._seen.clear()
        self._config_seen.clear()

    async def until_endpoints(self, upstream: str, wanted: set[Sidecar], timeout_s: float) -> dict[Sidecar, float]:
        """When each of these had a change of this upstream, in loop time; those that had none in time are left out."""
        return await self._until(lambda: self._seen.get(("endpoints", upstream), {}), wanted, timeout_s)

    async def until_config(self, wanted: set[Sidecar], timeout_s: float) -> dict[Sidecar, float]:
        """The same of another file."""
        return await self._until(lambda: self._config_seen, wanted, timeout_s)

    async def _until(
        self, found: Callable[[], dict[Sidecar, float]], wanted: set[Sidecar], timeout_s: float
    ) -> dict[Sidecar, float]:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            have = found()
            if wanted <= have.keys():
                break
            await asyncio.sleep(0.01)
        return {sidecar: at for sidecar, at in found().items() if sidecar in wanted}

    def _on_seen(self, sidecar: Sidecar, kind: str, name: str) -> None:
        now = time.monotonic()
        if kind == "config":
            self._config_seen.setdefault(sidecar, now)
        else:
            self._seen.setdefault((kind, name), {}).setdefault(sidecar, now)
