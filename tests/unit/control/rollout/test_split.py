"""What widens, what changes and what narrows: one change of a compiled file after the other."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from sidecar.control.rollout.listeners import covers
from sidecar.control.rollout.split import Split, split

Values = dict[str, Any]
A: Values = {"discover": "a"}
B: Values = {"discover": "b"}


def file(unmatched: str = "deny", routes: list[Values] | None = None, **upstreams: Values) -> Values:
    """A caller's file."""
    return {
        "service": "shop",
        "inbound": {"app": "127.0.0.1:8080"},
        "outbound": {"unmatched": unmatched, "routes": routes or []},
        "upstreams": upstreams,
        "tests": [{"name": "t", "request": {"url": "http://b/"}, "expect": {"status": 404}}],
    }


def cut(old: Values, new: Values) -> Split:
    """The parts; neither tree is changed by cutting."""
    before = copy.deepcopy((old, new))
    parts = split([old], new)
    assert (old, new) == before
    return parts


def without_tests(tree: Values) -> Values:
    return {key: value for key, value in tree.items() if key != "tests"}


def test_same_file_has_no_part() -> None:
    """Not even a copy is made."""
    tree = file(a=A)
    parts = cut(tree, tree)
    assert parts.widened[0] is tree
    assert parts.routed is tree


def test_routes_and_settings_are_one_part() -> None:
    """Nothing is added that was not there, nothing is lost."""
    old = file(a=A)
    new = file(routes=[{"to": "a"}], a={**A, "connect_timeout": "2s"}) | {"drain": {"delay": "3s"}}
    parts = cut(old, new)
    assert parts.widened[0] is old
    assert parts.routed is new


def test_new_host_widens_where_it_was_answered_404() -> None:
    """The upstream comes with the widening, the routes to it with the waves; tests belong to neither."""
    old = file(a=A)
    new = file(routes=[{"to": "b"}], a={**A, "timeout": "9s"}, b=B)
    parts = cut(old, new)
    assert parts.widened[0] == without_tests(file(a=A, b=B))
    assert parts.routed is new


def test_new_host_is_a_route_where_it_passed() -> None:
    """It was sent where it was addressed, and would now go elsewhere: that is for the waves to try."""
    old, new = file("passthrough", a=A), file("passthrough", a=A, b=B)
    parts = cut(old, new)
    assert parts.widened[0] is old
    assert parts.routed is new


def test_change_that_only_adds_is_the_new_file_with_its_tests() -> None:
    """And one that only takes away keeps the old one with its own, until it narrows."""
    small, large = file(a=A), file(a=A, b=B)
    large["inbound"] = {**large["inbound"], "listen": ["0.0.0.0:15100", "0.0.0.0:15000"]}
    assert cut(small, large).widened[0] is large
    assert cut(large, small).routed is large


def test_removed_host_narrows_where_it_is_answered_404_then() -> None:
    """Callers' routes change first; the host goes when all have them."""
    old, new = file(routes=[{"to": "b"}], a=A, b=B), file(a=A)
    parts = cut(old, new)
    assert parts.widened[0] is old
    assert parts.routed == without_tests(file(a=A, b=B))


def test_removed_host_is_a_route_where_it_passes_then() -> None:
    """It goes elsewhere, not nowhere."""
    old, new = file("passthrough", a=A, b=B), file("passthrough", a=A)
    assert cut(old, new).routed is new


def test_upstream_without_hosts_comes_with_its_routes() -> None:
    """Nobody could call it before; a file for it alone would be read by everyone for nothing."""
    subset = {"discover": "a.beta", "hosts": []}
    old, new = file(a=A), file(routes=[{"to": "a.beta"}], a=A, **{"a.beta": subset})
    assert cut(old, new).widened[0] is old
    assert cut(new, old).routed is old


def test_host_that_changes_hands_changes_with_the_routes() -> None:
    """In no file does it belong to both, and in no part to nobody."""
    old = file(a={**A, "hosts": ["a", "shared"]}, b=B)
    new = file(a=A, b={**B, "hosts": ["b", "shared"]})
    parts = cut(old, new)
    assert parts.widened[0] is old
    assert parts.routed is new


def test_host_within_a_pattern_is_a_route() -> None:
    """`*.x` took it so far."""
    old = file(a={**A, "hosts": ["*.x"]})
    new = file(a={**A, "hosts": ["*.x"]}, b={**B, "hosts": ["b.x"]})
    assert cut(old, new).widened[0] is old
    assert cut(new, old).routed is old


def test_further_port_of_a_known_host_is_a_route() -> None:
    """So far `a:9090` went where `a` goes."""
    old = file(a=A)
    new = file(a=A, **{"a.grpc": {"discover": "a.grpc", "hosts": ["a:9090"]}})
    assert cut(old, new).widened[0] is old


def test_known_upstream_gets_its_new_hosts_before_its_new_settings() -> None:
    """The definition is the old one until its wave."""
    old, new = file(a=A), file(a={"discover": "a", "hosts": ["a", "a.shop"], "connect_timeout": "2s"})
    parts = cut(old, new)
    assert parts.widened[0]["upstreams"]["a"] == {"discover": "a", "hosts": ["a", "a.shop"]}
    assert parts.routed is new
    back = cut(new, old)
    assert back.routed["upstreams"]["a"] == {"discover": "a", "hosts": ["a", "a.shop"]}


def test_new_port_widens_and_an_old_one_narrows() -> None:
    """The callee's end of a call stands before the first caller and after the last."""
    old, new = file(), file()
    old["inbound"] = {"app": "127.0.0.1:8080", "listen": "0.0.0.0:15000"}
    new["inbound"] = {
        "app": "127.0.0.1:9999",
        "listen": ["0.0.0.0:15000", {"address": "0.0.0.0:15100", "name": "grpc"}],
    }
    both = [{"address": "0.0.0.0:15000"}, {"address": "0.0.0.0:15100", "name": "grpc"}]
    assert cut(old, new).widened[0]["inbound"] == {"app": "127.0.0.1:8080", "listen": both}
    assert cut(old, new).routed is new
    assert cut(new, old).widened[0] is new
    assert cut(new, old).routed["inbound"] == {"app": "127.0.0.1:8080", "listen": both}


@pytest.mark.parametrize("address", ["127.0.0.1:15001", "0.0.0.0:9901", "[::]:15020", "0.0.0.0:15000"])
def test_port_that_is_taken_changes_hands_with_the_routes(address: str) -> None:
    """No file in between binds a port twice: the old one's outbound, admin, metrics or own listener has it."""
    old, new = file(), file()
    new["inbound"] = {"app": "127.0.0.1:8080", "listen": [{"address": address, "app": "127.0.0.1:9"}]}
    new["outbound"] = {**new["outbound"], "listen": "127.0.0.1:15011"}
    new |= {"admin": {"listen": "127.0.0.1:9902"}, "telemetry": {"metrics": {"listen": "0.0.0.0:15021"}}}
    widened = cut(old, new).widened[0]
    assert widened["inbound"] == old["inbound"]
    assert widened["outbound"]["listen"] == [{"address": "127.0.0.1:15001"}, {"address": "127.0.0.1:15011"}]


def test_name_of_a_port_that_moves_stays_single() -> None:
    """`http` on another port: two listeners of one name would be no valid file."""
    old, new = file(), file()
    old["inbound"] = {"listen": [{"address": "0.0.0.0:15000", "name": "http"}]}
    new["inbound"] = {"listen": [{"address": "0.0.0.0:15900", "name": "http"}]}
    parts = cut(old, new)
    assert parts.widened[0] is old
    assert parts.routed is new


def test_port_of_a_dependency_comes_with_its_host() -> None:
    """Where the host is known in the widened file, else with the routes: it would lead to a passthrough."""
    for unmatched, is_widened in (("deny", True), ("passthrough", False)):
        old, new = file(unmatched, a=A), file(unmatched, a=A, b=B)
        new["outbound"] = {**new["outbound"], "listen": ["127.0.0.1:15001", {"address": "127.0.0.1:9101", "host": "b"}]}
        assert (cut(old, new).widened[0] is not old) is is_widened


def test_whole_side_that_was_not_there_comes_with_what_it_needs() -> None:
    """An inbound whose routes name an upstream, beside an outbound that stays as it is."""
    old = {"service": "shop", "outbound": {"routes": []}, "upstreams": {"a": A}}
    inbound = {"app": "127.0.0.1:1", "routes": [{"to": {"c": 1, "d": 2}, "mirror": "e"}, {"to": [{"upstream": "f"}]}]}
    inbound["routes"] += [  # type: ignore[attr-defined]
        {"to": [{"redirect": {"host": "x"}}, "g", {"upstream": "h", "rewrite": {"path": "/"}}]},
        {"to": "c", "mirror": [{"to": "i", "percent": 1}, "j"]},
    ]
    needed = {name: {"endpoints": [], "hosts": []} for name in "cdefghij"}
    new = {"service": "shop", "inbound": inbound, "outbound": {"routes": []}, "upstreams": {"a": A, **needed}}
    assert cut(old, new).widened[0] == new
    assert cut(new, old).routed == {**old, "inbound": inbound, "upstreams": {"a": A, **needed}}


def test_whole_side_whose_port_is_taken_comes_with_the_routes() -> None:
    """Both files are good, and one with both sides would bind a port twice."""
    old = {"service": "shop", "outbound": {"listen": "127.0.0.1:15000", "routes": []}}
    new = {"service": "shop", "inbound": {"app": "127.0.0.1:1"}, "outbound": {"routes": []}}
    assert "inbound" not in cut(old, new).widened[0]
    assert "outbound" not in split([old], {"service": "shop", "inbound": {"app": "127.0.0.1:1"}}).routed


def test_unmatched_is_open_as_long_as_either_file_has_it_open() -> None:
    """Passing widens, denying narrows."""
    old, new = file("deny", a=A), file("passthrough", a=A)
    assert cut(old, new).widened[0]["outbound"]["unmatched"] == "passthrough"
    assert cut(old, new).routed is new
    assert cut(new, old).widened[0] is new
    assert cut(new, old).routed["outbound"]["unmatched"] == "passthrough"


def test_several_old_files_lead_to_one() -> None:
    """A rollout that was superseded: each is widened by itself, and what any of them has stays until the end."""
    olds = [file(a=A, b=B), file(a=A, c={"discover": "c"})]
    new = file(a=A, d={"discover": "d"})
    parts = split(olds, new)
    assert [sorted(tree["upstreams"]) for tree in parts.widened] == [["a", "b", "d"], ["a", "c", "d"]]
    assert sorted(parts.routed["upstreams"]) == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("pattern", "host", "covered"),
    [
        ("a", "a", True), ("a", "b", False), ("a", "a:80", True), ("a:80", "a", False), ("a:80", "a:80", True),
        ("*", "a", True), ("*.x", "a.x", True), ("*.x", "x", False), ("*.x", "a.x:80", True), ("*.x", "*.y.x", True),
        ("*.y.x", "*.x", False), ("*.x", "*.x", True), ("*.x:80", "a.x:80", True), ("*.x:80", "a.x", False),
    ],
)  # fmt: skip
def test_pattern_covers_what_it_would_take(pattern: str, host: str, covered: bool) -> None:
    """A host without a port is for every port."""
    assert covers([pattern], host) is covered
