"""The engine `kubernetes`: its parts, and what must be so before it can work."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from sidecar.control.engines.interface import Discoverer, EngineError
from sidecar.control.engines.kubernetes.client import Client
from sidecar.control.engines.kubernetes.compiled import KubernetesFiles
from sidecar.control.engines.kubernetes.discover import KubernetesDiscoverer
from sidecar.control.engines.kubernetes.leases import KubernetesMover, KubernetesReplicas
from sidecar.control.engines.kubernetes.mesh import KubernetesMesh
from sidecar.control.engines.kubernetes.record import KubernetesRecord
from sidecar.control.engines.kubernetes.registrations import KubernetesRegistrations
from sidecar.control.engines.kubernetes.settings import KubernetesSettings
from sidecar.control.engines.kubernetes.wire import ApiError
from sidecar.control.engines.secrets.kubernetes import KubernetesAccounts, KubernetesSecrets
from sidecar.process_log import event

logger = logging.getLogger(__name__)


class KubernetesEngine:
    """
    Args:
        settings: Where the API is, and who we are to it.
        name: Of this replica.

    Attributes:
        client: Asks the API; open as long as the engine is.
    """

    name = "kubernetes"

    def __init__(self, settings: KubernetesSettings, name: str) -> None:
        self.client = self._client = Client(settings)
        self.mesh = KubernetesMesh(self._client)
        self.files = KubernetesFiles(self._client)
        self.registrations = KubernetesRegistrations(self._client)
        self.record = KubernetesRecord(self._client)
        self.secrets = KubernetesSecrets(self._client)
        self.accounts = KubernetesAccounts(self._client)
        self.mover = KubernetesMover(self._client, name)
        self.replicas = KubernetesReplicas(self._client)
        self.discoverers: Mapping[str, Discoverer] = {"kubernetes": KubernetesDiscoverer(self._client)}

    async def open(self) -> None:
        """
        Ask for the record. That the API does not answer is no error: a control plane waits for it.

        Raises:
            EngineError: It answers, and refuses; its certificate is not trusted; or our own files cannot be used.
        """
        try:
            await self._client.open()
            await self.record.read()
        except ApiError as error:
            if error.is_refusal or error.is_ours:
                await self._client.close()
                raise EngineError(str(error)) from None
            logger.warning(event("kubernetes_not_there_yet", error=error))
        except EngineError:
            await self._client.close()
            raise

    async def close(self) -> None:
        """Close every connection."""
        await self._client.close()
