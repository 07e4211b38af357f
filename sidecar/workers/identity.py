"""
What a control plane has signed, on its way from a supervisor, who asks for it once for all, to its workers. *Cold.*

    message = "identity", the fields of `Material` in their order
    message = "identity_failed", why

Its key goes by a socket pair that nobody else has. What was told last is kept for workers that start later: they get it
before their first configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from sidecar.workers.endpoints import Hearer

if TYPE_CHECKING:
    from sidecar.security.identity.certificates.credentials import Material


class GroupIdentity:
    """
    The `offered.Holder` of a supervisor.

    Args:
        hearers: The workers that there are.
    """

    __slots__ = ("_hearers", "_material", "_why")

    def __init__(self, hearers: Callable[[], Iterable[Hearer]]) -> None:
        self._hearers = hearers
        self._material: tuple[object, ...] = ()
        self._why = ""

    def __repr__(self) -> str:
        return f"<GroupIdentity [{'SOMETHING' if self._material else 'NOTHING'}]>"

    async def offer(self, material: Material) -> None:
        """As `Holder.offer`, in every worker."""
        self._material, self._why = tuple(getattr(material, name) for name in material.__slots__), ""
        for hearer in self._hearers():
            hearer.tell("identity", *self._material)

    def source_failed(self, text: str) -> None:
        """As `Holder.source_failed`, in every worker."""
        self._why = text
        for hearer in self._hearers():
            hearer.tell("identity_failed", text)

    def catch_up(self, hearer: Hearer) -> None:
        """Say to one that has just started what all others know."""
        if self._material:
            hearer.tell("identity", *self._material)
        if self._why:
            hearer.tell("identity_failed", self._why)
