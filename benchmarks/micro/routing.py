"""
What finding a route costs, with 10, 1,000 and 10,000 routes of which the last matches.

    python -m benchmarks.micro.routing

Prints microseconds per `Table.find`: the best of several rounds, so that other work on the machine counts little.
Measured on a 2-core virtual machine with Python 3.11:

    Table.find, microseconds; the last route matches
    routes differ by                10     1,000    10,000
    exact host                    0.30      0.31      0.33
    wildcard host                 1.11      1.14      1.15
    exact path                    0.34      0.32      0.35
    prefix                        1.19      1.18      1.18
    starts_with, no host          0.35      0.36      0.36

    host and a cookie                                 0.77
    host and a header                                 0.83
    host and a query parameter (not yet parsed)       1.36
    host and a regular expression                     1.72
    split 95/5 at random                              0.10
    split 95/5 by cookie                              1.97
"""

from __future__ import annotations

from collections.abc import Callable
from timeit import repeat

from sidecar.http1.grammar import field_of
from sidecar.message import RequestHead
from sidecar.routing.actions import Respond, Route
from sidecar.routing.match import Match, make_match
from sidecar.routing.matchers import path_matcher, value_matcher
from sidecar.routing.split import make_split
from sidecar.routing.table import Table

_COUNTS = (10, 1_000, 10_000)
_CALLS, _ROUNDS = 20_000, 7


class _Unmeasured:
    """Stands for telemetry, which finding a route does not touch."""

    route = ""
    upstream = ""


def _head(host: bytes, path: bytes, query: bytes | None = None) -> RequestHead:
    head = RequestHead(b"GET", path, query, 1)
    head.host = host
    head.fields = [
        field_of(line)
        for line in (
            b"Host: " + host,
            b"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
            b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            b"Accept-Language: en-GB,en;q=0.5",
            b"Accept-Encoding: gzip, deflate, br",
            b"Cookie: session=0a1b2c3d; uid=u-1042; BETA_USER=true",
            b"Sec-Fetch-Mode: navigate",
            b"x-canary: 1",
        )
    ]
    for field in head.fields:
        head.kinds |= field.kind
    return head


def _table(count: int, match_of: Callable[[int], Match]) -> Table:
    return Table([Route(f"r{n}", (match_of(n),), Respond(200), _Unmeasured()) for n in range(count)])


def _microseconds(call: Callable[[], object]) -> float:
    return min(repeat(call, number=_CALLS, repeat=_ROUNDS)) / _CALLS * 1e6


def _tables() -> dict[str, tuple[Callable[[int], Match], Callable[[int], RequestHead]]]:
    return {
        "exact host": (
            lambda n: make_match(hosts=[f"service-{n}"]),
            lambda n: _head(b"service-%d" % n, b"/v1/items/12"),
        ),
        "wildcard host": (
            lambda n: make_match(hosts=[f"*.service-{n}.example.com"]),
            lambda n: _head(b"a.service-%d.example.com" % n, b"/v1/items/12"),
        ),
        "exact path": (
            lambda n: make_match(hosts=["shop"], path=path_matcher("exact", f"/v1/items/{n}")),
            lambda n: _head(b"shop", b"/v1/items/%d" % n),
        ),
        "prefix": (
            lambda n: make_match(hosts=["shop"], path=path_matcher("prefix", f"/v1/items-{n}")),
            lambda n: _head(b"shop", b"/v1/items-%d/12" % n),
        ),
        "template": (
            lambda n: make_match(hosts=["shop"], path=path_matcher("template", f"/v1/items-{n}/{{item}}")),
            lambda n: _head(b"shop", b"/v1/items-%d/12" % n),
        ),
        "starts_with, no host": (
            lambda n: make_match(path=path_matcher("starts_with", f"/v1/{n:05}")),
            lambda n: _head(b"shop", b"/v1/%05d/12" % n),
        ),
    }


def _conditions() -> dict[str, Match]:
    one = value_matcher("exact", "1")
    true = value_matcher("exact", "true")
    return {
        "host and a cookie": make_match(hosts=["shop"], cookies={"BETA_USER": true}),
        "host and a header": make_match(hosts=["shop"], headers={"x-canary": one}),
        "host and a query parameter (not yet parsed)": make_match(hosts=["shop"], query={"debug": one}),
        "host and a regular expression": make_match(hosts=["shop"], path=path_matcher("regex", "/v[0-9]+/items/.*")),
    }


def main() -> None:
    """Measure and print."""
    print("Table.find, microseconds; the last route matches")
    print(f"{'routes differ by':<24}" + "".join(f"{count:>10,}" for count in _COUNTS))
    for label, (match_of, head_of) in _tables().items():
        figures = []
        for count in _COUNTS:
            table, head = _table(count, match_of), head_of(count - 1)
            found = table.find(head, "192.0.2.1")
            assert found is not None
            assert found.name == f"r{count - 1}"
            figures.append(_microseconds(lambda table=table, head=head: table.find(head, "192.0.2.1")))
        print(f"{label:<24}" + "".join(f"{figure:>10.2f}" for figure in figures))
    print()
    for label, match in _conditions().items():
        table, head = _table(1, lambda n, match=match: match), _head(b"shop", b"/v1/items/12", b"debug=1&page=2")

        def find(table: Table = table, head: RequestHead = head) -> object:
            head.params = None
            return table.find(head, "192.0.2.1")

        assert find() is not None
        print(f"{label:<46}{_microseconds(find):>8.2f}")
    head = _head(b"shop", b"/")
    for label, sticky in (("split 95/5 at random", None), ("split 95/5 by cookie", ("cookie", "uid"))):
        split = make_split(["a", "b"], [95, 5], sticky)
        assert split is not None
        print(f"{label:<46}{_microseconds(lambda split=split: split.choose(head, '192.0.2.1')):>8.2f}")


if __name__ == "__main__":
    main()
