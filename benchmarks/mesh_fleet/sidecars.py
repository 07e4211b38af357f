"""
Sidecars that do nothing but speak the protocol: a stream and a connection for reports each, on one event loop.

They apply what they are told as a real one does, versions checked, report when a real one does, and come back by the
same rota; they have no data path, so that a thousand of them cost the machine little more than their messages do. The
octets of every line are received and looked for by each; what is in equal lines is read once, and what follows from
equal content is worked out once, or the fleet would be slower than what it measures.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from urllib.parse import urlencode

from sidecar.link.messages import (
    Config,
    Current,
    EndpointEntry,
    Endpoints,
    Watch,
    apply_endpoints,
    read_line,
)
from sidecar.link.report import LATENCY_BOUNDS_S, REPORT_PERIOD_S, Edge, Port, Report, Running, write_report
from sidecar.link.reports.reporter import COALESCE_S, GAP_S, JITTER
from sidecar.link.transport.rota import Rota
from sidecar.link.transport.server import parse_server

EDGES = 20  # that a report has, at most
NO_EDGES = b"[]}"  # the end of a report that has none

Seen = Callable[["Sidecar", str, str], None]
"""Told of what a sidecar has put in force: `config` with its hash, or `endpoints` with the upstream's name."""

_read = lru_cache(maxsize=8192)(read_line)


@lru_cache(maxsize=4096)
def _edges(upstreams: tuple[str, ...]) -> bytes:
    """The end of a report that has counted some calls to each of these: what follows on the bracket that opens them."""
    latency = [0] * (len(LATENCY_BOUNDS_S) + 1)
    latency[4], latency[7] = 90, 10
    edges = tuple(
        Edge("outbound", name, f"{name}.main", 100, {}, {"2xx": 100}, tuple(latency), 10_000, 50_000)
        for name in upstreams
    )
    without = write_report(Report("s", "i", 1))
    return write_report(Report("s", "i", 1, edges=edges))[len(without) - len(NO_EDGES) + 1 :]


def _with_edges(report: Report, upstreams: tuple[str, ...]) -> bytes:
    """The report with counted calls, which are written once for all who have the same."""
    body = write_report(report)
    assert body.endswith(NO_EDGES)
    return body[: 1 - len(NO_EDGES)] + _edges(upstreams)


class Content:
    """What endpoints each version of an upstream has: versions are hashes, so all who have one have the same."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], dict[str, EndpointEntry]] = {}

    def after(self, change: Endpoints) -> dict[str, EndpointEntry] | None:
        """
        Endpoints after a change, for who has what it applies to; None if it does not fit.

        Args:
            change: Checked against its version when it is first seen.
        """
        key = change.upstream, change.version
        found = self._known.get(key)
        if found is None:
            before = self._known.get((change.upstream, change.base), {})
            found = apply_endpoints(before, change, change.base)
            if found is not None:
                self._known[key] = found
        return found


class Sidecar:
    """
    One.

    Attributes:
        service: Of the mesh.
        has_stream: Lines come.
        hash: Of the file that it has.
        config_octets: Of files that were sent to it.
        versions: Of the endpoints that it has, by upstream.
        reports: That were answered.
        told_at: When the report with its last change began to be sent, in monotonic time.
    """

    def __init__(self, number: int, service: str, port: int, address: str, content: Content, on_seen: Seen) -> None:
        self.service = service
        self.instance = f"{service}-{number}"
        self.has_stream = False
        self.hash = ""
        self.revision = 0
        self.config_octets = 0
        self.versions: dict[str, str] = {}
        self.weight = 1.0
        self.reports = 0
        self.told_at = 0.0
        self._is_changed = False
        self._address = address
        self._content = content
        self._port = port
        self._on_seen = on_seen
        self._seq = 0
        self._due = asyncio.Event()
        self._rota = Rota([parse_server(f"http://127.0.0.1:{port}")])

    def change(self, weight: float) -> None:
        """Register with another weight, which is a change of an endpoint for all that call the service."""
        self.weight = weight
        self._is_changed = True
        self._due.set()

    async def run(self) -> None:
        """Live, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch())
            group.create_task(self._report())

    async def _watch(self) -> None:
        while True:
            began = time.monotonic()
            retry_after_s = 0.0
            with suppress(OSError, EOFError, ValueError):
                retry_after_s = await self._stream()
            self.has_stream = False
            now = time.monotonic()
            if now > began + REPORT_PERIOD_S:
                self._rota.on_lived()
            await asyncio.sleep(self._rota.on_failure(now, retry_after_s))

    async def _stream(self) -> float:
        """Follow one stream to its end; seconds for which the server asks to be left alone."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 24)
        try:
            watch = Watch(self.service, self.instance, "v1", config=self.hash, endpoints=self.versions)
            query = urlencode(watch.to_query())
            writer.write(f"GET /v1/watch?{query} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                return _retry_after_s(head)
            rest = b""
            while True:
                size = int(await reader.readuntil(b"\r\n"), 16)
                chunk = await reader.readexactly(size + 2)
                if not size:
                    return 0.0
                *lines, rest = (rest + chunk[:-2]).split(b"\n")
                for line in lines:
                    self._take(line)
        finally:
            writer.close()

    def _take(self, raw: bytes) -> None:
        line = _read(raw)
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
                fits = not line.base or line.base == self.versions.get(line.upstream)
                if not fits or self._content.after(line) is None:
                    self.versions.pop(line.upstream, None)
                    raise ValueError("endpoints do not fit")
                self.versions[line.upstream] = line.version
                self._on_seen(self, "endpoints", line.upstream)
                if line.is_awaited:
                    self._due.set()

    async def _report(self) -> None:
        reader: asyncio.StreamReader | None = None
        writer: asyncio.StreamWriter | None = None
        may_at = time.monotonic() + random.uniform(0, 0.5)
        while True:
            await asyncio.sleep(max(COALESCE_S, may_at - time.monotonic()))
            began = time.monotonic()
            may_at = began + GAP_S
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
                continue
            due_s = began + REPORT_PERIOD_S * (1 - JITTER * random.random()) - time.monotonic()
            try:
                async with asyncio.timeout(max(0.0, due_s)):
                    await self._due.wait()
            except TimeoutError:
                pass

    async def _post(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._seq += 1
        if self._is_changed:
            self._is_changed, self.told_at = False, time.monotonic()
        body = _with_edges(
            Report(
                self.service, self.instance, self._seq, "v1", address=self._address.rpartition(":")[0],
                weight=self.weight, ports={"http": Port(self._address)}, health="healthy",
                running=Running(self.hash, self.revision, time.time(), "pushed" if self.hash else ""),
                endpoints=self.versions,
            ),
            tuple(self.versions)[:EDGES],
        )  # fmt: skip
        head = f"POST /v1/report HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        text = await reader.readexactly(int(_field(answer, b"content-length") or b"0"))
        if not answer.startswith(b"HTTP/1.1 200"):
            raise ValueError(json.loads(text))
        self.reports += 1


def _field(head: bytes, name: bytes) -> bytes:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(name + b":"):
            return line.partition(b":")[2].strip()
    return b""


def _retry_after_s(head: bytes) -> float:
    text = _field(head, b"retry-after")
    return float(text) if text.isdigit() else 0.0


class Fleet:
    """
    Many.

    Args:
        services: Of each in turn.
        port: Of the control plane.
        addresses: Which they register with.

    Attributes:
        sidecars: All.
    """

    def __init__(self, services: list[str], port: int, addresses: list[str]) -> None:
        content = Content()
        self.sidecars = [
            Sidecar(one, services[one % len(services)], port, address, content, self._on_seen)
            for one, address in enumerate(addresses)
        ]
        self._tasks: list[asyncio.Task[None]] = []
        self._seen: dict[tuple[str, str], dict[Sidecar, float]] = {}
        self._config_seen: dict[Sidecar, float] = {}

    @property
    def reports(self) -> int:
        """Reports of all that were answered."""
        return sum(one.reports for one in self.sidecars)

    def of(self, services: set[str]) -> set[Sidecar]:
        """Those of these services."""
        return {one for one in self.sidecars if one.service in services}

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
