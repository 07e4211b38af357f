"""Some endpoints, as a source of them has them. *Cold, pure.*"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from sidecar.net.address import Address, parse_address

Listed = tuple[tuple[str, float, str], ...]
"""Address, weight and zone (empty if unknown) of each endpoint, in order."""


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

    def listed(self) -> Listed:
        """As plain values, for a message to another process."""
        return tuple((str(address), weight, self.zones.get(address, "")) for address, weight in self.weights.items())

    @classmethod
    def of(cls, listed: Listed) -> EndpointSet:
        """What `listed` made plain values of."""
        weights: dict[Address, float] = {}
        zones: dict[Address, str] = {}
        for text, weight, zone in listed:
            address = parse_address(text)
            weights[address] = weight
            if zone:
                zones[address] = zone
        return cls(weights, zones)


NO_ENDPOINTS = EndpointSet()
