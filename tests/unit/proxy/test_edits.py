"""Header edits of a route have the last word: over the peer's `Connection`, and over lines of our own."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sidecar.exchange import Direction
from sidecar.proxy.policies import Mirror
from sidecar.routing.edits import header_edits
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
