"""The engine `etcd`: its parts, and what must be so before it can work."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from sidecar.control.engines.etcd.client import Client
from sidecar.control.engines.etcd.compiled import EtcdFiles
from sidecar.control.engines.etcd.discover import EtcdDiscoverer
from sidecar.control.engines.etcd.leases import EtcdMover, EtcdReplicas
from sidecar.control.engines.etcd.mesh import EtcdMesh
from sidecar.control.engines.etcd.record import EtcdRecord
from sidecar.control.engines.etcd.registrations import EtcdRegistrations
from sidecar.control.engines.etcd.settings import EtcdSettings
from sidecar.control.engines.etcd.wire import EtcdError
from sidecar.control.engines.interface import Discoverer, EngineError
from sidecar.control.engines.secrets.etcd import EtcdSecrets
from sidecar.process_log import event

logger = logging.getLogger(__name__)


class EtcdEngine:
    """
    Args:
        settings: Where etcd is, and who we are to it.
        name: Of this replica.
    """

    name = "etcd"

    def __init__(self, settings: EtcdSettings, name: str) -> None:
        self._client = Client(settings)
        self.mesh = EtcdMesh(self._client)
        self.files = EtcdFiles(self._client)
        self.registrations = EtcdRegistrations(self._client)
        self.record = EtcdRecord(self._client)
        self.secrets = EtcdSecrets(self._client)
        self.accounts = None
        self.mover = EtcdMover(self._client, name)
        self.replicas = EtcdReplicas(self._client)
        self.discoverers: Mapping[str, Discoverer] = {"etcd": EtcdDiscoverer(self._client)}

    async def open(self) -> None:
        """
        Ask for the record. That etcd does not answer is no error: a control plane waits for it. (A certificate that is
        not trusted is told as no answer; it may be of one member only.)

        Raises:
            EngineError: It answers, and refuses: a wrong password, no permission; or our own files cannot be used.
        """
        await self._client.open()
        try:
            await self.record.read()
        except EtcdError as error:
            if not error.is_of_member:
                await self._client.close()
                raise EngineError(str(error)) from None
            logger.warning(event("etcd_not_there_yet", error=error))

    async def close(self) -> None:
        """Close every connection."""
        await self._client.close()
