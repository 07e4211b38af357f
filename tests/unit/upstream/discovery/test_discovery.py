"""Sources of endpoints: what is known of each, who is told, and what a file that changes does to a cluster."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from sidecar.net.address import parse_address
from sidecar.upstream.cluster import Cluster, ClusterSpec
from sidecar.upstream.discovery import discovery as module
from sidecar.upstream.discovery.discovery import Discovery
from sidecar.upstream.discovery.endpoint_set import EndpointSet, Source
from sidecar.upstream.registry import Registry
from tests.support.held_loop import run_held
from tests.unit.upstream.fakes import FakeConnection

NAME = Source("name", "web")


def some(*labels: str, zone: str = "", weight: float = 1.0) -> EndpointSet:
    """Endpoints of one weight, all in one zone."""
    addresses = [parse_address(label) for label in labels]
    return EndpointSet(dict.fromkeys(addresses, weight), dict.fromkeys(addresses, zone) if zone else {})


class Told:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.sets: list[EndpointSet] = []
        self.failures: list[str] = []

    def on_endpoints(self, found: EndpointSet) -> None:
        self.sets.append(found)

    def on_failure(self, error: str) -> None:
        self.failures.append(error)


class TestNames:
    """Sources that somebody tells."""

    def test_followers_are_told_what_is_new(self) -> None:
        """And not what they know already."""

        async def main() -> None:
            discovery, told = Discovery(), Told()
            discovery.follow(NAME, told)
            assert discovery.known(NAME) is None
            for found in (some("a:80"), some("a:80"), some("a:80", weight=2), EndpointSet(), some("b:80", zone="x")):
                discovery.tell(NAME, found)
            assert told.sets == [some("a:80"), some("a:80", weight=2), EndpointSet(), some("b:80", zone="x")]
            discovery.fail(NAME, "gone")
            assert told.failures == ["gone"]
            assert discovery.known(NAME) == some("b:80", zone="x")
            discovery.drop(NAME, told)
            discovery.tell(NAME, some("c:80"))
            assert len(told.sets) == 4
            discovery.close()
            await discovery.wait_closed()

        run_held(main())

    def test_what_was_told_before_anybody_asked_is_remembered(self) -> None:
        """The endpoints may be there before the file that has the upstream."""

        async def main() -> None:
            discovery = Discovery()
            discovery.tell(NAME, some("a:80"))
            assert discovery.known(NAME) == some("a:80")
            assert await discovery.first(NAME, 2.0) == some("a:80")
            assert asyncio.get_running_loop().time() == 0.0

        run_held(main())

    def test_the_first_answer_is_waited_for_so_long(self) -> None:
        """One that says that there are none is an answer, too."""

        async def main() -> None:
            loop, discovery = asyncio.get_running_loop(), Discovery()
            assert await discovery.first(NAME, 2.0) is None
            assert loop.time() == pytest.approx(2.0)
            loop.call_later(1.0, discovery.tell, NAME, EndpointSet())
            assert await discovery.first(NAME, 2.0) == EndpointSet()
            assert loop.time() == pytest.approx(3.0)

        run_held(main())


class TestClusters:
    """What a source does to the upstreams that discover by it."""

    @staticmethod
    async def reload(registry: Registry, *specs: ClusterSpec) -> dict[str, Cluster]:
        return (await registry.prepare(specs, timeout_s=2.0)).commit()

    def test_endpoints_come_and_go_and_what_stays_is_kept(self, caplog: pytest.LogCaptureFixture) -> None:
        """Its object, its connections, its zone; no plan is asked for."""

        async def main() -> None:
            registry = Registry(random=lambda: 0.0)
            registry.discovery.tell(NAME, some("a:80", "b:80", zone="x"))
            spec = ClusterSpec("web", discover=NAME, zone="x")
            web = (await self.reload(registry, spec))["web"]
            first, second = web.endpoints
            assert (first.zone, second.zone) == ("x", "x")
            kept, left = FakeConnection(first), FakeConnection(second)
            first.ejected_until, web.stats.requests = 7.0, 3
            registry.discovery.tell(NAME, some("c:80", "a:80", zone="x", weight=5))
            assert [endpoint.label for endpoint in web.endpoints] == ["c:80", "a:80"]
            assert web.endpoints[1] is first
            assert (first.weight, first.ejected_until, web.stats.requests) == (5, 7.0, 3)
            assert (kept.closed, left.closed) == ([], ["endpoint_removed"])
            assert web.stats.discovery_updates == 2
            registry.discovery.tell(NAME, some("c:80", "a:80", zone="y", weight=5))
            assert (web.endpoints[1] is first, first.zone) == (True, "y")
            # A reload of other settings keeps what was discovered, one of another source does not.
            web = (await self.reload(registry, ClusterSpec("web", discover=NAME, connect_timeout_s=3)))["web"]
            assert web.endpoints[1] is first
            other = ClusterSpec("web", discover=Source("name", "other"))
            web = (await self.reload(registry, other))["web"]
            assert web.endpoints == ()
            assert "discovery_waits upstream=web source='other'" in caplog.text
            registry.discovery.tell(NAME, some("d:80"))
            assert web.endpoints == ()
            web = (await self.reload(registry, ClusterSpec("web", (("e:80", 1.0),))))["web"]
            registry.discovery.tell(Source("name", "other"), some("d:80"))
            assert [endpoint.label for endpoint in web.endpoints] == ["e:80"]
            await registry.stop()

        with caplog.at_level(logging.INFO, logger="sidecar.upstream"):
            run_held(main())

    @pytest.mark.parametrize("before", [None, EndpointSet(), some("a:80")])
    def test_what_is_said_between_preparation_and_commit_holds(self, before: EndpointSet | None) -> None:
        """Other parts of a reload take their time, and nobody follows the source meanwhile: it says it only once."""

        async def main() -> None:
            registry = Registry(random=lambda: 0.0)
            if before is not None:
                registry.discovery.tell(NAME, before)
            prepared = await registry.prepare([ClusterSpec("web", discover=NAME)], timeout_s=2.0)
            registry.discovery.tell(NAME, some("b:80"))
            web = prepared.commit()["web"]
            assert [endpoint.label for endpoint in web.endpoints] == ["b:80"]
            await registry.stop()

        run_held(main())

    def test_a_reload_that_is_given_up_follows_nothing(self) -> None:
        """Nor does an upstream that is gone."""

        async def main() -> None:
            registry = Registry(random=lambda: 0.0)
            registry.discovery.tell(NAME, some("a:80"))
            spec = ClusterSpec("web", discover=NAME)
            (await registry.prepare([spec], timeout_s=2.0)).abandon()
            assert repr(registry.discovery) == "<Discovery [Followed: 0 | Told: 1]>"
            await self.reload(registry, spec)
            assert repr(registry.discovery) == "<Discovery [Followed: 1 | Told: 1]>"
            await self.reload(registry)
            assert repr(registry.discovery) == "<Discovery [Followed: 0 | Told: 1]>"
            await registry.stop()

        run_held(main())


class TestFiles:
    """Sources that are files."""

    @staticmethod
    def run(main: Coroutine[Any, Any, None], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "PERIOD_S", 0.005)
        asyncio.run(asyncio.wait_for(main, 30))

    @staticmethod
    async def until(condition: Callable[[], bool]) -> None:
        while not condition():
            await asyncio.sleep(0.002)

    def test_a_file_is_followed_and_a_bad_one_changes_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Absent, broken, not a file; told once, and its end, too."""
        path = tmp_path / "endpoints.json"

        def write(*targets: str, text: str = "") -> None:
            aside = tmp_path / "aside"
            aside.write_text(text or json.dumps([{"targets": list(targets)}]))
            os.replace(aside, path)

        async def main() -> None:
            registry = Registry(random=lambda: 0.0)
            write("10.0.0.1:80")
            spec = ClusterSpec("web", discover=Source("file", str(path)))
            web = (await registry.prepare([spec], timeout_s=20)).commit()["web"]

            def labels() -> list[str]:
                return [endpoint.label for endpoint in web.endpoints]

            assert labels() == ["10.0.0.1:80"]
            write("10.0.0.1:80", "10.0.0.2:80")
            await self.until(lambda: labels() == ["10.0.0.1:80", "10.0.0.2:80"])
            write(text="[{")
            await self.until(lambda: web.stats.discovery_failures >= 3)
            path.unlink()
            failures = web.stats.discovery_failures
            await self.until(lambda: web.stats.discovery_failures >= failures + 3)
            path.mkdir()
            await self.until(lambda: web.stats.discovery_failures >= failures + 9)
            path.rmdir()
            assert labels() == ["10.0.0.1:80", "10.0.0.2:80"]
            write(text="[]")
            await self.until(lambda: labels() == [])
            before = web.stats.discovery_failures
            path.unlink()
            await self.until(lambda: web.stats.discovery_failures > before)
            write(text="[]")  # what was known all the while
            await self.until(lambda: caplog.text.count("discovery_recovered") == 2)
            assert caplog.text.count("discovery_failed") == 2
            assert "error='line 1, column 3: expected JSON:" in caplog.text
            await registry.stop()
            assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("endpoints ")]

        with caplog.at_level(logging.INFO, logger="sidecar.upstream"):
            self.run(main(), monkeypatch)

    def test_a_file_is_read_only_when_it_has_changed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Once its time stamp is old enough to be trusted."""
        path = tmp_path / "endpoints.json"
        path.write_text('[{"targets": ["a:80"]}]')
        reads: list[str] = []

        async def read(path: str) -> bytes:
            reads.append(path)
            return Path(path).read_bytes()

        async def main() -> None:
            later_ns = path.stat().st_ctime_ns + 10_000_000_000
            file = module._File(str(path), lambda: later_ns)
            assert await file.changed() == some("a:80")
            assert await file.changed() is None
            assert len(reads) == 1
            path.write_text('[{"targets": ["b:80"]}]')
            os.utime(path, ns=(1, 1))
            assert await file.changed() == some("b:80")
            young = module._File(str(path), lambda: path.stat().st_ctime_ns)
            assert await young.changed() == some("b:80")
            assert await young.changed() is None
            assert len(reads) == 4

        monkeypatch.setattr(module, "_read", read)
        asyncio.run(main())
