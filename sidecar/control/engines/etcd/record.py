"""
The rollout record in etcd: one key, written if it still has the revision that reading it gave.

etcd takes 1.5 MB in one, and keeps each version until it is compacted. So what is long is packed by zlib; what is
short can be read by people, with `etcdctl get`.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from sidecar.control.engines.etcd import wire
from sidecar.control.engines.etcd.changes import Changes, Events
from sidecar.control.engines.etcd.client import Client
from sidecar.control.engines.etcd.wire import MAX_VALUE_BYTES, KeyValue
from sidecar.control.engines.interface import Conflict, Gone, Trouble, Unavailable, Versioned

LEGIBLE_BYTES: Final = 128 * 1024
MAX_UNPACKED_BYTES: Final = 64 * 1024 * 1024


def written(value: bytes) -> bytes:
    """What stands in the key for this record. Raises Unavailable: it is too long."""
    packed = value if len(value) <= LEGIBLE_BYTES else zlib.compress(value, 6)
    if len(packed) > MAX_VALUE_BYTES:
        raise Unavailable(f"the record takes {len(packed)} octets, and etcd at most {MAX_VALUE_BYTES} in one value")
    return packed


def read_back(one: KeyValue) -> Versioned:
    """The record that stands in the key; what is none is given as it is, for its reader to refuse."""
    value = one.value
    if value and not value.startswith(b"{"):
        reader = zlib.decompressobj()
        try:
            found = reader.decompress(value, MAX_UNPACKED_BYTES)
        except zlib.error:
            found = b""
        value = found if reader.eof else value
    return Versioned(value, str(one.mod_revision))


class EtcdRecord:
    """
    A `Record`.

    Args:
        client: Asks.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._key = client.prefix + b"record"

    async def read(self) -> Versioned | None:
        """By a linearizable read: no member answers it that may have missed a write."""
        found = wire.key_values(await self._client.call("/v3/kv/range", wire.range_of(self._key)))
        return await asyncio.to_thread(read_back, found[0]) if found else None

    async def swap(self, value: bytes, expected: str) -> str:
        """In one transaction, that is not tried at another member where it may have been done."""
        packed = await asyncio.to_thread(written, value)
        body = wire.transaction([wire.is_at(self._key, int(expected or 0))], puts=[wire.put(self._key, packed)])
        answer = await self._client.call("/v3/kv/txn", body, is_repeatable=False)
        if not wire.has_succeeded(answer):
            raise Conflict(f"expected version {expected or 'none'}, found another")
        return str(wire.revision(answer))

    async def watch(self) -> AsyncGenerator[Versioned | Gone | Trouble, None]:
        """Each version that is not overtaken before it could be told."""
        async with aclosing(Changes(self._client, self._key, is_prefix=False).follow()) as changes:
            told = ""
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
                    if str(one.mod_revision) != told:
                        told = str(one.mod_revision)
                        yield await asyncio.to_thread(read_back, one)
