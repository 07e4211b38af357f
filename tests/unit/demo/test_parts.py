"""The demonstration's own parts: its file, its collector, its HTTP, its ports, and what it does not import."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from sidecar.config.load import load_text
from sidecar.config.problems import ConfigError
from sidecar.demo.collector import Collector
from sidecar.demo.http11 import Client, HTTPError, Request, Response, listen
from sidecar.demo.mesh import stage as mesh
from sidecar.demo.processes import DemoError, choose_ports
from sidecar.demo.single import stage
from sidecar.demo.single.configuration import CANARY, EVEN, Addresses, broken, configuration
from sidecar.runtime.loop import run_in_loop
from tests.support.held_loop import run_held

AT = Addresses(15000, 15001, 15020, 9901, 8080, 8081, 8082, 4318)


@pytest.mark.parametrize("weights", [CANARY, EVEN])
@pytest.mark.parametrize("edition", ["", "even-1"])
def test_file_is_good_and_its_mistake_is_one(weights: dict[str, int], edition: str) -> None:
    """The file passes `check` before and after the edit; the broken one has exactly the problem it should."""
    text = configuration(AT, weights, edition)
    config = load_text(text.encode(), "sidecar.yaml", {})
    assert config.outbound is not None
    canary = next(route for route in config.outbound.routes if route.name == "canary")
    assert canary.to is not None
    assert {target.upstream: target.weight for target in canary.to} == weights
    with pytest.raises(ConfigError) as refusal:
        load_text(broken(text).encode(), "sidecar.yaml", {})
    assert "did you mean `match`?" in str(refusal.value.problems[0])


def span(trace: int, own: int, parent: int, kind: Span.SpanKind.ValueType) -> Span:
    """A span with these ids."""
    made = Span(trace_id=bytes([trace] * 16), span_id=bytes([own] * 8), kind=kind, name="GET x")
    if parent:
        made.parent_span_id = bytes([parent] * 8)
    upstream = made.attributes.add()
    upstream.key, upstream.value.string_value = "sidecar.upstream", "app"
    return made


def post(*spans: Span) -> Request:
    """An export request."""
    message = ExportTraceServiceRequest()
    message.resource_spans.add().scope_spans.add().spans.extend(spans)
    return Request("POST", "/v1/traces", {}, message.SerializeToString())


def test_collector_pairs_spans_in_any_order() -> None:
    """Parents may come after their children, in one request or in another; strangers in one trace are told apart."""
    collector = Collector()
    server, client = Span.SPAN_KIND_SERVER, Span.SPAN_KIND_CLIENT

    async def send() -> None:
        await collector.answer(post(span(1, 1, 0, server), span(1, 2, 1, client), span(2, 4, 3, client)))
        await collector.answer(post(span(2, 3, 0, server), span(3, 5, 0, server), span(3, 6, 9, client)))
        await collector.answer(post(span(4, 7, 0, server)))
        assert (await collector.answer(Request("POST", "/v1/traces", {}, b"\xff"))).status == 400
        assert (await collector.answer(Request("GET", "/", {}, b""))).status == 404

    asyncio.run(send())
    assert (collector.inbound, collector.outbound) == (4, 3)
    assert (collector.children, collector.strangers, collector.unpaired, collector.refused) == (2, 1, 1, 1)
    assert [trace.server.span_id[:2] for trace in collector.recent] == ["01", "03", "05"]


def test_http_pipelines_keeps_connections_and_tells_refusals() -> None:
    """Pipelined requests are answered in order, a connection is used again, and one that is lost is an error."""
    seen: list[Request] = []

    async def answer(request: Request) -> Response:
        seen.append(request)
        await asyncio.sleep(0)
        return Response(200, request.target.encode())

    async def main() -> int:
        server = await listen(answer)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /1 HTTP/1.1\r\nHost: a\r\nCookie: a=1\r\nCookie: b=2\r\n\r\n")
        writer.write(b"HEAD /2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).decode().split("\r\n\r\n")[1].startswith("/1HTTP/1.1 200 OK")
        assert seen[0].headers["cookie"] == "a=1; b=2"
        writer.close()
        client = Client(server.port)
        assert (await client.get("/3")).body == b"/3"
        assert (await client.get("http://b/4", {"host": "b"})).body == b"http://b/4"
        assert seen[-1].headers["host"] == "b"
        server.close()
        with pytest.raises(HTTPError):
            await client.get("/5")
        client.close()
        return 0

    assert run_in_loop(main) == 0


def test_taken_ports_are_replaced() -> None:
    """Ports that somebody has give way to others, all of them different."""

    async def nobody(request: Request) -> Response:
        raise AssertionError(request)

    async def main() -> int:
        holder = await listen(nobody)
        chosen = choose_ports((holder.port, 0, 0, 0))
        assert holder.port not in chosen
        assert len(set(chosen)) == 4
        # Nor are they given to another sidecar, nor by the kernel to somebody's client before they are listened on.
        chosen += choose_ports((0,) * 40)
        assert len(set(chosen)) == 44
        assert all(port < 20_000 for port in chosen)
        holder.close()
        return 0

    assert run_in_loop(main) == 0


def test_nothing_of_a_mesh_is_still_starting_when_a_part_has_failed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What would come behind the end of the stage would stay for ever."""
    ended = []

    async def app(*_: object) -> None:
        """Is there at once."""

    async def port(*_: object) -> int:
        return 1

    async def control(_: object) -> None:
        raise DemoError("in use")

    async def instance(_: object, one: mesh.Instance, *__: object) -> None:
        for _turn in range(10):
            await asyncio.sleep(0)
        ended.append(one)

    monkeypatch.setattr(mesh.Stage, "_app", app)
    monkeypatch.setattr(mesh, "port_of", port)
    monkeypatch.setattr(mesh.Control, "start", control)
    monkeypatch.setattr(mesh.Stage, "_instance", instance)
    with pytest.raises(DemoError, match="in use"):
        run_held(mesh.Stage(tmp_path, 1.0).start())
    assert ended == list(mesh.INSTANCES)


@pytest.mark.long
@pytest.mark.parametrize("whose", [1, 1 + len(mesh.INSTANCES)], ids=["the control plane's", "the last sidecar's"])
def test_port_of_a_mesh_that_is_lost_before_the_start_is_replaced(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, whose: int
) -> None:
    """As for one sidecar; of the first start nothing is left, neither a file nor a process."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    async def main() -> int:
        async def nobody(request: Request) -> Response:
            raise AssertionError(request)

        holder = await listen(nobody)
        looks = 0

        def look(wanted: tuple[int, ...]) -> list[int]:
            nonlocal looks
            looks += 1
            chosen = choose_ports((0,) * len(wanted))
            return [*chosen[:-1], holder.port] if looks == whose else chosen

        monkeypatch.setattr(mesh, "choose_ports", look)
        stages: list[mesh.Stage] = []
        started = mesh.Stage.start

        async def start(self: mesh.Stage) -> None:
            stages.append(self)
            await started(self)

        monkeypatch.setattr(mesh.Stage, "start", start)
        async with mesh.running(10) as running:
            first, second = stages
            assert second is running
            assert len(first.apps) == 1 + len(mesh.INSTANCES)
            assert None not in {child.exit_code for child in first.children.values()}
            assert looks == 2 * (1 + len(mesh.INSTANCES))
            assert len(list(tmp_path.iterdir())) == 1
        assert {child.exit_code for child in running.children.values()} == {0}
        holder.close()
        return 0

    assert run_in_loop(main) == 0
    assert list(tmp_path.iterdir()) == []


def test_port_lost_before_the_start_is_replaced(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Somebody who takes a port between the look and the start only causes a second start, on other ports."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    async def main() -> int:
        async def nobody(request: Request) -> Response:
            raise AssertionError(request)

        holder = await listen(nobody)
        looks: list[tuple[int, ...]] = []

        def look(wanted: tuple[int, ...]) -> list[int]:
            looks.append(wanted)
            chosen = choose_ports((0, 0, 0, 0))
            return chosen if len(looks) > 1 else [holder.port, *chosen[1:]]

        monkeypatch.setattr(stage, "choose_ports", look)
        async with stage.running(10) as running:
            assert running.at.inbound != holder.port
            assert looks == [stage.DEFAULT_PORTS, (0, 0, 0, 0)]
            assert (await running.admin("/server_info"))["state"] == "LIVE"
        assert [child.exit_code for child in (running.sidecar, *running.apps)] == [0, 0, 0, 0]
        holder.close()
        return 0

    assert run_in_loop(main) == 0
    assert list(tmp_path.iterdir()) == []


def test_rich_is_imported_on_terminals_only() -> None:
    """The command and everything that an unattended run needs is there without rich."""
    code = (
        "import sys, sidecar.cli.demo, sidecar.demo.apps; sys.exit(any(n.split('.')[0] == 'rich' for n in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
