"""Query parameters (application/x-www-form-urlencoded)."""

from __future__ import annotations

import pytest

from sidecar.routing.query import MAX_PARAMS, param, parse_query
from tests.unit.routing import head_of


@pytest.mark.parametrize(
    ("query", "params"),
    [
        (b"a=1", {b"a": b"1"}),
        (b"a=1&b=2", {b"a": b"1", b"b": b"2"}),
        (b"a=1&a=2", {b"a": b"1"}),
        (b"a", {b"a": b""}),
        (b"a=", {b"a": b""}),
        (b"=1", {b"": b"1"}),
        (b"&&a=1&", {b"a": b"1"}),
        (b"a=x=y", {b"a": b"x=y"}),
        (b"a=x+y&b=%2B", {b"a": b"x y", b"b": b"+"}),
        (b"a%5B%5D=%c3%A9", {b"a[]": b"\xc3\xa9"}),
        (b"a=%&b=%zz&c=%4", {b"a": b"%", b"b": b"%zz", b"c": b"%4"}),
        (b"a=%26&b=1", {b"a": b"&", b"b": b"1"}),
        (b"a=1;b=2", {b"a": b"1;b=2"}),
        (b"a=1?b", {b"a": b"1?b"}),
        (b"%61=1&a=2", {b"a": b"1"}),
        (b"a=%00%0A", {b"a": b"\x00\n"}),
        (b"", {}),
    ],
)
def test_the_parameters_of_a_query(query: bytes, params: dict[bytes, bytes]) -> None:
    """Decoded once, names too; the first of a name wins."""
    assert parse_query(query) == params


def test_parameters_are_parsed_once_for_a_request() -> None:
    """The head keeps them."""
    head = head_of(b"/?a=1")
    assert param(head, b"a") == b"1"
    assert head.params == {b"a": b"1"}
    assert param(head, b"b") is None


@pytest.mark.parametrize("target", [b"/", b"/?"])
def test_a_request_without_query_has_no_parameters(target: bytes) -> None:
    """With or without a question mark."""
    assert param(head_of(target), b"a") is None


def test_the_number_of_parameters_is_bounded() -> None:
    """What comes after the thousandth is not seen; what is before is intact."""
    params = parse_query(b"&".join(b"p%d=%d" % (number, number) for number in range(MAX_PARAMS + 5)))
    assert len(params) == MAX_PARAMS
    assert params[b"p%d" % (MAX_PARAMS - 1)] == b"%d" % (MAX_PARAMS - 1)
