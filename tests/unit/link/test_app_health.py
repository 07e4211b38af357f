"""Whether the app is well: by the checks that upstreams have, on a clock that the test holds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from sidecar.link.app_health import CONNECT_SPEC, AppHealth
from sidecar.net.address import parse_address
from sidecar.upstream.endpoint import Endpoint
from sidecar.upstream.health.checks import HealthSpec
from tests.support.held_loop import run_held

HTTP, GRPC = parse_address("127.0.0.1:8080"), parse_address("127.0.0.1:9090")


class App:
    """
    Attributes:
        good: By port: whether it answers at a time.
    """

    def __init__(self, **good: Callable[[float], bool]) -> None:
        self.good = {int(port.removeprefix("p")): answer for port, answer in good.items()}
        self.asked: list[float] = []
        self.changes: list[tuple[float, str]] = []

    async def probe(self, spec: HealthSpec, endpoint: Endpoint) -> str:
        now = asyncio.get_running_loop().time()
        self.asked.append(now)
        if not self.good[endpoint.port](now):
            raise ConnectionRefusedError("connection refused")
        return ""

    def watch(self, seconds: float, spec: HealthSpec | None = None, later: Any = None, **ports: Any) -> AppHealth:
        async def main() -> AppHealth:
            loop = asyncio.get_running_loop()
            health = AppHealth(
                lambda state: self.changes.append((round(loop.time(), 2), state)), probe=self.probe, random=lambda: 0.0
            )
            health.update(ports or {"http": HTTP}, spec)
            if later is not None:
                loop.call_later(later[0], health.update, later[1], spec)
            await asyncio.sleep(seconds)
            await health.stop()
            count = len(self.asked)
            await asyncio.sleep(100)
            assert len(self.asked) == count
            return health

        return run_held(main())


def test_first_good_answer_makes_it_healthy() -> None:
    """However many bad ones came before."""
    app = App(p8080=lambda now: now >= 22)
    app.watch(60)
    assert app.changes == [(25.0, "healthy")]
    assert app.asked[:4] == [0.0, 5.0, 10.0, 15.0]


def test_third_bad_answer_makes_it_unhealthy() -> None:
    """And the next good one healthy again."""
    app = App(p8080=lambda now: not 11 <= now < 31)
    health = app.watch(60)
    assert app.changes == [(0.0, "healthy"), (25.0, "unhealthy"), (35.0, "healthy")]
    assert health.state == "healthy"


def test_two_bad_answers_are_nothing() -> None:
    """One that is busy for a moment stays."""
    app = App(p8080=lambda now: int(now / 5) % 3 == 0)
    app.watch(100)
    assert app.changes == [(0.0, "healthy")]


def test_threshold_of_a_spec_counts_from_the_first_good_answer_on() -> None:
    """Registered at once, but back only after two."""
    app = App(p8080=lambda now: not now < 7 and not 21 <= now < 41)
    app.watch(80, HealthSpec(interval_s=5.0, jitter=0.0, healthy_threshold=2, unhealthy_threshold=3))
    states = [state for _, state in app.changes]
    assert states == ["healthy", "unhealthy", "healthy"]
    assert app.changes[0][0] == 10.0
    assert app.changes[2][0] >= 45.0


def test_every_port_has_to_be_well() -> None:
    """One that is not keeps the whole instance back; what is wrong with it can be read."""
    app = App(p8080=lambda now: True, p9090=lambda now: False)
    health = app.watch(30, http=HTTP, grpc=GRPC)
    assert app.changes == []
    ports = health.ports()
    assert (ports["http"].state, ports["http"].problem) == ("healthy", "")
    assert (ports["grpc"].state, ports["grpc"].problem) == ("starting", "connection refused")


def test_a_port_that_comes_later_takes_nothing_away() -> None:
    """It counts from its first good answer on; a port that stays goes on as it was."""
    app = App(p8080=lambda now: True, p9090=lambda now: 30 <= now < 40)
    app.watch(80, later=(12, {"http": HTTP, "grpc": GRPC}))
    assert app.changes[0] == (0.0, "healthy")
    assert app.changes[1][1] == "unhealthy"
    assert app.changes[1][0] > 40


def test_a_port_that_goes_takes_its_trouble_with_it() -> None:
    """The app is judged by what it has."""
    app = App(p8080=lambda now: True, p9090=lambda now: now < 3)
    app.watch(60, http=HTTP, grpc=GRPC, later=(40, {"http": HTTP}))
    assert [state for _, state in app.changes] == ["healthy", "unhealthy", "healthy"]
    assert app.changes[-1][0] == 40.0


def test_without_ports_it_is_well() -> None:
    """A sidecar of something that only calls has nothing to wait for."""
    app = App()

    async def main() -> None:
        health = AppHealth(lambda state: app.changes.append((0.0, state)))
        health.update({}, None)
        await health.stop()

    run_held(main())
    assert app.changes == [(0.0, "healthy")]


@pytest.mark.parametrize(
    ("spec", "raw"), [(None, []), (HealthSpec(path="/ready"), []), (HealthSpec(path="/ready"), ["http", "gone"])]
)
def test_real_ports_are_connected_to_or_asked(spec: HealthSpec | None, raw: list[str]) -> None:
    """By default a connection is enough, and always where no HTTP is spoken; with a spec an answer is wanted."""

    async def main() -> None:
        requests: list[bytes] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            line = await reader.readline()
            if line:
                requests.append(line)
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        well = asyncio.Event()
        health = AppHealth(lambda state: well.set())
        health.update({"http": parse_address(f"127.0.0.1:{port}")}, spec, raw)
        async with asyncio.timeout(30):
            await well.wait()
        assert health.state == "healthy"
        assert requests == ([] if spec is None or raw else [b"GET /ready HTTP/1.1\r\n"])
        await health.stop()
        server.close()
        await server.wait_closed()

    asyncio.run(main())


@pytest.mark.parametrize("spec", [None, HealthSpec(path="/ready", interval_s=0.05, timeout_s=0.05)])
def test_an_app_that_hangs_is_seen_by_asking_it_and_not_by_connecting(spec: HealthSpec | None) -> None:
    """The kernel accepts for it; only the answer is the app's."""

    async def main() -> None:
        is_hanging = False
        release = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if is_hanging:
                await release.wait()
            elif await reader.readline():
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        address = parse_address(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        states: asyncio.Queue[str] = asyncio.Queue()
        health = AppHealth(states.put_nowait)
        async with asyncio.timeout(30):
            health.update({"http": address}, spec)
            assert await states.get() == "healthy"
            is_hanging = True
            if spec is None:
                for _ in range(3):
                    assert await health._check(CONNECT_SPEC, health._endpoints["http"]) == ""
                assert (health.state, health.ports()["http"].problem) == ("healthy", "")
            else:
                assert await states.get() == "unhealthy"
                assert health.ports()["http"].problem == "no answer within 0.05 s"
        await health.stop()
        release.set()
        server.close()
        await server.wait_closed()

    asyncio.run(main())
