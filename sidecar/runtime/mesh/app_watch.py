"""
The app as others see it: by which ports it is reached, and whether it is well. *Cold.*

Asked are the app's own ports, as the configuration in force has them; told are the listeners before them. Only who is
registered somewhere needs it, or whose file has `inbound.health_check`; for others nothing is asked.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from sidecar.compile.deserialize import shapes_of
from sidecar.compile.frames import Header, WantedListener
from sidecar.compile.listener_spec import Role
from sidecar.net.address import Address, TcpAddress, parse_address
from sidecar.process_log import event

if TYPE_CHECKING:
    from sidecar.config.model.root import Config
    from sidecar.link.app_health import AppHealth
    from sidecar.link.report import Health, Port

logger = logging.getLogger(__name__)

FIRST_PORT = "http"
"""Name of the app's port if nobody gives it one."""
_OF_THE_DATA_PATH = (Role.INBOUND.value, Role.OUTBOUND.value)
_OF_THE_MESH = ("permissive", "strict")
"""What listeners take (`WantedListener.tls`) at which other sidecars come by TLS."""
LOOPBACK = ("127.", "localhost", "::1")

Bound = Callable[[Role, str], str | None]
"""Where a listener really listens, by its role and its address in the file; None if it is not open."""


class AppWatch:
    """
    Args:
        bound: Finds listeners that are open.
        is_followed: A control plane is told how the app is, whatever the file says.

    Attributes:
        on_change: Called when the app's health is another.
    """

    def __init__(self, bound: Bound, *, is_followed: bool) -> None:
        self.on_change: Callable[[], None] = lambda: None
        self._bound = bound
        self._is_followed = is_followed
        self._listeners: tuple[WantedListener, ...] = ()
        self._checks: AppHealth | None = None
        self._has_app = False
        self._is_serving = False
        self._untold: set[str] = set()

    def update(self, header: Header, frames: Sequence[bytes]) -> None:
        """This configuration is in force."""
        config: Config = shapes_of(frames[1]).load(frames[2])
        self._listeners = tuple(one for one in header.listeners if one.role == Role.INBOUND.value and not one.captures)
        self._is_serving = any(one.role in _OF_THE_DATA_PATH for one in header.listeners)
        inbound = config.inbound
        apps: dict[str, Address] = {}
        if inbound is not None and (self._is_followed or inbound.health_check is not None):
            for name, listener in self._named():
                address = listener.app or (inbound.app.address if inbound.app is not None else None)
                if address is not None:
                    apps[name] = parse_address(address)
        self._has_app = bool(apps)
        if not apps and self._checks is None:
            return
        # Only here: most sidecars ask nobody, and need not have what asking takes.
        from sidecar.compile.policies import health_spec

        raw = [name for name, listener in self._named() if listener.protocol == "tcp"]
        self._checks_of_app().update(apps, health_spec(inbound.health_check if inbound is not None else None), raw)

    def health(self) -> Health:
        """Of the app; who has none is as well as can be."""
        if not self._has_app or self._checks is None:
            return "healthy" if self._is_serving or not self._is_followed else "starting"
        return self._checks.state

    def shown(self) -> tuple[bool, str]:
        """For `/app-health`: whether the app is well, and in words how it is."""
        if not self._has_app or self._checks is None:
            return False, "nobody asks the app how it is; `inbound.health_check` would"
        lines = [
            f"{name} {port.address} {port.state}" + (f": {port.problem}" if port.problem else "")
            for name, port in self._checks.ports().items()
        ]
        return self._checks.state == "healthy", "\n".join([self._checks.state, *lines])

    def ports(self, host: str, *, has_identity: bool = False) -> dict[str, Port]:
        """
        The listeners that are open before the app, by name, as others reach them at this host.

        Args:
            has_identity: Whether there is something to show to who comes by TLS.
        """
        from sidecar.link.report import Port

        found: dict[str, Port] = {}
        for name, listener in self._named():
            address = self._reachable(name, listener, host)
            if address is not None:
                found.setdefault(name, Port(address, listener.protocol, has_identity and listener.tls in _OF_THE_MESH))
        return found

    async def stop(self) -> None:
        """Ask no more."""
        if self._checks is not None:
            await self._checks.stop()

    def _named(self) -> list[tuple[str, WantedListener]]:
        found: dict[str, WantedListener] = {}
        for listener in self._listeners:
            found.setdefault(listener.name or FIRST_PORT, listener)
        return list(found.items())

    def _reachable(self, name: str, listener: WantedListener, host: str) -> str | None:
        bound = self._bound(Role.INBOUND, listener.address)
        where = parse_address(bound) if bound is not None else None
        if not isinstance(where, TcpAddress):
            return None
        if where.host.startswith(LOOPBACK) and not host.startswith(LOOPBACK):
            if name not in self._untold:
                self._untold.add(name)
                why = "it listens on loopback, where others do not reach it"
                logger.warning(event("port_not_registered", port=name, address=bound, reason=why))
            return None
        return f"[{host}]:{where.port}" if ":" in host else f"{host}:{where.port}"

    def _checks_of_app(self) -> AppHealth:
        from sidecar.link.app_health import AppHealth

        if self._checks is None:
            self._checks = AppHealth(lambda _: self.on_change())
        return self._checks
