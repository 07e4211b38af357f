"""A call of gRPC, without sockets: what comes is fed to it whole and octet by octet."""

from __future__ import annotations

from collections.abc import Callable

import h2.config
import h2.connection
import h2.events
import pytest

from sidecar.net.grpc.call import MAX_MESSAGE_BYTES, Call, Over

NO_GRPC = "it does not speak gRPC: it answers "
OPENING = [(":status", "200"), ("content-type", "application/grpc")]


class Server:
    """The other side."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.seen: list[h2.events.Event] = []
        self.listen()

    def listen(self) -> None:
        """What the call has to say."""
        self.seen += self.h2.receive_data(self.call.to_send())

    def tell(self, by: int = 1 << 30) -> list[bytes]:
        """Send what is to be sent, so many octets at a time; returns the messages that came of it."""
        octets, found = self.h2.data_to_send(), []
        for start in range(0, len(octets), by):
            found += self.call.feed(octets[start : start + by])
        return found

    def head(self, *fields: tuple[str, str], ends: bool = False) -> None:
        self.h2.send_headers(1, list(fields) or OPENING, end_stream=ends)


@pytest.fixture
def server() -> Server:
    """That was asked."""
    return Server(Call("/Service/Method", "localhost", [("workload.spiffe.io", "true")]))


def test_what_is_asked_is_a_call_of_grpc(server: Server) -> None:
    """PROTOCOL-HTTP2.md: Call-Definition, and an empty message."""
    request = next(one for one in server.seen if isinstance(one, h2.events.RequestReceived))
    assert dict(request.headers) == {  # type: ignore[comparison-overlap]
        ":method": "POST", ":scheme": "http", ":path": "/Service/Method", ":authority": "localhost", "te": "trailers",
        "content-type": "application/grpc", "workload.spiffe.io": "true",
    }  # fmt: skip
    assert [one.data for one in server.seen if isinstance(one, h2.events.DataReceived)] == [bytes(5)]
    assert any(isinstance(one, h2.events.StreamEnded) for one in server.seen)
    assert server.h2.remote_settings.enable_push == 0


@pytest.mark.parametrize("by", [1, 7, 1 << 30], ids=["octets", "pieces", "whole"])
def test_messages_come_as_they_end(server: Server, by: int) -> None:
    """However they are cut; the server owes something until the first has ended, and within each."""
    server.head()
    assert server.tell(by) == []
    assert server.call.is_owed
    server.h2.send_data(1, b"\0\0\0\0\2ab" + b"\0\0\0\0\0" + b"\0\0\0\0\1")
    assert server.tell(by) == [b"ab", b""]
    assert server.call.is_owed
    server.h2.send_data(1, b"c")
    assert server.tell(by) == [b"c"]
    assert not server.call.is_owed
    server.h2.send_headers(1, [("grpc-status", "14"), ("grpc-message", "going%20down")], end_stream=True)
    assert server.tell(by) == []
    assert server.call.over == Over(14, "Unavailable: going down")


def test_a_large_message_gets_leave_to_be_sent(server: Server) -> None:
    """Windows are opened as octets come (RFC 9113, 6.9)."""
    size, sent, found = 300_000, 0, list[bytes]()
    message = b"\0" + size.to_bytes(4) + bytes(size)
    server.head()
    while sent < len(message):
        room = min(server.h2.local_flow_control_window(1), server.h2.max_outbound_frame_size, len(message) - sent)
        assert room > 0
        server.h2.send_data(1, message[sent : sent + room])
        sent += room
        found += server.tell()
        server.listen()
    assert [len(one) for one in found] == [size]


def test_a_refusal_may_be_trailers_only(server: Server) -> None:
    """PROTOCOL-HTTP2.md: Trailers-Only; the words are percent-encoded."""
    server.head(*OPENING, ("grpc-status", "7"), ("grpc-message", "no identity issued %C3%A9%0A"), ends=True)
    server.tell()
    assert server.call.over == Over(7, "PermissionDenied: no identity issued é?")


@pytest.mark.parametrize(
    ("act", "over"),
    [
        (lambda s: s.head((":status", "404"), ("content-type", "text/html")), Over(12, NO_GRPC + "404 text/html")),
        (lambda s: s.head((":status", "200")), Over(2, NO_GRPC + "200")),
        (lambda s: s.head(*OPENING, ends=True), Over(2, "it ended the call without saying why")),
        (lambda s: s.head(*OPENING, ("grpc-status", "99"), ends=True), Over(99, "status 99")),
        (lambda s: s.head(*OPENING, ("grpc-status", "x"), ends=True), Over(2, "Unknown")),
        (lambda s: s.head(*OPENING, ("grpc-status", "0"), ends=True), Over(0, "OK")),
        (lambda s: s.h2.reset_stream(1, 8), Over(1, "it gave the call up (CANCEL)")),
        (lambda s: s.h2.reset_stream(1, 7), Over(14, "it gave the call up (REFUSED_STREAM)")),
        (lambda s: s.h2.reset_stream(1, 11), Over(13, "it gave the call up (ENHANCE_YOUR_CALM)")),
        (lambda s: s.h2.close_connection(0), Over(14, "it is about to close the connection (NO_ERROR)")),
    ],
)  # fmt: skip
def test_every_end_has_its_words(server: Server, act: Callable[[Server], None], over: Over) -> None:
    """And nothing comes after it."""
    act(server)
    server.tell()
    assert server.call.over == over
    server.call.end()
    assert server.call.over == over
    assert server.call.feed(b"anything") == []


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        (b"\1\0\0\0\0", "compressed"),
        (b"\0" + (MAX_MESSAGE_BYTES + 1).to_bytes(4), f"of {MAX_MESSAGE_BYTES + 1} bytes, more than"),
    ],
)
def test_a_message_that_is_not_taken_ends_the_call(server: Server, octets: bytes, why: str) -> None:
    """Before anything of it is kept."""
    server.head()
    server.h2.send_data(1, octets)
    assert server.tell() == []
    assert server.call.over is not None
    assert (server.call.over.code, why in server.call.over.text) == (13, True)


@pytest.mark.parametrize("octets", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x15\x03\x03\0\x02\x02\x46", bytes(60)])
def test_another_protocol_is_told_in_a_line(octets: bytes) -> None:
    """Whatever stands in it."""
    call = Call("/Service/Method", "localhost")
    call.to_send()
    assert call.feed(octets) == []
    call.end()
    assert call.over is not None
    assert call.over.text.isprintable()
    assert len(call.over.text) < 300


def test_a_closed_connection_is_an_end() -> None:
    """Also before anything has come."""
    call = Call("/Service/Method", "localhost")
    call.end()
    assert call.over == Over(14, "it closed the connection")
