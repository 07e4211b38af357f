"""
What comes with many requests, in the forms in which lines and spans write it. *Hot path: the lookups.*

Each kind is bounded and begins anew when it is full: peers come and go, and an attacker may invent authorities.
"""

from __future__ import annotations

import time
from typing import Final

from sidecar.exchange import Direction
from sidecar.message import RequestHead
from sidecar.telemetry.spans import Authority, Destination, Peer, Port

MAX_REMEMBERED: Final = 4096  # of each kind


class Remembered:
    """
    Look up, else make: `known.seconds.get(second) or known.new_second(second)`.

    Attributes:
        seconds: `2026-01-31T12:00:00` by seconds since the Unix epoch.
        peers: By direction, then address.
        destinations: By direction, then the endpoint's label.
        authorities: By host and port.
        ports: The client's, by number.
    """

    __slots__ = ("authorities", "destinations", "peers", "ports", "seconds")

    def __init__(self) -> None:
        self.seconds: dict[int, bytes] = {}
        self.peers: tuple[dict[str, Peer], dict[str, Peer]] = ({}, {})
        self.destinations: tuple[dict[str, Destination], dict[str, Destination]] = ({}, {})
        self.authorities: dict[tuple[bytes, int | None], Authority] = {}
        self.ports: dict[int, Port] = {}

    def new_second(self, second: int) -> bytes:
        """Make and remember the text of a second."""
        if len(self.seconds) >= MAX_REMEMBERED:
            self.seconds.clear()
        text = self.seconds[second] = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()
        return text

    def new_peer(self, address: str, direction: Direction) -> Peer:
        """Make and remember a client."""
        known = self.peers[direction]
        if len(known) >= MAX_REMEMBERED:
            known.clear()
        peer = known[address] = Peer(address, direction)
        return peer

    def new_port(self, number: int) -> Port:
        """Make and remember a client's port."""
        if len(self.ports) >= MAX_REMEMBERED:
            self.ports.clear()
        port = self.ports[number] = Port(number)
        return port

    def new_destination(self, label: str, direction: Direction) -> Destination:
        """Make and remember an endpoint."""
        known = self.destinations[direction]
        if len(known) >= MAX_REMEMBERED:
            known.clear()
        destination = known[label] = Destination(label, direction)
        return destination

    def new_authority(self, head: RequestHead) -> Authority:
        """Make and remember what a request names."""
        if len(self.authorities) >= MAX_REMEMBERED:
            self.authorities.clear()
        authority = self.authorities[head.host, head.port] = Authority(head.host, head.port)
        return authority
