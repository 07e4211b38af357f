"""
Compiled files in Kubernetes: a ConfigMap each, by hash, packed by zlib, immutable.

A file is forgotten if no record names it and nobody has needed it for a minute: then the record that names it may be on
its way. That somebody needs it he says by an annotation, which moves its `resourceVersion`; how long ago that was each
replica tells by its own clock, from when it saw it move, and deletes only the very version that it saw stand still.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import secrets
import time
import zlib
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any, Final

from sidecar.control.engines.exchange import each
from sidecar.control.engines.interface import Unavailable
from sidecar.control.engines.kubernetes import wire
from sidecar.control.engines.kubernetes.changes import PAGE
from sidecar.control.engines.kubernetes.client import NAMES_ONLY, TRIES, Client
from sidecar.control.engines.kubernetes.record import unpacked
from sidecar.control.engines.kubernetes.wire import CONFIG_MAPS, MAX_DATA_BYTES, ApiError, Object
from sidecar.process_log import event

logger = logging.getLogger(__name__)

RECENT_S: Final = 60.0
"""What was needed so lately is not forgotten."""
FRESH_S: Final = 20.0
"""What was needed so lately need not be said to be: there is the rest of `RECENT_S` to write the record in."""
LABEL: Final = "sidecar.mesh/compiled"
HASH: Final = "sidecar.mesh/hash"
NEEDED: Final = "sidecar.mesh/needed"
_PACKED: Final = "file.zlib"


class KubernetesFiles:
    """
    A `Files`.

    Args:
        client: Asks.
        clock: Seconds, monotonic.
    """

    def __init__(self, client: Client, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        self._needed_s: dict[str, float] = {}
        self._seen: dict[str, tuple[str, float]] = {}

    async def keep(self, files: Mapping[str, bytes]) -> None:
        """Write those that are not there, and say of the others that they are needed."""
        since_s = self._clock() - FRESH_S
        asked = {key: files[key] for key in files if self._needed_s.get(key, -FRESH_S) < since_s}
        there = {wire.name_of(one) for one in await self._names()} if asked else set()
        await each([partial(self._keep, key, content, self._name(key) in there) for key, content in asked.items()])

    async def fetch(self, key: str) -> bytes | None:
        """One of them."""
        found = await self._client.get(CONFIG_MAPS, self._name(key))
        if found is None:
            return None
        try:
            return await asyncio.to_thread(
                unpacked, wire.text(wire.part(found, "binaryData"), _PACKED), wire.name_of(found)
            )
        except ApiError as error:
            logger.error(event("file_damaged", hash=key, error=error))
            return None

    async def retain(self, keys: Collection[str]) -> None:
        """Forget all others that nobody needed lately, as far as we have seen."""
        kept = {self._name(key) for key in keys}
        now_s = self._clock()
        seen: dict[str, tuple[str, float]] = {}
        for one in await self._names():
            name, version = wire.name_of(one), wire.version_of(one)
            before = self._seen.get(name)
            seen[name] = before if before is not None and before[0] == version else (version, now_s)
        self._seen = seen
        old = [
            partial(self._forget, name, version)
            for name, (version, at_s) in seen.items()
            if name not in kept and now_s - at_s >= RECENT_S
        ]
        await each(old)

    async def _names(self) -> list[Object]:
        selector = f"{LABEL}={self._client.mesh}"
        found, _ = await self._client.list(CONFIG_MAPS, labels=selector, page=PAGE, accept=NAMES_ONLY)
        return found

    async def _keep(self, key: str, content: bytes, is_there: bool) -> None:
        began_s = self._clock()
        metadata: dict[str, Any] = {"name": self._name(key), "annotations": {HASH: key, NEEDED: secrets.token_hex(8)}}
        for tries_left in reversed(range(TRIES)):
            try:
                if is_there:
                    await self._client.patch(CONFIG_MAPS, {"metadata": metadata})
                else:
                    labels = {LABEL: self._client.mesh, "app.kubernetes.io/managed-by": "sidecar"}
                    packed = {_PACKED: await asyncio.to_thread(_packed, key, content)}
                    values = {"metadata": metadata | {"labels": labels}, "immutable": True, "binaryData": packed}
                    await self._client.create(CONFIG_MAPS, values)
                break
            except ApiError as error:
                # Somebody has just forgotten it, or written it.
                if not (tries_left and (error.is_absent if is_there else error.is_conflict)):
                    raise
                is_there = not is_there
        self._needed_s[key] = began_s

    async def _forget(self, name: str, version: str) -> None:
        if await self._client.delete(CONFIG_MAPS, name, version):
            self._seen.pop(name, None)
            self._needed_s = {key: at_s for key, at_s in self._needed_s.items() if self._name(key) != name}

    def _name(self, key: str) -> str:
        return self._client.named("file", key)


def _packed(key: str, content: bytes) -> str:
    packed = zlib.compress(content, 6)
    if len(packed) > MAX_DATA_BYTES - 1024:
        raise Unavailable(f"the compiled file {key} takes {len(packed)} octets, packed; a ConfigMap takes 1 MiB")
    return base64.b64encode(packed).decode()
