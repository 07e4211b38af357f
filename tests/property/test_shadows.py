"""What `sidecar check` says of routes that get nothing, or not all: true for any routes, by the code that routes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from hypothesis import event, given, settings
from hypothesis import strategies as st

from sidecar.insight.warnings.questions import head_with, host_includes, path_includes, value_includes
from sidecar.insight.warnings.regex_words import word_of
from sidecar.insight.warnings.shadows import shadows_of
from sidecar.message import RequestHead
from sidecar.routing.actions import Respond, Route
from sidecar.routing.match import host_matches, host_pattern, make_match
from sidecar.routing.matchers import compile_regex, path_matcher, value_matcher
from sidecar.routing.table import Table, TableBuilder
from tests.property.test_routing_table import (
    NoTelemetry,
    compiled,
    head_of,
    patterns,
    request_specs,
    route_specs,
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


VALUES = [None, b"", b"1", b"12", b"121", b"A", b"a", b"aA", b"xa", b"Ax1", b"7", b"-1"]
PATHS = ["/", "/v", "/v1", "/v1/", "/v1/x", "/v10", "/V1", "/V1/x", "//", "//v1", "/x/v1", "/x", "/xv1/", "*", ""]
HOSTS = ["a", "b", "com", "a.com", "b.com", "a.b.com", "b.a.com", "com.com", "a.a.a.com", "acom", "x.a", ""]

operands = st.sampled_from(["1", "12", "2", "A", "a", "aA", "x"])
rarely = st.sampled_from([False, False, False, True])


@st.composite
def questions_of_values(draw: st.DrawFn) -> dict[str, object]:
    kind = draw(st.sampled_from(["exact", "prefix", "suffix", "contains", "regex", "range", "present"]))
    operand: object = draw(operands)
    if kind == "regex":
        operand = f"{operand}{draw(st.sampled_from(['', '.*', '[0-9]*']))}"
    if kind == "range":
        operand = (draw(st.sampled_from([0, 7])), draw(st.sampled_from([8, 13])))
    if kind == "present":
        operand = draw(st.booleans())
    return {"kind": kind, "operand": operand, "ignore_case": draw(rarely), "invert": draw(rarely)}


@st.composite
def questions_of_paths(draw: st.DrawFn) -> dict[str, object]:
    kind = draw(st.sampled_from(["exact", "prefix", "prefix", "starts_with", "suffix", "contains", "regex"]))
    operand = draw(st.sampled_from([path for path in PATHS if path.startswith("/")]))
    if kind == "regex":
        operand = draw(st.sampled_from([f"{operand}.*", operand, ".*", "/.*", "^/.*$"]))
    return {"kind": kind, "operand": operand, "ignore_case": draw(rarely), "invert": draw(rarely)}


@settings(max_examples=examples(2000), deadline=None)
@given(
    pair=st.tuples(questions_of_values(), questions_of_values()), part=st.sampled_from(["headers", "cookies", "query"])
)
def test_a_value_of_what_is_included_is_one_of_what_includes(
    pair: tuple[dict[str, object], dict[str, object]], part: str
) -> None:
    """For every kind of question, in any case, inverted or not; also for a value that is not there."""
    wide, narrow = (make_match(**{part: {"x": value_matcher(**one)}}).conditions[0] for one in pair)  # type: ignore[arg-type]
    if value_includes(wide, narrow):
        for value in VALUES:
            head = head_with(wide.part, value)
            assert wide.test(head) or not narrow.test(head)


@settings(max_examples=examples(2000), deadline=None)
@given(pair=st.tuples(questions_of_paths(), questions_of_paths()))
def test_a_path_of_what_is_included_is_one_of_what_includes(pair: tuple[dict[str, object], dict[str, object]]) -> None:
    """Likewise of paths, and their segments."""
    wide, narrow = (path_matcher(**one) for one in pair)  # type: ignore[arg-type]
    if path_includes(wide, narrow):
        for path in PATHS:
            assert wide.test(path.encode()) or not narrow.test(path.encode())


@settings(max_examples=examples(1500), deadline=None)
@given(wide=st.lists(patterns, max_size=2), narrow=st.lists(patterns, max_size=2))
def test_a_host_of_what_is_included_is_one_of_what_includes(wide: list[str], narrow: list[str]) -> None:
    """With ports, and wildcards below wildcards: of two patterns, and of two routes that ask for nothing else."""
    for one, other in itertools.product(wide, narrow):
        first, second = host_pattern(one), host_pattern(other)
        if host_includes(first, second):
            assert all(host_matches(first, head) for head in heads() if host_matches(second, head))
    table = table_of([[{**NOTHING, "hosts": wide}], [{**NOTHING, "hosts": narrow}]])
    is_dead = any(shadow.is_whole for shadow in shadows_of(table, 2))
    found = {table.find(head, "192.0.2.1") for head in heads()}
    assert not (is_dead and table.routes[1] in found)


NOTHING: dict[str, object] = {"hosts": [], "paths": [], "methods": [], "header": None, "cookie": None, "query": None}


def heads() -> Iterator[RequestHead]:
    for host, port in itertools.product(HOSTS, (None, 80, 9090)):
        head = RequestHead(b"GET", b"/", None, 1)
        head.host, head.port = host.encode(), port
        yield head


@settings(max_examples=examples(1500), deadline=None)
@given(
    pair=st.tuples(questions_of_values(), questions_of_values()),
    methods=st.tuples(*[st.lists(st.sampled_from(["GET", "PUT", "HEAD"]), max_size=2, unique=True)] * 3),
)
def test_methods_are_included_with_the_rest(
    pair: tuple[dict[str, object], dict[str, object]], methods: tuple[list[str], ...]
) -> None:
    """Three routes by method, of which earlier ones may take all of the last together."""
    first, second = ({**NOTHING, "header": one} for one in pair)
    specs = [{**first, "methods": methods[0]}, {**NOTHING, "methods": methods[1]}, {**second, "methods": methods[2]}]
    table = table_of([[spec] for spec in specs])
    dead = {shadow.order for shadow in shadows_of(table, 3) if shadow.is_whole}
    event(f"dead: {sorted(dead)}")
    for value, method in itertools.product(VALUES, (b"GET", b"PUT", b"HEAD", b"POST")):
        head = head_with("header x-test", value)
        head.method = method
        found = table.find(head, "192.0.2.1")
        assert found is None or int(found.name) not in dead


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
