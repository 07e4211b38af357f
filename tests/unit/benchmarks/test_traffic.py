"""The load is what the page says: browser-like heads of distinct users, and an upstream that counts what it gets."""

from __future__ import annotations

import h11
import pytest

from benchmarks.harness.load import Stream
from benchmarks.harness.site import Work
from benchmarks.harness.traffic import Traffic
from benchmarks.receiver import Receiver, Tally
from tests.support.fakes import FakeLoop, FakeTransport


def _parsed(octets: bytes) -> tuple[h11.Request, bytes]:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(octets)
    request = connection.next_event()
    assert isinstance(request, h11.Request)
    body = b""
    while isinstance(event := connection.next_event(), h11.Data):
        body += bytes(event.data)
    assert isinstance(event, h11.EndOfMessage)
    return request, body


def test_users_have_eight_headers_and_a_cookie_and_a_target_of_their_own() -> None:
    """A tenth of them are beta users; the same seed gives the same requests."""
    requests = Traffic(users=500).requests(seed=1)
    assert requests == Traffic(users=500).requests(seed=1)
    heads = [_parsed(each)[0] for each in requests]
    cookies = [dict(head.headers)[b"cookie"] for head in heads]
    assert {len(head.headers) for head in heads} == {8}
    assert len(set(cookies)) == len({head.target for head in heads}) == 500
    assert sum(b"BETA_USER=true" in cookie for cookie in cookies) == 50
    assert not any(b"\0" in each for each in requests)


def test_uploads_carry_their_body_and_its_length() -> None:
    """What load.lua sends is a whole request."""
    (octets,) = Traffic(users=1, upload_bytes=5000).requests(seed=1)
    head, body = _parsed(octets)
    assert (head.method, len(body)) == (b"POST", 5000)


def test_requests_of_new_connections_ask_for_their_end() -> None:
    """The server closes, as the scenario wants it."""
    head, _ = _parsed(Traffic(users=1, closes=True).requests(seed=1)[0])
    assert (b"connection", b"close") in list(head.headers)


@pytest.mark.parametrize("routes", [10, 10_000])
def test_table_has_as_many_routes_as_it_says(routes: int) -> None:
    """Prefixes that differ, and the two routes of /v1."""
    assert len(set(Work(routes=routes).services)) == routes - 2


def _receiver(tally: Tally) -> tuple[Receiver, FakeTransport]:
    receiver = Receiver(b"v1", tally)
    transport = FakeTransport(FakeLoop(), receiver, ("127.0.0.1", 1))
    receiver.connection_made(transport)
    return receiver, transport


@pytest.mark.parametrize("piece", [1, 7, 100_000])
def test_receiver_answers_when_a_body_is_whole_and_counts_its_octets(piece: int) -> None:
    """Requests one after the other on a connection, however they are cut; a GET has no body and is answered at once."""
    tally = Tally()
    receiver, transport = _receiver(tally)
    upload = Traffic(users=1, upload_bytes=5000).requests(seed=1)[0]
    for octets in (upload, Traffic(users=1).requests(seed=1)[0], upload):
        before = len(transport.writes)
        for at in range(0, len(octets), piece):
            assert len(transport.writes) == before
            receiver.data_received(octets[at : at + piece])
        assert len(transport.writes) == before + 1
    assert (tally.requests, tally.bytes) == (3, 10_000)
    assert all(answer.startswith(b"HTTP/1.1 200 OK\r\nx-version: v1\r\n") for answer in transport.writes)


def test_receiver_refuses_a_body_of_unknown_length() -> None:
    """A proxy that gives up the length that it was told does other work than the rest."""
    receiver, transport = _receiver(Tally())
    receiver.data_received(b"POST /v1 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
    assert transport.writes[0].startswith(b"HTTP/1.1 411 ")


@pytest.mark.parametrize(
    ("from_ms", "to_ms", "inside"),
    [
        (1002, 1005, [2, 3, 4]),
        (900, 1002, [0, 1]),
        (1008, 2000, [8, 9]),
        (3000, 4000, []),
        (1000, 1010, list(range(10))),
    ],
)
def test_stream_is_parted_by_when_requests_were_due(from_ms: int, to_ms: int, inside: list[float]) -> None:
    """A request a millisecond from second one on: what was due in the window, and all of the rest."""
    stream = Stream([float(each) for each in range(10)], 10**9, 10**6, 0, 0, 0, 0.1, 0.0, 0.0, 0.0)
    found, rest = stream.within([(from_ms * 10**6, to_ms * 10**6)])
    assert found == inside
    assert sorted(found + rest) == list(range(10))
    assert (stream.end_ns, stream.rate) == (1_010_000_000, 1000.0)


def test_users_ask_several_hosts_in_turn() -> None:
    """As many each."""
    hosts = [dict(_parsed(each)[0].headers)[b"host"] for each in Traffic(users=10, hosts=("a", "b")).requests(seed=1)]
    assert hosts.count(b"a") == hosts.count(b"b") == 5
