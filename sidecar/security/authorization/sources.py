"""
Who asks: by SPIFFE ID, by a pattern of them, by network, or by token. *Hot path: what is remembered; pure.*

A pattern is a SPIFFE ID in which `*` stands for a segment of the path: in its middle for one, at its end for one or
more. So `spiffe://shop/ns/ops/*` is whoever lives in that namespace, and no pattern reaches another trust domain.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final

from sidecar.security.tokens.rules import TokenRule

ANYONE: Final = "anyone"
AUTHENTICATED: Final = "authenticated"
UNIX: Final = "unix"
"""Stands for who connects by a Unix socket, here as in `Exchange.peer`."""

_MAX_KNOWN: Final = 4096


@dataclass(frozen=True, slots=True)
class Sources:
    """
    Whom a rule is about: any of these.

    Attributes:
        is_anyone: Also who has no identity.
        is_authenticated: Whoever has one.
        identities: SPIFFE IDs.
        patterns: Of SPIFFE IDs, each with a `*`.
        networks: `10.0.0.0/8`, `::1/128` or `unix`, which the client's address is in.
        tokens: Whose request has one of these tokens.
        text: All that as a person reads it, shortened.
    """

    is_anyone: bool = False
    is_authenticated: bool = False
    identities: frozenset[str] = frozenset()
    patterns: frozenset[str] = frozenset()
    networks: frozenset[str] = frozenset()
    tokens: frozenset[TokenRule] = frozenset()
    text: str = field(default="", compare=False)

    def parts(self) -> tuple[str, ...]:
        """Each of them as one word; they are told apart by how they look."""
        if self.is_anyone:
            return (ANYONE,)
        words = [AUTHENTICATED] if self.is_authenticated else []
        tokens = sorted(rule.word for rule in self.tokens)
        return (*words, *sorted(self.identities), *sorted(self.patterns), *sorted(self.networks), *tokens)


def make_sources(words: Iterable[str], tokens: Iterable[TokenRule] = ()) -> Sources:
    """
    Sources of words: `anyone`, `authenticated`, SPIFFE IDs and their patterns, networks, `unix`; and of tokens.

    Raises:
        ValueError: A network is none.
    """
    some = frozenset(words)
    if ANYONE in some:
        return Sources(is_anyone=True, text=ANYONE)
    named = frozenset(word for word in some if word.startswith("spiffe://"))
    patterns = frozenset(word for word in named if "*" in word)
    networks = some - named - {AUTHENTICATED}
    by_token = frozenset(tokens)
    words = [*sorted(some), *sorted(rule.text for rule in by_token)]
    more = f" or {len(words) - 3} more" if len(words) > 4 else ""
    return Sources(
        text=" or ".join(words[:3] if more else words) + more,
        is_authenticated=AUTHENTICATED in some,
        identities=named - patterns,
        patterns=patterns,
        networks=frozenset(one if one == UNIX else str(ip_network(one)) for one in networks),
        tokens=by_token,
    )


def pattern_matches(pattern: str, identity: str) -> bool:
    """Whether a SPIFFE ID is one of those that a pattern stands for."""
    wanted, found = pattern.split("/"), identity.split("/")
    if wanted[-1] == "*":
        if len(found) < len(wanted) or not found[len(wanted) - 1]:
            return False
        del wanted[-1]
        del found[len(wanted) :]
    if len(wanted) != len(found):
        return False
    return all(one == other or (one == "*" and other != "") for one, other in zip(wanted, found, strict=True))


class Patterns:
    """
    Finds the patterns that an identity matches, at a cost that does not grow with those that end in their only `*`.
    """

    __slots__ = ("_others", "_prefixes")

    def __init__(self) -> None:
        self._prefixes: dict[str, str] = {}
        self._others: dict[str, None] = {}

    def add(self, pattern: str) -> None:
        """One more; one that is there is no other."""
        if pattern.endswith("/*") and pattern.count("*") == 1:
            self._prefixes[pattern[:-1]] = pattern
        else:
            self._others[pattern] = None

    def matching(self, identity: str) -> list[str]:
        """All that match."""
        found = [pattern for pattern in self._others if pattern_matches(pattern, identity)]
        if self._prefixes:
            slash = identity.find("/")
            while slash >= 0:
                pattern = self._prefixes.get(identity[: slash + 1])
                if pattern is not None and pattern_matches(pattern, identity):
                    found.append(pattern)
                slash = identity.find("/", slash + 1)
        return found


class Networks:
    """
    Finds the networks around an address, by a look-up for each length of prefix that there is.

    Attributes:
        is_empty: There are none.
    """

    __slots__ = ("_by_length", "_has_unix", "_known", "is_empty")

    def __init__(self) -> None:
        self.is_empty = True
        self._has_unix = False
        self._by_length: dict[tuple[int, int], dict[int, str]] = {}
        self._known: dict[str, tuple[str, ...]] = {}

    def add(self, text: str) -> None:
        """
        One more: `10.0.0.0/8`, or `unix`; before the first question.

        Raises:
            ValueError: It is none.
        """
        self.is_empty = False
        if text == UNIX:
            self._has_unix = True
            return
        network = ip_network(text)
        shift = network.max_prefixlen - network.prefixlen
        prefixes = self._by_length.setdefault((network.version, shift), {})
        prefixes[int(network.network_address) >> shift] = str(network)

    def around(self, ip: str) -> Sequence[str]:
        """Those that hold this address, as `str(ip_network)` writes them; IPv4 that IPv6 has mapped is IPv4."""
        found = self._known.get(ip)
        if found is None:
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            found = self._known[ip] = self._find(ip)
        return found

    def _find(self, ip: str) -> tuple[str, ...]:
        if ip == UNIX:
            return (UNIX,) if self._has_unix else ()
        try:
            address = ip_address(ip.partition("%")[0])
        except ValueError:
            return ()
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        number, version = int(address), address.version
        found = [
            prefixes.get(number >> shift, "") for (family, shift), prefixes in self._by_length.items()
            if family == version
        ]  # fmt: skip
        return tuple(text for text in found if text)
