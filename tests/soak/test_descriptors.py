"""File descriptors exhausted: new work is refused cheaply, accepted work goes on, and nothing spins."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.soak.servers import Server
from tests.soak.surroundings import StormSidecar
from tests.support.wait import eventually, free_port

ESTABLISHED = 20
ROOM = 12
CROWD = 300


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[StormSidecar]:
    """With two upstreams, `warm` and `cold`, which are one server that answers and is well."""
    addresses = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    server, sidecar = Server("well", tmp_path, *addresses), StormSidecar(tmp_path)
    sidecar.rewrite(f"""
        service: storm
        outbound: {{listen: "127.0.0.1:${{OUTBOUND_PORT}}"}}
        upstreams:
          warm: {{endpoints: ["{addresses[0]}"], idle_timeout: 1m}}
          cold: {{endpoints: ["{addresses[1]}"], idle_timeout: 1m}}
    """)
    try:
        server.start()
        sidecar.start()
        sidecar.wait_ready()
        yield sidecar
        assert sidecar.stop() == 0
        assert "Traceback" not in sidecar.stderr(), sidecar.stderr()[-5000:]
        assert "unhandled_exception" not in sidecar.stderr(), sidecar.stderr()[-5000:]
    finally:
        sidecar.kill()
        server.kill()


def ask(connection: http.client.HTTPConnection, tag: str, host: str = "warm") -> tuple[int, bytes]:
    """One request on this connection."""
    connection.request("GET", f"/{tag}", headers={"Host": host, "X-Id": tag, "X-Size": "100"})
    answer = connection.getresponse()
    return answer.status, answer.read()


def has_room(sidecar: StormSidecar) -> bool:
    """Whether a new connection is served; as long as the crowd is leaving, one may be told by its being closed."""
    try:
        return sidecar.metrics("/live").status == 200
    except OSError:
        return False


def share_of_a_second(sidecar: StormSidecar) -> float:
    """The part of a second, or of what a busy machine makes of it, in which the sidecar computes."""
    cpu_s, began_s = sidecar.cpu_s(), time.monotonic()
    time.sleep(1.0)
    return (sidecar.cpu_s() - cpu_s) / (time.monotonic() - began_s)


def test_descriptors_exhausted(sidecar: StormSidecar) -> None:
    """
    While a crowd holds every descriptor, clients that are connected are served as before, those that need a new
    connection to an upstream get 503, the process does not spin; when the crowd has left all is as it was.
    """
    clients = [http.client.HTTPConnection("127.0.0.1", sidecar.outbound_port, timeout=15) for _ in range(ESTABLISHED)]
    with contextlib.ExitStack() as stack:
        for client in clients:
            stack.callback(client.close)
        with ThreadPoolExecutor(ESTABLISHED) as pool:
            assert all(status == 200 for status, _ in pool.map(ask, clients, (f"a{n}" for n in range(ESTABLISHED))))
        sidecar.metrics()
        before = sidecar.descriptors()
        sidecar.limit_descriptors(before + ROOM)
        crowd = stack.enter_context(contextlib.ExitStack())
        strangers = [
            crowd.enter_context(socket.create_connection(("127.0.0.1", sidecar.outbound_port), 15))
            for _ in range(CROWD)
        ]
        # The numbers below the limit that are free now are fewer than its distance.
        eventually(lambda: sidecar.descriptors() >= before + ROOM - 2, "the descriptors to be exhausted")

        for client in clients:
            tag = f"b{clients.index(client)}"
            status, body = ask(client, tag)
            assert status == 200
            assert body.startswith(tag.encode())
        status, body = ask(clients[0], "c0", "cold")
        said = json.loads(body)
        assert (status, said["flag"], said["error"]) == (503, "UO", "local_exhaustion")
        # One that spins never rests; one that is served late has something to do for a while.
        eventually(lambda: share_of_a_second(sidecar) < 0.3, "the sidecar to rest")

        # Nobody waits in vain: a stranger is served, or told by a closed connection.
        served = 0
        for stranger in strangers:
            with contextlib.suppress(OSError):
                stranger.sendall(b"GET /s HTTP/1.1\r\nHost: warm\r\nX-Id: s\r\nConnection: close\r\n\r\n")
                served += stranger.recv(65536).startswith(b"HTTP/1.1 200")
        assert 0 < served <= CROWD

        crowd.close()
        eventually(lambda: has_room(sidecar), "room for a new connection")
        sidecar.limit_descriptors(10_000)
        assert ask(clients[0], "d0", "cold")[0] == 200
        assert sidecar.outbound("/e", host="warm", headers={"X-Id": "e"}).status == 200
        eventually(lambda: sidecar.descriptors() <= before + 2, f"descriptors to be back at {before}")
