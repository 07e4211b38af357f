"""Templates of paths, alone and many at once; `tests/property/test_routing_table.py` compares with a plain reading."""

from __future__ import annotations

import pytest

from sidecar.routing import template as template_module
from sidecar.routing.match import make_match
from sidecar.routing.matchers import path_matcher
from sidecar.routing.table import Table
from sidecar.routing.template import Forks, _Fork
from tests.unit.routing import head_of, route_of


@pytest.mark.parametrize(
    ("template", "path", "matches"),
    [
        ("/orders/{id}", b"/orders/7", True), ("/orders/{id}", b"/orders", False), ("/orders/{id}", b"/orders/", False),
        ("/orders/{id}", b"/orders/7/", False), ("/orders/{id}", b"/orders/7/items", False),
        ("/orders/{id}", b"/order/7", False), ("/orders/{id}", b"/orders/a%2Fb", True),
        ("/orders/{id}/", b"/orders/7/", True), ("/orders/{id}/", b"/orders/7", False),
        ("/{a}/x/{b}", b"/1/x/2", True), ("/{a}/x/{b}", b"//x/2", False), ("/{a}/x/{b}", b"/1/y/2", False),
        ("/files/{path...}", b"/files/a", True), ("/files/{path...}", b"/files/a/b/c", True),
        ("/files/{path...}", b"/files/a/", True), ("/files/{path...}", b"/files", False),
        ("/files/{path...}", b"/files/", False), ("/files/{path...}", b"/files//a", False),
        ("/{path...}", b"/", False), ("/{path...}", b"/a", True), ("/", b"/", True), ("/", b"/a", False),
        ("/orders", b"/orders", True), ("/{a}", b"*", False), ("/{a}", b"", False), ("/{a...}", b"*", False),
    ],
)  # fmt: skip
def test_a_template_matches_segment_by_segment(template: str, path: bytes, matches: bool) -> None:
    """A name is one segment that is not empty, the rest one or more; alone, inverted, and in a table."""
    assert path_matcher("template", template).test(path) is matches
    assert path_matcher("template", template, invert=True).test(path) is (not matches and path != b"")
    table = Table([route_of("it", make_match(path=path_matcher("template", template)))])
    assert (table.find(head_of(path), "192.0.2.1") is not None) is matches


@pytest.mark.parametrize("written", ["/café/{x}", "/caf%c3%a9/{x}", "/%63af%C3%A9/{x}"])
def test_literals_are_brought_into_the_normal_form_of_paths(written: str) -> None:
    """And what `http.route` shows stays as it is written."""
    matcher = path_matcher("template", written)
    assert matcher.test(b"/caf%C3%A9/1")
    assert matcher.http_route == written


def test_letters_match_in_any_case_where_asked() -> None:
    """Of literals; and it is still that template."""
    matcher = path_matcher("template", "/Orders/{ID}", ignore_case=True)
    assert matcher.test(b"/oRDERS/x")
    assert not path_matcher("template", "/Orders/{ID}").test(b"/orders/x")
    assert matcher.http_route == "/Orders/{ID}"


def test_what_does_not_match_a_template_has_none() -> None:
    """An inverted one names no path that came, nor does any other kind; none of them a prefix to replace."""
    assert path_matcher("template", "/a/{b}", invert=True).http_route == ""
    assert path_matcher("prefix", "/a").http_route == ""
    assert path_matcher("template", "/a/{b}").replaceable is None


@pytest.mark.parametrize("text", ["orders", "/{", "/{a}/{a}", "/a?b", "/%zz", "/a\\b", "/%00"])
def test_what_no_path_can_be_is_refused(text: str) -> None:
    """It would be a route that silently never matches."""
    with pytest.raises(ValueError):
        path_matcher("template", text)


def test_the_first_in_the_order_of_the_file_wins_and_not_the_more_literal() -> None:
    """Other routers prefer literals; here a file is read from its top."""
    wide = route_of("wide", make_match(path=path_matcher("template", "/orders/{id}")))
    narrow = route_of("narrow", make_match(path=path_matcher("template", "/orders/new")))
    rest = route_of("rest", make_match(path=path_matcher("template", "/{all...}")))
    for routes in ([wide, narrow, rest], [narrow, rest, wide], [rest, wide, narrow]):
        found = Table(routes).find(head_of(b"/orders/new"), "192.0.2.1")
        assert found is routes[0]


def test_a_template_that_fails_on_a_condition_lets_others_have_their_turn() -> None:
    """On the other branch of the tree, too."""
    routes = [
        route_of("put", make_match(path=path_matcher("template", "/{a}/x"), methods=["PUT"])),
        route_of("get", make_match(path=path_matcher("template", "/v1/{b}"))),
    ]
    found = Table(routes).find(head_of(b"/v1/x"), "192.0.2.1")
    assert found is routes[1]


counts_lookups = pytest.mark.skipif(
    not str(template_module.__file__).endswith(".py"), reason="what is compiled looks up past a subclass of dict"
)


class _Counted(dict[bytes, object]):
    """Literals of a fork, which count how often anybody looks one up."""

    looked = 0

    def get(self, key: bytes, default: object = None) -> object:  # type: ignore[override]
        _Counted.looked += 1
        return super().get(key, default)


def _count(fork: _Fork[object]) -> None:
    for below in (*fork.literals.values(), *([fork.any] if fork.any is not None else [])):
        _count(below)
    fork.literals = _Counted(fork.literals)  # type: ignore[arg-type]


@counts_lookups
@pytest.mark.parametrize("path", [b"/r7/5/items/9", b"/r9999/5/items/9", b"/none/5/items/9", b"/r7" * 20_000])
def test_the_cost_does_not_grow_with_the_number_of_templates(path: bytes) -> None:
    """Of ten thousand under one host, a path looks at no more than it has segments on its own branch."""
    table = Table(
        route_of(str(n), make_match(hosts=["shop"], path=path_matcher("template", f"/r{n}/{{id}}/items/{{item}}")))
        for n in range(10_000)
    )
    forks = table._hosts[b"shop"]._forks
    assert isinstance(forks, Forks)
    _count(forks._root)  # type: ignore[arg-type]
    _Counted.looked = 0
    found = table.find(head_of(path), "192.0.2.1")
    assert (found.name if found is not None else None) == {b"/r7/5/items/9": "7", b"/r9999/5/items/9": "9999"}.get(path)
    assert 1 <= _Counted.looked <= 4


@counts_lookups
def test_templates_that_mix_names_and_literals_cost_at_most_their_own_number() -> None:
    """Every one of the 256 shapes of eight segments may match, and each is looked at once."""
    shapes = ["".join(f"/{{n{at}}}" if shape >> at & 1 else "/x" for at in range(8)) for shape in range(256)]
    table = Table(
        route_of(shape, make_match(path=path_matcher("template", shape), methods=["PUT"])) for shape in shapes
    )
    forks = table._anywhere._forks
    assert isinstance(forks, Forks)
    _count(forks._root)  # type: ignore[arg-type]
    _Counted.looked = 0
    assert table.find(head_of(b"/x" * 8), "192.0.2.1") is None
    assert _Counted.looked == 255  # the forks of a tree with two branches at each of eight segments, its ends left out


def test_a_table_of_templates_lets_go_of_them_bit_by_bit() -> None:
    """As of all others: a step for each."""
    table = Table(route_of(str(n), make_match(path=path_matcher("template", f"/r{n}/{{id}}"))) for n in range(50))
    assert sum(1 for _ in table.dismantle()) >= 100
    assert table.find(head_of(b"/r7/1"), "192.0.2.1") is None
