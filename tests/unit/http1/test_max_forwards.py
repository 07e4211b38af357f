"""`Max-Forwards` (RFC 9110, 7.6.2): TRACE and OPTIONS that may go so far and no further."""

from __future__ import annotations

import pytest

from sidecar.http1.grammar import GrammarError
from sidecar.http1.head import parse_request_head
from sidecar.http1.max_forwards import ALLOWED, answer_here, hops_left, one_hop_fewer
from sidecar.message import RequestHead, Version


def request(method: bytes, *lines: bytes, target: bytes = b"/a?b") -> RequestHead:
    return parse_request_head(b"\r\n".join([b"%b %b HTTP/1.1" % (method, target), b"Host: web", *lines]), 100)


def sent(head: RequestHead) -> list[bytes]:
    return [field.wire for field in one_hop_fewer(head, head.fields)]


@pytest.mark.parametrize("method", [b"TRACE", b"OPTIONS"])
@pytest.mark.parametrize(
    ("value", "left", "next_value"),
    [(b"1", 1, b"0"), (b"10", 10, b"9"), (b"007", 7, b"6"), (b"9" * 9, 10**9 - 1, b"999999998"),
     (b"9" * 5000, 10**9 - 1, b"999999998")],
)  # fmt: skip
def test_it_is_one_fewer_each_hop(method: bytes, value: bytes, left: int, next_value: bytes) -> None:
    """In its place among the fields; more than any chain has hops is not counted."""
    head = request(method, b"a: 1", b"MAX-forwards: " + value, b"b: 2")
    assert hops_left(head) == left
    assert sent(head) == [b"Host: web", b"a: 1", b"max-forwards: " + next_value, b"b: 2"]


@pytest.mark.parametrize("method", [b"GET", b"POST", b"HEAD", b"trace", b"PROPFIND"])
@pytest.mark.parametrize("value", [b"0", b"5", b"x"])
def test_other_methods_do_not_know_it(method: bytes, value: bytes) -> None:
    """It goes on as it came, whatever it says."""
    head = request(method, b"Max-Forwards: " + value)
    assert hops_left(head) is None
    assert sent(head) == [b"Host: web", b"Max-Forwards: " + value]


@pytest.mark.parametrize("lines", [[b""], [b"-1"], [b"+1"], [b"1.5"], [b"x"], [b"1, 1"], [b"1", b"1"]])
def test_what_is_no_number_is_refused(lines: list[bytes]) -> None:
    """The next hop may count otherwise."""
    head = request(b"TRACE", *[b"Max-Forwards: " + value for value in lines])
    with pytest.raises(GrammarError):
        hops_left(head)


def test_without_it_there_is_no_bound() -> None:
    """And nothing is added."""
    head = request(b"OPTIONS", b"a: 1")
    assert hops_left(head) is None
    assert sent(head) == [b"Host: web", b"a: 1"]


def test_connection_cannot_name_it_away() -> None:
    """A chain must not become endless."""
    assert hops_left(request(b"TRACE", b"Max-Forwards: 3", b"Connection: max-forwards")) == 3


def test_trace_is_answered_with_the_request() -> None:
    """RFC 9110, 9.3.8: as message/http, without what is likely to be secret."""
    head = request(
        b"TRACE", b"Max-Forwards: 0", b"X-Odd:\t 1 ", b"Cookie: a=b", b"Authorization: Bearer x", b"Via: 1.1 before",
        b"X-Api-Key: k", b"Proxy-Authorization: x", b"X-Auth-Token: x", b"X-Forwarded-Client-Cert: x",
    )  # fmt: skip
    fields, body = answer_here(head)
    assert [field.wire for field in fields] == [b"content-type: message/http"]
    expected = [b"TRACE /a?b HTTP/1.1", b"Host: web", b"Max-Forwards: 0", b"X-Odd:\t 1 ", b"Via: 1.1 before", b"", b""]
    assert body.split(b"\r\n") == expected


def test_trace_of_an_absolute_target_shows_it() -> None:
    """As it was asked of a forward proxy."""
    _, body = answer_here(request(b"TRACE", b"Max-Forwards: 0", target=b"http://Web:81/a"))
    assert body.startswith(b"TRACE http://web:81/a HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("version", "name"), [(Version.HTTP10, b"1.0"), (Version.HTTP11, b"1.1"), (Version.HTTP2, b"2.0")]
)
def test_trace_is_answered_in_the_syntax_of_message_http(version: int, name: bytes) -> None:
    """RFC 9112, 10.1, whose version has two digits; RFC 9110, 2.5: of HTTP/2 the second is 0."""
    head = request(b"TRACE", b"Max-Forwards: 0")
    head.version = version
    assert answer_here(head)[1].startswith(b"TRACE /a?b HTTP/%b\r\n" % name)


def test_options_is_answered_with_what_may_be_asked() -> None:
    """RFC 9110, 9.3.7; `*` as well."""
    for target in (b"/", b"*"):
        fields, body = answer_here(request(b"OPTIONS", b"Max-Forwards: 0", target=target))
        assert ([field.wire for field in fields], body) == ([b"allow: " + ALLOWED], b"")
