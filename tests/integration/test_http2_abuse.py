"""Clients of HTTP/2 that mean harm, over real sockets: ended with the right code, told of once, and others unhurt."""

from __future__ import annotations

import contextlib
import threading

import pytest

from sidecar.http2 import frames
from sidecar.http2.codes import Code, Flag, FrameType
from tests.support.http2 import GET, HELLO, block, continuation, frame, headers, of_kind, parse, reset
from tests.support.process import SidecarProcess
from tests.support.wait import eventually
from tests.support.wire import Client, Upstream

FLOODS = {
    "rapid reset": b"".join(headers(number) + reset(number) for number in range(1, 2001, 2)),
    "PING": frames.ping(b"12345678", is_ack=False) * 3000,
    "SETTINGS": frames.settings([]) * 3000,
    "CONTINUATION": frame(FrameType.HEADERS, Flag.END_STREAM, 1, block(GET)) + continuation(1) * 3000,
    "malformed heads": b"".join(headers(number, GET[:2]) for number in range(1, 2001, 2)),
    "half a head": headers(1)[:-1],
    "half a field block": frame(FrameType.HEADERS, Flag.END_STREAM, 1, block(GET)[:9]),
}


def said(client: Client) -> bytes:
    """All that came until the connection closed; it may be reset while we go on sending."""
    try:
        return client.read_to_end()
    except OSError:
        return b""


def ends(proxy: SidecarProcess) -> int:
    """Lines of connections that were ended for too much, or for being too slow."""
    return sum(row["response_code_details"] in ("client_too_much", "head_timeout") for row in proxy.access_log())


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_ends_its_connection_alone(proxy: SidecarProcess, upstream: Upstream, name: str) -> None:
    """ENHANCE_YOUR_CALM, one line, and who asks meanwhile is answered on a connection that was there before."""
    before = ends(proxy)
    with Client(proxy.outbound_port) as other, Client(proxy.outbound_port) as client:
        other.get("/before", host=upstream.authority)
        server = upstream.accept()
        server.serve()
        assert other.response().status == 200
        client.send(HELLO)
        with contextlib.suppress(OSError):  # it may be ended before it has said all
            client.send(FLOODS[name])
        other.get("/meanwhile", host=upstream.authority)
        server.serve()
        assert other.response().status == 200
        goodbyes = of_kind(parse(said(client))[0], FrameType.GOAWAY)
        assert [one.code for one in goodbyes] in ([Code.ENHANCE_YOUR_CALM], [])
    eventually(lambda: ends(proxy) == before + 1, "one line of it")


def test_a_flood_by_a_client_that_never_reads(proxy: SidecarProcess, upstream: Upstream) -> None:
    """It ends as well when nothing that is written to it arrives, and who asks meanwhile is answered."""
    before = ends(proxy)
    with Client(proxy.outbound_port, receive_buffer=4096) as client:
        client.send(HELLO)

        def flood() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client.sock.sendall(frames.ping(b"12345678", is_ack=False) * 100)

        thread = threading.Thread(target=flood)
        thread.start()
        with Client(proxy.outbound_port) as other:
            other.get("/meanwhile", host=upstream.authority)
            upstream.accept().serve()
            assert other.response().status == 200
        thread.join(15)
        assert not thread.is_alive()
    eventually(lambda: ends(proxy) == before + 1, "one line of it")
