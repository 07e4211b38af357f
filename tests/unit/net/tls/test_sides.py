"""What an upstream keeps for its next connection by TLS."""

from __future__ import annotations

import ssl
import time
from math import inf
from typing import cast

import pytest

from sidecar.net.tls.sides import ClientSide

SESSION = cast("ssl.SSLSession", object())
CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@pytest.mark.parametrize(("own_s", "servers_s"), [(100.0, 200.0), (200.0, 100.0)])
def test_a_session_is_offered_until_one_of_both_certificates_ends(
    own_s: float, servers_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole handshake that comes instead says what has ended."""
    now_s = 50.0
    monkeypatch.setattr(time, "time", lambda: now_s)
    side = ClientSide()
    side.replace(CONTEXT, own_s)
    side.keep_session("a", SESSION, servers_s, side.version)
    now_s = 99.0
    assert side.session_of("a") is SESSION
    now_s = 100.0
    assert side.session_of("a") is None
    now_s = 99.0
    assert side.session_of("a") is None, "it is forgotten"


def test_a_session_of_another_context_is_not_kept() -> None:
    """Nor does one outlive its context."""
    side = ClientSide()
    side.replace(CONTEXT)
    side.keep_session("a", SESSION, inf, side.version - 1)
    assert side.session_of("a") is None
    side.keep_session("a", SESSION, inf, side.version)
    assert side.session_of("a") is SESSION
    side.replace(CONTEXT)
    assert side.session_of("a") is None
