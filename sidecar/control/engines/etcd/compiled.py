"""
Compiled files in etcd, by hash: packed by zlib, and in parts, for one may be larger than what etcd takes.

A file is its parts, `compiled/HASH/PARTS/PART`; until all are there, there is none.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Collection, Mapping
from functools import partial
from typing import Final

from sidecar.control.engines.etcd import wire
from sidecar.control.engines.etcd.client import Client, each
from sidecar.control.engines.etcd.wire import KeyValue

PART_BYTES: Final = 1024 * 1024
MAX_PARTS: Final = 64
RECENT_S: Final = 60.0
"""What was kept so lately is not forgotten: the record that names it may be on its way."""


def pack(content: bytes) -> dict[str, bytes]:
    """Parts by the end of their key."""
    packed = zlib.compress(content, 6)
    count = max(1, -(-len(packed) // PART_BYTES))
    return {f"{count}/{index:04}": packed[index * PART_BYTES : (index + 1) * PART_BYTES] for index in range(count)}


def unpack(parts: Mapping[str, bytes]) -> bytes | None:
    """What was packed, if all of it is there."""
    for count in {int(name.partition("/")[0]) for name in parts if name.partition("/")[0].isdecimal()}:
        names = [f"{count}/{index:04}" for index in range(min(count, MAX_PARTS + 1))]
        if all(name in parts for name in names):
            try:
                return zlib.decompress(b"".join(parts[name] for name in names))
            except zlib.error:
                return None
    return None


class EtcdFiles:
    """
    A `Files`.

    Args:
        client: Asks.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._prefix = client.prefix + b"compiled/"

    async def keep(self, files: Mapping[str, bytes]) -> None:
        """
        Write each, also one that is there: with a new revision it is recent, and no other replica forgets it before the
        record that names it is written.
        """
        await each([partial(self._keep, key, content) for key, content in files.items()])

    async def fetch(self, key: str) -> bytes | None:
        """One of them."""
        prefix = self._prefix + key.encode() + b"/"
        found: list[KeyValue] = []
        while True:
            start = found[-1].key + b"\0" if found else prefix
            body = wire.range_of(start, wire.prefix_end(prefix), limit="2")
            answer = await self._client.call("/v3/kv/range", body)
            found += wire.key_values(answer)
            if not answer.get("more") or len(found) > 2 * MAX_PARTS:
                break
        parts = {one.key.removeprefix(prefix).decode("ascii", "replace"): one.value for one in found}
        return await asyncio.to_thread(unpack, parts)

    async def retain(self, keys: Collection[str]) -> None:
        """Forget all others, but for recent ones: those that were not there yet a minute ago, as far as we know."""
        body = wire.range_of(self._prefix, wire.prefix_end(self._prefix), keys_only=True)
        found = wire.key_values(await self._client.call("/v3/kv/range", body))
        # Revisions are the one clock that all replicas share.
        limit = self._client.revision_before(RECENT_S)
        wanted = {key.encode() for key in keys}
        newest: dict[bytes, int] = {}
        for one in found:
            key = one.key.removeprefix(self._prefix).partition(b"/")[0]
            newest[key] = max(newest.get(key, 0), one.mod_revision)
        old = [key for key, revision in newest.items() if key not in wanted and revision <= limit]
        await each([partial(self._forget, key, limit) for key in old])

    async def _keep(self, key: str, content: bytes) -> None:
        for name, piece in (await asyncio.to_thread(pack, content)).items():
            await self._client.call("/v3/kv/put", wire.put(self._prefix + f"{key}/{name}".encode(), piece))

    async def _forget(self, key: bytes, limit: int) -> None:
        # Only if nobody has kept it since.
        prefix = self._prefix + key + b"/"
        end = wire.prefix_end(prefix)
        body = wire.transaction([wire.is_before(prefix, end, limit + 1)], deletes=[wire.range_of(prefix, end)])
        await self._client.call("/v3/kv/txn", body)
