"""Nothing of one exchange is ever in another, whatever their sizes, framings and order, and whoever leaves."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path

import pytest

from tests.support.origin import Origin, large
from tests.support.process import SidecarProcess, running_sidecar
from tests.support.tagged import TaggedLoad, TaggedServer
from tests.support.wait import eventually
from tests.support.wire import Client


def _text(server: TaggedServer) -> str:
    return f"""
        service: x
        outbound: {{listen: "127.0.0.1:${{OUTBOUND_PORT}}"}}
        upstreams: {{web: {{endpoints: ["127.0.0.1:{server.port}"]}}}}
    """


def _is_calm(sidecar: SidecarProcess) -> bool:
    names = ("sidecar_downstream_connections_active", "sidecar_upstream_requests_active")
    return not any(sidecar.metric(name) for name in (*names, "sidecar_upstream_requests_pending"))


def test_no_byte_of_one_request_is_in_another(tmp_path: Path) -> None:
    """Four thousand tagged exchanges, all framings, pipelined, over pooled connections: every byte is in its place."""
    with TaggedServer() as server, running_sidecar(tmp_path, _text(server)) as sidecar:
        load = TaggedLoad(sidecar.outbound_port, "web", seed=1)
        asyncio.run(load.run(20, 200))
        assert load.wrong == []
        assert server.wrong == []
        assert load.statuses == {200: 4000}
        assert load.answered == server.requests == 4000
        # Every fifth response ends its connection; the others are reused.
        assert server.connections < 1200
        eventually(lambda: _is_calm(sidecar), "all to be over")
        assert sidecar.metric("sidecar_requests_total", upstream="web", code="200", flag="-") == 4000
        assert len(sidecar.wait_for_log_lines(4000)) == 4000


def test_clients_that_leave_leave_nothing_to_others(tmp_path: Path) -> None:
    """A fifth of the clients reset while they are answered; nobody else gets a byte too many or too few."""
    with TaggedServer() as server, running_sidecar(tmp_path, _text(server)) as sidecar:
        load = TaggedLoad(sidecar.outbound_port, "web", seed=2)
        asyncio.run(load.run(20, 100, leaves=0.2))
        assert load.wrong == []
        assert server.wrong == []
        assert load.left > 100
        assert load.statuses == {200: 2000 - load.left}
        eventually(lambda: _is_calm(sidecar), "all to be over")
        idle = sidecar.metric("sidecar_upstream_connections_idle", upstream="web")
        eventually(lambda: server.open <= idle, "connections in use to be closed")
        lines = sidecar.access_log()
        assert {row["response_flags"] for row in lines} <= {"-", "DC"}
        assert sum(row["response_flags"] == "DC" for row in lines) > 0


LARGE_BODIES = """
    service: x
    outbound: {{listen: "127.0.0.1:${{OUTBOUND_PORT}}"}}
    upstreams: {{web: {{endpoints: ["127.0.0.1:{port}"]}}}}
"""


@pytest.mark.long
def test_large_bodies_of_fast_and_slow_clients_are_their_own(tmp_path: Path) -> None:
    """
    Large bodies go through a pipe that all connections share. Eight clients ask and do not read, so that the
    proxy holds what it could not send; four others download meanwhile; then the eight read. All get their own.
    """
    with (
        Origin("web") as origin,
        running_sidecar(tmp_path, LARGE_BODIES.format(port=origin.port)) as sidecar,
        ExitStack() as open_,
    ):
        slow = [open_.enter_context(Client(sidecar.outbound_port, receive_buffer=4096)) for _ in range(8)]
        for number, client in enumerate(slow):
            client.get(f"/large/slow{number}", host="web")

        def download(tag: str) -> bool:
            with Client(sidecar.outbound_port) as client:
                for turn in range(4):
                    client.get(f"/large/{tag}{turn}", host="web")
                    if client.response().body != large(f"{tag}{turn}"):
                        return False
            return True

        eventually(lambda: len(origin.requests) == 8, "the slow clients' requests")
        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(download, ("a", "b", "c", "d")))
        for number, client in enumerate(slow):
            assert client.response().body == large(f"slow{number}")
        assert len(sidecar.wait_for_log_lines(24)) == 24


def test_large_uploads_at_once_arrive_as_they_were_sent(tmp_path: Path) -> None:
    """While others leave in the middle of theirs, whose octets were on their way through the same pipe."""
    with (
        Origin("web") as origin,
        running_sidecar(tmp_path, LARGE_BODIES.format(port=origin.port)) as sidecar,
    ):

        def upload(tag: str) -> bool:
            with Client(sidecar.outbound_port) as client:
                for turn in range(4):
                    body = large(f"{tag}{turn}")
                    client.get("/digest", host="web", method="PUT", body=body)
                    if client.response().body != sha256(body).hexdigest().encode():
                        return False
            return True

        def leave(tag: str) -> bool:
            for turn in range(4):
                with Client(sidecar.outbound_port) as client:
                    body = large(f"{tag}{turn}")
                    client.send(b"PUT /digest HTTP/1.1\r\nHost: web\r\nContent-Length: 9000000\r\n\r\n", body)
            return True

        with ThreadPoolExecutor(6) as pool:
            acts = [pool.submit(act, tag) for act, tag in zip([upload] * 4 + [leave] * 2, "abcdef", strict=True)]
            assert all(act.result() for act in acts)
        eventually(
            lambda: sidecar.metric("sidecar_requests_total", upstream="web", flag="DC") == 8, "who left to be told"
        )
        assert sidecar.metric("sidecar_requests_total", upstream="web", code="200", flag="-") == 16
        eventually(lambda: _is_calm(sidecar), "all to be over")
