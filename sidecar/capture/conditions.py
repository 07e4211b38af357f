"""
What a rule asks of a packet: for the kernel, for `nft` and for `iptables`. *Pure.*

A connection is judged once, by its first packet; what is decided then holds for all others (connection tracking).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Final, Literal, Protocol

from sidecar.capture.netfilter import expressions as nft
from sidecar.capture.netfilter.expressions import Compared, Header, Meta

Network = IPv4Network | IPv6Network
Family = Literal[4, 6]

_TCP: Final = b"\x06"
_FAMILIES: Final[dict[Family, bytes]] = {4: b"\x02", 6: b"\x0a"}
_INTERFACE_BYTES: Final = 16
_ADDRESSES: Final[dict[tuple[Family, bool], tuple[int, int]]] = {
    (4, False): (12, 4), (4, True): (16, 4), (6, False): (8, 16), (6, True): (24, 16),
}  # fmt: skip
"""Offset and length within the header, by family and whether it is the destination."""


class Condition(Protocol):
    """
    Attributes:
        family: Of packets that it can hold for; None for both.
    """

    @property
    def family(self) -> Family | None: ...

    def expressions(self) -> bytes:
        """For the kernel."""

    def as_nft(self) -> str:
        """In the words of nft(8)."""

    def as_iptables(self) -> tuple[str, ...]:
        """In the words of iptables(8)."""


@dataclass(frozen=True, slots=True)
class NotTcp:
    """Of another protocol."""

    family: None = None

    def expressions(self) -> bytes:
        """As `Condition`."""
        return nft.meta(Meta.PROTOCOL) + nft.compare(Compared.DIFFERENT, _TCP)

    def as_nft(self) -> str:
        """As `Condition`."""
        return "meta l4proto != tcp"

    def as_iptables(self) -> tuple[str, ...]:
        """As `Condition`."""
        return "!", "-p", "tcp"


@dataclass(frozen=True, slots=True)
class Tcp:
    """Of TCP. Known from the first rule already; but without it `nft` would not know what it lists."""

    family: None = None

    def expressions(self) -> bytes:
        """As `Condition`."""
        return nft.meta(Meta.PROTOCOL) + nft.compare(Compared.EQUAL, _TCP)

    def as_nft(self) -> str:
        """As `Condition`."""
        return "meta l4proto tcp"

    def as_iptables(self) -> tuple[str, ...]:
        """As `Condition`."""
        return "-p", "tcp"


@dataclass(frozen=True, slots=True)
class UnderWay:
    """
    No first packet of TCP: of a connection that was there before the rules, and of which the kernel kept no track.
    Without this its next packet would count as a new connection, and be led away.
    """

    family: None = None

    def expressions(self) -> bytes:
        """As `Condition`."""
        flags, wanted, synchronise = nft.octets(Header.TRANSPORT, 13, 1), b"\x17", b"\x02"
        return Tcp().expressions() + flags + nft.masked(wanted) + nft.compare(Compared.DIFFERENT, synchronise)

    def as_nft(self) -> str:
        """As `Condition`."""
        return "tcp flags & (fin | syn | rst | ack) != syn"

    def as_iptables(self) -> tuple[str, ...]:
        """As `Condition`."""
        return "-p", "tcp", "!", "--syn"


@dataclass(frozen=True, slots=True)
class User:
    """Sent by a process of this user."""

    uid: int
    family: None = None

    def expressions(self) -> bytes:
        """As `Condition`."""
        return nft.meta(Meta.USER) + nft.compare(Compared.EQUAL, self.uid.to_bytes(4, sys.byteorder))

    def as_nft(self) -> str:
        """As `Condition`."""
        return f"meta skuid {self.uid}"

    def as_iptables(self) -> tuple[str, ...]:
        """As `Condition`."""
        return "-m", "owner", "--uid-owner", str(self.uid)


@dataclass(frozen=True, slots=True)
class Interface:
    """Comes in, or goes out, by this interface."""

    name: str
    is_out: bool
    family: None = None

    def expressions(self) -> bytes:
        """As `Condition`."""
        key = Meta.OUT_INTERFACE if self.is_out else Meta.IN_INTERFACE
        return nft.meta(key) + nft.compare(Compared.EQUAL, self.name.encode().ljust(_INTERFACE_BYTES, b"\0"))

    def as_nft(self) -> str:
        """As `Condition`."""
        return f'{"oifname" if self.is_out else "iifname"} "{self.name}"'

    def as_iptables(self) -> tuple[str, ...]:
        """As `Condition`."""
        return "-o" if self.is_out else "-i", self.name


@dataclass(frozen=True, slots=True)
class Address:
    """Goes to, or comes from, an address of this network."""

    network: Network
    is_destination: bool = True

    @property
    def family(self) -> Family:
        """As `Condition`."""
        return 4 if isinstance(self.network, IPv4Network) else 6

    def expressions(self) -> bytes:
        """As `Condition`."""
        family, network = self.family, self.network
        offset, length = _ADDRESSES[family, self.is_destination]
        steps = nft.meta(Meta.FAMILY) + nft.compare(Compared.EQUAL, _FAMILIES[family])
        steps += nft.octets(Header.NETWORK, offset, length)
        if network.prefixlen < network.max_prefixlen:
            steps += nft.masked(network.netmask.packed)
        return steps + nft.compare(Compared.EQUAL, network.network_address.packed)

    def as_nft(self) -> str:
        """As `Condition`."""
        family, side = "ip" if self.family == 4 else "ip6", "daddr" if self.is_destination else "saddr"
        return f"{family} {side} {_shown(self.network)}"

    def as_iptables(self) -> tuple[str, ...]:
        """As `Condition`."""
        return "-d" if self.is_destination else "-s", _shown(self.network)


@dataclass(frozen=True, slots=True)
class Ports:
    """Goes to one of these ports; TCP only."""

    first: int
    last: int
    family: None = None

    def expressions(self) -> bytes:
        """As `Condition`."""
        port = Tcp().expressions() + nft.octets(Header.TRANSPORT, 2, 2)
        first, last = self.first.to_bytes(2, "big"), self.last.to_bytes(2, "big")
        if self.first == self.last:
            return port + nft.compare(Compared.EQUAL, first)
        return port + nft.compare(Compared.AT_LEAST, first) + nft.compare(Compared.AT_MOST, last)

    def as_nft(self) -> str:
        """As `Condition`."""
        return f"tcp dport {self._shown('-')}"

    def as_iptables(self) -> tuple[str, ...]:
        """As `Condition`."""
        return "-p", "tcp", "--dport", self._shown(":")

    def _shown(self, between: str) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}{between}{self.last}"


@dataclass(frozen=True, slots=True)
class Here:
    """Is addressed to this machine; what a machine only forwards is not."""

    family: None = None

    def expressions(self) -> bytes:
        """As `Condition`."""
        return nft.is_local()

    def as_nft(self) -> str:
        """As `Condition`."""
        return "fib daddr type local"

    def as_iptables(self) -> tuple[str, ...]:
        """As `Condition`."""
        return "-m", "addrtype", "--dst-type", "LOCAL"


def _shown(network: Network) -> str:
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)
