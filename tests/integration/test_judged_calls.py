"""Who looks at a sidecar sees calls of gRPC as what they came to, between a client and a server of grpcio."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from sidecar.cli import rates
from sidecar.link.messages import Config
from tests.support.fake_control import FakeControl
from tests.support.grpc_service import Calls, Channel, channel
from tests.support.process import SidecarProcess, running_sidecar
from tests.support.wait import eventually

CONFIG = """
    service: storefront
    outbound: {{listen: "127.0.0.1:${{OUTBOUND_PORT}}"}}
    upstreams:
      calls: {{endpoints: ["127.0.0.1:{port}"]}}
      gone: {{endpoints: ["127.0.0.1:1"], protocol: http2}}
"""


@pytest.fixture(scope="module")
def calls() -> Iterator[Calls]:
    """A server whose calls end as their names say."""
    with Calls() as server:
        yield server


@pytest.fixture(scope="module")
def sidecar(calls: Calls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SidecarProcess]:
    """Before it."""
    with running_sidecar(tmp_path_factory.mktemp("judged"), CONFIG.format(port=calls.port)) as one:
        yield one


@pytest.fixture
def client(sidecar: SidecarProcess) -> Iterator[Channel]:
    with channel(sidecar.outbound_port, "calls") as one:
        yield one


def make_calls(sidecar: SidecarProcess, client: Channel) -> None:
    """
    One that is well; one that the client is to blame for, with the status in a head; one that the server is to blame
    for, behind a message; one that nobody answers.
    """
    assert client.unary("Echo", b"x") == b"x"
    with pytest.raises(grpc.RpcError):
        client.unary("Fail", b"no")
    with pytest.raises(grpc.RpcError):
        list(client.method("unary_stream", "FailLate")(b"x"))
    with channel(sidecar.outbound_port, "gone") as nobody, pytest.raises(grpc.RpcError):
        nobody.unary("Echo", b"x")


def test_top_counts_each_call_as_what_stands_for_how_it_ended(sidecar: SidecarProcess, client: Channel) -> None:
    """Two of four failed, one was refused, though HTTP said 200 of all of them."""
    earlier = rates.read(sidecar.metrics().text, 0)
    make_calls(sidecar, client)

    def flow() -> rates.Flow:
        found = rates.between(earlier, rates.read(sidecar.metrics().text, 1))
        return found.totals.get("outbound", rates.Flow())

    eventually(lambda: flow().requests == 4, "the calls to be counted")
    assert (flow().failed, flow().refused, flow().success) == (2, 1, 0.5)
    assert flow().calls == {"OK": 1, "FAILED_PRECONDITION": 1, "DATA_LOSS": 1, "UNAVAILABLE": 1}


def test_mesh_is_told_of_each_call_as_what_stands_for_how_it_ended(calls: Calls, tmp_path: Path) -> None:
    """By which its map and its rollouts judge. Another file has the sidecar report at once."""
    with FakeControl() as control:
        control.answers_left = True
        sidecar = SidecarProcess(tmp_path)
        sidecar.config.write_text(
            'service: storefront\nadmin: {listen: "127.0.0.1:${ADMIN_PORT}"}\n'
            'telemetry: {metrics: {listen: "127.0.0.1:${METRICS_PORT}"}}\n'
        )
        text = textwrap.dedent(CONFIG.format(port=calls.port)).replace("${OUTBOUND_PORT}", str(sidecar.outbound_port))
        control.push("storefront", Config(1, "1" * 32, text))
        sidecar.start("--control", control.url, "--state-dir", "off")
        try:
            sidecar.wait_ready()
            with channel(sidecar.outbound_port, "calls") as client:
                make_calls(sidecar, client)
            eventually(lambda: sidecar.metric("sidecar_requests_total") == 4, "the calls to be counted")
            control.push("storefront", Config(2, "2" * 32, f"{text}# another\n"))
            eventually(lambda: any(one.running.revision == 2 for one in tuple(control.reports)), "a report")
            assert sidecar.stop() == 0
        finally:
            sidecar.kill()
        # One that comes a second time is a repetition.
        once = {report.seq: report for report in control.reports}.values()
    statuses: dict[str, Counter[str]] = {"calls": Counter(), "gone": Counter()}
    for edge in (edge for report in once for edge in report.edges):
        statuses[edge.upstream].update(edge.statuses)
    assert statuses == {"calls": {"2xx": 1, "4xx": 1, "5xx": 1}, "gone": {"5xx": 1}}


def test_last_requests_have_the_status_of_calls(sidecar: SidecarProcess, client: Channel) -> None:
    """Beside that of HTTP, and what stands for it."""
    before = sidecar.admin("/requests").json()["kept"]
    make_calls(sidecar, client)
    eventually(lambda: sidecar.admin("/requests").json()["kept"] == before + 4, "the calls to be kept")
    page: list[dict[str, Any]] = sidecar.admin("/requests?limit=4").json()["requests"]
    assert [(one["status"], one["grpc_status"], one["counts_as"], one["flag"]) for one in reversed(page)] == [
        (200, "OK", 200, ""), (200, "FAILED_PRECONDITION", 400, ""), (200, "DATA_LOSS", 500, ""),
        (200, "UNAVAILABLE", 503, "UF"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("option", "names"),
    [
        (("--status", "5xx"), {"DATA_LOSS", "UNAVAILABLE"}),
        (("--grpc-status", "!=OK"), {"FAILED_PRECONDITION", "DATA_LOSS", "UNAVAILABLE"}),
    ],
)
def test_tap_finds_calls_that_failed(
    sidecar: SidecarProcess, client: Channel, option: tuple[str, str], names: set[str]
) -> None:
    """By what stands for how, and by their status."""
    address = f"127.0.0.1:{sidecar.admin_port}"
    command = [sys.executable, "-m", "sidecar", "tap", "--admin", address, "--json", "--limit", "6", *option]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as tap:
        # It begins to look at some time; it ends by itself when it has seen enough.
        end = time.monotonic() + 60
        while tap.poll() is None and time.monotonic() < end:
            make_calls(sidecar, client)
        tap.kill()
        assert tap.stdout is not None
        shown = Counter(json.loads(line)["grpc_status"] for line in tap.stdout)
    assert sum(shown.values()) == 6
    assert set(shown) == names


def test_connections_that_calls_share_are_told_with_what_they_carry(
    sidecar: SidecarProcess, calls: Calls, client: Channel
) -> None:
    """Two streams on one connection: on the admin's page and as metrics; then none, on a connection that stays."""
    words = [b"one", b"two"]
    drips = [client.method("unary_stream", "Drip")(word, metadata=[("x-call", word.decode())]) for word in words]
    for drip, word in zip(drips, words, strict=True):
        assert next(drip) == word

    def told() -> tuple[int, int, float, float]:
        (endpoint,) = sidecar.admin("/upstreams").json()["calls"]["endpoints"]
        connections, streams = (
            sidecar.metric(f"sidecar_upstream_{name}", upstream="calls")
            for name in ("connections_shared", "streams_active")
        )
        return endpoint["shared_connections"], endpoint["streams"], connections, streams

    assert told() == (1, 2, 1, 2)
    for drip, word in zip(drips, words, strict=True):
        calls.seen(word.decode()).may_go_on.set()
        assert list(drip) == [word]
    eventually(lambda: told() == (1, 0, 1, 0), "the streams to be over")
    assert 'sidecar_upstream_connections_shared{upstream="gone"} 0' in sidecar.metrics().text
