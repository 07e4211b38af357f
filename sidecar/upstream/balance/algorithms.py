"""
Which endpoint of a cluster gets the next request. *Hot path, pure but for the turn that round robin remembers.*

A policy is built for one fixed set of endpoints, all of them usable; when the set changes, the cluster binds a new
one. So the data path asks no question whose answer only a change of the set could alter. Every policy answers in
O(1) or O(log n): benchmarks/micro/balance.py.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from hashlib import blake2b
from heapq import heapify, heapreplace
from itertools import accumulate
from math import gcd, lcm
from random import random as system_random
from struct import Struct
from typing import Final, Literal

from sidecar.message import RequestHead
from sidecar.upstream.balance.ewma import PeakEwma, WeightedPeakEwma
from sidecar.upstream.endpoint import Endpoint

Policy = Literal["round_robin", "least_request", "random", "hash", "peak_ewma"]

Choose = Callable[[RequestHead, str], Endpoint | None]
"""Name the endpoint for a request, given its head and the address of the client; None when there is none."""

Random = Callable[[], float]
"""A number from 0 up to and not including 1, as `random.random`."""

RING_POINTS: Final = 128
"""Points of the heaviest endpoint on the ring: shares within about 9 % of fair (1/sqrt(128)); libketama takes 160."""

_LARGE_CLUSTER: Final = 256
"""Endpoints above which the ring has a quarter of the points, so that a change of the set does not hold the loop."""

_GOLDEN: Final = 0.6180339887498949
_POINTS_OF_DIGEST: Final = Struct(">16I")


@dataclass(frozen=True, slots=True)
class HashKey:
    """
    What of a request the hash policy hashes.

    Attributes:
        source: Where the key is found.
        name: Of the header (lower case), cookie or query parameter; empty for `source_ip`.
        extract: Reads the key from a head and the client's address. Given for `cookie` and `query`, which only
            `routing` can parse; not part of equality, so that a reload sees an unchanged cluster as such.
    """

    source: Literal["header", "cookie", "query", "source_ip"]
    name: bytes = b""
    extract: Callable[[RequestHead, str], bytes | None] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.source in ("cookie", "query") and self.extract is None:
            raise ValueError(f"expected an extractor for the hash key {self.source} {self.name!r}, found none")

    def reader(self) -> Callable[[RequestHead, str], bytes | None]:
        """The function that reads the key."""
        if self.extract is not None:
            return self.extract
        if self.source == "source_ip":
            return lambda head, peer_ip: peer_ip.encode()
        name = self.name
        return lambda head, peer_ip: head.joined(name)


def bind(
    policy: Policy, endpoints: Sequence[Endpoint], hash_key: HashKey | None = None, random: Random = system_random
) -> Choose:
    """
    Build the policy for this set of endpoints.

    Args:
        policy: Which one.
        endpoints: Usable endpoints, each with a positive `share`. The shares are read now, not per request.
        hash_key: Needed by `hash`, unused by the others.
        random: Source of chance, for tests.

    Returns:
        A function that is good until the set or a share changes.
    """
    if not endpoints:
        return _choose_none
    if len(endpoints) == 1:
        only = endpoints[0]
        return lambda head, peer_ip: only
    if policy == "hash":
        if hash_key is None:
            raise ValueError("expected a hash key for the policy hash, found none")
        return HashRing(endpoints, hash_key.reader(), random).choose
    is_even = len({endpoint.share for endpoint in endpoints}) == 1
    if policy == "round_robin":
        return (RoundRobin if is_even else WeightedRoundRobin)(endpoints, random).choose
    if policy == "random":
        return (RandomChoice if is_even else WeightedRandomChoice)(endpoints, random).choose
    if policy == "peak_ewma":
        return (PeakEwma if is_even else WeightedPeakEwma)(endpoints, random).choose
    return (LeastRequest if is_even else WeightedLeastRequest)(endpoints, random).choose


def _choose_none(head: RequestHead, peer_ip: str) -> None:
    return None


class RoundRobin:
    """Each endpoint in turn, for equal weights. Begins anywhere, so that a fleet of sidecars does not walk in step."""

    __slots__ = ("_endpoints", "_next")

    def __init__(self, endpoints: Sequence[Endpoint], random: Random) -> None:
        self._endpoints = tuple(endpoints)
        self._next = int(random() * len(endpoints))

    def choose(self, head: RequestHead, peer_ip: str) -> Endpoint:
        """The next in turn."""
        turn = self._next
        self._next = turn + 1 if turn + 1 < len(self._endpoints) else 0
        return self._endpoints[turn]


class WeightedRoundRobin:
    """
    Each endpoint as often as its weight says, exactly so in every period, and spread over the period.

    The k-th turn (from 0) of endpoint i falls due at `(k + phase_i) / weight_i`, and what is due first is chosen. With
    phases between 0 and 1 exactly `weight_i` turns of each endpoint fall due before 1, whatever the phases: that is the
    period, as many choices as the sum of the weights (in lowest terms). Phases that are multiples of the golden ratio
    keep endpoints of equal weight apart, so that a heavy endpoint never waits while all the light ones take their turn.
    O(log n) a choice, where the usual algorithm (nginx's) walks all endpoints for each.
    """

    __slots__ = ("_endpoints", "_first_turns", "_left", "_period", "_phases", "_turns", "_weights")

    def __init__(self, endpoints: Sequence[Endpoint], random: Random) -> None:
        self._endpoints = tuple(endpoints)
        self._weights = _lowest_terms([endpoint.share for endpoint in endpoints])
        self._phases = [(i + 1) * _GOLDEN % 1.0 for i in range(len(endpoints))]
        self._first_turns = [
            (phase / weight, i, 0) for i, (phase, weight) in enumerate(zip(self._phases, self._weights, strict=True))
        ]
        heapify(self._first_turns)
        self._period = sum(self._weights)
        self._turns: list[tuple[float, int, int]] = []
        self._left = 0
        for _ in range(int(random() * min(self._period, 1024))):
            self._take()

    def choose(self, head: RequestHead, peer_ip: str) -> Endpoint:
        """What is due next."""
        return self._endpoints[self._take()]

    def _take(self) -> int:
        # Every period begins anew, so that due times stay small and no rounding adds up.
        if self._left == 0:
            self._turns = self._first_turns[:]
            self._left = self._period
        self._left -= 1
        turns = self._turns
        _, i, turn = turns[0]
        turn += 1
        heapreplace(turns, ((turn + self._phases[i]) / self._weights[i], i, turn))
        return i


class LeastRequest:
    """
    The less busy of two different endpoints drawn at random, for equal weights.

    Two choices already avoid the pile-up of one, and avoid the herd that always taking the idlest makes of many
    sidecars (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing"). With two endpoints it is a scan.
    """

    __slots__ = ("_endpoints", "_others", "_pairs", "_random")

    def __init__(self, endpoints: Sequence[Endpoint], random: Random) -> None:
        self._endpoints = tuple(endpoints)
        self._others = len(endpoints) - 1
        self._pairs = len(endpoints) * self._others
        self._random = random

    def choose(self, head: RequestHead, peer_ip: str) -> Endpoint:
        """The one of the two with fewer exchanges in flight; at a tie the first drawn, so each as often."""
        # One draw numbers the ordered pairs: 0.16 us, where two draws take 0.21.
        pair = int(self._random() * self._pairs)
        first = pair // self._others
        second = pair % self._others
        if second >= first:
            second += 1
        one = self._endpoints[first]
        other = self._endpoints[second]
        return one if one.active <= other.active else other


class WeightedLeastRequest:
    """
    As `LeastRequest`, by exchanges in flight per weight.

    Both are drawn by weight: at rest, where everything ties, each gets its share, and under load the comparison moves
    the shares to where the work is done.
    """

    __slots__ = ("_bounds", "_endpoints", "_random")

    def __init__(self, endpoints: Sequence[Endpoint], random: Random) -> None:
        self._endpoints = tuple(endpoints)
        self._bounds = list(accumulate(endpoint.share for endpoint in endpoints))
        self._random = random

    def choose(self, head: RequestHead, peer_ip: str) -> Endpoint:
        """The one of the two with less in flight for its weight."""
        endpoints, bounds, random = self._endpoints, self._bounds, self._random
        last = len(endpoints) - 1
        first = min(bisect_right(bounds, random() * bounds[-1]), last)
        one = endpoints[first]
        # The second is drawn from the line of weights with the first's stretch cut out.
        start = bounds[first - 1] if first else 0.0
        point = random() * (bounds[-1] - one.share)
        if point >= start:
            point += one.share
        second = min(bisect_right(bounds, point), last)
        if second == first:  # Only by rounding, at the edge of the stretch.
            second = first - 1 if first else 1
        other = endpoints[second]
        return one if one.active * other.share <= other.active * one.share else other


class RandomChoice:
    """Any endpoint, for equal weights."""

    __slots__ = ("_endpoints", "_random")

    def __init__(self, endpoints: Sequence[Endpoint], random: Random) -> None:
        self._endpoints = tuple(endpoints)
        self._random = random

    def choose(self, head: RequestHead, peer_ip: str) -> Endpoint:
        """One of them, each as likely."""
        return self._endpoints[int(self._random() * len(self._endpoints))]


class WeightedRandomChoice:
    """Any endpoint, as likely as its weight says."""

    __slots__ = ("_bounds", "_endpoints", "_random")

    def __init__(self, endpoints: Sequence[Endpoint], random: Random) -> None:
        self._endpoints = tuple(endpoints)
        self._bounds = list(accumulate(endpoint.share for endpoint in endpoints))
        self._random = random

    def choose(self, head: RequestHead, peer_ip: str) -> Endpoint:
        """One of them by weight."""
        # min(): a product can round up to the last bound itself.
        index = bisect_right(self._bounds, self._random() * self._bounds[-1])
        return self._endpoints[min(index, len(self._endpoints) - 1)]


class HashRing:
    """
    The same key to the same endpoint, in every process and after every restart (consistent hashing, Karger 1997).

    Each endpoint owns points on a ring of 32 bits, which its label alone determines; a key belongs to the first point
    at or after its own hash. An endpoint that comes or goes takes or gives only its own keys, about 1/n of all. The
    number of points follows the weight relative to the heaviest endpoint; a slow start or another zone does not move
    keys. A request without the key goes anywhere.
    """

    __slots__ = ("_owners", "_points", "_random", "_read_key")

    def __init__(
        self, endpoints: Sequence[Endpoint], read_key: Callable[[RequestHead, str], bytes | None], random: Random
    ) -> None:
        full = RING_POINTS if len(endpoints) <= _LARGE_CLUSTER else RING_POINTS // 4
        heaviest = max(endpoint.weight for endpoint in endpoints)
        owner_of: dict[int, Endpoint] = {}
        # In order of labels, so that of two endpoints that hash to one point the same wins in every process.
        for endpoint in sorted(endpoints, key=lambda endpoint: endpoint.label):
            for point in _points_of(endpoint.label, max(1, round(full * endpoint.weight / heaviest))):
                owner_of.setdefault(point, endpoint)
        self._points = sorted(owner_of)
        self._owners = [owner_of[point] for point in self._points]
        self._owners.append(self._owners[0])  # Past the last point the ring begins again.
        self._read_key = read_key
        self._random = random

    def choose(self, head: RequestHead, peer_ip: str) -> Endpoint:
        """The owner of the request's key."""
        key = self._read_key(head, peer_ip)
        if key:
            point = int.from_bytes(blake2b(key, digest_size=4).digest(), "big")
        else:
            point = int(self._random() * 0x1_0000_0000)
        return self._owners[bisect_left(self._points, point)]


def _points_of(label: str, count: int) -> list[int]:
    """The first `count` points of an endpoint; more points keep the earlier ones."""
    points: list[int] = []
    seed = label.encode("utf-8", "surrogateescape")
    for block in range(-(-count // 16)):
        points += _POINTS_OF_DIGEST.unpack(blake2b(b"%d/%b" % (block, seed)).digest())
    return points[:count]


def _lowest_terms(weights: Sequence[float]) -> list[int]:
    """The same weights as whole numbers without a common factor; thousandths are kept, finer parts are rounded."""
    if all(float(weight).is_integer() for weight in weights):  # The usual case, without the cost of fractions.
        whole = [int(weight) for weight in weights]
    else:
        parts = [Fraction(weight).limit_denominator(1000) or Fraction(1, 1000) for weight in weights]
        scale = lcm(*(part.denominator for part in parts))
        whole = [int(part * scale) for part in parts]
    factor = gcd(*whole)
    return [number // factor for number in whole]
