"""A service while the rules look at it: how they report at its places, and what there is besides it. *Cold, pure.*"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass

from sidecar.config.check import Report
from sidecar.config.yaml.places import Location
from sidecar.mesh.mesh import Placed
from sidecar.mesh.model.service import Service


@dataclass(frozen=True, slots=True)
class Scope:
    """
    Reports at locations within one service.

    Attributes:
        placed: The service.
        report: Of its file.
    """

    placed: Placed
    report: Report

    @property
    def name(self) -> str:
        """Of the service."""
        return self.placed.name

    @property
    def service(self) -> Service:
        """What it says."""
        return self.placed.service

    def __call__(
        self, location: Location, message: str, hint: str = "", *, at_key: bool = False, rule: str = ""
    ) -> None:
        """Report at a location of the service; at its name if that is empty."""
        here = (*self.placed.at, *location)
        if not location:
            here, at_key = (self.placed.at, True) if self.placed.at else (("service",), False)
        self.report(here, message, hint, at_key=at_key, rule=rule)

    def where(self, *location: int | str, at_key: bool = True) -> str:
        """`file:line` of a location, to be named by a problem that is elsewhere."""
        return str(self.placed.mark(*location, at_key=at_key))


@dataclass(frozen=True, slots=True)
class Others:
    """
    What a service may name of the rest.

    Attributes:
        services: By name, as far as they were understood.
        unread: Names that files may have which could not be understood: nothing is said about these.
        access: Of the mesh.
        hosts: Which service each host belongs to.
    """

    services: Mapping[str, Service]
    unread: Set[str]
    access: str
    hosts: Mapping[str, str]
