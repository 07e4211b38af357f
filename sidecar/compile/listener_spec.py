"""An address that a configuration wants open, and what is served there. *Cold, pure.*"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # A supervisor has listeners, too, and nothing of the data path.
    from sidecar.proxy.plan import Listener


class Role(Enum):
    """What is served at an address."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"
    METRICS = "metrics"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class ListenerSpec:
    """
    One address that the configuration wants open.

    Attributes:
        role: What is served there.
        address: As in the file; with the role, the identity across reloads.
        location: Where in the file it stands, such as `("inbound", "listen", 0)`.
        listener: The data path's part of it; None for metrics and admin.
        name: Of the app's port that it is, or empty.
        hosts: Of metrics and admin: by which names it may be called besides those of loopback.
        captures: Whether the kernel leads connections here that were meant for others.
    """

    role: Role
    address: str
    location: tuple[str | int, ...]
    listener: Listener | None = None
    name: str = ""
    hosts: tuple[str, ...] = ()
    captures: bool = False

    @property
    def key(self) -> tuple[Role, str]:
        """What makes two specs the same listener."""
        return self.role, self.address
