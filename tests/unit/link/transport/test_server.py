"""Addresses of control planes as people write them."""

from __future__ import annotations

import pytest

from sidecar.link.transport.server import parse_server


@pytest.mark.parametrize(
    ("text", "is_tls", "host", "port", "prefix", "authority"),
    [
        ("http://control:15010", False, "control", 15010, "", "control:15010"),
        ("https://control.mesh.svc:15010/", True, "control.mesh.svc", 15010, "", "control.mesh.svc:15010"),
        ("https://mesh.example.com", True, "mesh.example.com", 443, "", "mesh.example.com"),
        ("http://mesh.example.com/control/a", False, "mesh.example.com", 80, "/control/a", "mesh.example.com"),
        ("https://[fd00::1]:15010", True, "fd00::1", 15010, "", "[fd00::1]:15010"),
        ("http://[fd00::1]", False, "fd00::1", 80, "", "[fd00::1]"),
        ("HTTP://10.0.0.1:1", False, "10.0.0.1", 1, "", "10.0.0.1:1"),
    ],
)
def test_address_is_understood(text: str, is_tls: bool, host: str, port: int, prefix: str, authority: str) -> None:
    """With the port of the scheme where none is written."""
    server = parse_server(text)
    assert (server.is_tls, server.host, server.port, server.prefix) == (is_tls, host, port, prefix)
    assert (server.authority, str(server)) == (authority, text)


@pytest.mark.parametrize(
    "text",
    [
        "", "control:15010", "control", "ftp://control", "http://", "http://:15010", "http://control:0",
        "http://control:70000", "http://control:x", "http://me:secret@control", "http://control?x=1", "http://control#x",
        "http://con trol", "http://ümlaut:1", "http://control/a b", "http://[fd00::1:15010", "http://con\ntrol",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused(text: str) -> None:
    """The message says what was expected and what was found."""
    with pytest.raises(ValueError, match="expected http://host:port or https://host:port, found"):
        parse_server(text)
