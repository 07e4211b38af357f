"""Finding a route. `tests/property/test_routing_table.py` compares the index with a naive matcher."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from sidecar.message import RequestHead
from sidecar.routing.actions import Respond, Route
from sidecar.routing.match import make_match
from sidecar.routing.matchers import ValueMatcher, any_path, path_matcher, value_matcher
from sidecar.routing.table import PortTable, Table, TableBuilder
from tests.unit.routing import NoTelemetry, head_of, route_of

PEER = "192.0.2.1"


def found(table: Table, head: RequestHead) -> str | None:
    """Name of the route that a head takes."""
    route = table.find(head, PEER)
    return None if route is None else route.name


def test_a_table_without_routes_finds_none() -> None:
    """Nor does one whose routes are for others."""
    assert found(Table([]), head_of()) is None
    assert found(Table([route_of("a", make_match(hosts=["other"]))]), head_of()) is None


FIRST_WINS = {
    "exact host": make_match(hosts=["a.shop"]),
    "wildcard host": make_match(hosts=["*.shop"]),
    "any host": make_match(),
    "exact path": make_match(path=path_matcher("exact", "/v1/x")),
    "prefix": make_match(path=path_matcher("prefix", "/v1")),
    "longer prefix": make_match(path=path_matcher("prefix", "/v1/x")),
    "start": make_match(path=path_matcher("starts_with", "/v")),
    "regex": make_match(path=path_matcher("regex", "/v1/.")),
    "host and path": make_match(hosts=["a.shop"], path=path_matcher("exact", "/v1/x")),
}


@pytest.mark.parametrize("first", FIRST_WINS)
@pytest.mark.parametrize("second", FIRST_WINS)
def test_the_first_route_of_the_file_wins_wherever_the_index_files_it(first: str, second: str) -> None:
    """Neither the longer prefix, nor the exact path, nor the exact host comes before what stands earlier."""
    table = Table([route_of("1", FIRST_WINS[first]), route_of("2", FIRST_WINS[second])])
    assert found(table, head_of(b"/v1/x", host=b"a.shop")) == "1"


def test_a_route_with_several_matches_takes_what_any_of_them_matches() -> None:
    """And keeps its place in the order for all of them."""
    table = Table(
        [
            route_of("any", make_match(hosts=["a", "*.b"]), make_match(path=path_matcher("exact", "/x"))),
            route_of("rest"),
        ]
    )
    assert found(table, head_of(host=b"a")) == "any"
    assert found(table, head_of(host=b"c.b")) == "any"
    assert found(table, head_of(b"/x", host=b"z")) == "any"
    assert found(table, head_of(b"/y", host=b"z")) == "rest"


def test_any_of_several_paths_is_found_as_each_alone_is() -> None:
    """Each on its own shelf of the index, and none of them is asked of other paths."""
    asked: list[bytes] = []
    counted = value_matcher("present", False)

    def count(value: bytes | None) -> bool:
        asked.append(b"")
        return counted.test(value)

    paths = any_path([path_matcher("exact", "/a"), path_matcher("prefix", "/b"), path_matcher("suffix", ".js")])
    route = route_of("any", make_match(path=paths, headers={"x": replace(counted, test=count)}))
    table = Table([route, route_of("rest")])
    assert [found(table, head_of(path)) for path in (b"/a", b"/b/c", b"/x.js")] == ["any"] * 3
    assert len(asked) == 3
    assert [found(table, head_of(path)) for path in (b"/a/x", b"/bc", b"/")] == ["rest"] * 3
    assert len(asked) == 3


def test_a_condition_that_fails_lets_later_routes_have_their_turn() -> None:
    """Among entries of one place in the index, and across places."""
    beta = make_match(hosts=["shop"], cookies={"BETA": value_matcher("exact", "1")})
    table = Table([route_of("beta", beta), route_of("stable", make_match(hosts=["shop"])), route_of("all")])
    assert found(table, head_of(b"/", b"Cookie: BETA=1")) == "beta"
    assert found(table, head_of(b"/", b"Cookie: BETA=2")) == "stable"
    assert found(table, head_of(host=b"other")) == "all"


def test_all_wildcards_above_a_host_are_looked_up() -> None:
    """The nearest as well as the farthest."""
    table = Table(
        [route_of("near", make_match(hosts=["*.b.c.d"], methods=["PUT"])), route_of("far", make_match(hosts=["*.d"]))]
    )
    assert found(table, head_of(host=b"a.b.c.d", method=b"PUT")) == "near"
    assert found(table, head_of(host=b"a.b.c.d")) == "far"
    assert found(table, head_of(host=b"b.c.d", method=b"PUT")) == "far"
    assert found(table, head_of(host=b"d")) is None


class _Counting:
    """Stands in the place of a value's question and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def matcher(self) -> ValueMatcher:
        return ValueMatcher("exact", "counted", self._ask)

    def _ask(self, value: bytes | None) -> bool:
        self.asked += 1
        return False


@pytest.mark.parametrize("kind", ["host", "wildcard", "exact", "prefix", "starts_with"])
def test_routes_for_other_hosts_and_paths_are_not_even_asked(kind: str) -> None:
    """So the cost does not grow with their number: of 300 routes that differ by place, one is asked."""
    counting = _Counting()
    headers = {"x": counting.matcher()}

    def match(number: int) -> object:
        if kind == "host":
            return make_match(hosts=[f"h{number}"], headers=headers)
        if kind == "wildcard":
            return make_match(hosts=[f"*.h{number}"], headers=headers)
        return make_match(path=path_matcher(kind, f"/p/{number:03}"), headers=headers)

    table = Table([route_of(str(number), match(number)) for number in range(300)])  # type: ignore[arg-type]
    host = {"host": b"h299", "wildcard": b"a.h299"}.get(kind, b"shop")
    assert found(table, head_of(b"/p/299", host=host)) is None
    assert counting.asked == 1


def test_routes_after_the_match_are_not_asked() -> None:
    """What is found early ends the search in every other list."""
    counting = _Counting()
    later = [route_of(str(n), make_match(headers={"x": counting.matcher()})) for n in range(10)]
    assert found(Table([route_of("first", make_match(hosts=["shop"])), *later]), head_of()) == "first"
    assert counting.asked == 0


@pytest.mark.parametrize(
    ("path", "host"), [(b"/" * 60_000, b"shop"), (b"/a" * 30_000, b"shop"), (b"/", b"a." * 30_000 + b"z")]
)
def test_a_path_or_host_of_very_many_parts_is_looked_up_no_deeper_than_the_routes_go(path: bytes, host: bytes) -> None:
    """A hostile request costs what another costs; not thirty thousand lookups of 60 kB each."""
    table = Table(
        [
            route_of("wild", make_match(hosts=["*.a.z"], methods=["PUT"])),
            route_of("deep", make_match(path=path_matcher("prefix", "/a/a/a"), methods=["PUT"])),
            route_of("all"),
        ]
    )
    lookups: list[bytes] = []

    class Noting(dict[bytes, object]):
        def get(self, key: bytes, default: object = None) -> object:  # type: ignore[override]
            lookups.append(key)
            return super().get(key, default)

    table._suffixes = Noting(table._suffixes)  # type: ignore[assignment]
    table._anywhere._prefixes = Noting(table._anywhere._prefixes)  # type: ignore[assignment]
    assert found(table, head_of(path, host=host)) == "all"
    assert len(lookups) <= 6
    assert sum(map(len, lookups)) < 100


def test_connect_and_options_asterisk_take_routes_without_a_path() -> None:
    """They have no path that a prefix, not even `/`, could match."""
    table = Table([route_of("root", make_match(path=path_matcher("prefix", "/"))), route_of("all")])
    assert found(table, head_of(b"", method=b"CONNECT")) == "all"
    assert found(table, head_of(b"*", method=b"OPTIONS")) == "all"
    assert found(table, head_of(b"/")) == "root"


def test_asking_a_route_gives_the_same_answer_as_the_table() -> None:
    """`Route.is_match` is what explanations ask."""
    route = route_of("a", make_match(hosts=["shop"]), make_match(methods=["PUT"]))
    assert route.is_match(head_of())
    assert route.is_match(head_of(host=b"x", method=b"PUT"))
    assert not route.is_match(head_of(host=b"x"))
    assert route_of("all").is_match(head_of())


def test_a_table_that_is_built_route_by_route_is_the_same() -> None:
    """In every shelf, wildcards included."""
    routes = [route_of(name, match) for name, match in FIRST_WINS.items()]
    routes.append(route_of("deep", make_match(hosts=["*.a.b.c"])))
    builder = TableBuilder()
    for route in routes:
        builder.add(route)
    built, whole = builder.table(), Table(routes)
    assert built.routes == whole.routes
    for host in (b"a.shop", b"b.shop", b"x.y.a.b.c", b"other"):
        for path in (b"/", b"/v1", b"/v1/x", b"/x.png"):
            assert found(built, head_of(path, host=host)) == found(whole, head_of(path, host=host))


def test_a_table_lets_go_of_its_routes_bit_by_bit() -> None:
    """No step frees more than one route, and in the end nothing is left."""

    class Counted(NoTelemetry):
        alive = 0

        def __init__(self) -> None:
            Counted.alive += 1

        def __del__(self) -> None:
            Counted.alive -= 1

    matches = tuple(FIRST_WINS.values())
    table = Table(Route(f"{n}", matches, Respond(200), Counted()) for n in range(50))
    left = [Counted.alive]
    for _ in table.dismantle():
        left.append(Counted.alive)
    assert (left[0], left[-1], table.routes) == (50, 0, ())
    assert max(before - after for before, after in pairwise(left)) == 1
    assert found(table, head_of()) is None


def built(*routes: Route) -> Table:
    """The table of these routes, as a load makes it."""
    builder = TableBuilder()
    for route in routes:
        builder.add(route)
    return builder.table()


def test_a_host_with_a_port_takes_only_what_is_for_that_port() -> None:
    """In the order of the file; a host without a port takes what is for any."""
    narrow = route_of("narrow", make_match(hosts=["shop:9090", "other"]))
    wide = route_of("wide", make_match(hosts=["shop"]))
    first, last = built(narrow, wide, route_of("all")), built(wide, narrow)
    asked = {port: head_of(port=port) for port in (None, 80, 9090)}
    assert [found(first, head) for head in asked.values()] == ["wide", "wide", "narrow"]
    assert [found(last, head) for head in asked.values()] == ["wide", "wide", "wide"]
    assert found(first, head_of(host=b"other", port=9090)) == "narrow"
    assert found(first, head_of(host=b"x", port=9090)) == "all"
    assert [route.name for route in first.routes] == ["narrow", "wide", "all"]


def test_routes_without_ports_are_an_ordinary_table() -> None:
    """So that no request is asked for its port where no route is."""
    assert type(built(route_of("a", make_match(hosts=["shop"])))) is Table
    assert type(built(route_of("a", make_match(hosts=["shop:80"])))) is PortTable
    assert type(built(route_of("a", make_match(hosts=["shop:80", "*"])))) is Table


def test_a_table_with_ports_lets_go_of_everything_bit_by_bit() -> None:
    """As one without: afterwards nothing is found, and the routes are nobody's."""
    table = built(*(route_of(str(n), make_match(hosts=[f"h{n}:9090", f"h{n}"])) for n in range(50)))
    assert found(table, head_of(host=b"h7", port=9090)) == "7"
    steps = sum(1 for _ in table.dismantle())
    assert steps >= 150
    assert table.routes == ()
    assert found(table, head_of(host=b"h7", port=9090)) is None
