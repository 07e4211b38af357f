"""
Registrations in Kubernetes: a ConfigMap each.

Ten thousand of them in shared ConfigMaps would be ten shards of 400 KiB, each written whole, and sent whole to every
replica, for every instance that comes or goes, with replicas in each other's way; a ConfigMap each is 1 KiB at a time
and nobody's but its own. A registration is written when it changes, never to say that it still holds; so a quiet mesh
writes nothing, and what a rollout of a Deployment writes is what its pods' own objects cost anyway.

None has an owner or an end: Kubernetes would collect it with its pod, and of who is in doubt `control.doubt` judges
alone. What a watch brings as deleted is a goodbye; what is missing after all had to be listed again is not.

That somebody has ever registered is a ConfigMap of its own, by which a mesh without registrations is told apart from a
namespace that is new, or was emptied. One that lost everything while we followed it says nothing of anybody: what was
there has vanished, and each replica writes what it holds again.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import Any, Final

from sidecar.control.engines.interface import Registration, RegistrationChange, Trouble
from sidecar.control.engines.kubernetes import wire
from sidecar.control.engines.kubernetes.changes import Changes, Snapshot
from sidecar.control.engines.kubernetes.client import Client
from sidecar.control.engines.kubernetes.wire import CONFIG_MAPS, ApiError, Object
from sidecar.control.engines.registration_text import read_registration, registration_values
from sidecar.link.fields import MessageError, decode, encode
from sidecar.process_log import event

logger = logging.getLogger(__name__)

LABEL: Final = "sidecar.mesh/registrations"
INSTANCE: Final = "sidecar.mesh/instance"
_DATA: Final = "registration"


class KubernetesRegistrations:
    """
    A `Registrations`.

    Args:
        client: Asks.
    """

    unwritten = None
    """What was taken is written."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._mark = client.named("registrations")
        self._has_begun = False
        self._there: dict[str, str] = {}

    async def put(self, registration: Registration) -> None:
        """Write it; after the first one, also that somebody has."""
        name = self._name(registration.instance)
        values = self._object(name, {INSTANCE: registration.instance})
        values["data"] = {_DATA: encode(registration_values(registration)).decode()}
        await self._client.put(CONFIG_MAPS, values, is_there=name in self._there)
        self._there[name] = registration.instance
        if not self._has_begun:
            await self._client.put(CONFIG_MAPS, self._object(self._mark, {}), is_there=False)
            self._has_begun = True

    async def remove(self, instance: str) -> None:
        """Delete it."""
        name = self._name(instance)
        await self._client.delete(CONFIG_MAPS, name)
        self._there.pop(name, None)

    async def watch(self) -> AsyncGenerator[RegistrationChange | Trouble, None]:
        """All, then changes; ours come back, too."""
        selector = f"{LABEL}={self._client.mesh}"
        async with aclosing(Changes(self._client, CONFIG_MAPS, labels=selector).follow()) as changes:
            async for change in changes:
                if isinstance(change, Trouble):
                    yield change
                elif isinstance(change, Snapshot):
                    names = {wire.name_of(one): _instance(one) for one in change.found}
                    # A namespace that is new, or was emptied: the next registration says so anew.
                    self._has_begun = self._mark in names
                    were_there, self._there = tuple(filter(None, self._there.values())), names
                    if change.found:
                        yield RegistrationChange(self._read(change.found), is_snapshot=True)
                    elif were_there:
                        logger.error(event("registrations_vanished", instances=len(were_there)))
                        yield RegistrationChange(vanished=were_there)
                else:
                    self._there |= {wire.name_of(one): _instance(one) for one in change.put}
                    for one in change.deleted:
                        self._there.pop(wire.name_of(one), None)
                    put = self._read(change.put)
                    left = tuple(filter(None, map(_instance, change.deleted)))
                    if put or left:
                        yield RegistrationChange(put, left)

    def _name(self, instance: str) -> str:
        return self._client.named("registered", instance)

    def _object(self, name: str, annotations: dict[str, str]) -> dict[str, Any]:
        labels = {LABEL: self._client.mesh, "app.kubernetes.io/managed-by": "sidecar"}
        return {"metadata": {"name": name, "labels": labels, "annotations": annotations}}

    def _read(self, found: Iterable[Object]) -> tuple[Registration, ...]:
        read: list[Registration] = []
        for one in found:
            if wire.name_of(one) == self._mark:
                continue
            try:
                registration = read_registration(decode(wire.text(wire.part(one, "data"), _DATA).encode()))
                if registration.instance != _instance(one):
                    raise MessageError(f"instance: expected {_instance(one)!r}, found {registration.instance!r}")
            except (MessageError, ApiError) as error:
                # One that nobody can read leaves the others alone; what was known of it holds.
                logger.error(event("registration_damaged", configmap=wire.name_of(one), error=error))
                continue
            read.append(registration)
        return tuple(read)


def _instance(one: Object) -> str:
    try:
        return wire.text(wire.part(wire.part(one, "metadata"), "annotations"), INSTANCE)
    except ApiError:
        return ""
