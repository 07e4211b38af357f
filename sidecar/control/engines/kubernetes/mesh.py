"""
The mesh's files in Kubernetes: in ConfigMaps that have the label `sidecar.mesh/mesh=MESH`, one a service.

    kubectl create configmap recommendations --from-file=recommendations.yaml
    kubectl label configmap recommendations sidecar.mesh/mesh=shop

Each key that ends in `.yaml` or `.yml` is a file; it is called `CONFIGMAP/KEY` wherever a problem is told.

There is no push. The API writes one object at a time, and whoever applies the ConfigMaps (kubectl, Argo CD, Flux) would
put back what another wrote: two owners that disagree. So an edit is the push, as with a directory; and as an edit of
several objects comes one by one, it counts when nothing has changed for `SETTLE_S`, or after `MOST_SETTLE_S`. Half an
edit that is told nevertheless is a revision like any other: refused whole if it does not fit together.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import aclosing, suppress
from typing import Final

from sidecar.control.engines.directory import content_version
from sidecar.control.engines.interface import Content, Trouble, Unsupported
from sidecar.control.engines.kubernetes import wire
from sidecar.control.engines.kubernetes.changes import PAGE, Changes, Events, Snapshot
from sidecar.control.engines.kubernetes.client import Client
from sidecar.control.engines.kubernetes.wire import CONFIG_MAPS, ApiError, Object
from sidecar.process_log import event

logger = logging.getLogger(__name__)

SETTLE_S: Final = 1.0
MOST_SETTLE_S: Final = 10.0
LABEL: Final = "sidecar.mesh/mesh"
_SUFFIXES: Final = (".yaml", ".yml")


def files_of(found: Iterable[Object]) -> dict[str, bytes]:
    """The files of these ConfigMaps, by name. Raises ApiError: one cannot be understood."""
    files: dict[str, bytes] = {}
    for one in found:
        name = wire.name_of(one)
        data, binary = wire.part(one, "data"), wire.part(one, "binaryData")
        for key in data:
            files[f"{name}/{key}"] = wire.text(data, key).encode("utf-8", "replace")
        for key in binary:
            try:
                files[f"{name}/{key}"] = base64.b64decode(wire.text(binary, key), validate=True)
            except (binascii.Error, ValueError):
                raise wire.unintelligible(f"ConfigMap {name}: {key} is not base64") from None
    return {name: content for name, content in sorted(files.items()) if name.endswith(_SUFFIXES)}


class KubernetesMesh:
    """
    A `MeshSource`.

    Args:
        client: Asks.
        clock: Seconds, monotonic.
    """

    def __init__(self, client: Client, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        self._selector = f"{LABEL}={client.mesh}"

    async def follow(self) -> AsyncGenerator[Content | Trouble, None]:
        """All files of now, then each edit that has settled."""
        known: dict[str, Object] = {}
        told: str | None = None
        since_s: float | None = None
        last_s = 0.0
        async with aclosing(Changes(self._client, CONFIG_MAPS, labels=self._selector).follow()) as changes:
            upcoming: asyncio.Task[Snapshot | Events | Trouble] | None = None
            try:
                while True:
                    if upcoming is None:
                        upcoming = asyncio.create_task(anext(changes))
                    wait_s = None
                    if since_s is not None:
                        wait_s = max(0.0, min(last_s + SETTLE_S, since_s + MOST_SETTLE_S) - self._clock())
                    await asyncio.wait((upcoming,), timeout=wait_s)
                    if not upcoming.done():
                        since_s = None
                        content = self._content(known)
                        if isinstance(content, Trouble) or content.version != told:
                            told = content.version if isinstance(content, Content) else told
                            yield content
                        continue
                    change, upcoming = upcoming.result(), None
                    if isinstance(change, Trouble):
                        yield change
                        continue
                    known = _after(known, change)
                    last_s = self._clock()
                    since_s = since_s if since_s is not None else last_s
                    if told is None:
                        # Nobody has anything yet, and what is there when one comes was there before.
                        since_s = last_s - MOST_SETTLE_S
            finally:
                if upcoming is not None:
                    upcoming.cancel()
                    with suppress(asyncio.CancelledError):
                        await upcoming

    async def is_wanted(self, version: str) -> bool:
        """By listing all of it; the API answers that from etcd's quorum."""
        found, _ = await self._client.list(CONFIG_MAPS, labels=self._selector, page=PAGE)
        return content_version(files_of(found)) == version

    async def push(self, files: Mapping[str, bytes], expected: str) -> str:
        """Not here."""
        raise Unsupported(
            f"the mesh is the ConfigMaps with the label {self._selector} in the namespace {self._client.namespace}: "
            "change them with `kubectl apply`, or with what applies them; a change of them is the push"
        )

    def _content(self, known: Mapping[str, Object]) -> Content | Trouble:
        try:
            files = files_of(known.values())
        except ApiError as error:
            return Trouble(str(error))
        holders = {name.partition("/")[0] for name in files}
        for name in sorted(known.keys() - holders):
            logger.warning(event("mesh_configmap_empty", configmap=name, why="no key of it ends in .yaml or .yml"))
        return Content(files, content_version(files))


def _after(known: Mapping[str, Object], change: Snapshot | Events) -> dict[str, Object]:
    if isinstance(change, Snapshot):
        return {wire.name_of(one): one for one in change.found}
    gone = {wire.name_of(one) for one in change.deleted}
    return {name: one for name, one in known.items() if name not in gone} | {
        wire.name_of(one): one for one in change.put
    }
