"""
Compiled files in etcd, by hash: packed by zlib, and in parts, for one may be larger than what etcd takes.

    HASH/PARTS/PART    the parts
    HASH/kept          written with the last part, so that it says that all are there; and again by who needs the file

A file is forgotten if no record names it and nobody has needed it for a minute: then the record that names it may be on
its way. How long ago something was written is told by revisions, the one clock that all replicas share: each replica
knows what the store's revision was at some moments of its own time.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Collection, Iterable, Mapping
from functools import partial
from typing import Final

from sidecar.control.engines.etcd import wire
from sidecar.control.engines.etcd.client import Client
from sidecar.control.engines.etcd.wire import KeyValue
from sidecar.control.engines.exchange import each

PART_BYTES: Final = 1024 * 1024
MAX_PARTS: Final = 64
RECENT_S: Final = 60.0
"""What was needed so lately is not forgotten."""
FRESH_S: Final = 20.0
"""What was needed so lately need not be written again: there is the rest of `RECENT_S` to write the record in."""
MAX_BATCH_BYTES: Final = 512 * 1024
_KEPT: Final = "kept"


def pack(content: bytes) -> dict[str, bytes]:
    """Parts by the end of their key."""
    packed = zlib.compress(content, 6)
    count = max(1, -(-len(packed) // PART_BYTES))
    return {f"{count}/{index:04}": packed[index * PART_BYTES : (index + 1) * PART_BYTES] for index in range(count)}


def batches(puts: Iterable[Mapping[str, bytes]]) -> list[dict[str, bytes]]:
    """Groups of writes for one transaction each; none is divided."""
    found: list[dict[str, bytes]] = []
    total = 0
    for one in puts:
        size = sum(map(len, one.values()))
        if not found or len(found[-1]) + len(one) > wire.MAX_OPS or total + size > MAX_BATCH_BYTES:
            found.append({})
            total = 0
        found[-1].update(one)
        total += size
    return found


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


def _pack_all(files: Mapping[str, bytes]) -> dict[str, dict[str, bytes]]:
    return {key: pack(content) for key, content in files.items()}


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
        """Write those that are not there, and say of the others that they are needed."""
        there = await self._kept()
        since = self._client.revision_since(FRESH_S)
        new = {key: files[key] for key in files if key not in there}
        packed = await asyncio.to_thread(_pack_all, new)
        puts: list[dict[str, bytes]] = []
        for key, parts in packed.items():
            *large, last = ({f"{key}/{name}": piece} for name, piece in parts.items())
            for piece in large:
                await self._write(piece)
            puts.append(last | {f"{key}/{_KEPT}": b""})
        puts += ({f"{key}/{_KEPT}": b""} for key, at in there.items() if key in files and not 0 < since < at)
        await each([partial(self._write, batch) for batch in batches(puts)])

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
        """Forget all others that nobody needed lately."""
        limit = self._client.revision_before(RECENT_S)
        kept = await self._kept()
        wanted = set(keys)
        old = [key for key, at in kept.items() if key not in wanted and at <= limit]
        await each([partial(self._forget, key, limit) for key in old])

    async def _kept(self) -> dict[str, int]:
        """Hashes of what is there, and the revision at which each was needed last."""
        found: dict[str, int] = {}
        end = wire.prefix_end(self._prefix)
        body = wire.range_of(self._prefix, end, keys_only=True)
        for one in wire.key_values(await self._client.call("/v3/kv/range", body)):
            key, _, name = one.key.removeprefix(self._prefix).decode("utf-8", "replace").partition("/")
            if name == _KEPT:
                found[key] = one.mod_revision
        return found

    async def _write(self, pieces: Mapping[str, bytes]) -> None:
        puts = [wire.put(self._prefix + name.encode(), piece) for name, piece in pieces.items()]
        await self._client.call("/v3/kv/txn", wire.transaction([], puts=puts))

    async def _forget(self, key: str, limit: int) -> None:
        # Only if nobody has needed it since.
        prefix = self._prefix + f"{key}/".encode()
        end = wire.prefix_end(prefix)
        body = wire.transaction([wire.is_before(prefix, end, limit + 1)], deletes=[wire.range_of(prefix, end)])
        await self._client.call("/v3/kv/txn", body)
