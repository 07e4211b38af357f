"""
Discovered names on their way from a supervisor to its workers. *Cold.*

    message = "endpoints", name, EndpointSet.listed()

What was told last of each name is kept for workers that start later: they get it before their first configuration, so
that no upstream of theirs waits for an answer that is known here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    # Whoever tells has made it; a supervisor that nobody tells anything has nothing of the data path.
    from sidecar.upstream.discovery.endpoint_set import EndpointSet


class Hearer(Protocol):
    """A worker as its supervisor sees it."""

    def tell(self, name: str, *values: object) -> None:
        """Say what needs no answer; one that has ended does not hear it."""


class GroupEndpoints:
    """
    The `EndpointSink` of a supervisor.

    Args:
        hearers: The workers that there are.
    """

    __slots__ = ("_hearers", "_told")

    def __init__(self, hearers: Callable[[], Iterable[Hearer]]) -> None:
        self._hearers = hearers
        self._told: dict[str, EndpointSet] = {}

    def __repr__(self) -> str:
        return f"<GroupEndpoints [Told: {len(self._told)}]>"

    def tell(self, name: str, found: EndpointSet) -> None:
        """As `EndpointSink.tell`, in every worker."""
        if self._told.get(name) == found:
            return
        self._told[name] = found
        listed = found.listed()
        for hearer in self._hearers():
            hearer.tell("endpoints", name, listed)

    def catch_up(self, hearer: Hearer) -> None:
        """Say to one that has just started what all others know."""
        for name, found in self._told.items():
            hearer.tell("endpoints", name, found.listed())
