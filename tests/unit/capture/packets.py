"""First packets of connections, judged by rules as the kernel does: the first of a chain that holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from sidecar.capture.conditions import Address, Condition, Here, Interface, NotTcp, Ports, Tcp, UnderWay, User
from sidecar.capture.rules import Chain, Rule


@dataclass(frozen=True)
class Packet:
    """
    Attributes:
        chain: Which way it goes.
        to, port: Where it goes.
        source: Where it comes from.
        user: Who sent it, if it is of this machine.
        interface: By which it comes or goes.
        is_tcp, is_first, is_here: What it is.
    """

    chain: Chain
    to: str
    port: int = 80
    source: str = "10.0.0.9"
    user: int = 1000
    interface: str = "eth0"
    is_tcp: bool = True
    is_first: bool = True
    is_here: bool = True


def led_to(rules: Sequence[Rule], packet: Packet) -> int | None:
    """The port that a connection is led to, or None."""
    for rule in rules:
        if rule.chain == packet.chain and all(_holds(one, packet) for one in rule.conditions):
            return rule.port
    return None


def _holds(condition: Condition, packet: Packet) -> bool:
    match condition:
        case NotTcp():
            return not packet.is_tcp
        case Tcp():
            return packet.is_tcp
        case UnderWay():
            return not packet.is_first
        case User(uid):
            return packet.user == uid
        case Interface(name, is_out):
            assert is_out == (packet.chain == "output")
            return packet.interface == name
        case Address(network, is_destination):
            return ip_address(packet.to if is_destination else packet.source) in network
        case Ports(first, last):
            return first <= packet.port <= last
        case Here():
            return packet.is_here
    raise AssertionError(condition)
