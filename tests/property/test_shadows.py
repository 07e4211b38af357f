"""What `sidecar check` says of routes that get nothing, or not all: true for any routes, by the code that routes."""

from __future__ import annotations

from hypothesis import event, given, settings
from hypothesis import strategies as st

from sidecar.http1.grammar import GrammarError, authority
from sidecar.insight.warnings.questions import head_with, host_includes, path_includes, value_includes
from sidecar.insight.warnings.regex_words import word_of
from sidecar.insight.warnings.shadows import shadows_of
from sidecar.message import RequestHead
from sidecar.routing.actions import Respond, Route
from sidecar.routing.match import host_matches, host_pattern, make_match
from sidecar.routing.matchers import compile_regex, path_matcher, value_matcher
from sidecar.routing.table import Table, TableBuilder
from tests.property.test_routing_table import (
    LABELS,
    NoTelemetry,
    compiled,
    head_of,
    hosts,
    path_questions,
    paths,
    patterns,
    request_specs,
    route_specs,
    value_questions,
)
from tests.support.thoroughness import examples


def table_of(routes: list[list[dict[str, object]]]) -> Table[Route]:
    builder: TableBuilder[Route] = TableBuilder()
    for position, matches in enumerate(routes):
        builder.add(Route(str(position), tuple(compiled(match) for match in matches), Respond(200), NoTelemetry()))
    return builder.table()


@settings(max_examples=examples(600), deadline=None)
@given(routes=route_specs, requests=st.lists(request_specs, min_size=1, max_size=12))
def test_no_request_takes_a_route_that_is_called_dead(
    routes: list[list[dict[str, object]]], requests: list[dict[str, str]]
) -> None:
    """Nor one of its matches that is: whatever they take, an earlier route takes before."""
    table = table_of(routes)
    dead = {
        shadow.order: shadow for shadow in shadows_of(table, len(routes)) if shadow.is_whole and shadow.match is None
    }
    parts = [shadow for shadow in shadows_of(table, len(routes)) if shadow.is_whole and shadow.match is not None]
    event(f"dead: {bool(dead)}, dead matches: {bool(parts)}")
    for request in requests:
        head = head_of(request)
        found = table.find(head, "192.0.2.1")
        assert found is None or int(found.name) not in dead
        for shadow in (*dead.values(), *parts):
            route = table.routes[shadow.order]
            matches = route.matches if shadow.match is None else (route.matches[shadow.match],)
            if any(match.matches(head) for match in matches):
                assert found is not None
                assert int(found.name) < shadow.order
                # One of those that are named would take it, if none before them did.
                assert any(table.routes[one].is_match(head) for one in shadow.by)


@settings(max_examples=examples(600), deadline=None)
@given(routes=route_specs)
def test_every_example_goes_where_it_is_said_to_go(routes: list[list[dict[str, object]]]) -> None:
    """The later route matches it and the earlier one, which is named first, takes it."""
    table = table_of(routes)
    for shadow in shadows_of(table, len(routes)):
        event(f"whole: {shadow.is_whole}, example: {shadow.example is not None}")
        if shadow.example is None:
            assert shadow.is_whole
            continue
        later = table.routes[shadow.order]
        found = table.find(shadow.example.head, "192.0.2.1")
        assert later.is_match(shadow.example.head)
        assert found is table.routes[shadow.by[0]]
        assert shadow.by[0] < shadow.order


@settings(max_examples=examples(600), deadline=None)
@given(routes=route_specs, spare=st.integers(0, 11))
def test_a_copy_of_a_route_is_dead(routes: list[list[dict[str, object]]], spare: int) -> None:
    """A route that comes twice gets nothing the second time, whatever it asks."""
    if not routes:
        return
    copied = [*routes, routes[spare % len(routes)]]
    dead = {one.order for one in shadows_of(table_of(copied), len(copied)) if one.is_whole and one.match is None}
    assert len(copied) - 1 in dead


question_pairs = st.tuples(value_questions(), value_questions())


@settings(max_examples=examples(1500), deadline=None)
@given(pair=question_pairs, values=st.lists(st.sampled_from([None, "", "1", "12", "121", "A", "a", "Aa", "x1"])))
def test_a_value_of_what_is_included_is_one_of_what_includes(
    pair: tuple[dict[str, object], dict[str, object]], values: list[str | None]
) -> None:
    """For every kind of question, in any case, inverted or not; also for a value that is not there."""
    wide, narrow = (make_match(headers={"x": value_matcher(**one)}).conditions[0] for one in pair)  # type: ignore[arg-type]
    if value_includes(wide, narrow):
        for value in values:
            head = head_with("header x", None if value is None else value.encode())
            assert wide.test(head) or not narrow.test(head)


@settings(max_examples=examples(1500), deadline=None)
@given(pair=st.tuples(path_questions(), path_questions()), asked=st.lists(st.one_of(paths, st.just("*")), max_size=8))
def test_a_path_of_what_is_included_is_one_of_what_includes(
    pair: tuple[dict[str, object], dict[str, object]], asked: list[str]
) -> None:
    """Likewise of paths, and their segments."""
    wide, narrow = (path_matcher(**one) for one in pair)  # type: ignore[arg-type]
    own = [str(one["operand"]) + more for one in pair for more in ("", "/", "x", "/v1")]
    if path_includes(wide, narrow):
        for path in (*asked, *own):
            assert wide.test(path.encode()) or not narrow.test(path.encode())


@settings(max_examples=examples(1000), deadline=None)
@given(wide=patterns, narrow=patterns, asked=st.lists(hosts, min_size=1), port=st.sampled_from([None, 80, 9090]))
def test_a_host_of_what_is_included_is_one_of_what_includes(
    wide: str, narrow: str, asked: list[str], port: int | None
) -> None:
    """With ports, and wildcards below wildcards."""
    one, other = host_pattern(wide), host_pattern(narrow)
    assert host_includes(one, one)
    if not host_includes(one, other):
        return
    bare = narrow.partition(":")[0].removeprefix("*.")
    for host in (*asked, bare, *(f"{label}.{bare}" for label in LABELS)):
        head = RequestHead(b"GET", b"/", None, 1)
        try:
            head.host, head.port = authority(host.encode())[0], port
        except GrammarError:
            continue
        assert host_matches(one, head) or not host_matches(other, head)


@settings(max_examples=examples(600), deadline=None)
@given(
    pattern=st.recursive(
        st.sampled_from(["a", "/", r"\d", r"\.", ".", "[a-c]", "[^a]", "[0-9_]", r"[\w-]", "[[:digit:]]", r"\w", "x"]),
        lambda inner: st.one_of(
            st.lists(inner, min_size=1, max_size=3).map("".join),
            st.builds("({}|{})".format, inner, inner),
            st.builds("(?:{}){}".format, inner, st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "+?"])),
            st.builds("(?P<n>{})?".format, st.just("v")),
        ),
        max_leaves=6,
    ).filter(lambda text: text.count("(?P<n>") < 2)
)
def test_words_of_regular_expressions_match_them(pattern: str) -> None:
    """For what people write in routes."""
    word = word_of(pattern)
    assert word is not None
    assert compile_regex(pattern).fullmatch(word.encode()) is not None
