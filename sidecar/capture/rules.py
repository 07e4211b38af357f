"""
Which connections are led to the sidecar and which are left alone, rule after rule, each with its reason. *Pure.*

    outgoing, of this machine's processes        incoming, from other machines
    other protocols than TCP      alone          other protocols than TCP      alone
    the proof's port              captured       by the loopback interface     alone
    the sidecar's own user        alone          under way already             alone
    other users that are named    alone          the sidecar's ports, 22       alone
    by the loopback interface     alone          ports, networks that are named  alone
    under way already             alone          all else, or the named ports  captured
    the sidecar's ports, 22, 53   alone
    metadata of the platform      alone
    ports, networks that are named  alone
    all else                      captured

The first that holds decides. The proof's port stands before the exemption of the sidecar's user, so that the sidecar
itself can see whether it is led away; nothing else of its own ever comes back to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Final, Literal

from sidecar.capture.conditions import (
    Address,
    Condition,
    Family,
    Here,
    Interface,
    Network,
    NotTcp,
    Ports,
    Tcp,
    UnderWay,
    User,
)
from sidecar.net.original_destination import PROOF_HOSTS, PROOF_PORT

Chain = Literal["output", "prerouting"]

SIDECAR_USER: Final = 1337
"""Whose connections go where they were meant to; as Istio's and App Mesh's."""
OUTBOUND_PORT: Final = 15001
INBOUND_PORT: Final = 15006

PortRange = tuple[int, int]
"""First and last."""

OWN_PORTS: Final[tuple[PortRange, ...]] = ((15000, 15021),)
"""Listeners of sidecars and of control planes: other parts of the mesh dial them as what they are."""
SSH: Final[PortRange] = (22, 22)
DNS: Final[PortRange] = (53, 53)
METADATA: Final[tuple[Network, ...]] = tuple(
    map(ip_network, ("169.254.0.0/16", "fe80::/10", "fd00:ec2::/32", "100.100.100.200/32", "168.63.129.16/32"))
)
"""Link-local addresses, and where platforms answer questions about the machine: Amazon's, Alibaba's, Azure's."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """
    What is to be captured.

    Attributes:
        outbound_port: Where outgoing connections are led.
        inbound_port: Where incoming ones are led.
        user: The sidecar's own.
        inbound_ports: Only these of the incoming; None: all but what is left alone. What a machine forwards is not
            taken where they are named.
        alone_ports, alone_networks, alone_users: Of outgoing connections, besides what always is.
        alone_inbound_ports, alone_inbound_networks: Of incoming ones; networks are where they come from.
    """

    outbound_port: int = OUTBOUND_PORT
    inbound_port: int = INBOUND_PORT
    user: int = SIDECAR_USER
    inbound_ports: tuple[PortRange, ...] | None = None
    alone_ports: tuple[PortRange, ...] = ()
    alone_networks: tuple[Network, ...] = ()
    alone_users: tuple[int, ...] = ()
    alone_inbound_ports: tuple[PortRange, ...] = ()
    alone_inbound_networks: tuple[Network, ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """
    Attributes:
        chain: `output` or `prerouting`.
        conditions: All must hold.
        port: To which a connection is led; None: it is left alone.
        why: In a few words, which the kernel keeps beside it.
    """

    chain: Chain
    conditions: tuple[Condition, ...]
    port: int | None
    why: str

    @property
    def family(self) -> Family | None:
        """Of packets that it can hold for; None for both."""
        return next((one.family for one in self.conditions if one.family is not None), None)


def rules_of(wanted: Wanted) -> tuple[Rule, ...]:
    """All rules in order, by chain."""
    return (*_outgoing(wanted), *_incoming(wanted))


def _outgoing(wanted: Wanted) -> Iterator[Rule]:
    def alone(why: str, *conditions: Condition) -> Rule:
        return Rule("output", conditions, None, why)

    yield alone("not TCP", NotTcp())
    for address in map(ip_address, PROOF_HOSTS):
        to = Address(ip_network(address))
        yield Rule("output", (to, Ports(PROOF_PORT, PROOF_PORT)), wanted.outbound_port, "the proof")
    for user in dict.fromkeys((wanted.user, *wanted.alone_users)):
        yield alone("the sidecar's own" if user == wanted.user else "a user that is excluded", User(user))
    yield alone("loopback", Interface("lo", is_out=True))
    yield alone("under way before the rules", UnderWay())
    for ports in OWN_PORTS:
        yield alone("ports of the mesh", Ports(*ports))
    yield alone("ssh", Ports(*SSH))
    yield alone("DNS", Ports(*DNS))
    for network in METADATA:
        yield alone("link-local, or the platform's metadata", Address(network))
    for ports in dict.fromkeys(wanted.alone_ports):
        yield alone("a port that is excluded", Ports(*ports))
    for network in dict.fromkeys(wanted.alone_networks):
        yield alone("a network that is excluded", Address(network))
    yield Rule("output", (Tcp(),), wanted.outbound_port, "all else")


def _incoming(wanted: Wanted) -> Iterator[Rule]:
    def alone(why: str, *conditions: Condition) -> Rule:
        return Rule("prerouting", conditions, None, why)

    yield alone("not TCP", NotTcp())
    yield alone("loopback", Interface("lo", is_out=False))
    yield alone("under way before the rules", UnderWay())
    for ports in OWN_PORTS:
        yield alone("ports of the mesh", Ports(*ports))
    yield alone("ssh", Ports(*SSH))
    for ports in dict.fromkeys(wanted.alone_inbound_ports):
        yield alone("a port that is excluded", Ports(*ports))
    for network in dict.fromkeys(wanted.alone_inbound_networks):
        yield alone("a network that is excluded", Address(network, is_destination=False))
    if wanted.inbound_ports is None:
        yield Rule("prerouting", (Tcp(),), wanted.inbound_port, "all else")
        return
    for ports in dict.fromkeys(wanted.inbound_ports):
        yield Rule("prerouting", (Here(), Ports(*ports)), wanted.inbound_port, "a port of the app")
