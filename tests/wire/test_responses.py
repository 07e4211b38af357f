"""The corpus of responses, fed to a real upstream connection in every way of cutting."""

from __future__ import annotations

import pytest

from tests.support.fakes import Client, Server, World
from tests.wire.corpus import Case, cases, cuts, unescape


def converse(world: World, case: Case, pieces: list[bytes]) -> tuple[Client, Server]:
    """Send one request and feed the pieces as its response."""
    client = world.client()
    _ = client >> case.one("method", "GET").encode() + b" / HTTP/1.1\r\nHost: web\r\n\r\n"
    server = world.accept()
    for piece in pieces:
        _ = server >> piece
    if case.one("eof"):
        server.eof()
    return client, server


def ask_again(world: World, client: Client, server: Server) -> None:
    """What was behind the first response must not be in the second."""
    client.get(b"/second")
    if world.dials.under_way:
        server = world.accept()
    _ = server >> b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecond"


@pytest.mark.parametrize("case", cases("responses/valid"), ids=lambda case: case.name)
def test_valid_response_is_forwarded_the_same_however_cut(case: Case) -> None:
    """Status and body as expected, the connection reused only where it is clean, and the next answer is its own."""
    method = case.one("method", "GET").encode()
    statuses, body = case.one("response").split(" ")
    expected = [102] * 100 + [200] if statuses.startswith("*100") else [int(status) for status in statuses.split(",")]
    reference: list[dict[bytes, bytes]] | None = None
    for how, pieces in cuts(case):
        with World() as world:
            client, server = converse(world, case, pieces)
            responses = client.responses(*[method] * len(expected)) if len(expected) < 9 else client.responses()
            assert [response.status for response in responses] == expected, how
            assert responses[-1].body == (b"" if body == "-" else unescape(body)), how
            assert responses[-1].is_complete, how
            headers = [{**response.headers, b"date": b""} for response in responses]  # ours, of this second
            reference = headers if reference is None else reference
            assert headers == reference, how
            assert world.recorded[-1].reason is None, how
            assert client.is_open, how
            assert server.is_open == (case.one("reused", "yes") == "yes"), how
            ask_again(world, client, server)
            assert client.received.endswith(b"\r\n\r\nsecond"), how
            assert b"EVIL" not in client.received, how
            world.assert_at_rest()


@pytest.mark.parametrize("case", cases("responses/invalid"), ids=lambda case: case.name)
def test_invalid_response_is_502_or_cut_however_cut(case: Case) -> None:
    """Nothing of it reaches the client as a whole response, and its connection is never used again."""
    for how, pieces in cuts(case):
        with World() as world:
            client, server = converse(world, case, pieces)
            final = [response for response in client.responses() if response.status >= 200]
            assert server.transport.ended == "abort", how
            last = world.recorded[-1]
            assert last.reason is not None
            if case.one("body") and final[0].status == 200:
                # The head was good and is on its way: all that is left is not to let it look complete.
                assert client.transport.ended == "abort", how
                assert not final[0].is_complete or not client.received.endswith(b"0\r\n\r\n"), how
                assert last.reason.name == "bad_response_body", how
            else:
                assert [response.status for response in final] == [502], how
                assert last.reason.name == case.one("reason", "bad_response"), how
                assert client.is_open, how
                ask_again(world, client, server)
                assert client.received.endswith(b"\r\n\r\nsecond"), how
            assert b"EVIL" not in client.received, how
            world.assert_at_rest()
