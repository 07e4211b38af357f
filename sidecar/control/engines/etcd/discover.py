"""
Endpoints that others keep in etcd: the kind `etcd` of a mesh file's `instances`.

    instances: {all: {etcd: /endpoints/recommendations/}}

Every key that begins so is an endpoint; its value is JSON:

    {"address": "10.0.0.11:8080", "weight": 2, "zone": "eu-west-1a", "ready": true}

Only `address` must be there; other fields are not looked at. An address that two keys name counts with the sum of
their weights. A key that somebody deleted is a fact. One whose lease ended, too, looks the same to a watch, and is only
a silence of who kept it: so of a key with a lease it is asked whether the lease is still there. A value that cannot be
read is told with its key, and what the key said before holds.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, Final

from sidecar.control.engines.etcd import wire
from sidecar.control.engines.etcd.changes import Changes, Events, Snapshot
from sidecar.control.engines.etcd.client import Client
from sidecar.control.engines.etcd.wire import EtcdError, KeyValue
from sidecar.control.engines.interface import Sighted, Sighting, Trouble
from sidecar.link.fields import MessageError, decode, refusal
from sidecar.net.address import TcpAddress, parse_address

MAX_WEIGHT: Final = 1_000_000.0
_MAX_ZONE_CHARS: Final = 128


def read_endpoint(raw: bytes) -> Sighted:
    """Understand a value. Raises MessageError."""
    values = decode(raw)
    address = values.text("address")
    try:
        parsed = parse_address(address)
    except ValueError as error:
        raise MessageError(f"address: {error}") from None
    if not isinstance(parsed, TcpAddress) or not parsed.port:
        raise refusal("address", "an address such as 10.0.0.11:8080", address)
    weight = values.number("weight", 1.0)
    if weight > MAX_WEIGHT:
        raise refusal("weight", f"a number from 0 to {MAX_WEIGHT:g}", weight)
    return Sighted(address, weight, values.text("zone", "", _MAX_ZONE_CHARS), values.flag("ready", True))


class Endpoints:
    """
    The endpoints of one prefix. *Pure.*

    Attributes:
        problem: Of the values that cannot be read; empty for none.
    """

    def __init__(self) -> None:
        self._known: dict[bytes, Sighted] = {}
        self._problems: dict[bytes, str] = {}

    @property
    def problem(self) -> str:
        """The first value that cannot be read, and how many there are."""
        if not self._problems:
            return ""
        key, why = next(iter(sorted(self._problems.items())))
        more = f" (and {len(self._problems) - 1} more)" if len(self._problems) > 1 else ""
        return f"etcd: {key.decode('utf-8', 'replace')}: {why}{more}"

    def listed(self, found: tuple[KeyValue, ...]) -> Sighting:
        """These are all; nobody said where others went."""
        keys = {one.key for one in found}
        self._known = {key: one for key, one in self._known.items() if key in keys}
        self._problems.clear()
        self._read(found)
        return Sighting(self._endpoints())

    def changed(self, put: tuple[KeyValue, ...], deleted: tuple[bytes, ...], expired: tuple[bytes, ...]) -> Sighting:
        """These came or are other; these were deleted; these ended."""
        before = {one.address for one in self._known.values()}
        self._read(put)
        silent: set[str] = set()
        for key in (*deleted, *expired):
            self._problems.pop(key, None)
            gone = self._known.pop(key, None)
            if gone is not None and key in expired:
                silent.add(gone.address)
        endpoints = self._endpoints()
        return Sighting(endpoints, frozenset(before - {one.address for one in endpoints} - silent))

    def _read(self, pairs: tuple[KeyValue, ...]) -> None:
        for pair in pairs:
            try:
                self._known[pair.key] = read_endpoint(pair.value)
                self._problems.pop(pair.key, None)
            except MessageError as error:
                self._problems[pair.key] = str(error)

    def _endpoints(self) -> tuple[Sighted, ...]:
        found: dict[str, Sighted] = {}
        for _, one in sorted(self._known.items()):
            other = found.get(one.address)
            if other is not None:
                one = Sighted(
                    one.address, one.weight + other.weight, other.zone or one.zone, one.is_ready or other.is_ready
                )
            found[one.address] = one
        return tuple(found.values())


class EtcdDiscoverer:
    """
    A `Discoverer`.

    Args:
        client: Asks. The endpoints are in the same etcd, at any prefix that its user may read.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    async def follow(self, values: Mapping[str, Any]) -> AsyncGenerator[Sighting | Trouble, None]:
        """Endpoints at the prefix `values["key"]`."""
        endpoints = Endpoints()
        told = ""
        async with aclosing(Changes(self._client, str(values["key"]).encode()).follow()) as changes:
            async for change in changes:
                if isinstance(change, Trouble):
                    # That etcd answers again ends only what etcd did.
                    yield change if change.error else Trouble(told)
                    continue
                if isinstance(change, Snapshot):
                    yield endpoints.listed(change.found)
                else:
                    expired = await self._expired(change)
                    deleted = tuple(one.key for one in change.deleted if one.key not in expired)
                    yield endpoints.changed(change.put, deleted, expired)
                if endpoints.problem != told:
                    told = endpoints.problem
                    yield Trouble(told)

    async def _expired(self, change: Events) -> tuple[bytes, ...]:
        """Keys whose lease is gone, too, or of whose lease nothing can be learnt."""
        alive: dict[str, bool] = {"": True}
        for one in change.deleted:
            if one.lease not in alive:
                try:
                    answer = await self._client.call("/v3/lease/timetolive", {"ID": one.lease})
                    alive[one.lease] = wire.number(answer, "TTL") > 0
                except EtcdError:
                    alive[one.lease] = False
        return tuple(one.key for one in change.deleted if not alive[one.lease])
