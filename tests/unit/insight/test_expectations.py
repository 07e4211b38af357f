"""What tests of a file may expect, and what is said where it is not so."""

from __future__ import annotations

import pytest

from sidecar.config.problems import ConfigError
from tests.support.compiling import frames_of

FILE = """\
service: storefront
outbound:
  routes:
    - name: canary
      match: {host: shop, path: {prefix: /v1}}
      to: {a: 95, b: 5}
      sticky: {cookie: uid}
      rewrite: {prefix: /api}
      request_headers: {set: {x-env: canary}, remove: [x-debug]}
      timeout: 2s
      retry: {attempts: 2, on: [gateway_error, 409], per_try_timeout: 500ms}
    - {name: gone, match: {host: shop, path: /old}, redirect: {path: /new, status: 301}}
upstreams:
  a: {endpoints: ["10.0.0.1:80"]}
  b: {endpoints: ["10.0.0.3:80"]}
tests:
  - name: t
    request: {url: "http://shop/v1/x", headers: {x-debug: "1"}}
"""


def said(rest: str) -> list[str]:
    """What is told of the file with this at the end of its test."""
    try:
        frames_of(FILE + rest)
    except ConfigError as error:
        return [f"{one.line}: {one.path}: {one.message}" for one in error.problems]
    return []


@pytest.mark.parametrize(
    "expect",
    [
        "{split: {a: 95%, b: 5%}}",
        "{split: {a: 19, b: 1}}",
        "{timeout: 2s}",
        "{retry: {attempts: 2}}",
        "{retry: {on: [409, gateway_error], per_try_timeout: 500ms}}",
        "{sent: {host: shop, path: /api/x, headers: {x-env: canary, X-Debug: {present: false}}}}",
        "{route: canary, to: b, sent: {path: {suffix: x}}}",
    ],
)
def test_what_a_route_does_can_be_expected(expect: str) -> None:
    """Shares, what is sent, timeout and retries."""
    assert said(f"    expect: {expect}\n") == []


@pytest.mark.parametrize(
    ("expect", "why"),
    [
        (
            "{split: {a: 90, b: 10}}",
            "expected the split 0.9 to `a`, 0.1 to `b`, found 0.95 to `a`, 0.05 to `b` by the route `canary`",
        ),
        ("{split: {a: 1}}", "expected the split 1 to `a`, found 0.95 to `a`, 0.05 to `b` by the route `canary`"),
        ("{timeout: none}", "expected the timeout none, found 2s by the route `canary`"),
        ("{timeout: 3s}", "expected the timeout 3s, found 2s by the route `canary`"),
        ("{retry: {attempts: 1}}", "expected 1 retries, found 2 by the route `canary`"),
        ("{retry: {on: 5xx}}", "expected retries on `5xx`, found `409`, `gateway_error` by the route `canary`"),
        ("{retry: {per_try_timeout: 1s}}", "expected 1s for an attempt, found 0.5s by the route `canary`"),
        ("{sent: {path: /v1/x}}", 'expected the path that `a` gets to be exact "/v1/x", found `/api/x`'),
        ("{to: b, sent: {host: x}}", 'expected the host that `b` gets to be exact "x", found `shop`'),
        (
            "{sent: {headers: {x-debug: '1'}}}",
            'expected the header `x-debug` that `a` gets to be exact "1", found none',
        ),
    ],
)
def test_what_differs_is_said_with_what_is_there(expect: str, why: str) -> None:
    """At the test, with the route that does it."""
    assert said(f"    expect: {expect}\n") == [f"17: tests[0]: the test `t` fails: {why}"]


def test_a_key_that_sticks_has_one_side() -> None:
    """All of its requests go there."""
    row = "{cookies: {uid: u1}, split: {a: 1}}"

    assert said(f"    given: [{row}]\n") == []
    assert said("    given: [{cookies: {uid: u1}, split: {b: 1}}]\n") == [
        "19: tests[0].given[0]: the test `t` fails: expected the split 1 to `b`, found 1 to `a` by the route `canary`"
    ]


def test_each_row_of_a_table_is_tried_for_itself() -> None:
    """With the test's request and expectation where it says nothing else; a problem is at its row."""
    table = """\
    expect: {route: canary}
    given:
      - {method: POST}
      - {url: "http://shop/old", route: gone, status: 301}
      - {url: "http://shop/v2"}
      - {headers: {x-more: "1"}, sent: {headers: {x-more: "1"}}}
"""

    assert said(table) == [
        "23: tests[0].given[2]: the test `t` fails: expected the route `canary`, found no route, so 404"
    ]


def test_a_test_that_expects_nothing_is_a_problem_at_its_place() -> None:
    """Of a table at each row that does."""
    assert [one.partition(": expected")[0] for one in said("    given: [{method: POST}, {to: a}]\n")] == [
        "19: tests[0].given[0]"
    ]


def test_names_that_there_are_not_are_told_at_their_row() -> None:
    """With what was meant."""
    assert said("    given: [{to: c}, {split: {bb: 1}}, {route: canari}]\n") == [
        "19: tests[0].given[0].to: there is no upstream `c`",
        "19: tests[0].given[1].split.bb: there is no upstream `bb`",
        "19: tests[0].given[2].route: there is no route `canari`",
    ]


def test_a_route_that_answers_itself_has_nothing_of_a_split() -> None:
    """Which is said, and not that shares differ."""
    assert said('    given: [{url: "http://shop/old", split: {a: 1}, timeout: none}]\n') == [
        "19: tests[0].given[0]: the test `t` fails: expected a request that is forwarded, for `split` and `timeout`, "
        "found the route `gone`, which answers itself"
    ]
