"""The index of routes against a matcher that was written without looking at it: one loop, no index, strings."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.http1.grammar import field_of
from sidecar.message import RequestHead
from sidecar.path_template import TemplateError, parse_template
from sidecar.routing.actions import Respond, Route
from sidecar.routing.match import Match, make_match
from sidecar.routing.matchers import any_path, path_matcher, value_matcher
from sidecar.routing.table import TableBuilder
from tests.support.thoroughness import examples

# Few words, so that requests and routes meet.
LABELS = ["a", "b", "com"]
SEGMENTS = ["v1", "v2", "x", ""]
VALUES = ["", "1", "12", "A", "a"]

hosts = st.lists(st.sampled_from(LABELS), min_size=1, max_size=4).map(".".join)
ports = st.sampled_from(["", "", "", ":80", ":9090"])
patterns = st.builds(str.__add__, st.one_of(hosts, hosts.map("*.{}".format), st.just("*")), ports)
paths = st.lists(st.sampled_from(SEGMENTS), max_size=3).map(lambda parts: "/" + "/".join(parts))


@st.composite
def _templates(draw: st.DrawFn) -> str:
    """Literals and names, now and then with the rest at the end."""
    parts = draw(st.lists(st.sampled_from([*SEGMENTS, "{}", "{}"]), min_size=1, max_size=4))
    if draw(st.integers(0, 3)) == 0:
        parts.append("{...}")
    return "".join(f"/{part.replace('{', '{' + f'n{number}')}" for number, part in enumerate(parts))


templates = _templates()


@st.composite
def path_questions(draw: st.DrawFn) -> dict[str, object]:
    kinds = ["exact", "prefix", "prefix", "template", "template", "starts_with", "suffix", "contains", "regex"]
    kind = draw(st.sampled_from(kinds))
    operand = draw(paths)
    if kind == "template":
        operand = draw(templates)
    elif kind == "regex":
        operand += draw(st.sampled_from(["", ".*", "[0-9]"]))
    elif kind == "starts_with":
        operand += draw(st.sampled_from(["", "v"]))
    rarely = st.sampled_from([False, False, False, True])
    return {"kind": kind, "operand": operand, "ignore_case": draw(rarely), "invert": draw(rarely)}


@st.composite
def value_questions(draw: st.DrawFn) -> dict[str, object]:
    kind = draw(st.sampled_from(["exact", "prefix", "contains", "range", "present"]))
    operand: object = draw(st.sampled_from(VALUES[1:]))
    if kind == "range":
        operand = (0, draw(st.sampled_from([2, 20])))
    elif kind == "present":
        operand = draw(st.booleans())
    return {"kind": kind, "operand": operand, "ignore_case": draw(st.booleans()), "invert": draw(st.booleans())}


def sometimes(strategy: st.SearchStrategy[dict[str, object]]) -> st.SearchStrategy[dict[str, object] | None]:
    return st.one_of(st.none(), st.none(), strategy)


match_specs = st.fixed_dictionaries(
    {
        "hosts": st.lists(patterns, max_size=2),
        "paths": st.one_of(st.just([]), st.lists(path_questions(), min_size=1, max_size=3)),
        "methods": st.lists(st.sampled_from(["GET", "PUT"]), max_size=1),
        "header": sometimes(value_questions()),
        "cookie": sometimes(value_questions()),
        "query": sometimes(value_questions()),
    }
)
route_specs = st.lists(st.lists(match_specs, max_size=2), max_size=12)
request_specs = st.fixed_dictionaries(
    {
        "host": st.one_of(hosts, st.just("")),
        "port": st.sampled_from(["", "80", "9090", "9091"]),
        "path": st.one_of(paths, st.sampled_from(["*", ""])),
        "method": st.sampled_from(["GET", "PUT"]),
        "header": st.one_of(st.none(), st.sampled_from(VALUES)),
        "cookie": st.one_of(st.none(), st.sampled_from(VALUES)),
        "query": st.one_of(st.none(), st.sampled_from(VALUES)),
    }
)


def naive_text(question: dict[str, object], value: str) -> bool:
    kind, operand = question["kind"], question["operand"]
    if kind == "range":
        assert isinstance(operand, tuple)
        return re.fullmatch("[0-9]+", value) is not None and int(value) in range(*operand)
    assert isinstance(operand, str)
    if kind == "regex":
        return re.fullmatch(operand, value, re.IGNORECASE if question["ignore_case"] else 0) is not None
    if question["ignore_case"]:
        operand, value = operand.upper(), value.upper()
    if kind == "template":
        return naive_template(operand, value)
    if kind == "prefix" and operand.startswith("/"):
        wanted = operand[1:].split("/")
        if wanted[-1] == "":
            wanted.pop()
        return value.startswith("/") and value[1:].split("/")[: len(wanted)] == wanted
    tests = {"exact": str.__eq__, "contains": str.__contains__, "suffix": str.endswith}
    return tests.get(str(kind), str.startswith)(value, operand)


def naive_template(template: str, path: str) -> bool:
    """A template read by splitting both at their slashes."""
    if not path.startswith("/"):
        return False
    wanted, segments = template[1:].split("/"), path[1:].split("/")
    if wanted[-1].endswith("...}"):
        wanted = wanted[:-1]
        if len(segments) <= len(wanted) or segments[len(wanted)] == "":
            return False
        segments = segments[: len(wanted)]
    return len(wanted) == len(segments) and all(
        segment != "" if part.startswith("{") else segment == part
        for part, segment in zip(wanted, segments, strict=True)
    )


def naive_question(question: dict[str, object] | None, value: str | None) -> bool:
    if question is None:
        return True
    if question["kind"] == "present":
        return ((value is not None) == question["operand"]) != question["invert"]
    return value is not None and naive_text(question, value) != question["invert"]


def naive_host(pattern: str, host: str, port: str) -> bool:
    pattern, colon, wanted_port = pattern.partition(":")
    if colon and wanted_port != (port or "80"):
        return False
    wanted, labels = pattern.split("."), host.split(".")
    if wanted[0] != "*":
        return wanted == labels
    return pattern == "*" or (len(labels) > len(wanted) - 1 and labels[-len(wanted) + 1 :] == wanted[1:])


def naive_match(spec: dict[str, object], request: dict[str, str]) -> bool:
    return (
        (not spec["hosts"] or any(naive_host(pattern, request["host"], request["port"]) for pattern in spec["hosts"]))  # type: ignore[attr-defined]
        and (not spec["paths"] or any(naive_question(one, request["path"] or None) for one in spec["paths"]))  # type: ignore[attr-defined]
        and (not spec["methods"] or request["method"] in spec["methods"])  # type: ignore[operator]
        and all(naive_question(spec[part], request[part]) for part in ("header", "cookie", "query"))  # type: ignore[arg-type]
    )


def naive_find(routes: list[list[dict[str, object]]], request: dict[str, str]) -> int | None:
    for position, matches in enumerate(routes):
        if not matches or any(naive_match(match, request) for match in matches):
            return position
    return None


class NoTelemetry:
    route = ""
    upstream = ""


def compiled(spec: dict[str, object]) -> Match:
    def values(name: str, part: str) -> dict[str, object]:
        return {} if spec[part] is None else {name: value_matcher(**spec[part])}  # type: ignore[arg-type]

    return make_match(
        hosts=spec["hosts"],  # type: ignore[arg-type]
        path=any_path([path_matcher(**one) for one in spec["paths"]]) if spec["paths"] else None,  # type: ignore[attr-defined]
        methods=spec["methods"],  # type: ignore[arg-type]
        headers=values("X-Test", "header"),  # type: ignore[arg-type]
        cookies=values("c", "cookie"),  # type: ignore[arg-type]
        query=values("q", "query"),  # type: ignore[arg-type]
    )


def head_of(request: dict[str, str]) -> RequestHead:
    query = None if request["query"] is None else b"q=" + request["query"].encode()
    head = RequestHead(request["method"].encode(), request["path"].encode(), query, 1)
    head.host, head.port = request["host"].encode(), int(request["port"]) if request["port"] else None
    for name, part in (("x-test: ", "header"), ("cookie: c=", "cookie")):
        if request[part] is not None:
            head.fields.append(field_of((name + request[part]).encode()))
            head.kinds |= head.fields[-1].kind
    return head


@settings(max_examples=examples(1000), deadline=None)
@given(template=templates, path=paths)
def test_a_template_matches_what_a_plain_reading_of_it_matches(template: str, path: str) -> None:
    """Asked alone: both split at their slashes and compared one by one."""
    assert path_matcher("template", template).test(path.encode()) is naive_template(template, path)


@settings(max_examples=examples(1000), deadline=None)
@given(text=st.one_of(st.text(), st.text("/{}.ab:*=", max_size=20)))
def test_any_text_is_a_template_or_refused_in_words(text: str) -> None:
    """What is one finds its own names filled in."""
    try:
        segments = parse_template(text)
    except TemplateError:
        return
    literals = all(one.literal is None or re.fullmatch("[ab:*=.]*", one.literal) for one in segments)
    if literals:
        path = "".join(f"/{one.literal if one.literal is not None else 'x'}" for one in segments)
        assert path_matcher("template", text).test(path.encode())


@settings(max_examples=examples(600), deadline=None)
@given(routes=route_specs, requests=st.lists(request_specs, min_size=1, max_size=8))
def test_the_index_finds_what_a_naive_matcher_finds(
    routes: list[list[dict[str, object]]], requests: list[dict[str, str]]
) -> None:
    """For any routes and any request: the same route, the first in file order."""
    builder = TableBuilder()
    for position, matches in enumerate(routes):
        builder.add(Route(str(position), tuple(compiled(match) for match in matches), Respond(200), NoTelemetry()))
    table = builder.table()
    for request in requests:
        route, expected = table.find(head_of(request), "192.0.2.1"), naive_find(routes, request)
        assert (None if route is None else int(route.name)) == expected
        for position, candidate in enumerate(table.routes):
            assert candidate.is_match(head_of(request)) is (naive_find([routes[position]], request) == 0)
