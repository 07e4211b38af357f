"""
Our entry with the API, a MutatingWebhookConfiguration: in it stands whom the API is to believe (`caBundle`).

Whoever applies the configuration leaves that out, and who made it may be a tool that takes it away again; so it is
looked at as long as we run. Everything else in it is somebody's who applied it, and stays.
"""

from __future__ import annotations

import base64
import copy
import logging
from typing import Any, Final

from sidecar.control.engines.interface import Unavailable
from sidecar.control.engines.kubernetes import wire
from sidecar.control.engines.kubernetes.client import Client
from sidecar.control.engines.kubernetes.wire import WEBHOOKS, ApiError
from sidecar.process_log import event

logger = logging.getLogger(__name__)

_TRIES: Final = 5


class Registration:
    """
    Args:
        client: Asks.
        name: Of the configuration.
        service: Name of the Service in the client's namespace by which the API calls us.
    """

    def __init__(self, client: Client, name: str, service: str) -> None:
        self._client = client
        self._name = name
        self._service = service

    async def put(self, bundle: str) -> None:
        """
        Have the API believe these certificates, in PEM.

        Raises:
            Unavailable: There is no such configuration, none of its webhooks is ours, or the API does not take it.
        """
        written = base64.b64encode(bundle.encode()).decode()
        for _ in range(_TRIES):
            found = await self._client.get(WEBHOOKS, self._name)
            if found is None:
                raise Unavailable(
                    f"there is no MutatingWebhookConfiguration {self._name}; `sidecar mesh install` prints it"
                )
            webhooks = copy.deepcopy(wire.parts(found, "webhooks"))
            ours: list[Any] = [one["clientConfig"] for one in webhooks if self._is_ours(one)]
            if not ours:
                raise Unavailable(
                    f"no webhook of MutatingWebhookConfiguration {self._name} calls the service"
                    f" {self._client.namespace}/{self._service}"
                )
            if all(one.get("caBundle") == written for one in ours):
                return
            for one in ours:
                one["caBundle"] = written
            try:
                await self._client.replace(WEBHOOKS, {**found, "webhooks": webhooks})
            except ApiError as error:
                if not error.is_conflict:
                    raise
                continue
            logger.info(event("ca_bundle_written", configuration=self._name, webhooks=len(ours)))
            return
        raise Unavailable(f"others write MutatingWebhookConfiguration {self._name} all the time")

    def _is_ours(self, webhook: wire.Object) -> bool:
        service = wire.part(wire.part(webhook, "clientConfig"), "service")
        named = (wire.text(service, "namespace"), wire.text(service, "name"))
        return named == (self._client.namespace, self._service)
