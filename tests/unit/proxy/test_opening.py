"""A client's connection before its first request, where a handshake takes longer than is waited for."""

from __future__ import annotations

import ssl
import tempfile
from pathlib import Path

from sidecar.exchange import Direction
from sidecar.net.tls.sides import ServerSide
from tests.support.certificates import Authority
from tests.support.fakes import World


class Step:
    """Of somebody else's handshake."""

    is_server = True

    def __init__(self, done: object = None) -> None:
        self._done = done

    def step(self) -> None:
        if callable(self._done):
            self._done()


def _server_side(root: Authority) -> ServerSide:
    side = ServerSide(is_mesh=False)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        root.leaf(["web"]).write(Path(folder))
        context.load_cert_chain(f"{folder}/tls.crt", f"{folder}/tls.key")
    side.replace(context)
    return side


def test_a_handshake_that_took_too_long_is_over_though_its_last_octets_are_there() -> None:
    """They wait for their turn, as the time runs out: the connection is refused once, and serves nobody."""
    root = Authority("root")
    with World(direction=Direction.INBOUND) as world:
        world.listener_state.tls = _server_side(root)
        client = world.client()
        opening = client.transport.first_protocol
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        trusting = ssl.create_default_context(cadata=root.pem.decode())
        connection = trusting.wrap_bio(incoming, outgoing, server_hostname="web")
        try:
            connection.do_handshake()
        except ssl.SSLWantReadError:
            _ = client >> outgoing.read()
        incoming.write(client.take_raw())
        connection.do_handshake()
        connection.write(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n")

        gate = world.live.handshakes
        for step in (Step(), Step(), Step(lambda: opening.on_deadline(0.0))):  # type: ignore[attr-defined]
            gate.ask(step)
        client.transport.protocol.data_received(outgoing.read())
        world.loop.run()

        assert [exchange.reason.name for exchange in world.telemetry.recorded] == ["client_tls_timeout"]
        assert not world.dials.under_way
        client.leave()
        assert not any(world.live.connections)
        assert gate.under_way == 0
