"""Requests that come too often are refused with 429 and told when to come back."""

from __future__ import annotations

import json
from collections.abc import Callable

from sidecar.proxy.exchange.policies import RateLimit, RateLimiter
from tests.support.fakes import Client, World

GET = b"GET / HTTP/1.1\r\nHost: web\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

Make = Callable[..., World]


def status_of(client: Client) -> int:
    """Of the last response that the client has."""
    return client.responses()[-1].status


def test_what_exceeds_the_burst_is_refused_and_told_when_to_come_back(make_world: Make) -> None:
    """429 `RL`, `Retry-After`, `Proxy-Status`; the upstream sees nothing of it, and the connection goes on."""
    world = make_world(rate_limit=RateLimiter(RateLimit(1, 10.0, 2)))
    client, server = world.warm()
    client.get()
    _ = server >> OK
    client.get()
    response = client.responses()[-1]
    assert response.status == 429
    assert response.headers[b"retry-after"] == b"10"
    assert response.headers[b"proxy-status"] == b'sidecar; error=http_request_denied; details="rate_limited"'
    said = json.loads(response.body)
    assert (said["error"], said["flag"], said["phase"], said["route"]) == ("rate_limited", "RL", "route", "to-web")
    exchange = world.recorded[-1]
    assert (exchange.attempts, exchange.endpoint) == (0, None)
    assert server.received.count(b"GET /") == 2
    assert client.is_open
    world.assert_at_rest()


def test_whoever_waits_as_long_as_told_passes(make_world: Make) -> None:
    """And not before."""
    world = make_world(rate_limit=RateLimiter(RateLimit(1, 3.0, 1)))
    client, server = world.warm()
    world.advance(2.9)
    client.get()
    assert status_of(client) == 429
    world.advance(0.1)
    client.get()
    _ = server >> OK
    assert status_of(client) == 200
    world.assert_at_rest()


def test_clients_are_told_apart_by_their_key(make_world: Make) -> None:
    """One that hammers takes nothing from the others; those without a key share a limit."""
    limit = RateLimit(1, 10.0, 1, ("header", "x-api-key"))
    world = make_world(rate_limit=RateLimiter(limit, lambda head, peer_ip: head.first(b"x-api-key")))
    client, server = world.warm()  # without a key
    expected = {b"a": [200, 429, 429], b"b": [200, 429], b"": [429]}
    for key, statuses in expected.items():
        for status in statuses:
            client.get(b"/", b"web", *([b"x-api-key: " + key] if key else []))
            if status == 200:
                _ = server >> OK
            assert status_of(client) == status
    world.assert_at_rest()


def test_a_pipeline_is_counted_request_by_request(make_world: Make) -> None:
    """In order; what is refused does not stand in the way."""
    world = make_world(rate_limit=RateLimiter(RateLimit(1, 10.0, 2)))
    client = world.client()
    _ = client >> GET * 5
    server = world.accept()
    _ = server >> OK
    _ = server >> OK
    assert [response.status for response in client.responses()] == [200, 200, 429, 429, 429]
    world.assert_at_rest()


def test_the_body_of_a_refused_request_is_no_next_request(make_world: Make) -> None:
    """It is swallowed."""
    world = make_world(rate_limit=RateLimiter(RateLimit(1, 10.0, 1)))
    client, server = world.warm()
    _ = client >> b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: %d\r\n\r\n" % len(GET)
    _ = client >> GET
    assert [response.status for response in client.responses()] == [200, 429]
    world.advance(10)
    assert server.received.count(b"GET") == 1
    world.advance(5)
    world.assert_at_rest()
