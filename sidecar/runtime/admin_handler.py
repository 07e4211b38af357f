"""What stands behind a metrics or admin listener. *Cold.*"""

from __future__ import annotations

from sidecar.admin.endpoints import Endpoints
from sidecar.admin.hosts import AllowedHosts
from sidecar.admin.server import AdminServer
from sidecar.compile.listener_spec import ListenerSpec


class AdminConnectionHandler:
    """The connections of a metrics or admin listener."""

    __slots__ = ("_server", "protocol")

    def __init__(self, endpoints: Endpoints, spec: ListenerSpec) -> None:
        self._server = AdminServer(endpoints, AllowedHosts(spec.address, spec.hosts))
        self.protocol = self._server.protocol

    def update(self, spec: ListenerSpec) -> None:
        """The names by which it is called may be others."""
        self._server.hosts = AllowedHosts(spec.address, spec.hosts)

    def announce(self) -> None:
        """Nothing: whoever asks here wants to know how it is until the end."""

    def drain(self, patience_s: float = 0.0) -> None:
        """Idle connections close, answers that are on their way are given."""
        self._server.close_idle()

    def abort(self) -> None:
        """Close everything at once."""
        self._server.abort()
