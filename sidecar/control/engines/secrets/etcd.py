"""
What the authority keeps in etcd: a key each, written if it still has the revision that reading it gave.

Whoever may read the prefix reads the keys of the authority: docs/mesh-identity.md says which permission that is.
"""

from __future__ import annotations

from sidecar.control.engines.etcd import wire
from sidecar.control.engines.etcd.client import Client
from sidecar.control.engines.etcd.wire import MAX_VALUE_BYTES
from sidecar.control.engines.interface import Conflict, Unavailable, Versioned


class EtcdSecrets:
    """
    `Secrets`.

    Args:
        client: Asks.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    async def read(self, name: str) -> Versioned | None:
        """By a linearizable read."""
        found = wire.key_values(await self._client.call("/v3/kv/range", wire.range_of(self._key(name))))
        return Versioned(found[0].value, str(found[0].mod_revision)) if found else None

    async def swap(self, name: str, value: bytes, expected: str) -> str:
        """In one transaction, that is not tried at another member where it may have been done."""
        if len(value) > MAX_VALUE_BYTES:
            raise Unavailable(f"{name} takes {len(value)} octets, and etcd at most {MAX_VALUE_BYTES} in one value")
        key = self._key(name)
        body = wire.transaction([wire.is_at(key, int(expected or 0))], puts=[wire.put(key, value)])
        answer = await self._client.call("/v3/kv/txn", body, is_repeatable=False)
        if not wire.has_succeeded(answer):
            raise Conflict(f"expected version {expected or 'none'}, found another")
        return str(wire.revision(answer))

    def _key(self, name: str) -> bytes:
        return self._client.prefix + b"secrets/" + name.encode()
