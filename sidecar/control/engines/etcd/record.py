"""The rollout record in etcd: one key, written if it still has the revision that reading it gave."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from sidecar.control.engines.etcd import wire
from sidecar.control.engines.etcd.changes import Changes, Events
from sidecar.control.engines.etcd.client import Client
from sidecar.control.engines.etcd.wire import MAX_VALUE_BYTES
from sidecar.control.engines.interface import Conflict, Gone, Trouble, Unavailable, Versioned


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
        return Versioned(found[0].value, str(found[0].mod_revision)) if found else None

    async def swap(self, value: bytes, expected: str) -> str:
        """In one transaction, that is not tried at another member where it may have been done."""
        if len(value) > MAX_VALUE_BYTES:
            raise Unavailable(f"the record takes {len(value)} octets, and etcd at most {MAX_VALUE_BYTES} in one value")
        body = wire.transaction([wire.is_at(self._key, int(expected or 0))], puts=[wire.put(self._key, value)])
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
                        yield Versioned(one.value, told)
