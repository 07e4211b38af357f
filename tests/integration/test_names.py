"""Names of endpoints and of passthrough: one that hangs holds up no other, and one that moves is followed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.net.names import MAX_UNKNOWN
from tests.support.names import NameServer, SidecarWithNames
from tests.support.peers import missing
from tests.support.wait import eventually
from tests.support.wire import Client, Upstream


@pytest.fixture
def own(tmp_path: Path) -> Iterator[SidecarWithNames]:
    """Not started; ended with the test."""
    sidecar = SidecarWithNames(tmp_path)
    yield sidecar
    sidecar.kill()


@pytest.fixture
def names() -> Iterator[NameServer]:
    """On port 53 of an address of its own."""
    try:
        server = NameServer(app="127.0.0.1", known="127.0.0.1", other="127.0.0.1")
    except OSError as error:
        missing(f"no name server can be had here: {error}")
    yield server
    server.close()


def test_names_that_hang_hold_up_no_other(own: SidecarWithNames, names: NameServer, upstream: Upstream) -> None:
    """
    Twelve names of which the name server says nothing: their requests fail with a reason of their own, and meanwhile
    every other name is connected to, of the configuration and of clients, known or not.
    """
    port = upstream.port
    own.rewrite(f"""
        service: x
        outbound: {{listen: "127.0.0.1:${{OUTBOUND_PORT}}", unmatched: passthrough}}
        upstreams: {{web: {{endpoints: ["app.test:{port}"]}}}}
    """)
    own.start()
    own.wait_ready()

    def reaches(host: str) -> None:
        with Client(own.outbound_port) as client:
            client.get("/", host=host)
            upstream.accept().serve(b"here", fields="Connection: close\r\n")
            assert client.response().status == 200

    reaches(f"known.test:{port}")
    hanging = [Client(own.outbound_port) for _ in range(12)]
    for index, client in enumerate(hanging):
        client.get("/", host=f"hang{index}.test:{port}")
    eventually(lambda: len({name for name in names.asked if name.startswith("hang")}) == 12, "twelve to hang")
    for host in ("web", f"known.test:{port}", f"other.test:{port}", "web"):
        reaches(host)
    for client in hanging:
        said = json.loads(client.response().body)
        assert (said["error"], said["flag"]) == ("resolve_timeout", "DF")
        client.close()
    said = own.outbound("/", host=f"nowhere.test:{port}").json()
    assert (said["error"], said["flag"]) == ("resolve_failed", "DF")
    assert own.metric("sidecar_upstream_resolve_failures_total", upstream="passthrough", reason="timeout") == 12
    assert own.metric("sidecar_upstream_resolve_failures_total", upstream="passthrough", reason="failed") == 1
    assert own.metric("sidecar_upstream_connect_failures_total", upstream="passthrough", reason="timeout") == 0
    assert own.stop() == 0
    assert "Traceback" not in own.stderr()


def test_names_that_are_looked_up_at_once_are_bounded(
    own: SidecarWithNames, names: NameServer, upstream: Upstream
) -> None:
    """A client that asks for ever more names that hang is refused at once, and known names are not touched."""
    port = upstream.port
    own.rewrite("""
        service: x
        outbound: {listen: "127.0.0.1:${OUTBOUND_PORT}", unmatched: passthrough}
        limits: {max_loop_lag: 60s}
    """)
    own.start()
    own.wait_ready()
    with Client(own.outbound_port) as client:
        client.get("/", host=f"known.test:{port}")
        upstream.accept().serve()
        assert client.response().status == 200
    hanging = [Client(own.outbound_port) for _ in range(300)]
    for index, client in enumerate(hanging):
        client.get("/", host=f"hang{index}.test:{port}")
    reasons = [json.loads(client.response().body)["error"] for client in hanging]
    for client in hanging:
        client.close()
    assert set(reasons) == {"resolve_timeout", "resolve_overloaded"}
    assert reasons.count("resolve_overloaded") >= 300 - MAX_UNKNOWN
    with Client(own.outbound_port) as client:
        client.get("/", host=f"known.test:{port}")
        upstream.accepted[0].serve()
        assert client.response().status == 200
    assert own.stop() == 0


def test_endpoint_by_name_that_moves_is_followed(own: SidecarWithNames, names: NameServer, upstream: Upstream) -> None:
    """Within the few seconds until it is asked for again, though the connection to where it led is in good order."""
    with Upstream(("127.0.0.2", upstream.port)) as moved:
        own.rewrite(f"""
            service: x
            outbound: {{listen: "127.0.0.1:${{OUTBOUND_PORT}}"}}
            upstreams: {{web: {{endpoints: ["app.test:{upstream.port}"], idle_timeout: 1m}}}}
        """)
        own.start()
        own.wait_ready()
        with Client(own.outbound_port) as client:
            client.get("/", host="web")
            server = upstream.accept()
            server.serve()
            assert client.response().status == 200
            names.known["app"] = "127.0.0.2"
            eventually(lambda: "endpoint_moved" in own.stderr(), "the name to be followed")
            assert server.is_ended()
            client.get("/", host="web")
            moved.accept().serve(b"there")
            assert client.response().body == b"there"
        assert own.stop() == 0
