"""What people write of ports and networks: `5432,8000-8100,10.0.0.0/8,2001:db8::/32`. *Pure.*"""

from __future__ import annotations

from ipaddress import ip_network

from sidecar.capture.conditions import Network
from sidecar.capture.rules import PortRange

_MAX_PORT = 65535


def parse_ports(value: str) -> tuple[PortRange, ...]:
    """
    A list of ports and ranges of them.

    Raises:
        ValueError: A part is none, and which.
    """
    return tuple(_ports(part) for part in _parts(value))


def parse_exclusions(value: str) -> tuple[tuple[PortRange, ...], tuple[Network, ...]]:
    """
    A list of ports, ranges of ports, addresses and networks: the ports, and the networks.

    Raises:
        ValueError: A part is none of them, and which.
    """
    ports: list[PortRange] = []
    networks: list[Network] = []
    for part in _parts(value):
        if "." in part or ":" in part:
            networks.append(_network(part))
        else:
            ports.append(_ports(part))
    return tuple(ports), tuple(networks)


def _parts(value: str) -> list[str]:
    return [part for part in (piece.strip() for piece in value.split(",")) if part]


def _ports(part: str) -> PortRange:
    first, dash, last = part.partition("-")
    last = last if dash else first
    if not all(text.isascii() and text.isdigit() for text in (first, last)):
        raise ValueError(f"expected a port such as 5432, or a range such as 8000-8100, found {part!r}")
    found = int(first), int(last)
    if not 0 < found[0] <= found[1] <= _MAX_PORT:
        raise ValueError(f"expected ports from 1 to {_MAX_PORT}, the lower one first, found {part!r}")
    return found


def _network(part: str) -> Network:
    try:
        return ip_network(part)
    except ValueError as error:
        raise ValueError(f"expected a network such as 10.0.0.0/8, found {part!r}: {error}") from None
