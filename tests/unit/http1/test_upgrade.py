"""`Upgrade` (RFC 9110, 7.8): an allow-list, of what is offered and of what is switched to."""

from __future__ import annotations

import pytest

from sidecar.http1.head import parse_request_head, parse_response_head
from sidecar.http1.upgrade import DEFAULT, offered, switched_to
from sidecar.message import RequestHead

TCP = frozenset((b"websocket", b"tcp"))


def request(*lines: bytes, version: bytes = b"HTTP/1.1") -> RequestHead:
    return parse_request_head(b"\r\n".join([b"GET / " + version, b"Host: a", *lines]), 100)


def offer(value: bytes, allowed: frozenset[bytes] = DEFAULT) -> bytes:
    return offered(request(b"Connection: Upgrade", b"Upgrade: " + value), allowed)


@pytest.mark.parametrize(
    ("value", "allowed", "sent"),
    [
        (b"websocket", DEFAULT, b"websocket"),
        (b"WebSocket", DEFAULT, b"WebSocket"),
        (b"websocket/13", DEFAULT, b"websocket/13"),
        (b"tcp", DEFAULT, b""),
        (b"tcp", TCP, b"tcp"),
        (b"TLS/1.2", TCP, b""),
        (b"h2c", TCP, b""),
        (b"h2c, websocket", DEFAULT, b"websocket"),
        (b"TLS/1.2 , \twebsocket/13,tcp", TCP, b"websocket/13, tcp"),
        (b"xwebsocket", DEFAULT, b""),
        (b"websocketx", DEFAULT, b""),
        (b"websocket websocket", DEFAULT, b""),
        (b"", DEFAULT, b""),
        (b",,", DEFAULT, b""),
        (b"websocket", frozenset(), b""),
    ],
)
def test_only_what_is_allowed_is_offered_on(value: bytes, allowed: frozenset[bytes], sent: bytes) -> None:
    """By name, in any case, with its version, in the client's order."""
    assert offer(value, allowed) == sent


def test_all_fields_are_one_list() -> None:
    """RFC 9110, 5.3."""
    head = request(b"Upgrade: h2c", b"Connection: x", b"Upgrade: websocket", b"connection: uPGRADE")
    assert offered(head, DEFAULT) == b"websocket"


@pytest.mark.parametrize("lines", [[], [b"Connection: keep-alive"], [b"Connection: websocket"]])
def test_it_must_be_named_by_connection(lines: list[bytes]) -> None:
    """ "A sender of Upgrade MUST also send an "Upgrade" connection option"."""
    assert offered(request(b"Upgrade: websocket", *lines), DEFAULT) == b""


def test_nothing_to_offer() -> None:
    """Without the field there is nothing, whatever `Connection` says; and HTTP/1.0 knows no switch."""
    assert offered(request(b"Connection: upgrade"), DEFAULT) == b""
    head = request(b"Connection: upgrade", b"Upgrade: websocket", version=b"HTTP/1.0")
    assert offered(head, DEFAULT) == b""


@pytest.mark.parametrize(
    ("offer", "lines", "switched"),
    [
        (b"websocket", [b"Upgrade: websocket"], b"websocket"),
        (b"websocket", [b"Upgrade: WebSocket"], b"WebSocket"),
        (b"websocket/13", [b"Upgrade: websocket"], b"websocket"),
        (b"websocket", [], b"websocket"),
        (b"websocket, tcp", [], b""),
        (b"websocket, tcp", [b"Upgrade: tcp"], b"tcp"),
        (b"websocket", [b"Upgrade: h2c"], b""),
        (b"websocket", [b"Upgrade: websocket, h2c"], b""),
        (b"websocket", [b"Upgrade: websocket", b"Upgrade: h2c"], b""),
        (b"websocket", [b"Upgrade:"], b""),
    ],
)
def test_only_what_was_offered_is_switched_to(offer: bytes, lines: list[bytes], switched: bytes) -> None:
    """A server that switches to something else would open a way around the allow-list."""
    block = b"\r\n".join([b"HTTP/1.1 101 x", b"Connection: upgrade", *lines])
    assert switched_to(parse_response_head(block, 100, b"GET"), offer) == switched
