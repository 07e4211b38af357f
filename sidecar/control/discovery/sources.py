"""
The kinds of sources of endpoints that need no engine: a file, a name, a list. *Cold.*

Each is a `Discoverer` (`control.engines.interface`): what there is, then each change; what fails is `Trouble`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any

from sidecar.control.engines.interface import Discoverer, Sighted, Sighting, Trouble
from sidecar.net.address import TcpAddress, join_host_port, parse_address
from sidecar.net.resolve import ResolveError, Resolver, SystemLookup, refresh_forever
from sidecar.upstream.discovery.discovery import Discovery as FollowedFiles
from sidecar.upstream.discovery.endpoint_set import EndpointSet, Source


def own_discoverers() -> dict[str, Discoverer]:
    """Of the kinds that every control plane knows; one of each for a process."""
    return {"file": FileDiscoverer(), "dns": DnsDiscoverer(), "endpoints": ListDiscoverer()}


class _Told:
    """Puts what is told by callbacks into a queue, whose last value counts: the one in between is of no interest."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[tuple[Sighted, ...] | Trouble] = asyncio.Queue()

    async def changes(self, first: tuple[Sighted, ...] | Trouble | None = None) -> AsyncIterator[Sighting | Trouble]:
        """Sightings in which whatever is not there any more said so: an edit, or an answer, is a fact."""
        known: frozenset[str] = frozenset()
        is_failing = False
        while True:
            change = first if first is not None else await self.queue.get()
            first = None
            if isinstance(change, Trouble):
                is_failing = True
                yield change
                continue
            if is_failing:
                is_failing = False
                yield Trouble("")
            present = frozenset(one.address for one in change)
            yield Sighting(change, known - present)
            known = present


class FileDiscoverer:
    """`file`: a path, in the form of Prometheus's `file_sd`; looked at once a second."""

    def __init__(self) -> None:
        self._files: FollowedFiles | None = None

    async def follow(self, values: Mapping[str, Any]) -> AsyncIterator[Sighting | Trouble]:
        """Endpoints of the file."""
        if self._files is None:
            self._files = FollowedFiles()
        told = _FileFollower()
        source = Source("file", str(values["path"]))
        known = self._files.known(source)
        self._files.follow(source, told)
        try:
            if known is not None:
                told.on_endpoints(known)
            async with aclosing(told.changes()) as changes:  # type: ignore[type-var]
                async for change in changes:
                    yield change
        finally:
            self._files.drop(source, told)


class _FileFollower(_Told):
    def on_endpoints(self, found: EndpointSet) -> None:
        """These are its endpoints."""
        self.queue.put_nowait(
            tuple(
                Sighted(str(address), weight, found.zones.get(address, "")) for address, weight in found.weights.items()
            )
        )

    def on_failure(self, error: str) -> None:
        """It could not be read."""
        self.queue.put_nowait(Trouble(error))


class DnsDiscoverer:
    """`dns`: `name:port`, asked for every few seconds; an empty answer is a failure, which changes nothing."""

    def __init__(self, resolver: Resolver | None = None) -> None:
        self._resolver = resolver

    async def follow(self, values: Mapping[str, Any]) -> AsyncIterator[Sighting | Trouble]:
        """Every address of the name."""
        if self._resolver is None:
            self._resolver = Resolver(SystemLookup())
        address = parse_address(str(values["address"]))
        assert isinstance(address, TcpAddress)
        told = _DnsFollower(address.port)
        has_answer = True
        try:
            told.on_answer(await self._resolver.resolve(address.host))
        except ResolveError as error:
            has_answer = False
            told.on_failure(str(error))
        asking = asyncio.create_task(refresh_forever(self._resolver, address.host, told, has_answer=has_answer))
        try:
            async with aclosing(told.changes()) as changes:  # type: ignore[type-var]
                async for change in changes:
                    yield change
        finally:
            asking.cancel()


class _DnsFollower(_Told):
    def __init__(self, port: int) -> None:
        super().__init__()
        self._port = port

    def on_answer(self, hosts: tuple[str, ...]) -> None:
        """The name has these addresses."""
        self.queue.put_nowait(tuple(Sighted(join_host_port(host, self._port)) for host in hosts))

    def on_failure(self, error: str) -> None:
        """There was no answer."""
        self.queue.put_nowait(Trouble(error))


class ListDiscoverer:
    """`endpoints`: as the mesh's file says them."""

    async def follow(self, values: Mapping[str, Any]) -> AsyncIterator[Sighting | Trouble]:
        """Once; another list is another source."""
        yield Sighting(tuple(Sighted(one["address"], float(one["weight"]), one["zone"]) for one in values["endpoints"]))
        await asyncio.get_running_loop().create_future()
