"""
What was told of endpoints, by upstream: kept from stream to stream, so that only what changes is told again. *Cold.*
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable, Mapping
from typing import Final

from sidecar.link.messages import MAX_UPSTREAMS, EndpointEntry, Endpoints, apply_endpoints, endpoints_version
from sidecar.net.address import Address, TcpAddress, parse_address
from sidecar.process_log import event
from sidecar.upstream.discovery.endpoint_set import EndpointSet

logger = logging.getLogger("sidecar.link")

MANY: Final = 200
"""Entries from which on a change is worked out in a thread: beside the data path a loop has other things to do."""


class KnownEndpoints:
    """
    Entries and versions by upstream.

    Args:
        known: From before, such as from the disk.
    """

    __slots__ = ("_doubted", "_entries", "_versions")

    def __init__(self, known: Mapping[str, Iterable[EndpointEntry]]) -> None:
        self._entries: dict[str, dict[str, EndpointEntry]] = {
            upstream: {entry.address: entry for entry in entries} for upstream, entries in known.items()
        }
        self._versions = {name: endpoints_version(entries.values()) for name, entries in self._entries.items()}
        self._doubted: set[str] = set()

    def __repr__(self) -> str:
        return f"<KnownEndpoints [Upstreams: {len(self._entries)} | Doubted: {len(self._doubted)}]>"

    def entries(self) -> dict[str, tuple[EndpointEntry, ...]]:
        """All that is known."""
        return {upstream: tuple(entries.values()) for upstream, entries in self._entries.items()}

    def versions(self) -> Mapping[str, str]:
        """Of what is in force."""
        return self._versions

    def wanted(self) -> dict[str, str]:
        """
        Versions to be named in a question, the largest upstreams first: who is not named is told all. Those of which a
        change did not fit are not named.
        """
        names = sorted(self._entries.keys() - self._doubted, key=lambda name: (-len(self._entries[name]), name))
        return {name: self._versions[name] for name in names}

    async def apply(self, change: Endpoints) -> EndpointSet | None:
        """
        The endpoints of an upstream after a change; None if it does not fit: what was known holds, and all of this
        upstream is to be asked for. Changes are to be applied one after the other.
        """
        upstream = change.upstream
        known = self._entries.get(upstream, {})
        entries = None
        if upstream in self._entries or len(self._entries) < MAX_UPSTREAMS:
            version = self._versions.get(upstream)
            if max(len(known), len(change.added)) < MANY:
                entries = apply_endpoints(known, change, version)
            else:
                entries = await asyncio.to_thread(apply_endpoints, known, change, version)
        if entries is None:
            self._doubted.add(upstream)
            return None
        self._doubted.discard(upstream)
        self._entries[upstream] = entries
        self._versions[upstream] = change.version
        return endpoint_set(upstream, entries.values())

    def keep(self, upstreams: Collection[str]) -> None:
        """Forget all others."""
        for upstream in self._entries.keys() - set(upstreams):
            del self._entries[upstream], self._versions[upstream]
        self._doubted &= set(upstreams)


def endpoint_set(upstream: str, entries: Iterable[EndpointEntry]) -> EndpointSet:
    """Entries as upstreams have them. One whose address this release does not understand is left out, and told."""
    weights: dict[Address, float] = {}
    zones: dict[Address, str] = {}
    tls: dict[Address, bool] = {}
    for entry in entries:
        try:
            address = parse_address(entry.address)
            if isinstance(address, TcpAddress) and not address.port:
                raise ValueError("expected a port from 1 to 65535")
        except ValueError as error:
            logger.warning(event("endpoint_left_out", upstream=upstream, address=entry.address, reason=str(error)))
            continue
        weights[address] = weights.get(address, 0.0) + entry.weight
        if entry.zone:
            zones[address] = entry.zone
        tls[address] = entry.is_tls or tls.get(address, False)
    return EndpointSet(weights, zones, tls)
