"""Active health checks: thresholds and times on a held clock, the probe against real sockets."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from sidecar.net.address import parse_address
from sidecar.net.names import Names
from sidecar.net.resolve import Resolver
from sidecar.upstream.cluster import Cluster, ClusterSpec
from sidecar.upstream.endpoint import Endpoint, Health
from sidecar.upstream.health.checks import MAX_BODY_BYTES, Checks, HealthSpec, HttpProbe, next_health
from sidecar.upstream.health.outlier import OutlierSpec
from sidecar.upstream.registry import Registry
from tests.support.held_loop import run_held

SPEC = HealthSpec(jitter=0.0)
probe_http = HttpProbe(Names())


class Answers:
    """What each endpoint answers to a check, and when it was asked."""

    def __init__(self, **problems: str) -> None:
        self.problems = problems
        self.asked: list[tuple[float, str]] = []

    async def __call__(self, spec: HealthSpec, endpoint: Endpoint) -> str:
        self.asked.append((asyncio.get_running_loop().time(), endpoint.host))
        problem = self.problems.get(endpoint.host, "")
        if problem == "hang":
            await asyncio.get_running_loop().create_future()
        if problem == "refuse":
            raise ConnectionRefusedError("refused")
        if problem == "bug":
            raise KeyError("bug")
        return problem


def registry_of(answers: Answers) -> Registry:
    async def lookup(name: str) -> list[str]:
        return ["10.0.0.1"]

    return Registry(Resolver(lookup), random=lambda: 0.0, checks=Checks(lambda: 0.0, answers))


def spec_of(*hosts: str, **settings: object) -> ClusterSpec:
    settings = {"health": SPEC, "panic_threshold": 0.0, **settings}
    return ClusterSpec("web", tuple((f"{host}:80", 1.0) for host in hosts), **settings)  # type: ignore[arg-type]


async def reload(registry: Registry, *specs: ClusterSpec) -> Cluster:
    return (await registry.prepare(specs, 1.0)).commit()["web"]


def standings(cluster: Cluster) -> list[str]:
    return [endpoint.standing for endpoint in cluster.endpoints]


class TestThresholds:
    """How many results change a mind."""

    @pytest.mark.parametrize("is_good", [True, False])
    def test_first_result_decides_at_once(self, is_good: bool) -> None:
        """A start does not take thresholds times intervals."""
        endpoint = Endpoint(Cluster(ClusterSpec("web")), parse_address("a:80"))
        assert next_health(SPEC, endpoint, is_good) is (Health.HEALTHY if is_good else Health.UNHEALTHY)

    @pytest.mark.parametrize(
        ("before", "results", "after"),
        [
            (Health.HEALTHY, "bb", Health.HEALTHY),
            (Health.HEALTHY, "bbb", Health.UNHEALTHY),
            (Health.HEALTHY, "bbgbb", Health.HEALTHY),
            (Health.HEALTHY, "bbgbbb", Health.UNHEALTHY),
            (Health.UNHEALTHY, "g", Health.UNHEALTHY),
            (Health.UNHEALTHY, "gbg", Health.UNHEALTHY),
            (Health.UNHEALTHY, "gg", Health.HEALTHY),
            (Health.UNHEALTHY, "ggbb", Health.HEALTHY),
        ],
    )
    def test_only_a_row_of_results_changes_sides(self, before: Health, results: str, after: Health) -> None:
        """Three failures, two successes; one of the other kind begins the row anew."""
        endpoint = Endpoint(Cluster(ClusterSpec("web")), parse_address("a:80"))
        endpoint.health = before
        for result in results:
            endpoint.health = next_health(SPEC, endpoint, result == "g")
        assert endpoint.health is after


class TestSchedule:
    """When checks run, on a held clock."""

    def test_first_check_comes_at_once_and_then_every_interval(self) -> None:
        """A bad endpoint is out before the first second is over, and back ten seconds after it has recovered."""

        async def main() -> None:
            answers = Answers(bad="status 503")
            registry = registry_of(answers)
            cluster = await reload(registry, spec_of("good", "bad"))
            assert standings(cluster) == ["unchecked", "unchecked"]
            await asyncio.sleep(0.1)
            assert standings(cluster) == ["healthy", "unhealthy"]
            assert (cluster.stats.health_checks, cluster.stats.health_check_failures) == (2, 1)
            answers.problems.clear()
            await asyncio.sleep(9.8)
            assert standings(cluster) == ["healthy", "unhealthy"]
            await asyncio.sleep(0.2)
            assert standings(cluster) == ["healthy", "healthy"]
            assert [at for at, host in answers.asked if host == "bad"] == [0.0, 5.0, 10.0]
            await registry.stop()

        run_held(main())

    def test_jitter_shortens_the_interval(self) -> None:
        """By a tenth at most, so that sidecars that started together drift apart."""

        async def main() -> None:
            answers = Answers()
            checks = Checks(lambda: 1.0, answers)
            cluster = Cluster(spec_of("a"))
            checks.update(cluster, HealthSpec(jitter=0.1), cluster.endpoints)
            await asyncio.sleep(10)
            assert [at for at, _ in answers.asked] == [0.0, 4.5, 9.0]
            await checks.stop()

        run_held(main())

    @pytest.mark.parametrize("problem", ["hang", "refuse", "bug", "status 500"])
    def test_every_way_of_failing_is_a_failure(self, problem: str, caplog: pytest.LogCaptureFixture) -> None:
        """A check that hangs is given up, a fault of ours does not end the checking, each change is logged once."""

        async def main() -> None:
            answers = Answers(a=problem)
            registry = registry_of(answers)
            cluster = await reload(registry, spec_of("a"))
            await asyncio.sleep(11)
            assert standings(cluster) == ["unhealthy"]
            assert cluster.stats.health_check_failures == 2 + (problem != "hang")
            assert [at for at, _ in answers.asked] == [0.0, 5.0, 10.0]
            await registry.stop()

        with caplog.at_level(logging.WARNING, logger="sidecar.upstream"):
            run_held(main())
        assert sum(message.startswith("endpoint_unhealthy upstream=web") for message in caplog.messages) == 1

    def test_reload_keeps_what_is_known_and_the_running_checks(self) -> None:
        """Another weight or timeout disturbs no check; other rules begin new ones, with the old knowledge."""

        async def main() -> None:
            answers = Answers(b="status 503")
            registry = registry_of(answers)
            cluster = await reload(registry, spec_of("a", "b"))
            await asyncio.sleep(0.1)
            await reload(registry, spec_of("a", "b", "c", connect_timeout_s=3.0))
            assert standings(cluster) == ["healthy", "unhealthy", "unchecked"]
            await asyncio.sleep(1)
            assert answers.asked[2:] == [(0.1, "c")]
            await reload(registry, spec_of("a", "b", "c", health=HealthSpec(path="/ping", jitter=0.0)))
            assert standings(cluster) == ["healthy", "unhealthy", "healthy"]
            await asyncio.sleep(0.1)
            assert standings(cluster) == ["healthy", "unhealthy", "healthy"]
            assert len([task for task in asyncio.all_tasks() if task.get_name().startswith("health")]) == 3
            await registry.stop()

        run_held(main())

    def test_endpoints_that_go_are_checked_no_more(self) -> None:
        """By a reload, by DNS, or with the whole upstream; and without checks everything counts as usable again."""

        async def main() -> None:
            answers = Answers(b="status 503")
            registry = registry_of(answers)
            cluster = await reload(registry, spec_of("a", "b"))
            await asyncio.sleep(0.1)
            await reload(registry, spec_of("b"))
            await asyncio.sleep(0)
            assert checking() == ["health web b:80"]
            await reload(registry, spec_of("b", health=None))
            await asyncio.sleep(0)
            assert (checking(), standings(cluster)) == ([], ["unchecked"])
            await reload(registry, spec_of("b"))
            assert checking() == ["health web b:80"]
            await registry.prepare([], 1.0)
            (await registry.prepare([], 1.0)).commit()
            await asyncio.sleep(0)
            assert checking() == []
            await registry.stop()

        run_held(main())

    def test_endpoints_of_dns_are_checked_as_they_come(self) -> None:
        """A new record is checked at once."""

        async def main() -> None:
            hosts = ["10.0.0.1"]

            async def lookup(name: str) -> list[str]:
                return hosts

            registry = Registry(Resolver(lookup), random=lambda: 0.0, checks=Checks(lambda: 0.0, Answers()))
            await reload(registry, ClusterSpec("web", dns=("web", 80), health=SPEC))
            assert checking() == ["health web 10.0.0.1:80"]
            hosts[:] = ["10.0.0.2"]
            await asyncio.sleep(5.1)
            assert checking() == ["health web 10.0.0.2:80"]
            await registry.stop()
            assert len(asyncio.all_tasks()) == 1

        run_held(main())

    def test_stop_leaves_no_task_while_checks_hang(self) -> None:
        """Shutdown takes no time on the clock."""

        async def main() -> None:
            registry = registry_of(Answers(a="hang", b="hang"))
            await reload(registry, spec_of("a", "b", outlier=OutlierSpec()))
            await asyncio.sleep(1)
            began = asyncio.get_running_loop().time()
            await registry.stop()
            assert asyncio.get_running_loop().time() == began
            assert asyncio.all_tasks() == {asyncio.current_task()}

        run_held(main())


def checking() -> list[str]:
    return sorted(task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("health"))


def test_ejection_ends_by_the_registrys_clock() -> None:
    """Somebody must tell clusters the time, and only while one needs it."""

    async def main() -> None:
        registry = registry_of(Answers())
        await asyncio.sleep(100)
        spec = spec_of(
            "10.0.0.1", "10.0.0.2", health=None, outlier=OutlierSpec(consecutive_5xx=1, base_ejection_time_s=30)
        )
        cluster = await reload(registry, spec)
        assert cluster.observer is not None
        cluster.observer(cluster.endpoints[0], 500, None, 0.0, 100.0)
        assert standings(cluster) == ["ejected", "unchecked"]
        await asyncio.sleep(29)
        assert standings(cluster) == ["ejected", "unchecked"]
        await asyncio.sleep(2)
        assert standings(cluster) == ["probation", "unchecked"]
        await reload(registry, spec_of("10.0.0.1", "10.0.0.2", health=None))
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        await registry.stop()

    run_held(main())


# --- the probe, over real sockets ------------------------------------------------------------------------------

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def answering(response: bytes, requests: list[bytes] | None = None) -> Handler:
    """A server that answers every request with these bytes and waits for the client to close."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        if requests is not None:
            requests.append(request)
        writer.write(response)
        with suppress(ConnectionError):
            await reader.read()
        writer.close()

    return handle


@asynccontextmanager
async def serving(handler: Handler, path: Path | None = None) -> AsyncIterator[Endpoint]:
    """An endpoint on a port of its own or a socket; at the end every connection must have been closed by the client."""
    open_connections = 0
    all_closed = asyncio.Event()
    all_closed.set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal open_connections
        open_connections += 1
        all_closed.clear()
        try:
            await handler(reader, writer)
        finally:
            open_connections -= 1
            if open_connections == 0:
                all_closed.set()

    if path is not None:
        server = await asyncio.start_unix_server(handle, path)
        address = f"unix:{path}"
    else:
        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield Endpoint(Cluster(ClusterSpec("web")), parse_address(address))
    await asyncio.wait_for(all_closed.wait(), 5)
    server.close()
    await server.wait_closed()


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nall ok\n"


@pytest.mark.parametrize(
    ("settings", "response", "problem"),
    [
        ({}, OK, ""),
        ({}, b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK, ""),
        ({}, b"HTTP/1.1 204 No Content\r\n\r\n", ""),
        ({}, b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", "status 503"),
        ({}, b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n", "status 302"),
        ({"statuses": ((200, 200), (300, 399))}, b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n", ""),
        ({"statuses": ((404, 404),)}, OK, "status 200"),
        ({"body": b"ok"}, OK, ""),
        ({"body": b"fine"}, OK, "the body is not the expected one"),
        ({"body": b"cd"}, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nbc\r\n2\r\nde\r\n0\r\n\r\n", ""),
        (
            {"body": b"ok"},
            b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n" + b"x" * 99_999,
            f"the expected body is not in the first {MAX_BODY_BYTES} bytes",
        ),
    ],
)
def test_answer_is_judged(settings: dict[str, object], response: bytes, problem: str) -> None:
    """By its status and, if asked for, by its body."""

    async def main() -> None:
        async with serving(answering(response)) as endpoint:
            assert await probe_http(HealthSpec(**settings), endpoint) == problem  # type: ignore[arg-type]

    asyncio.run(main())


@pytest.mark.parametrize("response", [b"", b"\x00\x01\x02 garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Le"])
def test_answer_that_is_not_http_is_a_failure(response: bytes) -> None:
    """Garbage and a connection that ends too early."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(response)
        writer.close()

    async def main() -> None:
        async with serving(handle) as endpoint:
            cluster = Cluster(spec_of("a"))
            problem = await Checks()._check(cluster, SPEC, endpoint)
            assert problem.startswith("not HTTP/1.1: ")

    asyncio.run(main())


def test_request_is_what_the_file_says() -> None:
    """Path, host and headers; the connection is announced to be closed."""

    async def main() -> None:
        requests: list[bytes] = []
        async with serving(answering(OK, requests)) as endpoint:
            await probe_http(HealthSpec(path="/ping?deep=1", host="web.shop", headers=(("x-check", "1"),)), endpoint)
            await probe_http(HealthSpec(), endpoint)
        assert requests[0].startswith(b"GET /ping?deep=1 HTTP/1.1\r\nHost: web.shop\r\n")
        assert b"\r\nConnection: close\r\n" in requests[0]
        assert b"\r\nx-check: 1\r\n" in requests[0]
        assert f"\r\nHost: {endpoint.label}\r\n".encode() in requests[1]

    asyncio.run(main())


def test_other_port_is_asked() -> None:
    """Of the same address."""

    async def main() -> None:
        async with serving(answering(OK)) as endpoint:
            spec = HealthSpec(port=endpoint.port)
            elsewhere = Endpoint(endpoint.cluster, parse_address("127.0.0.1:1"))
            assert await probe_http(spec, elsewhere) == ""

    asyncio.run(main())


def test_unix_socket_is_asked(tmp_path: Path) -> None:
    """An app on a socket is checked on it."""

    async def main() -> None:
        requests: list[bytes] = []
        async with serving(answering(OK, requests), tmp_path / "s") as endpoint:
            assert await probe_http(HealthSpec(), endpoint) == ""
        assert b"\r\nHost: localhost\r\n" in requests[0]

    asyncio.run(main())


def test_check_that_is_given_up_closes_its_connection() -> None:
    """A server that never answers sees the connection end at the timeout, and at the stop."""

    async def main() -> None:
        is_asked = asyncio.Event()

        async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            is_asked.set()
            with suppress(ConnectionError):
                while await reader.read(100):
                    pass
            writer.close()

        cluster = Cluster(spec_of("a"))
        async with serving(hang) as endpoint:
            problem = await Checks()._check(cluster, HealthSpec(timeout_s=0.05), endpoint)
            assert problem == "no answer within 0.05 s"
            await is_asked.wait()
        is_asked.clear()
        async with serving(hang) as endpoint:
            checks = Checks()
            checks.update(cluster, HealthSpec(timeout_s=60), [endpoint])
            await is_asked.wait()
            await checks.stop()
            assert checking() == []

    asyncio.run(main())


@pytest.mark.parametrize(
    "settings",
    [
        {"path": "ping"},
        {"path": "/a b"},
        {"path": "/\r\nx: y"},
        {"interval_s": 0},
        {"timeout_s": float("nan")},
        {"healthy_threshold": 0},
        {"unhealthy_threshold": 0},
        {"jitter": 1.0},
        {"port": 0},
        {"statuses": ()},
        {"statuses": ((300, 200),)},
        {"headers": (("x y", "1"),)},
        {"headers": (("x", "1\r\ny: 2"),)},
        {"host": "a\nb"},
    ],
)
def test_checks_that_make_no_sense_are_refused(settings: dict[str, object]) -> None:
    """A spec is checked when it is made, so that no check fails for our own request."""
    with pytest.raises(ValueError, match="expected"):
        HealthSpec(**settings)  # type: ignore[arg-type]


def test_repr_shows_how_many_are_checked() -> None:
    """A look says whether anything runs."""
    assert repr(Checks()) == "<Checks [Endpoints: 0]>"
