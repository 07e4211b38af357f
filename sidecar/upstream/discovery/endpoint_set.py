"""Some endpoints, as a source of them has them. *Cold, pure.*"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from sidecar.net.address import Address, parse_address

Listed = tuple[tuple[str, float, str, bool | None], ...]
"""Address, weight, zone (empty if unknown) and what is said of TLS (None: nothing) of each endpoint, in order."""


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
        tls: Of those addresses of which it is said: whether they are to be spoken to by TLS. What comes of it:
            `ClusterSpec.is_tls`.
    """

    weights: Mapping[Address, float] = field(default_factory=dict)
    zones: Mapping[Address, str] = field(default_factory=dict)
    tls: Mapping[Address, bool] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.weights)

    def in_clear(self) -> EndpointSet:
        """The same, none of which is to be spoken to by TLS."""
        return replace(self, tls=dict.fromkeys(self.weights, False))

    def listed(self) -> Listed:
        """As plain values, for a message to another process."""
        zones, tls = self.zones, self.tls
        return tuple(
            (str(address), weight, zones.get(address, ""), tls.get(address)) for address, weight in self.weights.items()
        )

    @classmethod
    def of(cls, listed: Listed) -> EndpointSet:
        """What `listed` made plain values of."""
        weights: dict[Address, float] = {}
        zones: dict[Address, str] = {}
        tls: dict[Address, bool] = {}
        for text, weight, zone, is_tls in listed:
            address = parse_address(text)
            weights[address] = weight
            if zone:
                zones[address] = zone
            if is_tls is not None:
                tls[address] = is_tls
        return cls(weights, zones, tls)


NO_ENDPOINTS = EndpointSet()
