"""Requests on their course past the rules of authorization: what the client, the app and the record see of it."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from sidecar import errors
from sidecar.exchange import Direction
from sidecar.net.tls.settings import MeshTls, OutsideTls
from sidecar.peer import Peer
from tests.support.fakes import Client, World
from tests.unit.security.authorization.support import allow, clause, deny, peer, rules

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
STOREFRONT = "spiffe://shop/storefront"

Make = Callable[..., World]

RULES = (deny("no-internals", clause(prefix="/internal")), allow("callers", clause(STOREFRONT)))


def inbound(make: Make, *specs: object, **settings: object) -> World:
    """A world with these rules before its app."""
    of_rules = {name: settings.pop(name) for name in ("default", "is_audit") if name in settings}
    return make(direction=Direction.INBOUND, authorization=rules(*specs, **of_rules), **settings)  # type: ignore[arg-type]


def identify(client: Client, identified: Peer) -> None:
    """As if the connection were by TLS, and this peer at its other end."""
    client.connection._make_course()._identified = identified


def test_a_request_that_is_refused_never_reaches_a_route(make_world: Make) -> None:
    """403 `UAEX`, nothing dialed, the connection goes on; a stranger is told no names of rules."""
    world = inbound(make_world, *RULES)
    client = world.client()
    client.get(b"/internal/secrets")
    (response,) = client.responses()
    assert response.status == 403
    assert response.headers[b"proxy-status"] == b'sidecar; error=http_request_denied; details="authorization_denied"'
    said = json.loads(response.body)
    assert (said["error"], said["flag"], said["phase"]) == ("authorization_denied", "UAEX", "route")
    assert said.keys() & {"rule", "route", "upstream"} == set()
    assert b"no-internals" not in client.received
    assert world.dials.count == 0
    assert client.is_open
    (exchange,) = world.recorded
    assert (exchange.reason, exchange.status) == (errors.AUTHORIZATION_DENIED, 403)
    assert (exchange.authorization, exchange.rule) == ("denied", "no-internals")
    assert exchange.detail == "192.0.2.1 without an identity is denied by `no-internals`"
    assert exchange.client is None
    world.assert_at_rest()


def test_who_has_an_identity_is_told_the_rule(make_world: Make) -> None:
    """And the log has who it was and what differed."""
    world = inbound(make_world, *RULES)
    client = world.client()
    identify(client, peer("spiffe://shop/search"))
    client.get(b"/v1")
    (response,) = client.responses()
    assert response.status == 403
    assert json.loads(response.body)["rule"] == "callers"
    (exchange,) = world.recorded
    assert exchange.client is not None
    assert exchange.client.identity == "spiffe://shop/search"
    assert exchange.detail == (
        "spiffe://shop/search is allowed by no rule; the nearest is `callers` (f:callers): it is for"
        " spiffe://shop/storefront"
    )


def test_a_certificate_without_an_identity_is_told_no_names(make_world: Make) -> None:
    """Such as a client outside has."""
    world = inbound(make_world, *RULES)
    client = world.client()
    identify(client, peer(""))
    client.get(b"/v1")
    assert "rule" not in json.loads(client.responses()[0].body)


def test_what_is_allowed_goes_its_way_and_knows_by_which_rule(make_world: Make) -> None:
    """And a client's connection is one client for all of its requests."""
    world = inbound(make_world, *RULES)
    client = world.client()
    identify(client, peer(STOREFRONT))
    client.get(b"/v1")
    server = world.accept()
    _ = server >> OK
    client.get(b"/internal")
    client.get(b"/v2")
    _ = server >> OK
    assert [response.status for response in client.responses()] == [200, 403, 200]
    assert [(one.authorization, one.rule) for one in world.recorded] == [
        ("allowed", "callers"), ("denied", "no-internals"), ("allowed", "callers"),
    ]  # fmt: skip
    world.assert_at_rest()


def test_in_audit_the_app_answers_and_the_record_says_what_would_have_been(make_world: Make) -> None:
    """With what differed."""
    world = inbound(make_world, *RULES, is_audit=True)
    client, server = world.warm()
    client.get(b"/internal")
    _ = server >> OK
    assert client.responses()[-1].status == 200
    exchange = world.recorded[-1]
    assert (exchange.reason, exchange.authorization, exchange.rule) == (None, "audit_denied", "no-internals")
    assert "denied by `no-internals`" in exchange.detail


@pytest.mark.parametrize(
    ("tls", "is_allowed"),
    [(MeshTls("permissive"), True), (MeshTls("strict"), False), (OutsideTls(()), False), (None, False)],
)
def test_who_has_no_identity_passes_callers_at_a_permissive_listener_only(
    make_world: Make, tls: MeshTls | OutsideTls | None, is_allowed: bool
) -> None:
    """And is counted there."""
    world = inbound(make_world, *RULES, listener_tls=tls)
    client = world.client()
    client.get(b"/v1")
    assert bool(world.dials.count) is is_allowed
    assert b"sidecar_authorization_unidentified_total %d\n" % is_allowed in world.telemetry.inner.exposition()


def test_fields_that_are_dropped_are_seen_by_no_rule(make_world: Make) -> None:
    """What routes and the app do not see lets nobody in."""
    world = inbound(make_world, allow("admins", clause(headers={"x_role": "admin"})), drops_underscored=True)
    client = world.client()
    client.get(b"/", b"web", b"x_role: admin")
    assert client.responses()[0].status == 403


def test_a_refused_body_is_read_and_thrown_away(make_world: Make) -> None:
    """So that the connection can go on; the same for one that comes in pieces."""
    world = inbound(make_world, *RULES)
    client = world.client()
    _ = client >> b"POST /internal HTTP/1.1\r\nHost: web\r\nContent-Length: 5\r\n\r\nab"
    assert client.responses(b"POST")[0].status == 403
    _ = client >> b"cde"
    client.get(b"/internal/x")
    assert [response.status for response in client.responses(b"POST", b"GET")] == [403, 403]
    world.assert_at_rest()


@pytest.mark.parametrize(
    "head",
    [
        b"GET http://web/internal HTTP/1.1\r\nHost: other\r\n\r\n",
        b"GET /x/..%2finternal HTTP/1.1\r\nHost: web\r\n\r\n",
        b"TRACE /internal HTTP/1.1\r\nHost: web\r\nMax-Forwards: 0\r\n\r\n",
        b"OPTIONS /internal HTTP/1.1\r\nHost: web\r\nMax-Forwards: 0\r\n\r\n",
        b"GET /internal HTTP/1.0\r\n\r\n",
        b"GET /internal HTTP/1.1\r\nHost: web\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    ],
)
def test_nothing_is_answered_before_the_rules_are_asked(make_world: Make, head: bytes) -> None:
    """Neither what the proxy answers itself, nor an upgrade."""
    world = inbound(make_world, *RULES, default="allow")
    client = world.client()
    _ = client >> head
    assert client.received.startswith((b"HTTP/1.1 403 ", b"HTTP/1.0 403 "))
    assert world.dials.count == 0


def test_the_host_of_a_listener_is_the_host_that_rules_see(make_world: Make) -> None:
    """Whatever the request's own says."""
    world = inbound(make_world, deny("admin", clause(hosts=["admin"])), default="allow", listener_host=b"admin")
    client = world.client()
    client.get(b"/", b"web")
    assert client.responses()[0].status == 403


def test_what_was_decided_is_counted_by_rule_outcome_and_source(make_world: Make) -> None:
    """Who has no identity is `unidentified`."""
    world = inbound(make_world, *RULES)
    known, stranger = world.client(), world.client()
    identify(known, peer("spiffe://shop/search"))
    for _ in range(2):
        known.get(b"/v1")
    stranger.get(b"/internal")
    text = world.telemetry.inner.exposition().decode()
    assert 'sidecar_authorization_total{outcome="denied",rule="callers",source="spiffe://shop/search"} 2\n' in text
    assert 'sidecar_authorization_total{outcome="denied",rule="no-internals",source="unidentified"} 1\n' in text
    assert 'code="403",direction="inbound",flag="UAEX"' in text


def test_without_rules_nothing_is_asked(make_world: Make) -> None:
    """And nothing is counted."""
    world = make_world(direction=Direction.INBOUND)
    client, server = world.warm()
    client.get(b"/internal")
    _ = server >> OK
    assert client.responses()[-1].status == 200
    assert world.recorded[-1].decision is None
    assert (world.recorded[-1].authorization, world.recorded[-1].rule) == ("", "")
    assert b"sidecar_authorization_total{" not in world.telemetry.inner.exposition()
