"""
The rollout record in Kubernetes: a ConfigMap, written over the `resourceVersion` that reading it gave.

The API takes 1 MiB in one. So what is longer than half of that is packed by zlib, and stands in `binaryData`; what is
shorter can be read by people, with `kubectl get configmap`.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import zlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final

from sidecar.control.engines.interface import Conflict, Gone, Trouble, Unavailable, Versioned
from sidecar.control.engines.kubernetes import wire
from sidecar.control.engines.kubernetes.changes import Changes, Events
from sidecar.control.engines.kubernetes.client import Client
from sidecar.control.engines.kubernetes.wire import CONFIG_MAPS, MAX_DATA_BYTES, ApiError, Object

LEGIBLE_BYTES: Final = MAX_DATA_BYTES // 2
MAX_UNPACKED_BYTES: Final = 64 * 1024 * 1024
_PLAIN: Final = "record"
_PACKED: Final = "record.zlib"


def written(value: bytes) -> dict[str, Any]:
    """The fields of a ConfigMap with this value. Raises Unavailable: it is too long."""
    if len(value) <= LEGIBLE_BYTES:
        try:
            return {"data": {_PLAIN: value.decode()}}
        except UnicodeDecodeError:
            pass
    packed = zlib.compress(value, 6)
    if len(packed) > MAX_DATA_BYTES - 1024:
        raise Unavailable(f"the record takes {len(packed)} octets, and Kubernetes at most 1 MiB in one ConfigMap")
    return {"binaryData": {_PACKED: base64.b64encode(packed).decode()}}


def read_back(one: Object) -> Versioned | None:
    """The value of a ConfigMap; None if somebody took it out. Raises ApiError: it was damaged."""
    plain = wire.text(wire.part(one, "data"), _PLAIN)
    if plain:
        return Versioned(plain.encode(), wire.version_of(one))
    packed = wire.text(wire.part(one, "binaryData"), _PACKED)
    if not packed:
        return None
    return Versioned(unpacked(packed, wire.name_of(one)), wire.version_of(one))


def unpacked(packed: str, name: str) -> bytes:
    """What was packed by zlib, and written as base64. Raises ApiError."""
    try:
        reader = zlib.decompressobj()
        value = reader.decompress(base64.b64decode(packed, validate=True), MAX_UNPACKED_BYTES)
        if reader.eof:
            return value
    except (zlib.error, binascii.Error, ValueError):
        pass
    raise ApiError(f"ConfigMap {name}: expected what was written there, found it damaged") from None


class KubernetesRecord:
    """
    A `Record`.

    Args:
        client: Asks.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._name = client.named("record")

    async def read(self) -> Versioned | None:
        """By a read without a `resourceVersion`, which the API answers from etcd's quorum."""
        found = await self._client.get(CONFIG_MAPS, self._name)
        return read_back(found) if found is not None else None

    async def swap(self, value: bytes, expected: str) -> str:
        """Create it, or replace the version that it has; one that was emptied by hand counts for none."""
        fields = await asyncio.to_thread(written, value)
        try:
            if not expected:
                emptied = await self._client.get(CONFIG_MAPS, self._name)
                if emptied is None:
                    created = {"metadata": self._metadata()} | fields
                    return wire.version_of(await self._client.create(CONFIG_MAPS, created))
                if read_back(emptied) is not None:
                    raise Conflict("expected none, found one")
                expected = wire.version_of(emptied)
            metadata = self._metadata() | {"resourceVersion": expected}
            return wire.version_of(await self._client.replace(CONFIG_MAPS, {"metadata": metadata} | fields))
        except ApiError as error:
            if error.is_conflict or (error.is_absent and expected):
                raise Conflict(f"expected version {expected or 'none'}, found another") from None
            raise

    async def watch(self) -> AsyncGenerator[Versioned | Gone | Trouble, None]:
        """Each version that is not overtaken before it could be told."""
        told = ""
        async with aclosing(Changes(self._client, CONFIG_MAPS, name=self._name).follow()) as changes:
            async for change in changes:
                if isinstance(change, Trouble):
                    yield change
                    continue
                found = change.put if isinstance(change, Events) else change.found
                if not found and told:
                    told = ""
                    yield Gone()
                for one in found[-1:]:
                    # Listed again, it may be what it was.
                    if wire.version_of(one) == told:
                        continue
                    told = wire.version_of(one)
                    try:
                        yield read_back(one) or Gone()
                    except ApiError as error:
                        yield Trouble(str(error))

    def _metadata(self) -> dict[str, Any]:
        return {"name": self._name, "labels": {"app.kubernetes.io/managed-by": "sidecar"}}
