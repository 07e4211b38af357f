"""
Certificates between a supervisor and its workers: to them what a control plane has signed, from them what it is to
be told of those that they have by themselves. *Cold.*

    message = "identity", the fields of `Material` in their order       to a worker
    message = "identity_failed", why                                     to a worker
    message = "certificate", the fields of `IdentityReport`, or none     to the supervisor

A key goes by a socket pair that nobody else has. What was told last is kept for workers that start later: they get it
before their first configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sidecar.workers.endpoints import Hearer

if TYPE_CHECKING:
    from sidecar.link.report import IdentityReport
    from sidecar.security.identity.certificates.credentials import Material


def report_of(told: Iterable[tuple[Any, ...]]) -> IdentityReport | None:
    """
    What a control plane is told of workers that have their certificates by themselves, from files or an agent.

    Of several the one that ends first, with what troubles it or else any other; None if there are to be none.

    Args:
        told: By each worker.
    """
    from sidecar.link.report import IdentityReport

    reports = [IdentityReport(*one) for one in told if one]
    if not reports:
        return None
    # Each follows the same files: who has none yet, or none any more, is told of by its trouble.
    held = [one for one in reports if one.not_after_s] or reports
    first = min(held, key=lambda one: one.not_after_s)
    troubles = [first.last_error, *(one.last_error for one in reports)]
    return replace(first, last_error=next(filter(None, troubles), ""))


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
