"""
Whose request it is when others have passed it on, as far as they are believed. *Hot path where configured; pure.*

Every proxy appends the address that it was called from to `X-Forwarded-For`, so the list is true from its right end,
for as long as those who wrote it are trusted, and left of that anybody may have written anything:

    client --> load balancer --> sidecar            x-forwarded-for: <what the client says>, <the client>
                                                    connection from: <the load balancer>

Two ways to say who is trusted: a number of proxies, as Envoy's `xff_num_trusted_hops`, or the networks that they are
in, as nginx's `set_real_ip_from` with `real_ip_recursive`. By number, the client is the n-th address from the right, or
who connected if there are fewer. By network, it is the first address from the right that is in none of them, beginning
with who connected; the leftmost, if all are. What is no address ends the walk: nobody is believed beyond it.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from sidecar.message import Kind, RequestHead

MAX_HOPS: Final = 32
"""Proxies that a request is followed back through; each costs some microseconds, and a client may claim any number."""

UNIX: Final = "unix"
"""Stands for who connects by a Unix socket, here as in `Exchange.peer`."""

_MAX_KNOWN: Final = 4096
_MAX_KNOWN_BYTES: Final = 128
"""Of a list that is remembered with its client: so the memory of all is bounded by half a megabyte."""


class ClientAddress:
    """
    Who the client is, by whom of the proxies before us is trusted.

    Args:
        hops: How many of them, 1 to `MAX_HOPS`; 0 if their networks say it.
        networks: Networks (`10.0.0.0/8`) or addresses, and `unix`.

    Raises:
        ValueError: A network is none.
    """

    __slots__ = ("_hops", "_known", "_networks", "_trusts_unix")

    def __init__(self, hops: int = 0, networks: Sequence[str] = ()) -> None:
        self._hops = hops
        self._trusts_unix = UNIX in networks
        self._networks: list[IPv4Network | IPv6Network] = [ip_network(one) for one in networks if one != UNIX]
        self._known: dict[tuple[str, bytes], tuple[str, int]] = {}

    def of(self, peer: tuple[str, int], head: RequestHead) -> tuple[str, int]:
        """
        Address and port of the client; the port is 0 where a proxy did not say it.

        Args:
            peer: Who connected.
            head: The request.
        """
        if not head.kinds & Kind.FORWARDED_FOR:
            return peer
        said = head.joined(b"x-forwarded-for") or b""
        key = (peer[0], said)
        found = self._known.get(key)
        if found is None:
            client = self._by_number(said) if self._hops else self._by_network(peer, said)
            if client is None:
                return peer
            found = client
            if len(said) <= _MAX_KNOWN_BYTES:
                if len(self._known) >= _MAX_KNOWN:
                    self._known.clear()
                self._known[key] = found
        return found

    def _by_number(self, said: bytes) -> tuple[str, int] | None:
        addresses = _from_the_right(said)
        return parse_client(addresses[self._hops - 1]) if len(addresses) >= self._hops else None

    def _by_network(self, peer: tuple[str, int], said: bytes) -> tuple[str, int] | None:
        if not self._is_trusted(peer[0]):
            return None
        client: tuple[str, int] | None = None
        for one in _from_the_right(said):
            before = parse_client(one)
            if before is None:
                break
            client = before
            if not self._is_trusted(before[0]):
                break
        return client

    def _is_trusted(self, address: str) -> bool:
        if address == UNIX:
            return self._trusts_unix
        found = _address(address)
        return found is not None and any(found in network for network in self._networks)


def _from_the_right(said: bytes) -> list[bytes]:
    """The last members of the list, the last first; empty ones do not count (RFC 9110, 5.6.1.2)."""
    members = said.rsplit(b",", MAX_HOPS)
    if len(members) > MAX_HOPS:
        del members[0]  # what is left of the bound, commas and all
    members.reverse()
    return [stripped for one in members if (stripped := one.strip(b" \t"))]


def parse_client(written: bytes) -> tuple[str, int] | None:
    """
    A member of `X-Forwarded-For` as address and port: `192.0.2.7`, `192.0.2.7:80`, `2001:db8::1`, `[2001:db8::1]:80`.

    Returns:
        The address in its one spelling, one of IPv4 as such also where IPv6 has it mapped, and the port or 0; None
        for names, `unknown`, and whatever else people write there.
    """
    text = written.decode("latin-1")
    port = ""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            return None
        text, port = host, rest
    elif text.count(":") == 1:
        text, colon, digits = text.partition(":")
        port = colon + digits
    number = 0
    if port:
        digits = port[1:]
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 5 and int(digits) <= 65535):
            return None
        number = int(digits)
    found = _address(text)
    return None if found is None else (str(found), number)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    if "%" in text:  # a zone means something on its own machine only
        return None
    try:
        found = ip_address(text)
    except ValueError:
        return None
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        return found.ipv4_mapped
    return found
