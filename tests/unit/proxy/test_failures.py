"""Who left, when, and what the other side is told: losses, refusals, deadlines, drain, limits."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from sidecar import errors
from sidecar.exchange import Direction
from sidecar.routing.actions import make_redirect, make_respond
from tests.support.fakes import LIMITS, Client, World

GET = b"GET / HTTP/1.1\r\nHost: web\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 5\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def last(world: World) -> tuple[int, str, str]:
    exchange = world.recorded[-1]
    assert exchange.reason is not None
    return exchange.status, exchange.reason.name, exchange.reason.flag


class TestClientLeaves:
    """The client closes or resets; the upstream's connection must not be used again."""

    @pytest.mark.parametrize("is_reset", [False, True])
    def test_while_its_connection_is_made(self, world: World, is_reset: bool) -> None:
        """The dial goes on, and its connection waits for others."""
        client = world.client()
        client.get()
        client.reset() if is_reset else client.leave()
        assert last(world) == (499, "client_left", "DC")
        server = world.accept()
        assert server.received == b""
        world.assert_at_rest()

    @pytest.mark.parametrize("is_reset", [False, True])
    @pytest.mark.parametrize(
        "said",
        [b"", b"HTTP/1.1 2", b"HTTP/1.1 103 x\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab",
         b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab", b"HTTP/1.1 200 OK\r\n\r\nab"],
    )  # fmt: skip
    def test_before_or_in_the_response(self, world: World, said: bytes, is_reset: bool) -> None:
        """The upstream connection is cut in whatever phase it is, and recorded once."""
        client, server = world.warm()
        client.get()
        if said:
            _ = server >> said
        client.reset() if is_reset else client.leave()
        status, name, flag = last(world)
        assert (name, flag) == ("client_left", "DC")
        assert status == (200 if b"200" in said else 499)
        assert server.transport.ended == "abort"
        world.assert_at_rest()

    def test_in_its_request_body(self, world: World) -> None:
        """A request that is cut short is cut short for the upstream too."""
        client, server = world.warm()
        _ = client >> POST + b"ab"
        client.leave()
        assert server.transport.ended == "abort"
        assert world.recorded[-1].bytes_received == 2
        world.assert_at_rest()

    def test_idle_or_in_a_head(self, world: World) -> None:
        """Nothing began, nothing is recorded."""
        client = world.client()
        _ = client >> b"GET / HT"
        client.leave()
        world.client().leave()
        assert not world.recorded
        world.assert_at_rest()


class TestUpstreamLeaves:
    """The upstream closes or resets at each phase."""

    @pytest.mark.parametrize(
        ("is_reset", "name", "flag"), [(False, "upstream_closed", "UC"), (True, "upstream_reset", "UR")]
    )
    def test_fresh_connection_before_the_response(self, world: World, is_reset: bool, name: str, flag: str) -> None:
        """A connection that was never good is no reason to try again."""
        client = world.client()
        client.get()
        server = world.accept()
        server.reset() if is_reset else server.eof()
        assert last(world) == (503, name, flag)
        assert client.responses()[-1].status == 503
        assert client.is_open
        assert not world.dials.under_way
        world.assert_at_rest()

    @pytest.mark.parametrize("is_reset", [False, True])
    @pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"])
    def test_reused_untouched_connection_is_tried_once_more_on_a_fresh_one(
        self, world: World, method: bytes, is_reset: bool
    ) -> None:
        """RFC 9112, 9.3.1: the keep-alive race is the proxy's to lose, not the client's."""
        client, server = world.warm()
        request = method + b" / HTTP/1.1\r\nHost: web\r\n\r\n"
        _ = client >> request
        _ = server << request
        server.reset() if is_reset else server.eof()
        second = world.accept()
        _ = second << request
        _ = second >> b"HTTP/1.1 204 No Content\r\n\r\n"
        _ = client << b"HTTP/1.1 204 No Content\r\n\r\n"
        assert world.recorded[-1].attempts == 2
        world.assert_at_rest()

    def test_second_loss_is_final(self, world: World) -> None:
        """Two tries at most."""
        client, server = world.warm()
        client.get()
        server.eof()
        world.accept().eof()
        assert last(world) == (503, "upstream_closed", "UC")
        assert not world.dials.under_way
        world.assert_at_rest()

    @pytest.mark.parametrize(
        "request_",
        [b"POST / HTTP/1.1\r\nHost: web\r\n\r\n", b"PATCH / HTTP/1.1\r\nHost: web\r\n\r\n", POST + b"hello",
         b"PUT / HTTP/1.1\r\nHost: web\r\nContent-Length: 2\r\n\r\nab", b"PURGE / HTTP/1.1\r\nHost: web\r\n\r\n",
         b"GET / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"],
    )  # fmt: skip
    def test_what_may_have_been_done_is_not_sent_again(self, world: World, request_: bytes) -> None:
        """RFC 9110, 9.2.2: not idempotent, or with a body that is gone."""
        client, server = world.warm()
        _ = client >> request_
        server.eof()
        assert last(world) == (503, "upstream_closed", "UC")
        assert not world.dials.under_way
        world.assert_at_rest()

    @pytest.mark.parametrize("said", [b"H", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 103 Early\r\n\r\n"])
    def test_touched_connection_is_not_tried_again(self, world: World, said: bytes) -> None:
        """One byte of an answer means that the request arrived."""
        client, server = world.warm()
        client.get()
        _ = server >> said
        server.eof()
        assert last(world) == (503, "upstream_closed", "UC")
        assert not world.dials.under_way
        world.assert_at_rest()

    @pytest.mark.parametrize("is_reset", [False, True])
    @pytest.mark.parametrize(
        "said",
        [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",
         b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab",
         b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n"],
    )  # fmt: skip
    def test_in_the_response_cuts_the_client_off(self, world: World, said: bytes, is_reset: bool) -> None:
        """What is incomplete must not look complete."""
        client, server = world.warm()
        client.get()
        _ = server >> said
        server.reset() if is_reset else server.eof()
        assert last(world) == (200, "response_cut", "UC")
        assert client.transport.ended == "abort"
        assert not client.received.endswith(b"0\r\n\r\n")
        world.assert_at_rest()

    def test_reset_in_a_close_delimited_response_cuts_the_client_off(self, world: World) -> None:
        """Only an orderly end is the end of such a body."""
        client = world.client()
        client.get()
        server = world.accept()
        _ = server >> b"HTTP/1.1 200 OK\r\n\r\nab"
        server.reset()
        assert last(world) == (200, "response_cut", "UC")
        assert client.transport.ended == "abort"
        world.assert_at_rest()

    def test_idle_connection_that_closes_leaves_the_pool(self, world: World) -> None:
        """The next request dials."""
        client, server = world.warm()
        server.eof()
        client.get()
        assert len(world.dials.under_way) == 1
        _ = world.accept() >> OK
        world.assert_at_rest()

    def test_unsolicited_bytes_on_an_idle_connection_close_it(self, world: World) -> None:
        """An answer to nothing would become the answer to the next request."""
        client, server = world.warm()
        _ = server >> OK
        assert server.transport.ended == "abort"
        client.get()
        _ = world.accept() >> b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nnew"
        assert client.responses()[-1].body == b"new"
        world.assert_at_rest()

    @pytest.mark.parametrize(("method", "request_bytes"), [(b"POST", POST + b"hello"), (b"GET", GET)])
    def test_bytes_that_the_kernel_holds_for_an_idle_connection_keep_a_request_from_it(
        self, world: World, method: bytes, request_bytes: bytes
    ) -> None:
        """Where an end or an answer waits to be read, nothing is sent: the answer would be taken for the next one's."""
        client, server = world.warm()
        sent = server.received
        server.transport.is_kernel_full = True
        _ = client >> request_bytes
        assert server.received == sent
        assert not server.is_open
        _ = world.accept() >> OK
        assert client.responses(b"GET", method)[-1].status == 200
        world.assert_at_rest()

    def test_post_uses_a_quiet_idle_connection(self, world: World) -> None:
        """The check costs nothing when all is well."""
        client, server = world.warm()
        _ = client >> POST + b"hello"
        _ = server << POST + b"hello"
        _ = server >> OK
        world.assert_at_rest()

    def test_upstream_gone_in_the_middle_of_the_request_body(self, world: World) -> None:
        """The client is told while it is still sending; a small rest is swallowed and the connection goes on."""
        client, server = world.warm()
        _ = client >> POST + b"he"
        server.eof()
        assert client.responses(b"GET", b"POST")[-1].status == 503
        _ = client >> b"llo" + GET
        _ = world.accept() >> OK
        assert client.responses(b"GET", b"POST", b"GET")[-1].body == b"ok"
        world.assert_at_rest()


class TestConnecting:
    """No connection can be made."""

    @pytest.mark.parametrize(
        ("reason", "name"), [(errors.CONNECT_FAILED, "connect_failed"), (errors.CONNECT_TIMEOUT, "connect_timeout")]
    )
    def test_only_endpoint_refuses(self, world: World, reason: errors.Reason, name: str) -> None:
        """The client is told at once."""
        client = world.client()
        client.get()
        world.refuse(reason)
        assert last(world) == (503, name, "UF")
        assert client.is_open
        world.assert_at_rest()

    def test_another_endpoint_is_tried(self, make_world: Callable[..., World]) -> None:
        """Nothing was sent, so any request may go elsewhere, with its body."""
        world = make_world(endpoints=("10.0.0.1:80", "10.0.0.2:80"))
        client = world.client()
        _ = client >> POST + b"he"
        refused = world.dials.under_way[0].endpoint
        world.refuse()
        _ = client >> b"llo"
        assert world.dials.under_way[0].endpoint is not refused
        server = world.accept()
        _ = server << POST + b"hello"
        _ = server >> OK
        assert client.responses()[-1].status == 200
        assert world.recorded[-1].attempts == 2
        world.assert_at_rest()

    def test_second_refusal_is_final(self, make_world: Callable[..., World]) -> None:
        """Two tries at most."""
        world = make_world(endpoints=("10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"))
        client = world.client()
        client.get()
        world.refuse()
        world.refuse()
        assert last(world) == (503, "connect_failed", "UF")
        assert not world.dials.under_way
        world.assert_at_rest()

    def test_no_endpoint_at_all(self, make_world: Callable[..., World]) -> None:
        """503 without a try."""
        world = make_world(endpoints=())
        client = world.client()
        client.get()
        assert last(world) == (503, "no_endpoint", "UH")
        assert world.recorded[-1].attempts == 0
        world.assert_at_rest()

    def test_connection_that_comes_too_late_waits_in_the_pool(self, world: World) -> None:
        """The client left, the next one finds it."""
        client = world.client()
        client.get()
        client.leave()
        server = world.accept()
        other = world.client()
        other.get()
        _ = server << GET
        _ = server >> OK
        world.assert_at_rest()


class TestDeadlines:
    """Time passes; the clock is held."""

    def test_slow_head_is_408(self, world: World) -> None:
        """From the first byte of a head."""
        client = world.client()
        world.advance(100)
        _ = client >> b"GET / HTTP/1.1\r\nHo"
        world.advance(9.9)
        assert client.received == b""
        world.advance(0.3)
        assert last(world) == (408, "head_timeout", "DT")
        (response,) = client.responses()
        assert (response.status, response.headers[b"connection"]) == (408, b"close")
        client.leave()
        world.assert_at_rest()

    def test_slow_head_of_a_later_request_is_408(self, world: World) -> None:
        """The same on a kept connection."""
        client, _ = world.warm()
        world.advance(100)
        _ = client >> b"GET"
        world.advance(10.2)
        assert last(world) == (408, "head_timeout", "DT")

    def test_idle_client_is_closed_silently(self, world: World) -> None:
        """After the idle timeout, with nothing recorded."""
        client, _ = world.warm()
        world.advance(299)
        assert client.is_open
        world.advance(2)
        assert not client.is_open
        assert client.transport.ended == "close"
        assert len(world.recorded) == 1
        world.assert_at_rest()

    def test_idle_upstream_connection_is_closed(self, world: World) -> None:
        """After the cluster's idle timeout, short against the keep-alive race."""
        _, server = world.warm()
        world.advance(3.9)
        assert server.is_open
        world.advance(0.3)
        assert server.transport.ended == "close"
        world.assert_at_rest()

    def test_route_timeout_is_504(self, make_world: Callable[..., World]) -> None:
        """For the whole exchange, connecting included."""
        world = make_world(timeout_s=2.0)
        client = world.client()
        client.get()
        world.advance(1)
        server = world.accept()
        world.advance(0.9)
        assert not client.received
        world.advance(0.3)
        assert last(world) == (504, "response_timeout", "UT")
        assert server.transport.ended == "abort"
        assert client.is_open
        world.assert_at_rest()

    def test_route_timeout_while_connecting_is_504(self, make_world: Callable[..., World]) -> None:
        """The connection that comes afterwards serves others."""
        world = make_world(timeout_s=0.5)
        client = world.client()
        client.get()
        world.advance(0.7)
        assert last(world) == (504, "response_timeout", "UT")
        assert world.accept().received == b""
        world.assert_at_rest()

    def test_route_timeout_in_the_response_cuts(self, make_world: Callable[..., World]) -> None:
        """However busy it is."""
        world = make_world(timeout_s=2.0)
        client = world.client()
        client.get()
        server = world.accept()
        _ = server >> b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n"
        for _ in range(8):
            world.advance(0.3)
            _ = server >> b"x"
        assert world.recorded[-1].reason is errors.RESPONSE_TIMEOUT
        assert client.transport.ended == "abort"
        world.assert_at_rest()

    def test_timeout_of_an_upload_that_waits_for_100_closes(self, make_world: Callable[..., World]) -> None:
        """The body that the client may now leave out must not be waited for."""
        world = make_world(timeout_s=2.0)
        client = world.client()
        _ = client >> b"POST / HTTP/1.1\r\nHost: web\r\nExpect: 100-continue\r\nContent-Length: 30\r\n\r\n"
        server = world.accept()
        world.advance(2.2)
        assert client.responses()[-1].headers.get(b"connection") == b"close"
        _ = client >> b"GET /s HTTP/1.1\r\nHost: web\r\n\r\n"
        assert len(world.telemetry.begun) == 1
        assert server.transport.ended == "abort"
        client.leave()
        world.assert_at_rest()

    def test_silent_upstream_is_504_after_the_idle_timeout(self, world: World) -> None:
        """Without a route timeout nothing hangs for ever either."""
        client, _ = world.warm()
        client.get()
        world.advance(299)
        assert len(world.recorded) == 1
        world.advance(2)
        assert last(world) == (504, "response_timeout", "UT")

    def test_stalled_response_cuts(self, world: World) -> None:
        """A byte now and then keeps it alive, silence ends it."""
        client, server = world.warm()
        client.get()
        _ = server >> b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n"
        for _ in range(5):
            world.advance(250)
            _ = server >> b"x"
        assert len(world.recorded) == 1
        world.advance(301)
        assert world.recorded[-1].reason is errors.RESPONSE_STALLED
        assert client.transport.ended == server.transport.ended == "abort"
        world.assert_at_rest()

    def test_client_that_stops_reading_is_cut(self, world: World) -> None:
        """Its name is on the reason, not the upstream's."""
        client, server = world.warm()
        client.get()
        client.stop_reading()
        _ = server >> b"HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\n" + b"x" * 500_000
        world.advance(302)
        assert world.recorded[-1].reason is errors.CLIENT_STALLED
        world.assert_at_rest()

    def test_client_that_stops_sending_its_body_is_408(self, world: World) -> None:
        """The upstream is cut, the client told."""
        client, server = world.warm()
        _ = client >> POST + b"h"
        world.advance(302)
        assert last(world) == (408, "body_timeout", "DT")
        assert server.transport.ended == "abort"
        client.leave()
        world.assert_at_rest()

    def test_discarded_rest_that_never_comes_closes(self, world: World) -> None:
        """The swallowing of a body's rest has its time too."""
        client, server = world.warm()
        _ = client >> POST + b"h"
        _ = server >> OK
        world.advance(11)
        assert not client.is_open
        world.assert_at_rest()


class TestDrainAndLimits:
    """The process ends, or is full."""

    def test_idle_connections_close_at_once(self, world: World) -> None:
        """Nothing is owed."""
        client, _ = world.warm()
        client.connection.drain()
        world.loop.run()
        assert client.transport.ended == "close"
        world.assert_at_rest()

    def test_running_exchange_finishes_and_says_close(self, world: World) -> None:
        """The client is told in words not to send another."""
        client, server = world.warm()
        client.get()
        client.connection.drain()
        assert client.is_open
        _ = server >> OK
        assert client.responses()[-1].headers[b"connection"] == b"close"
        assert not client.is_open
        world.assert_at_rest()

    def test_client_of_a_draining_listener_is_served_once(self, world: World) -> None:
        """It was accepted, so it is answered."""
        world.listener_state.is_draining = True
        client = world.client()
        client.get()
        _ = world.accept() >> OK
        assert client.responses()[-1].headers[b"connection"] == b"close"
        assert not client.is_open
        world.assert_at_rest()

    def test_response_that_streams_while_draining_begins_ends_whole(self, world: World) -> None:
        """The head is written already; the body is finished, then the connection closes."""
        client, server = world.warm()
        client.get()
        _ = server >> b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab"
        client.connection.drain()
        _ = server >> b"cd"
        assert client.responses()[-1].body == b"abcd"
        assert not client.is_open
        world.assert_at_rest()

    def test_abort_ends_everything_now(self, world: World) -> None:
        """At the end of the drain's time."""
        client, server = world.warm()
        client.get()
        client.connection.abort()
        world.loop.run()
        assert last(world) == (503, "draining", "DR")
        assert client.transport.ended == server.transport.ended == "abort"
        world.assert_at_rest()

    def test_connection_over_the_limit_is_503(self, make_world: Callable[..., World]) -> None:
        """It is told why, closed, and does not count."""
        world = make_world(limits=replace(LIMITS, max_connections=2))
        first, second = world.client(), world.client()
        third = world.client()
        (response,) = third.responses()
        assert (response.status, response.headers[b"connection"]) == (503, b"close")
        assert last(world) == (503, "overloaded", "UO")
        third.leave()
        first.leave()
        fourth = world.client()
        assert fourth.received == b""
        for client in (second, fourth):
            client.leave()
        assert world.live.connection_counts() == {Direction.INBOUND: 0, Direction.OUTBOUND: 0}


class TestLocalReplies:
    """RFC 9209 and one line of JSON."""

    def said(self, client: Client, *methods: bytes) -> dict[str, object]:
        response = client.responses(*methods)[-1]
        assert response.headers[b"content-type"] == b"application/json"
        assert response.body.endswith(b"}\n")
        assert response.body.count(b"\n") == 1
        return dict(json.loads(response.body))

    def test_no_route_says_where_to_look(self, world: World) -> None:
        """Status, Proxy-Status and JSON come from the table of reasons."""
        client = world.client()
        client.get(b"/", b"nobody")
        said = self.said(client)
        assert (said["error"], said["status"], said["flag"], said["phase"]) == ("no_route", 404, "NR", "route")
        assert said["look_at"] == errors.NO_ROUTE.hint
        status = client.responses()[-1].headers[b"proxy-status"]
        assert status == b'sidecar; error=destination_not_found; details="no_route"'
        assert client.is_open

    def test_upstream_failure_names_route_upstream_endpoint_and_attempt(self, world: World) -> None:
        """Everything that an operator asks first."""
        client = world.client()
        client.get()
        world.refuse()
        said = self.said(client)
        assert (said["route"], said["upstream"], said["endpoint"], said["attempt"]) == (
            "to-web", "web", "10.0.0.1:80", 1
        )  # fmt: skip
        assert said["request_id"] == world.recorded[-1].request_id.decode()

    def test_reply_to_head_has_the_length_and_no_body(self, world: World) -> None:
        """RFC 9110, 9.3.2."""
        client = world.client()
        _ = client >> b"HEAD / HTTP/1.1\r\nHost: nobody\r\n\r\n"
        head, _, body = client.received.partition(b"\r\n\r\n")
        assert body == b""
        assert b"content-length: " in head
        assert world.recorded[-1].bytes_sent == 0
        client.get(b"/", b"nobody")
        assert [response.status for response in client.responses(b"HEAD", b"GET")] == [404, 404]

    def test_request_id_of_the_client_is_escaped(self, world: World) -> None:
        """Nothing that the client chose can leave the string it stands in."""
        client = world.client()
        client.get(b"/", b"nobody", b'x-request-id: a"}\xff<')
        self.said(client)

    def test_loop_is_508(self, world: World) -> None:
        """A request that came through this sidecar too often runs in a circle."""
        client = world.client()
        client.get(b"/", b"web", b"Via: " + b", ".join([b"1.1 sidecar"] * 65))
        assert last(world) == (508, "loop", "DPE")

    def test_redirect_and_respond(self, make_world: Callable[..., World]) -> None:
        """The route's own answers, without an upstream, also to a body that is still coming."""
        world = make_world(action=make_redirect((), path="/new", status=301))
        client = world.client()
        _ = client >> POST + b"he"
        _ = client >> b"llo" + GET
        responses = client.responses(b"POST", b"GET")
        assert [response.status for response in responses] == [301, 301]
        assert responses[0].headers[b"location"].endswith(b"/new")
        assert client.is_open
        world = make_world(action=make_respond(418, {"x-a": "b"}, "short\n"))
        client = world.client()
        client.get()
        (response,) = client.responses()
        assert (response.status, response.body, response.headers[b"x-a"]) == (418, b"short\n", b"b")
        assert world.recorded[-1].reason is None
        world.assert_at_rest()

    def test_mistake_of_ours_is_500_and_one_log_line(self, world: World, caplog: pytest.LogCaptureFixture) -> None:
        """It ends one exchange, never the process."""
        client = world.client()
        world.cluster.choose = lambda head, peer: 1 / 0  # type: ignore[assignment,return-value]
        client.get()
        assert last(world) == (500, "internal", "PI")
        assert "ZeroDivisionError" in caplog.text
        assert b"Zero" not in client.received
