"""The corpus of requests, fed to a real client connection in every way of cutting."""

from __future__ import annotations

import pytest

from sidecar.proxy.server.state import State
from tests.support.fakes import Client, Response, World
from tests.wire.corpus import Case, cases, cuts
from tests.wire.independent import OK, requests_seen


def converse(world: World, pieces: list[bytes], answered_at_once: bool = True) -> Client:
    """Feed the pieces, accepting every dial and answering every request that is complete."""
    client = world.client()
    for piece in pieces:
        _ = client >> piece
        if answered_at_once:
            answer(world)
    answer(world)
    return client


def answer(world: World) -> None:
    is_moving = True
    while is_moving:
        is_moving = bool(world.dials.under_way)
        if is_moving:
            world.accept()
        for server in world.servers:
            if server.is_open and server.connection.state is State.HEAD and server.connection.is_request_sent:
                _ = server >> OK
                is_moving = True


def without_ids(fields: list[list[tuple[bytes, bytes]]]) -> list[list[tuple[bytes, bytes]]]:
    return [[pair for pair in one if pair[0] not in (b"traceparent", b"x-request-id")] for one in fields]


@pytest.mark.parametrize("case", cases("requests/valid"), ids=lambda case: case.name)
def test_valid_request_is_forwarded_the_same_however_cut(case: Case) -> None:
    """An independent server reads exactly the expected requests; the client gets as many answers."""
    expected = case.requests("request")
    reference: list[list[tuple[bytes, bytes]]] | None = None
    for how, pieces in cuts(case):
        for answered_at_once in (True, False):
            with World() as world:
                client = converse(world, pieces, answered_at_once)
                received = [requests_seen(server.received) for server in world.servers]
                seen = [request for requests, _, _ in received for request in requests]
                fields = without_ids([one for _, many, _ in received for one in many])
                assert seen == expected, how
                assert not any(rest for _, _, rest in received), how
                reference = fields if reference is None else reference
                assert fields == reference, how
                responses = client.responses(*[method for method, _, _ in expected])
                assert [response.status for response in responses] == [200] * len(expected), how
                assert [exchange.reason for exchange in world.recorded] == [None] * len(expected), how
                world.assert_at_rest()


@pytest.mark.parametrize("case", cases("requests/invalid"), ids=lambda case: case.name)
def test_invalid_request_is_refused_the_same_however_cut(case: Case) -> None:
    """The exact status and reason, the connection closed, and nothing of it reaches an upstream as a request."""
    status, reason = int(case.one("status")), case.one("reason")
    before = case.requests("before")
    for how, pieces in cuts(case):
        with World() as world:
            client = converse(world, pieces)
            if case.one("wait"):
                world.advance(float(case.one("wait")))
            responses: list[Response] = client.responses(*[method for method, _, _ in before])
            assert [response.status for response in responses] == [*[200] * len(before), status], how
            assert responses[-1].headers[b"connection"] == b"close", how
            assert client.transport.is_eof_written or not client.is_open, how
            last = world.recorded[-1]
            assert (last.status, last.reason.name if last.reason else "") == (status, reason), how
            assert len(world.recorded) == len(before) + 1, how
            received = [requests_seen(server.received) for server in world.servers]
            assert [request for requests, _, _ in received for request in requests] == before, how
            for server, (_, _, rest) in zip(world.servers, received, strict=True):
                # Of a request whose body turns out bad the head may be on its way: then its connection is cut.
                assert not rest or (reason == "bad_request_body" and server.transport.ended == "abort"), how
            client.eof()
            assert not client.is_open, how
            world.assert_at_rest()
