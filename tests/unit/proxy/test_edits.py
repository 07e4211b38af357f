"""Header edits of a route have the last word: over the peer's `Connection`, and over lines of our own."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sidecar.exchange import Direction
from sidecar.proxy.exchange.policies import Mirror
from sidecar.routing.actions import Action, make_redirect, make_respond
from sidecar.routing.edits import HeaderEdits, header_edits, without_via
from tests.support.fakes import World

WEB, SHADOW = "10.0.0.1:80", "10.9.9.9:80"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

Make = Callable[..., World]


def lines_of(data: bytes, name: bytes) -> list[bytes]:
    """Values of the fields of this name in a head, in order."""
    lines = data.split(b"\r\n\r\n", 1)[0].split(b"\r\n")[1:]
    return [value.strip() for key, _, value in (line.partition(b":") for line in lines) if key.lower() == name]


class TestHopByHop:
    """RFC 9110, 7.6.1: what `Connection` names is the peer's to take away, and only what the peer itself sent."""

    @pytest.mark.parametrize("edits", [{"sets": {"x-tenant": "ours"}}, {"adds": {"x-tenant": "ours"}}])
    @pytest.mark.parametrize("theirs", [b"X-Tenant: evil\r\n", b""])
    @pytest.mark.parametrize("option", [b"x-tenant", b"close, X-TENANT", b"x-tenant, upgrade"])
    def test_a_client_cannot_name_away_what_a_route_writes(
        self, make_world: Make, edits: dict[str, dict[str, str]], theirs: bytes, option: bytes
    ) -> None:
        """The client's own field goes, the route's stays: towards the upstream and in the mirror's copy."""
        world = make_world(request_edits=header_edits(**edits), mirror=Mirror)
        client = world.client()
        _ = client >> b"GET / HTTP/1.1\r\nHost: web\r\nConnection: %b\r\n%b\r\n" % (option, theirs)
        web = world.accept(WEB)
        assert lines_of(web.received, b"x-tenant") == [b"ours"]
        assert lines_of(world.accept(SHADOW).received, b"x-tenant") == [b"ours"]

    @pytest.mark.parametrize(
        "name", [b"x-request-id", b"traceparent", b"x-forwarded-for", b"x-forwarded-proto", b"via"]
    )
    def test_a_client_cannot_name_away_what_the_proxy_writes(self, make_world: Make, name: bytes) -> None:
        """Lines of telemetry and forwarding."""
        world = make_world(direction=Direction.INBOUND)
        client = world.client()
        client.get(b"/", b"web", b"Connection: " + name)
        assert len(lines_of(world.accept().received, name)) == 1

    @pytest.mark.parametrize("edits", [{"sets": {"x-served-by": "us"}}, {"adds": {"x-served-by": "us"}}])
    @pytest.mark.parametrize("theirs", [b"X-Served-By: them\r\n", b""])
    def test_a_server_cannot_name_away_what_a_route_writes(
        self, make_world: Make, edits: dict[str, dict[str, str]], theirs: bytes
    ) -> None:
        """The same towards the client; twice, since a head seen lately is remembered."""
        world = make_world(response_edits=header_edits(**edits))
        client = world.client()
        for number in range(2):
            client.get()
            server = world.accept() if not number else world.servers[0]
            _ = server >> b"HTTP/1.1 200 OK\r\nConnection: x-served-by\r\n%bContent-Length: 0\r\n\r\n" % theirs
            assert lines_of(client.take(), b"x-served-by") == [b"us"]

    def test_a_switch_is_edited_like_any_response(self, make_world: Make) -> None:
        """A 101 as well."""
        world = make_world(response_edits=header_edits(sets={"x-served-by": "us"}))
        client = world.client()
        client.get(b"/", b"web", b"Connection: upgrade", b"Upgrade: websocket")
        answer = (
            b"HTTP/1.1 101 x\r\nConnection: upgrade, x-served-by\r\nUpgrade: websocket\r\nX-Served-By: them\r\n\r\n"
        )
        _ = world.accept() >> answer
        assert lines_of(client.received, b"x-served-by") == [b"us"]

    def test_a_route_does_not_see_what_is_not_sent(self, make_world: Make) -> None:
        """What is matched is what is sent: a field for this hop alone decides nothing behind it."""
        world = make_world()
        client = world.client()
        client.get(b"/", b"web", b"Connection: x-canary", b"X-Canary: 1")
        head = world.telemetry.begun[0].head
        assert head is not None
        assert head.first(b"x-canary") is None

    @pytest.mark.parametrize("named", [b"x-sum", b"close, X-SUM"])
    def test_what_is_named_goes_from_the_trailers_too(self, world: World, named: bytes) -> None:
        """In both directions."""
        client = world.client()
        chunked = b"Transfer-Encoding: chunked\r\nConnection: %b\r\n\r\n0\r\nX-Sum: 1\r\nx-other: 2\r\n\r\n" % named
        _ = client >> b"POST / HTTP/1.1\r\nHost: web\r\n" + chunked
        server = world.accept()
        assert server.received.endswith(b"\r\n\r\n0\r\nx-other: 2\r\n\r\n")
        _ = server >> b"HTTP/1.1 200 OK\r\n" + chunked
        assert client.received.endswith(b"\r\n\r\n0\r\nx-other: 2\r\n\r\n")


class TestOurOwnLines:
    """`Via`, `Date` and the forwarding fields, as edits leave them."""

    @pytest.mark.parametrize(
        ("edits", "expected"),
        [
            (None, [b"1.0 before", b"1.1 sidecar"]),
            (header_edits(sets={"x-a": "1"}), [b"1.0 before", b"1.1 sidecar"]),
            (header_edits(removes=["via"]), []),
            (header_edits(sets={"via": "1.1 mine"}), [b"1.1 mine"]),
            (without_via(None), [b"1.0 before"]),
            (without_via(header_edits(removes=["via"])), []),
        ],
    )
    def test_via(self, make_world: Make, edits: HeaderEdits | None, expected: list[bytes]) -> None:
        """Requests, interim and final responses; what others wrote stays unless it is edited."""
        world = make_world(request_edits=edits, response_edits=edits)
        client = world.client()
        client.get(b"/", b"web", b"Via: 1.0 before")
        server = world.accept()
        assert lines_of(server.received, b"via") == expected
        _ = server >> b"HTTP/1.1 103 Early\r\nVia: 1.0 before\r\n\r\n"
        has_via = edits is None or edits.has_via
        assert lines_of(client.take_raw(), b"via") == [b"1.0 before", *([b"1.1 sidecar"] if has_via else [])]
        _ = server >> b"HTTP/1.1 200 OK\r\nVia: 1.0 before\r\nContent-Length: 0\r\n\r\n"
        assert lines_of(client.take_raw(), b"via") == expected

    @pytest.mark.parametrize(
        ("edits", "received", "expected"),
        [
            (header_edits(removes=["x-forwarded-for"]), b"", []),
            (header_edits(removes=["x-forwarded-for"]), b"X-Forwarded-For: 9.9.9.9\r\n", []),
            (header_edits(sets={"x-forwarded-for": "8.8.8.8"}), b"", [b"8.8.8.8"]),
            (header_edits(sets={"x-forwarded-for": "8.8.8.8"}), b"X-Forwarded-For: 9.9.9.9\r\n", [b"8.8.8.8"]),
            (header_edits(adds={"x-forwarded-for": "8.8.8.8"}), b"X-Forwarded-For: 9.9.9.9\r\n",
             [b"9.9.9.9, 192.0.2.1", b"8.8.8.8"]),
            (header_edits(sets={"x-a": "1"}), b"X-Forwarded-For: 9.9.9.9\r\n", [b"9.9.9.9, 192.0.2.1"]),
        ],
    )  # fmt: skip
    def test_forwarding(
        self, make_world: Make, edits: HeaderEdits | None, received: bytes, expected: list[bytes]
    ) -> None:
        """Edits see the client's address where it was appended."""
        world = make_world(direction=Direction.INBOUND, request_edits=edits)
        _ = world.client() >> b"GET / HTTP/1.1\r\nHost: web\r\n%b\r\n" % received
        server = world.accept()
        assert lines_of(server.received, b"x-forwarded-for") == expected
        assert lines_of(server.received, b"x-forwarded-proto") == [b"http"]

    @pytest.mark.parametrize(
        ("edits", "theirs", "count"),
        [
            (None, b"", 1),
            (None, b"Date: then\r\n", 1),
            (header_edits(sets={"x-a": "1"}), b"", 1),
            (header_edits(sets={"x-a": "1"}), b"Date: then\r\n", 1),
            (header_edits(removes=["date"]), b"", 0),
            (header_edits(removes=["date"]), b"Date: then\r\n", 0),
            (header_edits(sets={"date": "mine"}), b"", 1),
        ],
    )
    def test_date_of_a_response(self, make_world: Make, edits: HeaderEdits | None, theirs: bytes, count: int) -> None:
        """RFC 9110, 6.6.1: always one, unless a route wants none; with a body of any framing."""
        world = make_world(response_edits=edits)
        client = world.client()
        for framing in (b"Content-Length: 0\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"):
            client.get()
            server = world.servers[0] if world.servers else world.accept()
            _ = server >> b"HTTP/1.1 200 OK\r\n" + theirs + framing
            dates = lines_of(client.take_raw(), b"date")
            assert len(dates) == count
            assert dates == [b"then"] * count if theirs else b"then" not in dates

    @pytest.mark.parametrize(
        "action",
        [
            make_redirect((), path="/x"),
            make_respond(200, {}, "x"),
            make_respond(200, {"date": "mine"}, "x"),
            make_respond(204),
            None,
        ],
    )
    @pytest.mark.parametrize("edits", [None, header_edits(removes=["date"])])
    def test_date_of_an_answer_of_our_own(
        self, make_world: Make, action: Action | None, edits: HeaderEdits | None
    ) -> None:
        """Redirects, responses and failures, of which edits are for the first two; not forwarded, so without `Via`."""
        world = make_world(action=action, response_edits=edits)
        client = world.client()
        client.get(b"/", b"web" if action else b"unknown")
        dates = lines_of(client.received, b"date")
        assert len(dates) == (0 if edits and action else 1)
        assert lines_of(client.received, b"via") == []

    def test_date_of_a_tunnel_that_stands(self, world: World) -> None:
        """CONNECT is answered with a 200 of our own."""
        client = world.client()
        _ = client >> b"CONNECT web:443 HTTP/1.1\r\nHost: web:443\r\nContent-Length: 0\r\n\r\n"
        world.accept()
        assert client.received.startswith(b"HTTP/1.1 200 ")
        assert len(lines_of(client.received, b"date")) == 1
        assert lines_of(client.received, b"via") == []
