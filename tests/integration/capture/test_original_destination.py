"""What the kernel says of captured connections, and of those that were meant for us."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

import pytest

from sidecar.net.original_destination import original_destination
from tests.integration.capture.test_rules import accepted, connects, install
from tests.support.namespaces import hosts


@pytest.mark.parametrize("family", ["v4", "v6"])
@pytest.mark.parametrize("is_incoming", [False, True], ids=["outgoing", "incoming"])
def test_captured_and_addressed_at_the_same_port(family: str, is_incoming: bool) -> None:
    """On the address that the rules lead to: also by another's rules, who only keeps track."""
    kind, everywhere = (socket.AF_INET, "0.0.0.0") if family == "v4" else (socket.AF_INET6, "::")
    with hosts(2) as (client, server), contextlib.ExitStack() as stack:
        captured = server if is_incoming else client
        port = 15006 if is_incoming else 15001
        assert install(captured).returncode == 0
        listener = captured.do(lambda: socket.create_server((everywhere, port), family=kind))
        stack.enter_context(listener)
        to: str = getattr(server, family)
        connects(stack, client, to, 8080)
        assert original_destination(accepted(stack, listener)) == (to, 8080)
        own = getattr(captured, family)
        loopback = "127.0.0.1" if family == "v4" else "::1"
        for address in (own, loopback):
            connects(stack, captured, address, port)
            assert original_destination(accepted(stack, listener)) is None


def test_sockets_of_other_kinds_have_none(tmp_path: Path) -> None:
    """Unix, and TCP that nobody translates."""
    with contextlib.ExitStack() as stack:
        for server in (socket.create_server(("127.0.0.1", 0)), _unix(tmp_path / "s")):
            stack.enter_context(server)
            client = stack.enter_context(socket.socket(server.family))
            client.connect(server.getsockname())
            assert original_destination(accepted(stack, server)) is None


def _unix(path: Path) -> socket.socket:
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen()
    return server
