"""
The mesh's roots where pods can mount them: a ConfigMap in each namespace whose pods are injected. *On the loop.*

A pod mounts what is in its own namespace. Whoever labels a namespace (`sidecar.mesh/inject: enabled`) need not copy the
roots there, nor again when they change. A ConfigMap of this name that somebody else made stays as it is.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from sidecar.control.engines.kubernetes import wire
from sidecar.control.engines.kubernetes.client import MERGE, Client
from sidecar.control.engines.kubernetes.wire import CONFIG_MAPS, NAMESPACES, ApiError
from sidecar.process_log import event

logger = logging.getLogger(__name__)

LOOK_PERIOD_S: Final = 5.0
"""A pod that waits for the ConfigMap is looked at again by its kubelet after a minute or two at most."""
RETRY_S: Final = 1.0
"""Between looks while there is no authority yet."""
KEY: Final = "roots.pem"
SELECTOR: Final = "sidecar.mesh/inject=enabled"
_OURS: Final = {"app.kubernetes.io/managed-by": "sidecar"}
_PAGE: Final = 500


class PublishedRoots:
    """
    Args:
        client: Asks; open.
        name: Of the ConfigMaps.
        roots: In PEM, whom the mesh believes now; empty: nobody yet.
    """

    def __init__(self, client: Client, name: str, roots: Callable[[], str]) -> None:
        self._client = client
        self._name = name
        self._roots = roots
        self._told: dict[str, str] = {}

    async def run(self) -> None:
        """Look, now and then; never ends."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_PERIOD_S if self._roots() else RETRY_S)

    async def look(self) -> None:
        """Once: write what is missing or old. What fails is told when it begins, and when it is over."""
        roots = self._roots()
        if not roots:
            return
        try:
            found, _ = await self._client.list(NAMESPACES, labels=SELECTOR, page=_PAGE)
            names = [wire.name_of(one) for one in found]
            self._tell("", "")
        except ApiError as error:
            self._tell("", str(error))
            return
        for name in names:
            try:
                await self._publish(name, roots)
            except ApiError as error:
                self._tell(name, str(error))

    async def _publish(self, namespace: str, roots: str) -> None:
        path = CONFIG_MAPS.path(namespace, self._name)
        try:
            there = await self._client.call("GET", path)
        except ApiError as error:
            if not error.is_absent:
                raise
            await self._create(namespace, roots)
            return
        if wire.text(wire.part(there, "data"), KEY) == roots:
            self._tell(namespace, "")
            return
        labels = wire.part(wire.part(there, "metadata"), "labels")
        if any(labels.get(key) != value for key, value in _OURS.items()):
            why = f"ConfigMap {self._name} has other roots, and is not ours: delete it, or keep it current"
            self._tell(namespace, why)
            return
        await self._client.call("PATCH", path, body={"data": {KEY: roots}}, content_type=MERGE)
        self._is_written(namespace)

    async def _create(self, namespace: str, roots: str) -> None:
        values = {
            "apiVersion": CONFIG_MAPS.version,
            "kind": CONFIG_MAPS.name,
            "metadata": {"name": self._name, "labels": _OURS},
            "data": {KEY: roots},
        }
        try:
            await self._client.call("POST", CONFIG_MAPS.path(namespace), body=values)
        except ApiError as error:
            # Another replica was faster, or the namespace is gone: the next look sees which.
            if not (error.is_conflict or error.is_absent):
                raise
            return
        self._is_written(namespace)

    def _is_written(self, namespace: str) -> None:
        self._tell(namespace, "")
        logger.info(event("roots_published", namespace=namespace, configmap=self._name))

    def _tell(self, namespace: str, why: str) -> None:
        if self._told.get(namespace, "") == why:
            return
        self._told[namespace] = why
        if why:
            logger.error(event("roots_not_published", namespace=namespace or None, why=why))
        else:
            logger.info(event("roots_published_again", namespace=namespace or None))
