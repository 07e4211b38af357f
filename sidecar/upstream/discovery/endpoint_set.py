"""Some endpoints, as a source of them has them. *Cold, pure.*"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from sidecar.net.address import Address


class Source(NamedTuple):
    """
    Where endpoints come from.

    Attributes:
        kind: `file`, whose `name` is its path, or `name`, which somebody tells the endpoints of.
        name: Of it.
    """

    kind: Literal["file", "name"]
    name: str

    def __str__(self) -> str:
        return f"file {self.name}" if self.kind == "file" else self.name


@dataclass(frozen=True, slots=True)
class EndpointSet:
    """
    Endpoints of one source at one moment.

    Attributes:
        weights: By address, in order; relative, not negative.
        zones: Of those addresses that are known to be somewhere.
    """

    weights: Mapping[Address, float] = field(default_factory=dict)
    zones: Mapping[Address, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.weights)


NO_ENDPOINTS = EndpointSet()
