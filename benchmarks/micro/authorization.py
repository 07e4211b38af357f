"""
What judging a request costs, with 10, 1,000 and 10,000 rules of which the last matches, and what a new client costs.

    python -m benchmarks.micro.authorization

Prints microseconds per `Authorization.decide`: the best of several rounds, so that other work on the machine counts
little. Measured on a 2-core virtual machine with Python 3.11, interpreted, beside much other work (`Table.find` of a
prefix took 1.9 there instead of the 1.2 of `benchmarks.micro.routing`):

    Authorization.decide, microseconds; the last rule matches
    rules differ by                   10     1,000    10,000
    who asks                        0.84      0.83      0.82
      a client never seen           2.74      2.72      2.88
    who asks, by pattern            0.83      0.83      0.82
      a client never seen           6.52      6.78      6.93
    who asks, by network            0.96      0.98      0.96
      a client never seen           7.88     13.63      8.34
    path, for anyone                2.71      2.64      2.64
      a client never seen           5.51      5.39      5.34
    path, for one service           2.61      2.65      2.62
      a client never seen           2.70      2.72      4.38
    who of two, and path            2.70      2.67      2.69
      a client never seen           2.79      2.87      2.98

    a path with an escape                             3.97
    a refusal: what differed                         58.12
    one rule that denies by a header                  2.67
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from timeit import repeat

from benchmarks.micro.routing import _head
from sidecar.compile.time_slices import at_once
from sidecar.message import RequestHead
from sidecar.peer import Peer
from sidecar.routing.match import make_match
from sidecar.routing.matchers import path_matcher, value_matcher
from sidecar.security.authorization.authorization import Authorization, RuleSpec, make_authorization
from sidecar.security.authorization.rules import Clause
from sidecar.security.authorization.sources import make_sources

_COUNTS = (10, 1_000, 10_000)
_CALLS, _ROUNDS = 1_000, 140
_CLIENT = "spiffe://shop/storefront"

ClauseOf = Callable[[int, int], Clause]
"""The clause of a rule by its number and how many there are."""


def _service(number: int, of: int) -> str:
    """The last rule is about the client, each other one about another service."""
    return _CLIENT if number == of - 1 else f"spiffe://shop/service-{number}"


def _kinds() -> dict[str, tuple[ClauseOf, bytes]]:
    return {
        "who asks": (lambda n, of: Clause(make_sources([_service(n, of)]), make_match()), b"/v1/items/12"),
        "who asks, by pattern": (
            lambda n, of: Clause(make_sources([f"{_service(n, of).rpartition('/')[0]}/*"]), make_match())
            if n == of - 1
            else Clause(make_sources([f"spiffe://shop/ns/n{n}/*"]), make_match()),
            b"/v1/items/12",
        ),
        "who asks, by network": (
            lambda n, of: Clause(make_sources([f"10.{n >> 8}.{n & 255}.0/24"] if n < of - 1 else ["192.0.2.0/24"]),
                                 make_match()),
            b"/v1/items/12",
        ),
        "path, for anyone": (
            lambda n, of: Clause(make_sources(["anyone"]), make_match(path=path_matcher("prefix", f"/v1/items-{n}"))),
            b"/v1/items-%d/12",
        ),
        "path, for one service": (
            lambda n, of: Clause(make_sources([_CLIENT]), make_match(path=path_matcher("prefix", f"/v1/items-{n}"))),
            b"/v1/items-%d/12",
        ),
        "who of two, and path": (
            lambda n, of: Clause(
                make_sources([_CLIENT, f"spiffe://shop/service-{n}"]),
                make_match(path=path_matcher("prefix", f"/v1/items-{n}")),
            ),
            b"/v1/items-%d/12",
        ),
    }  # fmt: skip


def _rules(number: int, clause_of: ClauseOf) -> Authorization:
    specs = [RuleSpec(f"r{n}", True, False, (clause_of(n, number),), f"f:{n}") for n in range(number)]
    return at_once(make_authorization(specs, is_default_allow=False))


def _microseconds(call: Callable[[], object], calls: int = _CALLS) -> float:
    return min(repeat(call, number=calls, repeat=_ROUNDS)) / calls * 1e6


def _head_of(target: bytes, number: int) -> RequestHead:
    return _head(b"shop", target % (number - 1) if b"%" in target else target)


def main() -> None:
    """Measure and print."""
    peer = Peer("1.3", "", identity=_CLIENT)
    print("Authorization.decide, microseconds; the last rule matches")
    print(f"{'rules differ by':<26}" + "".join(f"{number:>10,}" for number in _COUNTS))
    for label, (clause_of, target) in _kinds().items():
        figures, new_clients = [], []
        for number in _COUNTS:
            rules, head = _rules(number, clause_of), _head_of(target, number)
            assert rules.decide(peer, "192.0.2.1", head, False).rule == f"r{number - 1}"
            figures.append(_microseconds(lambda rules=rules, head=head: rules.decide(peer, "192.0.2.1", head, False)))
            numbers = count()

            def newcomer(rules: Authorization = rules, head: RequestHead = head, numbers: count[int] = numbers) -> None:
                n = next(numbers)
                stranger = Peer("1.3", "", identity=f"spiffe://shop/stranger-{n}")
                rules.decide(stranger, f"198.51.{n >> 8 & 255}.{n & 255}", head, False)

            new_clients.append(_microseconds(newcomer, 20))
        print(f"{label:<26}" + "".join(f"{figure:>10.2f}" for figure in figures))
        print(f"{'  a client never seen':<26}" + "".join(f"{figure:>10.2f}" for figure in new_clients))
    print()
    rules = _rules(1_000, _kinds()["path, for anyone"][0])
    refused = rules.decide(peer, "192.0.2.1", _head(b"shop", b"/none"), False)
    odd = _head(b"shop", b"/v1/items-7/caf%C3%A9")
    print(f"{'a path with an escape':<46}{_microseconds(lambda: rules.decide(peer, '192.0.2.1', odd, False)):>8.2f}")
    nowhere = _head(b"shop", b"/none")
    what_differed = _microseconds(lambda: rules.explain(refused, peer, "192.0.2.1", nowhere))
    print(f"{'a refusal: what differed':<46}{what_differed:>8.2f}")
    by_header = Clause(make_sources(["anyone"]), make_match(headers={"x-role": value_matcher("exact", "admin")}))
    denies = at_once(make_authorization([RuleSpec("r", False, False, (by_header,), "")], is_default_allow=True))
    head = _head(b"shop", b"/v1/items/12")
    print(
        f"{'one rule that denies by a header':<46}{_microseconds(lambda: denies.decide(peer, '', head, False)):>8.2f}"
    )


if __name__ == "__main__":
    main()
