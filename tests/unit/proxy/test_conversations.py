"""Ordinary conversations: keep-alive, pooling, pipelining, bodies, 1xx, HEAD, HTTP/1.0, trailers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from sidecar.exchange import Direction
from sidecar.routing.actions import Route, make_respond
from sidecar.routing.table import Table
from tests.support.fakes import World

GET = b"GET / HTTP/1.1\r\nHost: web\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def test_request_and_response_pass(world: World) -> None:
    """Lines pass as they came, in both directions."""
    client = world.client()
    _ = client >> b"POST /a?b=c HTTP/1.1\r\nHost: WEB:80\r\nX-A: 1\r\nContent-Length: 5\r\n\r\nhello"
    server = world.accept()
    _ = server << b"POST /a?b=c HTTP/1.1\r\nHost: WEB:80\r\nX-A: 1\r\nContent-Length: 5\r\n\r\nhello"
    _ = server >> b"HTTP/1.1 201 Created\r\nX-B: 2\r\nContent-Length: 2\r\n\r\nok"
    _ = client << b"HTTP/1.1 201 Created\r\nX-B: 2\r\nContent-Length: 2\r\n\r\nok"
    world.assert_at_rest()
    assert world.outcome() == (201, "")
    (exchange,) = world.recorded
    assert (exchange.bytes_received, exchange.bytes_sent, exchange.attempts) == (5, 2, 1)
    assert exchange.start_ns <= exchange.sent_ns <= exchange.first_byte_ns <= exchange.end_ns


def test_connections_are_kept_and_reused_on_both_sides(world: World) -> None:
    """Three requests of one client use one upstream connection, and so does another client's."""
    client, server = world.warm()
    other = world.client()
    for each in (client, other, client):
        each.get()
        _ = server << GET
        _ = server >> OK
        _ = each << OK
    assert world.dials.count == 1
    assert world.cluster.stats.connections_reused == 3
    world.assert_at_rest()


def test_two_requests_at_once_use_two_connections(world: World) -> None:
    """An upstream connection serves one exchange at a time; both are kept."""
    clients = [world.client(), world.client()]
    for client in clients:
        client.get()
    servers = [world.accept(), world.accept()]
    for server in servers:
        _ = server << GET
        _ = server >> OK
    for client in clients:
        _ = client << OK
    assert len(world.cluster.endpoints[0].idle) == 2
    world.assert_at_rest()


def test_request_that_waits_takes_a_connection_that_comes_free(world: World) -> None:
    """It does not wait for its own dial, whose connection then waits in the pool."""
    client, server = world.warm()
    client.get()
    other = world.client()
    other.get(b"/other")
    server.take()
    _ = server >> OK
    _ = server << b"GET /other HTTP/1.1\r\nHost: web\r\n\r\n"
    _ = server >> OK
    _ = other << OK
    world.accept()
    assert len(world.cluster.endpoints[0].idle) == 2
    world.assert_at_rest()


def test_pipelined_requests_are_answered_in_order(world: World) -> None:
    """The second request goes out only when the first was answered."""
    client, server = world.warm()
    _ = client >> b"GET /1 HTTP/1.1\r\nHost: web\r\n\r\nGET /2 HTTP/1.1\r\nHost: web\r\n\r\nGET /3 HTTP/1.1\r\nHo"
    _ = server << b"GET /1 HTTP/1.1\r\nHost: web\r\n\r\n"
    _ = server >> b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1"
    _ = server << b"GET /2 HTTP/1.1\r\nHost: web\r\n\r\n"
    _ = server >> b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n2"
    _ = client >> b"st: web\r\n\r\n"
    _ = server << b"GET /3 HTTP/1.1\r\nHost: web\r\n\r\n"
    _ = server >> b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n3"
    assert [response.body for response in client.responses()] == [b"", b"1", b"2", b"3"]
    world.assert_at_rest()


def test_pipelined_bodies_keep_their_requests(world: World) -> None:
    """A length body, a chunked body and a bodyless request behind each other are parted exactly."""
    client, server = world.warm()
    _ = client >> (
        b"POST /1 HTTP/1.1\r\nHost: web\r\nContent-Length: 3\r\n\r\nabc"
        b"POST /2 HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ndef\r\n0\r\n\r\n"
        b"GET /3 HTTP/1.1\r\nHost: web\r\n\r\n"
    )
    _ = server << b"POST /1 HTTP/1.1\r\nHost: web\r\nContent-Length: 3\r\n\r\nabc"
    _ = server >> OK
    _ = server << b"POST /2 HTTP/1.1\r\nHost: web\r\ntransfer-encoding: chunked\r\n\r\n3\r\ndef\r\n0\r\n\r\n"
    _ = server >> OK
    _ = server << b"GET /3 HTTP/1.1\r\nHost: web\r\n\r\n"
    _ = server >> OK
    assert len(client.responses()) == 4
    world.assert_at_rest()


def test_many_pipelined_requests_that_the_proxy_answers_itself(world: World) -> None:
    """A burst is taken in slices of the loop, in order, none lost."""
    client = world.client()
    _ = client >> b"".join(b"GET /%d HTTP/1.1\r\nHost: nobody\r\n\r\n" % number for number in range(100))
    assert [response.status for response in client.responses()] == [404] * 100
    assert [exchange.head.path for exchange in world.recorded if exchange.head] == [b"/%d" % n for n in range(100)]
    assert world.loop.counts["call_soon"] >= 3
    world.assert_at_rest()


def test_early_pipelined_bytes_beyond_the_limit_pause_the_client(world: World) -> None:
    """What a client sends ahead is bounded; it is read on when its turn comes."""
    client, server = world.warm()
    client.get()
    ahead = b"".join(b"GET /%d HTTP/1.1\r\nHost: web\r\nX: %b\r\n\r\n" % (n, b"x" * 4000) for n in range(40))
    _ = client >> ahead
    assert client.is_paused
    for _ in range(41):
        _ = server >> OK
    assert not client.is_paused
    assert len(client.responses()) == 42
    world.assert_at_rest()


class TestBodies:
    """Bodies stream; how they are framed is decided hop by hop."""

    def test_chunked_request_streams_in_our_own_chunks(self, world: World) -> None:
        """Each read becomes one chunk; extensions end here."""
        client = world.client()
        _ = client >> b"POST / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n"
        server = world.accept()
        _ = server << b"POST / HTTP/1.1\r\nHost: web\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabcde\r\n"
        _ = client >> b"1\r"
        _ = client >> b"\nf"
        _ = server << b"1\r\nf\r\n"
        _ = client >> b"\r\n0\r\nX-Sum: 1\r\nContent-Length: 99\r\n\r\n"
        _ = server << b"0\r\nX-Sum: 1\r\n\r\n"
        _ = server >> OK
        _ = client << OK
        world.assert_at_rest()

    def test_request_body_is_held_while_the_connection_is_made(self, world: World) -> None:
        """What came before the connection goes out with the head, in one write."""
        client = world.client()
        _ = client >> b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 6\r\n\r\nab"
        _ = client >> b"cd"
        server = world.accept()
        assert len(server.transport.writes) == 1
        _ = server << b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 6\r\n\r\nabcd"
        _ = client >> b"ef"
        _ = server << b"ef"
        _ = server >> OK
        _ = client << OK
        world.assert_at_rest()

    def test_close_delimited_response_becomes_chunked(self, world: World) -> None:
        """The client's connection outlives the upstream's."""
        client = world.client()
        client.get()
        server = world.accept()
        _ = server >> b"HTTP/1.1 200 OK\r\n\r\nab"
        _ = client << b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n"
        _ = server >> b"cde"
        _ = client << b"3\r\ncde\r\n"
        server.eof()
        _ = client << b"0\r\n\r\n"
        assert client.is_open
        assert not server.is_open
        world.assert_at_rest()
        assert world.outcome() == (200, "")

    def test_chunked_response_passes_with_trailers(self, world: World) -> None:
        """Payload and trailers pass; framing is our own."""
        client, server = world.warm()
        client.get()
        _ = server >> b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;a\r\nx\r\n"
        _ = server >> b"2\r\nyz\r\n0\r\nX-T: 1\r\nContent-Length: 9\r\n\r\n"
        _ = client << (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n2\r\nyz\r\n0\r\nX-T: 1\r\n\r\n")
        assert server.is_open
        world.assert_at_rest()

    def test_whole_chunked_response_in_one_read(self, world: World) -> None:
        """One read, one write."""
        client, server = world.warm()
        client.get()
        before = len(client.transport.writes)
        _ = server >> b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n2\r\nyz\r\n0\r\n\r\n"
        assert len(client.transport.writes) == before + 1
        _ = client << b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nxyz\r\n0\r\n\r\n"
        world.assert_at_rest()

    def test_response_of_a_hundred_thousand_tiny_chunks_is_taken_in_slices(self, world: World) -> None:
        """An octet a chunk holds the loop for a slice only, and loses nothing, though the upstream closes behind it."""
        client, server = world.warm()
        client.get()
        server.transport.arrive(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n")
        server.transport.arrive(b"1\r\nx\r\n" * 20_000 + b"0\r\n\r\n")
        server.eof()
        assert client.responses()[-1].body == b"x" * 20_000
        assert client.responses()[-1].is_complete
        assert world.loop.counts["call_soon"] > 10
        world.assert_at_rest()

    def test_request_of_tiny_chunks_is_taken_in_slices(self, world: World) -> None:
        """The same for requests, with the next request right behind."""
        client, server = world.warm()
        client.transport.arrive(b"POST / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n")
        _ = client >> b"1\r\nx\r\n" * 20_000 + b"0\r\n\r\n" + GET
        assert world.telemetry.begun[-1].bytes_received == 20_000
        _ = server >> OK
        _ = server >> OK
        assert [response.body for response in client.responses(b"GET", b"POST", b"GET")] == [b"", b"ok", b"ok"]
        assert not client.is_paused
        world.assert_at_rest()

    @pytest.mark.parametrize("head", [b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b""])
    def test_head_response_has_no_body(self, world: World, head: bytes) -> None:
        """HEAD is answered by a head; what it says of a body is another response's."""
        client, server = world.warm()
        _ = client >> b"HEAD / HTTP/1.1\r\nHost: web\r\n\r\n"
        _ = server >> b"HTTP/1.1 200 OK\r\n" + head + b"\r\n"
        expected = b"HTTP/1.1 200 OK\r\n" + (b"" if b"chunked" in head else head) + b"\r\n"
        _ = client << expected
        assert client.is_open
        assert server.is_open
        world.assert_at_rest()

    @pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
    def test_bodyless_status_ends_with_its_head(self, world: World, status: bytes) -> None:
        """204 and 304 have no body and keep the connection."""
        client, server = world.warm()
        client.get()
        _ = server >> b"HTTP/1.1 " + status + b"\r\nETag: x\r\n\r\n"
        _ = client << b"HTTP/1.1 " + status + b"\r\nETag: x\r\n\r\n"
        assert server.is_open
        world.assert_at_rest()


class TestInformational:
    """RFC 9110, 10.1.1 and 15.2."""

    def test_100_continue_passes(self, world: World) -> None:
        """The expectation goes to the upstream, its 100 to the client, then the body."""
        client = world.client()
        _ = client >> b"POST / HTTP/1.1\r\nHost: web\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
        server = world.accept()
        _ = server << b"POST / HTTP/1.1\r\nHost: web\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
        _ = server >> b"HTTP/1.1 100 Continue\r\n\r\n"
        _ = client << b"HTTP/1.1 100 Continue\r\n\r\n"
        _ = client >> b"hi"
        _ = server << b"hi"
        _ = server >> OK
        _ = client << OK
        world.assert_at_rest()

    def test_several_informational_responses_pass_before_the_final_one(self, world: World) -> None:
        """102 and 103 pass with their fields, also in one read with the final response."""
        client, server = world.warm()
        client.get()
        hints = b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
        _ = server >> hints + OK
        _ = client << hints + OK
        world.assert_at_rest()

    def test_http_1_0_client_gets_no_informational_response(self, world: World) -> None:
        """HTTP/1.0 knows none."""
        client = world.client()
        _ = client >> b"GET / HTTP/1.0\r\nHost: web\r\n\r\n"
        server = world.accept()
        _ = server >> b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK
        _ = client << b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nconnection: close\r\n\r\nok"

    @pytest.mark.parametrize("status", [417, 200, 413])
    def test_final_response_instead_of_100_closes(self, world: World, status: int) -> None:
        """The client may send the body it announced, or may not: only a new connection is unambiguous."""
        client, server = world.warm()
        _ = client >> b"POST / HTTP/1.1\r\nHost: web\r\nExpect: 100-continue\r\nContent-Length: 20\r\n\r\n"
        _ = server >> b"HTTP/1.1 %d x\r\nContent-Length: 0\r\n\r\n" % status
        assert client.responses()[-1].headers.get(b"connection") == b"close"
        _ = client >> b"GET /smuggled HTTP/1.1\r\nHost: web\r\n\r\n"
        assert b"smuggled" not in server.received
        assert not server.is_open
        client.eof()
        world.assert_at_rest()

    def test_final_response_that_streams_instead_of_100_closes(self, world: World) -> None:
        """The same when the response's head comes before its end."""
        client, server = world.warm()
        _ = client >> b"POST / HTTP/1.1\r\nHost: web\r\nExpect: 100-continue\r\nContent-Length: 28\r\n\r\n"
        _ = server >> b"HTTP/1.1 417 x\r\nContent-Length: 4\r\n\r\nab"
        _ = server >> b"cd"
        _ = client >> b"GET /s HTTP/1.1\r\nHost: web\r\n\r\n"
        assert client.responses()[-1].headers.get(b"connection") == b"close"
        assert len(world.telemetry.begun) == 2
        client.eof()
        world.assert_at_rest()


class TestHttp10:
    """RFC 9112, appendix C."""

    def test_connection_closes_unless_asked_to_stay(self, world: World) -> None:
        """One request, one connection."""
        client = world.client()
        _ = client >> b"GET / HTTP/1.0\r\nHost: web\r\n\r\n"
        server = world.accept()
        _ = server << b"GET / HTTP/1.1\r\nHost: web\r\n\r\n"
        _ = server >> OK
        _ = client << b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nconnection: close\r\n\r\nok"
        assert not client.is_open
        assert server.is_open
        world.assert_at_rest()

    def test_keep_alive_is_granted_in_words(self, world: World) -> None:
        """A client of HTTP/1.0 must be told that the connection stays."""
        client = world.client()
        _ = client >> b"GET / HTTP/1.0\r\nHost: web\r\nConnection: keep-alive\r\n\r\n"
        server = world.accept()
        _ = server >> OK
        _ = client << b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nconnection: keep-alive\r\n\r\nok"
        assert client.is_open

    @pytest.mark.parametrize("body", [b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\nX: 1\r\n\r\n"])
    def test_chunked_response_is_ended_by_the_close(self, world: World, body: bytes) -> None:
        """No chunks for HTTP/1.0, even with keep-alive."""
        client = world.client()
        _ = client >> b"GET / HTTP/1.0\r\nHost: web\r\nConnection: keep-alive\r\n\r\n"
        server = world.accept()
        _ = server >> b"HTTP/1.1 200 OK\r\n" + body
        _ = client << b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nabc"
        assert not client.is_open
        assert server.is_open
        world.assert_at_rest()

    def test_request_without_host_gets_one(self, make_world: Callable[..., World]) -> None:
        """RFC 9110, 7.2: what goes on as HTTP/1.1 has a Host."""
        world = make_world(listener_host=None, is_passthrough=False)
        sides = [replace(side, table=Table([route_everything(world)])) for side in world.plan.sides]
        side_of = {side.direction.label: side for side in sides}
        world.live.plan = replace(world.plan, sides=tuple(sides), side_of=side_of)
        client = world.client()
        _ = client >> b"GET / HTTP/1.0\r\n\r\n"
        server = world.accept()
        lines = server.take().split(b"\r\n")
        assert [line.lower() for line in lines if line.lower().startswith(b"host:")] == [b"host: web"]


def route_everything(world: World) -> Route:
    """The one route, for any host."""
    (route,) = world.plan.sides[1].table.routes
    return Route("all", (), route.action, route.scope)


class TestForwarding:
    """Who asked, and for whom."""

    def test_absolute_form_becomes_origin_form_with_its_own_host(self, world: World) -> None:
        """RFC 9112, 3.2.2: the target's authority replaces the field."""
        client = world.client()
        _ = client >> b"GET http://web:8080/a?b HTTP/1.1\r\nHost: other\r\nX: 1\r\n\r\n"
        _ = world.accept() << b"GET /a?b HTTP/1.1\r\nX: 1\r\nhost: web:8080\r\n\r\n"

    def test_path_is_sent_as_it_was_matched(self, world: World) -> None:
        """In normal form."""
        client = world.client()
        client.get(b"/a/%2e%2e/b%7e%2f?%2e")
        _ = world.accept() << b"GET /b~%2F?%2e HTTP/1.1\r\nHost: web\r\n\r\n"

    def test_listener_with_a_host_overrides_what_the_client_says(self, make_world: Callable[..., World]) -> None:
        """One port per dependency: the app need not name it."""
        world = make_world(listener_host=b"web")
        client = world.client()
        _ = client >> b"GET / HTTP/1.1\r\nHost: localhost:9101\r\n\r\n"
        _ = world.accept() << b"GET / HTTP/1.1\r\nhost: web\r\n\r\n"

    def test_inbound_client_is_named_and_appended(self, make_world: Callable[..., World]) -> None:
        """x-forwarded-for grows by the peer's address; x-forwarded-proto is kept or made."""
        world = make_world(direction=Direction.INBOUND)
        client = world.client()
        client.get()
        server = world.accept()
        assert b"\r\nx-forwarded-for: 192.0.2.1\r\nx-forwarded-proto: http\r\n" in server.received
        _ = server >> OK
        received = (b"X-Forwarded-For: 10.1.1.1", b"X-Forwarded-For: 10.2.2.2", b"X-Forwarded-Proto: https")
        client.get(b"/", b"web", *received)
        second = server.received.partition(b"\r\n\r\n")[2]
        assert second.lower().count(b"x-forwarded-for") == 1
        assert b"x-forwarded-for: 10.1.1.1, 10.2.2.2, 192.0.2.1\r\n" in second
        assert second.lower().count(b"x-forwarded-proto") == 1
        assert b"X-Forwarded-Proto: https\r\n" in second

    def test_outbound_client_is_not_named(self, world: World) -> None:
        """The app's own address says nothing to others."""
        client = world.client()
        client.get()
        assert b"x-forwarded-for" not in world.accept().received

    def test_passthrough_goes_to_the_authority(self, make_world: Callable[..., World]) -> None:
        """The request's own host and port are dialed; port 80 unless it says another."""
        world = make_world(is_passthrough=True)
        for host in (b"x.example:81", b"y.example", b"[::1]:82"):
            client = world.client()
            client.get(b"/", host)
            label = host.decode() if host != b"y.example" else "y.example:80"
            assert world.dials.under_way[-1].endpoint.label == label
            server = world.accept()
            _ = server >> OK
            _ = client << OK
        world.assert_at_rest()


def test_connect_at_a_route_without_an_upstream_opens_no_tunnel() -> None:
    """A 2xx to CONNECT would tell the client that its tunnel stands (RFC 9110, 9.3.6)."""
    with World(action=make_respond(200, {}, "hello")) as world:
        client = world.client()
        _ = client >> b"CONNECT web:443 HTTP/1.1\r\nHost: web:443\r\n\r\n"
        assert client.responses()[-1].status == 405
        world.assert_at_rest()


def test_time_of_the_last_byte_is_noted(world: World) -> None:
    """What the proxy itself took is the whole less the time from the sending to this."""
    client, server = world.warm()
    client.get()
    _ = server >> b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab"
    assert world.telemetry.begun[-1].received_ns == 0
    _ = server >> b"cd"
    exchange = world.telemetry.recorded[-1]
    assert exchange.sent_ns <= exchange.first_byte_ns <= exchange.received_ns <= exchange.end_ns
    assert world.telemetry.recorded[0].received_ns == world.telemetry.recorded[0].first_byte_ns
