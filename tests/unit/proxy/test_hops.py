"""What few requests bring and this hop decides by: Max-Forwards, names with underscores, offers to switch."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sidecar.exchange import Direction
from sidecar.proxy.exchange.policies import Mirror
from tests.support.fakes import World

WEB, SHADOW = "10.0.0.1:80", "10.9.9.9:80"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

Make = Callable[..., World]


def ask(world: World, method: bytes, *lines: bytes) -> bytes:
    """Send a request, answer it if it comes to a server, and return what the server received."""
    client = world.client()
    _ = client >> b"\r\n".join((method + b" /a HTTP/1.1", b"Host: web", *lines, b"", b""))
    if not world.dials.under_way:
        return b""
    server = world.accept()
    _ = server >> OK
    return server.received


@pytest.mark.parametrize("direction", list(Direction))
class TestMaxForwards:
    """RFC 9110, 7.6.2."""

    @pytest.mark.parametrize("method", [b"TRACE", b"OPTIONS"])
    def test_at_zero_the_proxy_answers(self, make_world: Make, direction: Direction, method: bytes) -> None:
        """And the connection goes on."""
        world = make_world(direction=direction)
        for number in range(2):
            assert ask(world, method, b"Max-Forwards: 0", b"Cookie: secret", b"x-a: 1") == b""
            (response,) = world.clients[number].responses(method)
            assert response.status == 200
            assert world.clients[number].is_open
            if method == b"TRACE":
                assert response.headers[b"content-type"] == b"message/http"
                assert response.body == b"TRACE /a HTTP/1.1\r\nHost: web\r\nMax-Forwards: 0\r\nx-a: 1\r\n\r\n"
            else:
                assert (b"GET" in response.headers[b"allow"], response.body) == (True, b"")
            assert world.recorded[number].reason is None
        world.assert_at_rest()

    @pytest.mark.parametrize("method", [b"TRACE", b"OPTIONS"])
    def test_above_zero_it_is_one_fewer(self, make_world: Make, direction: Direction, method: bytes) -> None:
        """Once, in its place."""
        received = ask(make_world(direction=direction), method, b"Max-Forwards: 5", b"x-a: 1")
        assert b"\r\nmax-forwards: 4\r\nx-a: 1\r\n" in received
        assert received.lower().count(b"max-forwards") == 1

    def test_what_is_no_number_is_refused(self, make_world: Make, direction: Direction) -> None:
        """400, and closed."""
        world = make_world(direction=direction)
        assert ask(world, b"TRACE", b"Max-Forwards: 1", b"Max-Forwards: 2") == b""
        assert world.clients[0].responses(b"TRACE")[0].status == 400

    def test_other_methods_pass(self, make_world: Make, direction: Direction) -> None:
        """As they came."""
        assert b"\r\nMax-Forwards: 0\r\n" in ask(make_world(direction=direction), b"GET", b"Max-Forwards: 0")


class TestUnderscores:
    """Names that an app may read as others."""

    @pytest.mark.parametrize("drops", [False, True])
    def test_they_pass_unless_they_are_to_be_dropped(self, make_world: Make, drops: bool) -> None:
        """Before a route is chosen, in heads and trailers; responses are the app's own business."""
        world = make_world(drops_underscored=drops)
        client = world.client()
        head = b"POST / HTTP/1.1\r\nHost: web\r\nX_User: root\r\nx-user: me\r\nTransfer-Encoding: chunked\r\n\r\n"
        _ = client >> head + b"0\r\nx_sum: 1\r\nx-sum: 2\r\n\r\n"
        server = world.accept()
        assert (b"X_User" in server.received, b"x-user: me" in server.received) == (not drops, True)
        assert (b"x_sum" in server.received, b"x-sum: 2" in server.received) == (not drops, True)
        _ = server >> b"HTTP/1.1 200 OK\r\nX_Y: 1\r\nContent-Length: 0\r\n\r\n"
        assert b"X_Y: 1" in client.received


class TestUpgrades:
    """RFC 9110, 7.8: an allow-list."""

    @pytest.mark.parametrize("offer", [b"TLS/1.2", b"tcp", b"h2c", b"spdy/3.1"])
    def test_an_offer_that_is_not_allowed_is_an_ordinary_request(self, make_world: Make, offer: bytes) -> None:
        """Without `Upgrade`, mirrored like any other, and its connection serves the next."""
        world = make_world(mirror=Mirror)
        client = world.client()
        client.get(b"/", b"web", b"Connection: Upgrade", b"Upgrade: " + offer)
        web, copy = world.accept(WEB), world.accept(SHADOW)
        for server in (web, copy):
            assert b"pgrade" not in server.received
            _ = server >> OK
        client.get()
        assert web.received.count(b"GET / ") == 2
        world.accept(SHADOW) if world.dials.under_way else None

    def test_what_a_route_allows_is_switched_to(self, make_world: Make) -> None:
        """Another protocol than WebSocket; of several offers those that are allowed go on."""
        world = make_world(upgrades=frozenset((b"tcp",)), mirror=Mirror)
        client = world.client()
        client.get(b"/", b"web", b"Connection: Upgrade", b"Upgrade: websocket, tcp")
        server = world.accept(WEB)
        assert b"\r\nupgrade: tcp\r\n" in server.received
        assert not world.dials.under_way
        _ = server >> b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nhello"
        assert client.received.endswith(b"\r\n\r\nhello")
        _ = client >> b"bytes"
        assert server.received.endswith(b"bytes")

    @pytest.mark.parametrize("switch", [b"Upgrade: h2c\r\n", b"Upgrade: websocket, h2c\r\n"])
    def test_a_switch_to_something_else_is_a_bad_response(self, world: World, switch: bytes) -> None:
        """A server cannot open what the list closes."""
        client = world.client()
        client.get(b"/", b"web", b"Connection: Upgrade", b"Upgrade: websocket")
        server = world.accept()
        _ = server >> b"HTTP/1.1 101 x\r\nConnection: Upgrade\r\n" + switch + b"\r\nPRI * HTTP/2.0\r\n\r\n"
        assert client.responses()[0].status == 502
        assert not server.is_open
