"""Who may ask how a request was decided, and the field that says it."""

from __future__ import annotations

import pytest

from sidecar.exchange import Decision, Direction, Exchange
from sidecar.http1.grammar import field_of
from sidecar.http1.head import parse_request_head
from sidecar.message import Kind, ResponseHead
from sidecar.proxy.told import Askers, Telling, hear, told
from sidecar.routing.actions import Respond, Route, header_edits


class Scope:
    """Of a route and an upstream."""

    def __init__(self, route: str, upstream: str = "") -> None:
        self.route = route
        self.upstream = upstream


def exchange(ip: str = "10.0.0.1") -> Exchange:
    """Of a request that asks."""
    head = parse_request_head(b"GET / HTTP/1.1\r\nHost: a\r\nX-Sidecar-Explain: 1\r\nx-b: 2", 10)
    return Exchange(Direction.OUTBOUND, 0, head, (ip, 1))


@pytest.mark.parametrize(
    ("sources", "ip", "may"),
    [
        (["10.0.0.0/8"], "10.1.2.3", True),
        (["10.0.0.0/8"], "11.1.2.3", False),
        (["10.0.0.0/8"], "unix", False),
        (["10.0.0.0/8", "unix"], "unix", True),
        (["10.0.0.0/8"], "::1", False),
        (["fe80::/10"], "fe80::1%eth0", True),
    ],
)
def test_who_may_ask_is_in_a_network(sources: list[str], ip: str, may: bool) -> None:
    """Of either family, or comes by a Unix socket where that is named."""
    assert Askers(sources).admit(ip) is may


@pytest.mark.parametrize("askers", [None, Askers(["11.0.0.0/8"])])
def test_of_who_may_not_the_wish_is_dropped(askers: Askers | None) -> None:
    """Only this field, and whatever its spelling."""
    one = exchange()
    assert one.head is not None

    hear(askers, one, one.head)

    assert [field.name for field in one.head.fields] == [b"host", b"x-b"]
    assert not one.head.kinds & Kind.EXPLAIN
    assert one.head.kinds & Kind.HOST


def test_of_who_may_the_wish_stays() -> None:
    """A sidecar behind this one then tells, too."""
    one = exchange()
    assert one.head is not None

    hear(Askers(["10.0.0.0/8"]), one, one.head)

    assert one.head.kinds & Kind.EXPLAIN
    assert len(one.head.fields) == 3


def test_names_are_strings_of_a_structured_field() -> None:
    """Quotes and backslashes are escaped, and what is not visible ASCII is percent-encoded: nobody ends the field."""
    one = exchange()
    one.scope = Scope('a"b\\c\r\n', "ä")
    one.decision = Decision("allowed", "default")
    one.attempts = 2
    others = [Route("x", (), Respond(200), Scope("x"), None, 3)]
    routes = [*others, Route('a"b\\c\r\n', (), Respond(200), Scope("x"), None, 7)]

    field = told(one, routes)

    assert field.value == (
        b'sidecar; direction=outbound; rule="default"; route="a\\"b\\\\c%0D%0A"; line=7; upstream="%C3%A4"; attempts=2'
    )


def test_a_response_tells_beside_what_its_route_edits() -> None:
    """Interim responses tell nothing."""
    one = exchange()
    one.scope = Scope("r")
    edits = Telling(header_edits({"x-set": "1"}, {}, ["x-gone"]), one, [])
    head = ResponseHead(200, b"OK", 1)
    head.fields = [field_of(b"x-gone: 1"), field_of(b"date: now")]
    head.kinds = Kind.DATE
    interim = ResponseHead(103, b"Early Hints", 1)

    assert [field.name for field in edits.apply_to_response(head)] == [
        b"date", b"via", b"x-set", b"x-sidecar-explain",
    ]  # fmt: skip
    assert edits.apply_to_response(interim) == []
