"""Which routes are told to get nothing, or not all, and which of the ways in which files are written are left alone."""

# ruff: noqa: E501 - rows of one line are easier to read unbroken

from __future__ import annotations

import re

import pytest

from sidecar.compile.dry_plan import dry_plan
from sidecar.config.load import load_source
from sidecar.config.problems import Problem
from sidecar.config.source import make_source
from sidecar.insight.warnings.of_plan import warnings_of
from sidecar.insight.warnings.regex_words import word_of
from sidecar.loader.serialize import write_frames

UPSTREAM = "upstreams: {a: {dns: 'a:1'}}\n"
UPSTREAMS = "upstreams: {a: {dns: 'a:1'}, b: {dns: 'b:1'}}\n"


def warned(text: str, env: dict[str, str] | None = None) -> list[Problem]:
    """What is told of a file."""
    loaded = load_source(make_source("f.yaml", text.encode()), env or {})
    return warnings_of(loaded, dry_plan(loaded, write_frames(loaded)))


def of_routes(*matches: str, side: str = "outbound", more: str = UPSTREAM) -> list[Problem]:
    """What is told of routes r0, r1 ... with these matches; the first of them is on line 4."""
    routes = "".join(f"    - {{name: r{i}, match: {match}, to: a}}\n" for i, match in enumerate(matches))
    return warned(f"service: s\n{side}:\n  routes:\n{routes}{more}")


def rules(found: list[Problem]) -> list[tuple[str, str]]:
    return [(one.rule, one.path.rpartition("routes")[2]) for one in found]


DEAD = [
    ("{host: h}", "{host: h}"),
    ("{host: h}", "{host: 'h:9090'}"),
    ("{host: '*'}", "{host: h}"),
    ("[]", "{host: h}"),
    ("{host: '*.example.com'}", "{host: a.b.example.com}"),
    ("{host: '*.example.com'}", "{host: '*.b.example.com'}"),
    ("{path: {prefix: /v1}}", "{path: /v1}"),
    ("{path: {prefix: /v1}}", "{path: {prefix: /v1/x}}"),
    ("{path: {prefix: /v1}}", "{path: {starts_with: /v1/x}}"),
    ("{path: {prefix: /}}", "{path: {starts_with: /}}"),
    ("{path: {starts_with: /v}}", "{path: {prefix: /v1}}"),
    ("{path: {regex: '/users/[0-9]+'}}", "{path: /users/7}"),
    ("{path: {regex: '/.*'}}", "{path: {prefix: /x}}"),
    ("{path: {suffix: .css}}", "{path: {suffix: .min.css}}"),
    ("{path: {contains: x}}", "{path: {prefix: /xy}}"),
    ("{path: {exact: /a, invert: true}}", "{path: /b}"),
    ("{path: {prefix: /V1, ignore_case: true}}", "{path: {prefix: /v1/x}}"),
    ("{methods: [GET, HEAD]}", "{methods: GET}"),
    ("{headers: {x: {present: true}}}", "{headers: {x: {regex: '[0-9]'}}}"),
    ("{headers: {x: {prefix: a}}}", "{headers: {x: abc}}"),
    ("{headers: {x: {range: [0, 10]}}}", "{headers: {x: '7'}}"),
    ("{headers: {x: {exact: a, invert: true}}}", "{headers: {x: b}}"),
    ("{cookies: {c: {contains: b}}}", "{cookies: {c: {suffix: ab}}, path: /x}"),
    ("{query: {q: {present: false}}}", "{query: {q: {present: true, invert: true}}}"),
]


@pytest.mark.parametrize(("earlier", "later"), DEAD)
def test_a_route_that_asks_for_no_more_is_dead(earlier: str, later: str) -> None:
    """Told at the route, with the earlier one and a request."""
    (warning,) = of_routes(earlier, later)
    assert rules([warning]) == [("route-never-matches", "[1]")]
    assert warning.line == 5
    assert warning.message.startswith("no request takes this route: `r0` (line 4) takes all of it before, such as `")


ALIVE = [
    ("{host: 'h:9090'}", "{host: h}"),
    ("{host: '*.example.com'}", "{host: example.com}"),
    ("{path: {prefix: /v1}}", "{path: /v10}"),
    ("{path: {prefix: /}}", "{host: h}"),  # CONNECT has no path
    ("{path: {regex: '/a.*'}}", "{path: {regex: '/ab.*'}}"),  # true, and not known
    ("{headers: {x: {exact: a, invert: true}}}", "{headers: {y: b}}"),  # absent is not `not a`
    ("{headers: {x: {exact: a, ignore_case: true}}}", "{headers: {x: {prefix: A}}}"),
    ("{cookies: {c: a}}", "{headers: {c: a}}"),
    ("{query: {q: {present: false}}}", "{query: {q: {present: true}}}"),
    ("{methods: GET}", "[]"),
]


@pytest.mark.parametrize(("earlier", "later"), ALIVE)
def test_a_route_that_may_get_something_is_not_called_dead(earlier: str, later: str) -> None:
    """What is not certain is not told."""
    assert of_routes(earlier, later) == []


def test_several_routes_take_all_together() -> None:
    """By hosts and by methods; all of them are named."""
    (warning,) = of_routes(
        "{host: x}", "{host: y, methods: GET}", "{host: y, methods: PUT}", "{host: [x, y], methods: [GET, PUT]}"
    )
    assert "`r0` (line 4), `r1` (line 5) and `r2` (line 6) take all of it before" in warning.message


def test_one_of_several_matches_is_told_at_the_match() -> None:
    """The route lives, by the other one."""
    (warning,) = of_routes("{host: x}", "[{host: y}, {host: x, path: /p}]")
    assert (warning.rule, warning.path, warning.line) == ("route-shadowed", "outbound.routes[1].match[1]", 5)
    assert (
        "no request takes this match: `r0` (line 4) takes all of it before, such as `GET http://x/p`" in warning.message
    )


SHADOWED = [
    ("{path: {prefix: /v1}, methods: [GET, PUT]}", "{path: {prefix: /v1/admin}}", "GET http://any.example/v1/admin"),
    ("{path: {prefix: /v1}, methods: PUT}", "{path: /v1/admin}", "PUT http://any.example/v1/admin"),
    ("{host: h, path: {prefix: /v1}}", "{path: {prefix: /v1/admin}}", "GET http://h/v1/admin"),
    ("{host: '*.shop', path: {prefix: /api}}", "{host: beta.shop}", "GET http://beta.shop/api"),
    ("{host: '*.shop:9090', path: {prefix: /api}}", "{host: '*.beta.shop'}", "GET http://any.beta.shop:9090/api"),
    ("{headers: {x: {present: true}}, path: /p}", "{headers: {x: a}}", "GET http://any.example/p -H 'x: a'"),
    ("{query: {q: {prefix: a}}, cookies: {c: '1'}}", "{query: {q: {prefix: ab}}}", "GET http://any.example/?q=ab -H 'cookie: c=1'"),
    ("{path: {prefix: /static}}", "{path: {suffix: .css}}", "GET http://any.example/static/x.css"),
    ("{path: {suffix: .css}}", "{path: {prefix: /app}}", "GET http://any.example/app/x.css"),
    ("{path: {regex: '/u/[0-9]+'}, methods: GET}", "{path: /u/7}", "GET http://any.example/u/7"),
]  # fmt: skip


@pytest.mark.parametrize(("earlier", "later", "example"), SHADOWED)
def test_a_route_that_is_more_precise_and_comes_later_loses_a_part(earlier: str, later: str, example: str) -> None:
    """With the request that shows it."""
    (warning,) = of_routes(earlier, later)
    assert rules([warning]) == [("route-shadowed", "[1]")]
    assert warning.message == f"a part of what this route asks for goes to `r0` (line 4), such as `{example}`"
    assert warning.hint == "put it before `r0` if it is meant for that, too"


NORMAL = [
    # The special case first, then the rest.
    ("{host: h, cookies: {BETA_USER: 'true'}}", "{host: h, path: {prefix: /v1}, methods: [GET, HEAD]}"),
    ("{path: /healthz}", "{host: h}"),
    ("{path: /healthz}", "{host: h, path: {prefix: /}}"),
    ("{path: {prefix: /v1/admin}}", "{path: {prefix: /v1}}"),
    ("{host: a.shop}", "{host: '*.shop'}"),
    ("{host: a.shop}", "{host: [a.shop, b.shop]}"),
    ("{methods: POST}", "{path: {prefix: /v1}}"),
    ("{headers: {x-canary: {present: true}}}", "{path: {prefix: /v1}}"),
    ("{headers: {x: a}}", "{headers: {x: {present: true}}}"),
    ("{path: {prefix: /}, cookies: {c: '1'}}", "{path: {prefix: /v1}}"),
    ("{path: /a}", "{path: /b}"),
    ("{path: {prefix: /v1}, methods: GET}", "{path: {prefix: /v1/x}, methods: PUT}"),
    ("{host: h, path: {prefix: /v1}, headers: {x: a}}", "{host: h, path: {prefix: /v1/x}, headers: {x: b}}"),
    ("{host: '*.shop', path: {prefix: /api}}", "{host: beta.shop, path: {prefix: /web}}"),
]  # fmt: skip


@pytest.mark.parametrize(("earlier", "later"), NORMAL)
def test_the_special_case_before_the_rest_is_left_alone(earlier: str, later: str) -> None:
    """How everybody writes files."""
    assert of_routes(earlier, later) == []


def test_crossing_is_told_once_of_each_earlier_route() -> None:
    """Assets first, by how their paths end, cross each route that follows."""
    found = of_routes("{path: {suffix: .css}}", *(f"{{path: {{prefix: /p{i}}}}}" for i in range(5)))
    assert rules(found) == [("route-shadowed", "[1]")]


def test_routes_of_both_directions_are_looked_at() -> None:
    """Those to the app as well."""
    found = of_routes("{path: {prefix: /a}}", "{path: /a}", side="inbound")
    assert [one.path for one in found] == ["inbound.routes[1]"]


@pytest.mark.parametrize(
    ("routes", "is_unused"),
    [
        ("[{match: {host: b}, to: a}]", True),
        ("[{to: a}]", True),
        ("[{match: {host: b, methods: GET}, to: a}]", False),
        ("[{match: {host: b}, to: a, mirror: b}]", False),
        ("[{match: {host: c}, to: a}]", False),
    ],
)
def test_an_upstream_whose_hosts_are_all_taken_is_unused(routes: str, is_unused: bool) -> None:
    """Unless a route or a mirror names it."""
    found = warned(f"service: s\noutbound: {{routes: {routes}}}\n{UPSTREAMS}")
    assert [(one.rule, one.path) for one in found] == [("upstream-unused", "upstreams.b")] * is_unused


def test_a_route_for_connections_is_not_called_dead() -> None:
    """A route that answers requests takes no connections; one to servers of TCP does."""
    text = (
        "service: s\noutbound:\n  listen: [{address: '127.0.0.1:1', protocol: tcp, host: 'db:5432'}]\n  routes:\n"
        "    - {match: {host: db}, respond: {status: 404}}\n    - {match: {host: db}, to: db}\n"
        "upstreams: {db: {dns: 'db:5432', protocol: tcp, hosts: ['db:5432']}}\n"
    )
    assert warned(text) == []


def test_examples_show_neither_secrets_nor_what_variables_hold() -> None:
    """Names say what is secret; a variable is shown as it is written."""
    text = "{host: '${WHERE}', headers: {x-api-key: hunter2, x-plain: seen}}"
    (warning,) = warned(
        f"service: s\noutbound: {{routes: [{{match: {{host: '${{WHERE}}'}}, to: a}}, {{match: {text}, to: a}}]}}\n{UPSTREAMS}",
        {"WHERE": "internal.example"},
    )
    assert "such as `GET http://${WHERE}/ -H 'x-api-key: [redacted]' -H 'x-plain: seen'`" in warning.message


def test_a_comment_silences_it() -> None:
    """At the line that it names."""
    assert of_routes("{host: h}", "{host: h}") != []
    text = (
        "service: s\noutbound:\n  routes:\n    - {match: {host: h}, to: a}\n    # sidecar: ignore route-never-matches\n"
    )
    assert warned(f"{text}    - {{match: {{host: h}}, to: a}}\n{UPSTREAMS}") == []


def test_of_a_sidecar_in_a_mesh_the_local_file_has_no_routes() -> None:
    """What it has is told of the whole."""
    assert warned("control: http://c:1\nservice: s\n") == []


@pytest.mark.parametrize(
    ("pattern", "word"),
    [("/users/[0-9]+", "/users/1"), ("(a|b)c?", "a"), (r"\.css$", ".css"), ("[^a]", "x"), ("x{2,}", "xx"), ("(", None), (r"\pL", None)],
)  # fmt: skip
def test_words_of_expressions(pattern: str, word: str | None) -> None:
    """The shortest that is easily found; None for what is not read."""
    assert word_of(pattern) == word
    assert word is None or re.fullmatch(pattern, word) is not None
