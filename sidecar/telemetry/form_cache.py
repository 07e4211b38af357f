"""
What comes with many requests, in the forms in which lines and spans write it. *Hot path: the lookups.*

Each kind is bounded and begins anew when it is full: peers come and go, and an attacker may invent authorities.
"""

from __future__ import annotations

import time
from typing import Final, cast

from sidecar.exchange import Direction
from sidecar.message import Kind, RequestHead
from sidecar.telemetry import json_text
from sidecar.telemetry.traces.spans import Agent, Authority, Call, Destination, Peer, Port

MAX_CACHED: Final = 4096  # of each kind

_USER_AGENT: Final = Kind.USER_AGENT


class FormCache:
    """
    Look up, else make: `known.seconds.get(second) or known.new_second(second)`.

    Attributes:
        seconds: `2026-01-31T12:00:00` by seconds since the Unix epoch.
        peers: By direction, then address.
        destinations: By direction, then the endpoint's label.
        authorities: By host and port.
        ports: The client's, by number.
        calls: What gRPC calls, by path.
    """

    __slots__ = ("authorities", "calls", "destinations", "peers", "ports", "seconds")

    def __init__(self) -> None:
        self.seconds: dict[int, bytes] = {}
        self.peers: tuple[dict[str, Peer], dict[str, Peer]] = ({}, {})
        self.destinations: tuple[dict[str, Destination], dict[str, Destination]] = ({}, {})
        self.authorities: dict[tuple[bytes, int | None], Authority] = {}
        self.ports: dict[int, Port] = {}
        self.calls: dict[bytes, Call] = {}

    def new_second(self, second: int) -> bytes:
        """Make and remember the text of a second."""
        if len(self.seconds) >= MAX_CACHED:
            self.seconds.clear()
        text = self.seconds[second] = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()
        return text

    def new_peer(self, address: str, direction: Direction) -> Peer:
        """Make and remember a client."""
        known = self.peers[direction]
        if len(known) >= MAX_CACHED:
            known.clear()
        peer = known[address] = Peer(address, direction)
        return peer

    def new_port(self, number: int) -> Port:
        """Make and remember a client's port."""
        if len(self.ports) >= MAX_CACHED:
            self.ports.clear()
        port = self.ports[number] = Port(number)
        return port

    def new_destination(self, label: str, direction: Direction) -> Destination:
        """Make and remember an endpoint."""
        known = self.destinations[direction]
        if len(known) >= MAX_CACHED:
            known.clear()
        destination = known[label] = Destination(label, direction)
        return destination

    def new_authority(self, head: RequestHead) -> Authority:
        """Make and remember what a request names."""
        if len(self.authorities) >= MAX_CACHED:
            self.authorities.clear()
        authority = self.authorities[head.host, head.port] = Authority(head.host, head.port)
        return authority

    def new_call(self, path: bytes) -> Call:
        """Make and remember what is called."""
        if len(self.calls) >= MAX_CACHED:
            self.calls.clear()
        call = self.calls[path] = Call(path)
        return call


def target_of(head: RequestHead) -> bytes:
    """Path and query as a JSON string."""
    if not head.is_plain:
        return json_text.quote(head.path if head.query is None else b"%b?%b" % (head.path, head.query))
    return b'"%b"' % head.path if head.query is None else b'"%b?%b"' % (head.path, head.query)


def agent_of(head: RequestHead) -> Agent | None:
    """Who the client says it is; kept in the note of the field, which comes again."""
    if not head.kinds & _USER_AGENT:
        return None
    for field in head.fields:
        if field.kind & _USER_AGENT:
            note = field.note
            if note is None:
                note = field.note = Agent(field.value)
            return cast(Agent, note)  # nobody else writes the note of this kind
    return None
