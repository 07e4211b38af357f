"""
Endpoints of Services: the kind `kubernetes` of a mesh file's `instances`.

    instances: {all: {kubernetes: {service: recommendations, port: http}}}

One watch for each Service that a mesh names, and a second one, of the Service itself, where the port is a number.
`slices` says what is an endpoint, and what is a fact.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, Final

from sidecar.control.engines.interface import Sighting, Trouble
from sidecar.control.engines.kubernetes.changes import Changes, Events, Snapshot
from sidecar.control.engines.kubernetes.client import Client
from sidecar.control.engines.kubernetes.slices import Slices
from sidecar.control.engines.kubernetes.wire import SERVICES, SLICES

SERVICE_LABEL: Final = "kubernetes.io/service-name"
_Change = Snapshot | Events | Trouble


class KubernetesDiscoverer:
    """
    A `Discoverer`.

    Args:
        client: Asks.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    async def follow(self, values: Mapping[str, Any]) -> AsyncGenerator[Sighting | Trouble, None]:
        """Endpoints at the port `values["port"]` of `values["service"]`, in `values["namespace"]` or ours."""
        namespace, service, port = (
            str(values.get("namespace") or self._client.namespace),
            values["service"],
            values["port"],
        )
        slices = Slices(f"{namespace}/{service}", port)
        selector = f"{SERVICE_LABEL}={service}"
        streams = {"slices": Changes(self._client, SLICES, namespace=namespace, labels=selector).follow()}
        if isinstance(port, int):
            streams["service"] = Changes(self._client, SERVICES, namespace=namespace, name=service).follow()
        missing = set(streams)
        errors: dict[str, str] = {}
        told = ""
        async with aclosing(_together(streams)) as changes:
            async for source, change in changes:
                if isinstance(change, Trouble):
                    errors[source] = change.error
                else:
                    missing.discard(source)
                    sighting = _apply(slices, source, change)
                    # Nothing is told before all is known: half of it would be endpoints that come and go.
                    if not missing:
                        yield sighting
                problem = next(filter(None, errors.values()), "") or ("" if missing else slices.problem)
                if problem != told:
                    told = problem
                    yield Trouble(told)


def _apply(slices: Slices, source: str, change: Snapshot | Events) -> Sighting:
    if source == "service":
        found = change.found if isinstance(change, Snapshot) else change.put
        return slices.service_is(found[-1] if found else None)
    if isinstance(change, Snapshot):
        return slices.listed(change.found)
    return slices.changed(change.put, change.deleted)


async def _together(
    streams: Mapping[str, AsyncGenerator[_Change, None]],
) -> AsyncGenerator[tuple[str, _Change], None]:
    """What each of them says, as it comes; they never end."""
    queue: asyncio.Queue[tuple[str, _Change]] = asyncio.Queue(1)

    async def pump(name: str, stream: AsyncGenerator[_Change, None]) -> None:
        async with aclosing(stream):
            async for change in stream:
                await queue.put((name, change))

    tasks = [asyncio.create_task(pump(name, stream), name=f"discover {name}") for name, stream in streams.items()]
    try:
        while True:
            yield await queue.get()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
