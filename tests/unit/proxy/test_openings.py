"""Connections that open by TLS, in a crowd: each is told of once, whatever comes of it later."""

from __future__ import annotations

import ssl
from collections.abc import Callable

import pytest

from sidecar.net.tls.sides import ServerSide
from tests.support.certificates import Authority
from tests.support.crowd import Crowd
from tests.support.fakes import LIMITS, World
from tests.unit.net.tls.test_transport import CLIENT_ID, SERVER_ID, context_of


@pytest.mark.parametrize("is_good", [True, False], ids=["would be good", "would fail"])
def test_a_handshake_whose_time_is_over_while_it_waits_is_told_once(
    make_world: Callable[..., World], is_good: bool
) -> None:
    """Its step comes when it is gone already, and does nothing any more."""
    root = Authority("shop root")
    world, crowd = make_world(), Crowd()
    world.live.handshakes = crowd.gate
    side = ServerSide(is_mesh=True)
    side.replace(context_of(root, SERVER_ID, is_server=True), "shop", SERVER_ID)
    world.listener_state.tls = side
    client = world.client()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    theirs = context_of(root, CLIENT_ID, is_server=False).wrap_bio(incoming, outgoing)
    with pytest.raises(ssl.SSLWantReadError):
        theirs.do_handshake()
    _ = client >> outgoing.read()
    crowd.turn()
    incoming.write(client.take())
    theirs.do_handshake()
    _ = client >> (outgoing.read() if is_good else b"\x15\x03\x03\x00\x02\x02\x28")
    assert crowd.waiting
    world.advance(LIMITS.header_timeout_s + 1)
    assert [one.reason.name for one in world.recorded if one.reason] == ["client_tls_timeout"]
    crowd.turn()
    world.loop.run()
    assert len(world.recorded) == 1
    assert not client.is_open
    assert crowd.gate.under_way == 0
    assert not world.live._ends_s, "nobody is kept for the end of a certificate"
