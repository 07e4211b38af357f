"""Who the client is behind a load balancer: `inbound.forwarded`, as limits, the log, spans and the app see it."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.origin import Origin
from tests.support.process import SidecarProcess, running_sidecar
from tests.support.wait import eventually
from tests.unit.telemetry.collector import Collector

TEXT = """
    service: x
    workers: {workers}
    inbound:
      listen: ["127.0.0.1:${{INBOUND_PORT}}", "unix:{directory}/inbound.sock"]
      app: "127.0.0.1:{port}"
      rate_limit: {{requests: 2, per: 1h, burst: 1, key: source_ip}}
      {forwarded}
"""


@pytest.fixture
def app() -> Iterator[Origin]:
    """Says what it was sent."""
    with Origin("app") as origin:
        yield origin


def text(app: Origin, directory: Path, forwarded: str = "", workers: int = 1) -> str:
    return TEXT.format(port=app.port, directory=directory, forwarded=forwarded, workers=workers)


def statuses(sidecar: SidecarProcess, *clients: str) -> list[int]:
    """Of requests that say to come from these."""
    return [sidecar.inbound("/echo", headers={"X-Forwarded-For": client}).status for client in clients]


def limited(app: Origin, tmp_path: Path, forwarded: str, *clients: str) -> list[int]:
    """Of requests that are limited by client."""
    with running_sidecar(tmp_path, text(app, tmp_path, forwarded)) as sidecar:
        return statuses(sidecar, *clients)


def test_by_default_nobody_is_believed(app: Origin, tmp_path: Path) -> None:
    """Who connects is the client, whatever it says."""
    assert limited(app, tmp_path, "", "203.0.113.1", "203.0.113.2", "203.0.113.3")[-1] == 429


@pytest.mark.parametrize("forwarded", ["forwarded: {trusted_hops: 1}", "forwarded: {trusted_networks: [127.0.0.0/8]}"])
def test_each_client_has_its_own_limit_and_cannot_take_another(app: Origin, tmp_path: Path, forwarded: str) -> None:
    """What a client wrote left of its address gives it no second limit; ports and spellings give it none either."""
    one, other = ["203.0.113.1", "6.6.6.6, 203.0.113.1", "203.0.113.1:99"], "203.0.113.2"
    found = limited(app, tmp_path, forwarded, *one, other)
    assert (found[0], found[-1]) == (200, 200)
    assert 429 in found[1:3]


@pytest.mark.parametrize("workers", [1, 2])
def test_log_and_app_are_told_of_both(app: Origin, tmp_path: Path, workers: int) -> None:
    """The log has the client; the app gets the list with who connected at its end."""
    forwarded = "forwarded: {trusted_networks: [127.0.0.1, unix]}"
    with running_sidecar(tmp_path, text(app, tmp_path, forwarded, workers)) as sidecar:
        answer = sidecar.inbound("/echo", headers={"X-Forwarded-For": "6.6.6.6, [2001:DB8::7]:443"})
        assert ["x-forwarded-for", "6.6.6.6, [2001:DB8::7]:443, 127.0.0.1"] in answer.json()["headers"]
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(f"{tmp_path}/inbound.sock")
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 203.0.113.9\r\nConnection: close\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 200")
        assert sidecar.inbound("/").status == 200
        lines = sidecar.wait_for_log_lines(3)
    remote = {line["downstream_remote_address"] for line in lines}
    assert remote > {"[2001:db8::7]:443", "203.0.113.9:0"}
    assert any(one.startswith("127.0.0.1:") for one in remote)


def test_span_names_the_client_and_who_connected(app: Origin, tmp_path: Path) -> None:
    """And a reload that trusts nobody any more counts from the next request on."""
    with (
        Collector() as collector,
        running_sidecar(
            tmp_path,
            text(app, tmp_path, "forwarded: {trusted_hops: 1}"),
            env={"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url},
        ) as sidecar,
    ):
        assert statuses(sidecar, "203.0.113.1") == [200]
        sidecar.rewrite(text(app, tmp_path))
        sidecar.wait_for_generation(2)
        assert statuses(sidecar, "203.0.113.1") == [200]
        eventually(lambda: len(collector.spans()) >= 2, "two spans")
        found = [
            {pair.key: pair.value.string_value for pair in span.attributes if "address" in pair.key}
            for span in collector.spans()
        ]
    assert [(one["client.address"], one["network.peer.address"]) for one in found] == [
        ("203.0.113.1", "127.0.0.1"), ("127.0.0.1", "127.0.0.1"),
    ], json.dumps(found)  # fmt: skip
