"""
How requests are shared out among a route's targets: by weight, at random or by a key that sticks. *Hot path.*

A sticky choice is weighted rendezvous hashing. Every target draws, for a key, a number u in (0, 1) from a hash of the
key and of the target's own name; its score is -ln(u) / weight, an exponential variable whose rate is the weight, and
the lowest score wins. So each target gets its share of keys, and

- raising one weight lowers that target's scores and touches no other's: keys only move into it. The same holds for
  a change of several weights that amounts to one growing against all others, as 95/5 to 90/10;
- the order of targets does not matter, and adding or removing one moves only the keys that it gains or had;
- the route's name does not matter: two routes that split between the same upstreams by the same key put a user on
  the same side of both, while splits between other upstreams are independent of it;
- every sidecar and every release agrees: the hash is BLAKE2b, not Python's `hash`.

A target that has never had an endpoint is as good as absent: the others share its part by their weights, and when its
first endpoint comes it gets just the keys that its weight gives it, from each of them. Such a split looks at its
targets before each choice, until none is missing any more; then it puts the plain choice in its place (`settle`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from hashlib import blake2b
from itertools import accumulate
from math import isfinite, log
from random import random as system_random
from typing import Literal, Protocol, get_args

from sidecar.http1.grammar import TOKEN
from sidecar.message import RequestHead
from sidecar.routing.cookies import cookie
from sidecar.routing.query import param

KeySource = Literal["cookie", "header", "query", "source_ip"]

KeyReader = Callable[[RequestHead, str], bytes | None]
"""Reads a key from a head and the client's address; None or empty when the request has none."""

Choose = Callable[[RequestHead, str], int]
"""Position of the target for a head and the client's address."""

Random = Callable[[], float]
"""A number from 0 up to and not including 1, as `random.random`."""


class Awaited(Protocol):
    """
    A target's upstream that may not have had an endpoint yet.

    Attributes:
        has_had_endpoints: Whether it has had one, ever.
    """

    has_had_endpoints: bool


class Split:
    """
    A choice among targets, by position. Built by `make_split`.

    Attributes:
        weights: As configured; relative to each other.
        sticky: What of a request sticks, as a person reads it (`cookie uid`), or empty.
        choose: Position of the target for a head and the client's address. It is bound anew by `settle`, so call it
            through the split and do not keep it.
        side: Position of the target that a key sticks to, when none is missing.
    """

    __slots__ = ("_awaited", "_plain", "choose", "side", "sticky", "weights")

    def __init__(self, weights: tuple[float, ...], sticky: str, choose: Choose, side: Callable[[bytes], int]) -> None:
        self.weights = weights
        self.sticky = sticky
        self.choose = self._plain = choose
        self.side = side
        self._awaited: tuple[Awaited | None, ...] = ()

    def __repr__(self) -> str:
        return f"<Split {self.weights} {self.sticky or 'at random'} [Missing: {len(self.missing())}]>"

    def missing(self) -> tuple[int, ...]:
        """Positions of targets with a weight that are left out, because they have never had an endpoint."""
        return tuple(
            position
            for position, one in enumerate(self._awaited)
            if one is not None and not one.has_had_endpoints and self.weights[position] > 0
        )

    def await_targets(self, awaited: Sequence[Awaited | None], choose: Choose) -> None:
        """
        Leave targets out for as long as they are missing.

        Args:
            awaited: By position, whom that depends on; None for targets that are never missing.
            choose: Chooses meanwhile; it refers to this split, which so refers to itself until `settle`.
        """
        self._awaited = tuple(awaited)
        if self.missing():
            self.choose = choose

    def settle(self) -> None:
        """Choose plainly from now on: none is missing, or nobody asks any more."""
        self._awaited = ()
        self.choose = self._plain


def make_split(
    names: Sequence[str],
    weights: Sequence[float],
    sticky: tuple[str, str] | None = None,
    random: Random = system_random,
    awaited: Sequence[Awaited | None] = (),
) -> Split | None:
    """
    Compile the choice among a route's targets.

    Args:
        names: The upstream of each target, in file order.
        weights: Of the same length; a target of weight 0 is never chosen.
        sticky: `(source, name)` as for `key_reader`, or None for a choice at random. A request without the key,
            or with an empty one, is shared out at random.
        random: Injected by tests.
        awaited: Of the same length, or empty; for each target what is left out while it has never had an endpoint.
            `Split.settle` is to be called when the split is not used any more.

    Returns:
        The split, or None for a single target.

    Raises:
        ValueError: A weight is negative or no number, or all are 0; or `sticky` is invalid.
    """
    if not names or len(names) != len(weights):
        raise ValueError(f"expected a weight for each target, found {len(weights)} for {len(names)}")
    for name, weight in zip(names, weights, strict=True):
        if not isfinite(weight) or weight < 0:
            raise ValueError(f"weight of {name}: expected a number that is not negative, found {weight}")
    if not isfinite(sum(weights)) or not sum(weights) > 0:
        raise ValueError(f"weights sum to {sum(weights)}; give at least one upstream a positive weight")
    read = key_reader(*sticky) if sticky is not None else None
    if len(names) == 1:
        return None
    choose, side = _choice(names, weights, read, random)
    split = Split(tuple(weights), " ".join(sticky).rstrip() if sticky is not None else "", choose, side)
    if any(one is not None for one in awaited):
        split.await_targets(awaited, _Careful(split, names, read, random).choose)
    return split


class _Careful:
    """
    The choice of a split some of whose targets have never had an endpoint: among the others.

    A class and not a closure, which compiled would be a cycle by itself.
    """

    __slots__ = ("_choose", "_missing", "_names", "_random", "_read", "_split")

    def __init__(self, split: Split, names: Sequence[str], read: KeyReader | None, random: Random) -> None:
        self._split = split
        self._names = names
        self._read = read
        self._random = random
        self._missing: tuple[int, ...] = ()
        self._choose: Choose = split.choose

    def choose(self, head: RequestHead, peer_ip: str) -> int:
        """As `Split.choose`; the first that finds nobody missing is the last that looks."""
        missing = self._split.missing()
        if not missing:
            self._split.settle()
            return self._split.choose(head, peer_ip)
        if missing != self._missing:
            left = [0.0 if n in missing else weight for n, weight in enumerate(self._split.weights)]
            if any(left):  # Else there is nothing to send to, whichever is chosen.
                self._choose = _choice(self._names, left, self._read, self._random)[0]
            self._missing = missing
        return self._choose(head, peer_ip)


def _choice(
    names: Sequence[str], weights: Sequence[float], read: KeyReader | None, random: Random
) -> tuple[Choose, Callable[[bytes], int]]:
    """How a request is given a target, and how a key is."""
    at_random = _two_at_random(weights, random) if len(names) == 2 else _at_random(weights, random)
    side = _rendezvous(names, weights)

    def by_chance(head: RequestHead, peer_ip: str) -> int:
        return at_random()

    if read is None:
        return by_chance, side

    def by_key(head: RequestHead, peer_ip: str) -> int:
        key = read(head, peer_ip)
        return side(key) if key else at_random()

    return by_key, side


def key_reader(source: str, name: str = "") -> KeyReader:
    """
    The function that reads a sticky key, for splits and for the hash policy of upstreams.

    Args:
        source: One of `KeySource`.
        name: Of the cookie, header (in any case; several values are joined by `, `) or query parameter; empty for
            `source_ip`.

    Raises:
        ValueError: The source is unknown or the name does not fit it.
    """
    if source not in get_args(KeySource):
        raise ValueError(f"expected one of {', '.join(get_args(KeySource))}, found {source!r}")
    if source == "source_ip":
        return lambda head, peer_ip: peer_ip.encode()
    key = name.encode()
    if not key:
        raise ValueError(f"{source}: expected a name, found nothing")
    if source == "cookie":
        return lambda head, peer_ip: cookie(head, key)
    if source == "query":
        return lambda head, peer_ip: param(head, key)
    if key.translate(None, TOKEN):
        raise ValueError(f"expected the name of a header, found {name!r}")
    lower = key.lower()
    return lambda head, peer_ip: head.joined(lower)


def _two_at_random(weights: Sequence[float], random: Random) -> Callable[[], int]:
    first = weights[0] / (weights[0] + weights[1])
    return lambda: 0 if random() < first else 1


def _at_random(weights: Sequence[float], random: Random) -> Callable[[], int]:
    bounds = list(accumulate(weights))
    total = bounds[-1]
    # The product may round up to the total; the last target with a weight is the last that may be chosen.
    last = max(position for position, weight in enumerate(weights) if weight > 0)
    return lambda: bisect_right(bounds, random() * total, 0, last)


def _rendezvous(names: Sequence[str], weights: Sequence[float]) -> Callable[[bytes], int]:
    seen: dict[str, int] = {}
    contenders: list[tuple[bytes, float, int]] = []
    for position, (name, weight) in enumerate(zip(names, weights, strict=True)):
        # A second target of the same upstream (with other header edits) draws numbers of its own.
        seen[name] = seen.get(name, 0) + 1
        salt = blake2b(f"{name}\n{seen[name]}".encode(), digest_size=16).digest()
        if weight > 0:
            contenders.append((salt, -1.0 / weight, position))
    contenders.sort()  # so that even equal scores do not depend on the order in the file

    def side(key: bytes) -> int:
        best, lowest = contenders[0][2], float("inf")
        for salt, factor, position in contenders:
            number = int.from_bytes(blake2b(key, digest_size=8, salt=salt).digest(), "big")
            # 53 bits are what a float holds; the half keeps the logarithm finite.
            score = log(((number >> 11) + 0.5) * 2.0**-53) * factor
            if score < lowest:
                best, lowest = position, score
        return best

    return side
