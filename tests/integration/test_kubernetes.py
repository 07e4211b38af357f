"""The engine `kubernetes` against an API server that behaves as the real one: forgetful, cut, busy, forbidding."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest

from sidecar.control.engines.interface import (
    Conflict,
    Content,
    Engine,
    EngineError,
    Gone,
    Registration,
    RegistrationChange,
    Replica,
    Sighted,
    Sighting,
    Trouble,
    Unavailable,
    Unsupported,
    Versioned,
)
from sidecar.control.engines.kubernetes import changes, compiled, leases, mesh, settings
from sidecar.control.engines.kubernetes.engine import KubernetesEngine
from sidecar.control.engines.kubernetes.settings import read_settings
from sidecar.link.report import Port
from tests.integration.test_etcd_access import authority, certificate
from tests.support.fake_kubernetes import TOKEN, FakeKubernetes, endpoint

T = TypeVar("T")
WAIT_S = 30.0
WEB = {"service": "web", "port": "http"}


@pytest.fixture
def api() -> Iterator[FakeKubernetes]:
    """One in which there is nothing."""
    with FakeKubernetes() as one:
        yield one


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "MOST_PAUSE_S", 0.2)
    monkeypatch.setattr(changes, "QUIET_S", 0.1)
    monkeypatch.setattr(mesh, "SETTLE_S", 0.2)
    monkeypatch.setattr(leases, "CAMPAIGN_PERIOD_S", 0.05)
    monkeypatch.setattr(leases, "MOVER_TTL_S", 2)
    monkeypatch.setattr(leases, "REPLICA_TTL_S", 1.0)
    monkeypatch.setattr(leases, "FORGOTTEN_S", 1.5)


def run(test: Callable[[], Coroutine[Any, Any, T]]) -> T:
    async def bounded() -> T:
        async with asyncio.timeout(WAIT_S):
            return await test()

    return asyncio.run(bounded())


class Engines:
    """Engines that are open, and closed on leaving."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: list[KubernetesEngine] = []

    async def __aenter__(self) -> Engines:
        return self

    async def __aexit__(self, *error: object) -> None:
        for engine in self._open:
            await engine.close()

    async def open(self, api: FakeKubernetes, name: str = "r1", **options: str) -> KubernetesEngine:
        token = self._folder / "token"
        if not token.exists():
            token.write_text(TOKEN + "\n")
        said = {"url": api.url, "namespace": "shop", "token_file": str(token)} | options
        made = KubernetesEngine(read_settings({}, **said), name)
        checked: Engine = made  # it is one, says mypy
        await checked.open()
        self._open.append(made)
        return made


@pytest.fixture
def engines(tmp_path: Path) -> Engines:
    """Of one test."""
    return Engines(tmp_path)


def registration(instance: str, service: str = "shop", **values: Any) -> Registration:
    return Registration(service, instance, ports={"http": Port("10.0.0.1:15000")}, **values)


async def find(stream: AsyncIterator[Any], kind: type[T]) -> T:
    """The next of this kind; what comes before is let go."""
    async for found in stream:
        if isinstance(found, kind):
            return found
    raise AssertionError("a stream of changes has ended")


async def repeated(act: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """As a control plane does: again, until the engine answers."""
    while True:
        try:
            return await act()
        except Unavailable:
            await asyncio.sleep(0.02)


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


def off_loop(act: Callable[..., T], *values: Any, **named: Any) -> Coroutine[Any, Any, T]:
    return asyncio.to_thread(act, *values, **named)


def addresses(found: Sighting) -> set[str]:
    return {one.address for one in found.endpoints if one.is_ready}


class TestMesh:
    """ConfigMaps with the label, followed."""

    def test_every_yaml_of_labelled_config_maps_is_the_mesh(self, api: FakeKubernetes, engines: Engines) -> None:
        """Others, other meshes' and other keys are not; an edit of several counts once, when it has settled."""

        async def test() -> None:
            api.mesh({"mesh.yaml": "mesh: shop", "web.yaml": "service: web"})
            api.mesh({"other.yaml": "service: other"}, "other")
            api.apply("ConfigMap", "alone", {"x.yaml": "service: x"})
            both = {"a.yaml": "service: a", "b.yml": "service: caf\u00e9", "README": "no"}
            api.apply("ConfigMap", "two", both, {"sidecar.mesh/mesh": "mesh"})
            async with engines:
                engine = await engines.open(api)
                stream = engine.mesh.follow()
                first = await find(stream, Content)
                assert first.files == {
                    "mesh/mesh.yaml": b"mesh: shop", "web/web.yaml": b"service: web",
                    "two/a.yaml": b"service: a", "two/b.yml": "service: caf\u00e9".encode(),
                }  # fmt: skip
                assert await engine.mesh.is_wanted(first.version)
                api.mesh({"web.yaml": "service: web2"})
                api.mesh({"new.yaml": "service: new"})
                api.delete("ConfigMap", "two")
                second = await find(stream, Content)
                assert second.files == {
                    "mesh/mesh.yaml": b"mesh: shop", "web/web.yaml": b"service: web2", "new/new.yaml": b"service: new",
                }  # fmt: skip
                assert not await engine.mesh.is_wanted(first.version)
                with pytest.raises(Unsupported, match="kubectl apply"):
                    await engine.mesh.push({}, second.version)
                await stream.aclose()

        run(test)

    def test_outage_and_relist_of_the_same_tell_nothing_new(self, api: FakeKubernetes, engines: Engines) -> None:
        """Trouble, its end, and then only what is other."""

        async def test() -> None:
            api.mesh({"mesh.yaml": "mesh: shop"})
            async with engines:
                engine = await engines.open(api)
                stream = engine.mesh.follow()
                await find(stream, Content)
                waiting = asyncio.ensure_future(anext(stream))
                await off_loop(api.stop)
                trouble = await waiting
                assert isinstance(trouble, Trouble)
                assert "configmaps of shop (sidecar.mesh/mesh=mesh): kubernetes: " in trouble.error
                api.compact()
                await off_loop(api.start)
                assert await anext(stream) == Trouble("")
                api.mesh({"mesh.yaml": "mesh: shop2"})
                assert (await find(stream, Content)).files == {"mesh/mesh.yaml": b"mesh: shop2"}
                await stream.aclose()

        run(test)


class TestChanges:
    """Lists, watches, and how they end; by the registrations, which are told every change."""

    def test_watch_that_ended_goes_on_without_a_list(self, api: FakeKubernetes, engines: Engines) -> None:
        """A plain EOF, a limit of time: a deletion between two watches is still a fact, and nothing is trouble."""

        async def test() -> None:
            async with engines:
                engine = await engines.open(api)
                for name in "ab":
                    await engine.registrations.put(registration(name))
                stream = engine.registrations.watch()
                assert (await find(stream, RegistrationChange)).is_snapshot
                waiting = asyncio.ensure_future(anext(stream))
                await until(lambda: api.watches)
                api.asked.clear()
                api.cut()
                api.delete("ConfigMap", "sidecar-mesh.registered.a")
                assert await waiting == RegistrationChange(left=("a",))
                api.longest_watch_s = 0.1
                waiting = asyncio.ensure_future(anext(stream))
                api.cut()
                await until(lambda: api.asked.count("WATCH configmaps") > 3)
                await engine.registrations.put(registration("c"))
                assert (await waiting) == RegistrationChange((registration("c"),))
                assert "LIST configmaps" not in api.asked
                await stream.aclose()

        run(test)

    def test_forgotten_version_is_told_in_the_stream_and_listed_again(
        self, api: FakeKubernetes, engines: Engines
    ) -> None:
        """What went in between vanished without a word: a snapshot, and no goodbye."""

        async def test() -> None:
            api.bookmark_s = 60.0
            async with engines:
                engine = await engines.open(api)
                for name in "ab":
                    await engine.registrations.put(registration(name))
                stream = engine.registrations.watch()
                await find(stream, RegistrationChange)
                waiting = asyncio.ensure_future(anext(stream))
                await until(lambda: api.watches)
                api.asked.clear()
                api.lose("ConfigMap", "sidecar-mesh.registered.a")
                assert await waiting == RegistrationChange((registration("b"),), is_snapshot=True)
                assert api.asked[:2] == ["WATCH configmaps", "LIST configmaps"]
                await stream.aclose()

        run(test)

    def test_namespace_that_lost_everything_says_nothing_of_anybody(
        self, api: FakeKubernetes, engines: Engines
    ) -> None:
        """What was there has vanished, for doubt to judge and its replica to write again; then it is as before."""

        async def test() -> None:
            api.bookmark_s = 60.0
            async with engines:
                engine = await engines.open(api)
                await engine.registrations.put(registration("a"))
                stream = engine.registrations.watch()
                await find(stream, RegistrationChange)
                waiting = asyncio.ensure_future(anext(stream))
                await until(lambda: api.watches)
                names = [name for name in api.objects("ConfigMap") if ".regist" in name]
                assert len(names) == 2
                for name in names:
                    api.lose("ConfigMap", name)
                found = [await waiting]
                while not isinstance(found[-1], RegistrationChange) or found[-1].is_snapshot:
                    found.append(await anext(stream))
                assert found[-1] == RegistrationChange(vanished=("a",))
                await engine.registrations.put(registration("a"))
                assert await find(stream, RegistrationChange) == RegistrationChange((registration("a"),))
                assert sorted(name for name in api.objects("ConfigMap") if ".regist" in name) == sorted(names)
                await stream.aclose()

        run(test)

    def test_bookmark_of_a_quiet_watch_saves_the_list(self, api: FakeKubernetes, engines: Engines) -> None:
        """It is nearly empty, and tells how far the watch is: what is forgotten before that is not needed."""

        async def test() -> None:
            api.bookmark_s = 0.05
            async with engines:
                engine = await engines.open(api)
                await engine.registrations.put(registration("a"))
                stream = engine.registrations.watch()
                await find(stream, RegistrationChange)
                waiting = asyncio.ensure_future(anext(stream))
                await until(lambda: api.watches)
                api.compact()
                await asyncio.sleep(0.3)
                api.asked.clear()
                api.cut()
                await until(lambda: "WATCH configmaps" in api.asked)
                await engine.registrations.put(registration("b"))
                assert await waiting == RegistrationChange((registration("b"),))
                assert "LIST configmaps" not in api.asked
                await stream.aclose()

        run(test)

    def test_pages_and_a_page_that_is_forgotten(
        self, api: FakeKubernetes, engines: Engines, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Seven in pages of three; where the place is forgotten, all in one piece."""
        monkeypatch.setattr(changes, "PAGE", 3)

        async def test() -> None:
            async with engines:
                engine = await engines.open(api)
                for number in range(6):
                    await engine.registrations.put(registration(f"i{number}"))
                api.asked.clear()
                stream = engine.registrations.watch()
                assert len((await find(stream, RegistrationChange)).put) == 6
                await stream.aclose()
                assert api.asked.count("LIST configmaps") == 3
                api.forgets_pages = True
                api.asked.clear()
                stream = engine.registrations.watch()
                assert len((await find(stream, RegistrationChange)).put) == 6
                assert api.asked.count("LIST configmaps") == 3
                await stream.aclose()

        run(test)

    @pytest.mark.parametrize("verb", ["LIST", "WATCH"])
    def test_what_is_forbidden_is_told_once_and_ends(self, api: FakeKubernetes, engines: Engines, verb: str) -> None:
        """By the API's own words, which name account, verb and resource."""

        async def test() -> None:
            async with engines:
                engine = await engines.open(api)
                await engine.registrations.put(registration("a"))
                api.forbidden = {f"{verb} configmaps"}
                stream = engine.registrations.watch()
                trouble = await find(stream, Trouble)
                assert "403: configmaps is forbidden: User" in trouble.error
                waiting = asyncio.ensure_future(find(stream, Trouble))
                await asyncio.sleep(0.5)
                assert not waiting.done()
                api.forbidden.clear()
                assert await waiting == Trouble("")
                await stream.aclose()

        run(test)

    def test_busy_server_is_asked_again_when_it_says(self, api: FakeKubernetes, engines: Engines) -> None:
        """429 within the call; what takes longer, and 503, is told and obeyed."""

        async def test() -> None:
            async with engines:
                engine = await engines.open(api)
                api.busy = [(429, 0), (429, 1)]
                await engine.registrations.put(registration("a"))
                api.busy = [(429, 30)]
                with pytest.raises(Unavailable, match="429: Too many requests, please try again later"):
                    await engine.registrations.put(registration("a"))
                api.busy = [(503, 1)]
                loop = asyncio.get_running_loop()
                began_s = loop.time()
                stream = engine.registrations.watch()
                assert "503: apiserver is down" in (await find(stream, Trouble)).error
                assert (await find(stream, RegistrationChange)).is_snapshot
                assert loop.time() - began_s >= 1.0
                await stream.aclose()

        run(test)

    def test_watch_that_is_silent_beyond_its_limit_is_dropped(
        self, api: FakeKubernetes, engines: Engines, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The next one brings what that one did not."""
        monkeypatch.setattr(changes, "WATCH_S", 0)
        monkeypatch.setattr(changes, "GRACE_S", 0.5)

        async def test() -> None:
            async with engines:
                engine = await engines.open(api)
                await engine.registrations.put(registration("a"))
                api.is_deaf = api.is_endless = True
                stream = engine.registrations.watch()
                await find(stream, RegistrationChange)
                waiting = asyncio.ensure_future(find(stream, Trouble))
                await until(lambda: api.watches)
                await engine.registrations.put(registration("b"))
                assert "a watch did not end in time" in (await waiting).error
                api.is_deaf = False
                assert await find(stream, RegistrationChange) == RegistrationChange((registration("b"),))
                await stream.aclose()

        run(test)


class TestRegistrations:
    """A ConfigMap each."""

    def test_registration_is_seen_by_all_and_outlives_who_wrote_it(self, api: FakeKubernetes, engines: Engines) -> None:
        """Whatever the instance is called; a namespace in which nobody ever registered has no snapshot."""

        async def test() -> None:
            async with engines:
                writer, reader = [await engines.open(api, name) for name in ("w", "r")]
                stream = reader.registrations.watch()
                waiting = asyncio.ensure_future(anext(stream))
                await until(lambda: api.watches)
                full = registration("Pod/1 \u00fc", version="v1", zone="a", weight=2.0, holder="w", lost_s=12.5)
                await writer.registrations.put(full)
                assert await waiting == RegistrationChange((full,))
                other = registration("pod-2.x", health="unhealthy")
                await writer.registrations.put(other)
                assert (await find(stream, RegistrationChange)).put == (other,)
                # The newest write wins, whoever it is of; and a write that changes nothing is no change.
                await reader.registrations.put(registration("pod-2.x", holder="r"))
                assert (await find(stream, RegistrationChange)).put == (registration("pod-2.x", holder="r"),)
                await writer.registrations.put(registration("pod-2.x", holder="w"))
                assert (await find(stream, RegistrationChange)).put == (registration("pod-2.x", holder="w"),)
                await writer.close()
                assert all("ownerReferences" not in one["metadata"] for one in api.objects("ConfigMap").values())
                late = reader.registrations.watch()
                assert {found.instance for found in (await find(late, RegistrationChange)).put} == {
                    full.instance, "pod-2.x"
                }  # fmt: skip
                for instance in (full.instance, "pod-2.x", "never-there"):
                    await reader.registrations.remove(instance)
                left = [(await find(stream, RegistrationChange)).left]
                left.append((await find(stream, RegistrationChange)).left if len(left[0]) == 1 else ())
                assert {name for names in left for name in names} == {full.instance, "pod-2.x"}
                await late.aclose()
                await stream.aclose()
                late = reader.registrations.watch()
                assert await find(late, RegistrationChange) == RegistrationChange(is_snapshot=True)
                await late.aclose()

        run(test)

    def test_damaged_one_leaves_the_others_alone(self, api: FakeKubernetes, engines: Engines) -> None:
        """It is logged by its name."""

        async def test() -> None:
            async with engines:
                engine = await engines.open(api)
                await engine.registrations.put(registration("a"))
                label = {"sidecar.mesh/registrations": "mesh"}
                api.apply("ConfigMap", "sidecar-mesh.registered.b", {"registration": "nonsense"}, label)
                stream = engine.registrations.watch()
                assert (await find(stream, RegistrationChange)).put == (registration("a"),)
                await stream.aclose()

        run(test)


class TestRecord:
    """One ConfigMap, by compare-and-swap."""

    def test_swap_is_refused_on_any_other_version(self, api: FakeKubernetes, engines: Engines) -> None:
        """Also where there is none, or one already; watchers are told what stands."""

        async def test() -> None:
            async with engines:
                one, two = [await engines.open(api, name) for name in "ab"]
                stream = two.record.watch()
                assert await one.record.read() is None
                with pytest.raises(Conflict):
                    await one.record.swap(b"x", "17")
                version = await one.record.swap(b'{"a": "\xc3\xbc"}', "")
                assert await find(stream, Versioned) == Versioned(b'{"a": "\xc3\xbc"}', version)
                for wrong in ("", "17"):
                    with pytest.raises(Conflict):
                        await two.record.swap(b"2", wrong)
                results = await asyncio.gather(
                    *(each.record.swap(b"%d" % n, version) for n, each in enumerate((one, two, one, two))),
                    return_exceptions=True,
                )
                assert sum(isinstance(result, str) for result in results) == 1
                assert sum(isinstance(result, Conflict) for result in results) == 3
                (won,) = [n for n, result in enumerate(results) if isinstance(result, str)]
                assert await one.record.read() == Versioned(b"%d" % won, str(results[won]))
                assert (await find(stream, Versioned)).value == b"%d" % won
                await stream.aclose()

        run(test)

    def test_record_that_somebody_deletes_or_empties_is_told_and_written_anew(
        self, api: FakeKubernetes, engines: Engines
    ) -> None:
        """Over the version of none; what another has written meanwhile stays."""

        async def test() -> None:
            async with engines:
                engine = await engines.open(api)
                stream = engine.record.watch()
                version = await engine.record.swap(b"1", "")
                assert await find(stream, Versioned) == Versioned(b"1", version)
                api.delete("ConfigMap", "sidecar-mesh.record")
                assert await find(stream, Gone) == Gone()
                assert await engine.record.read() is None
                with pytest.raises(Conflict):
                    await engine.record.swap(b"2", version)
                version = await engine.record.swap(b"2", "")
                assert await find(stream, Versioned) == Versioned(b"2", version)
                api.apply("ConfigMap", "sidecar-mesh.record", {})
                assert await find(stream, Gone) == Gone()
                assert await engine.record.read() is None
                version = await engine.record.swap(b"3", "")
                assert await find(stream, Versioned) == Versioned(b"3", version)
                with pytest.raises(Conflict):
                    await engine.record.swap(b"4", "")
                await stream.aclose()

        run(test)

    def test_long_record_is_packed_and_octets_are_kept(self, api: FakeKubernetes, engines: Engines) -> None:
        """Four MiB of text; octets that are no text; what cannot be packed into 1 MiB is refused before it is sent."""

        async def test() -> None:
            async with engines:
                engine = await engines.open(api)
                version = ""
                for value in (b"long " * 800_000, b"\x00\xff\n", b"short"):
                    version = await engine.record.swap(value, version)
                    assert await engine.record.read() == Versioned(value, version)
                noise = bytes(n * n * 2654435761 >> 11 & 0xFF for n in range(1_300_000))
                with pytest.raises(Unavailable, match="at most 1 MiB"):
                    await engine.record.swap(noise, version)
                api.apply("ConfigMap", "sidecar-mesh.record", None, None, binaryData={"record.zlib": "AAAA"})
                with pytest.raises(Unavailable, match="damaged"):
                    await engine.record.read()

        run(test)


class TestFiles:
    """Compiled files, by hash."""

    def test_kept_until_nobody_names_them_for_a_minute(
        self, api: FakeKubernetes, engines: Engines, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """By the clock of who forgets; another replica that needs one meanwhile keeps it."""
        monkeypatch.setattr(compiled, "RECENT_S", 0.3)
        monkeypatch.setattr(compiled, "FRESH_S", 0.1)

        async def test() -> None:
            async with engines:
                one, two = [await engines.open(api, name) for name in "ab"]
                files = {f"{n:032x}": b"text %d" % n * 10_000 for n in range(3)}
                await one.files.keep(files)
                await two.files.keep(dict(list(files.items())[:1]))
                assert await two.files.fetch(f"{1:032x}") == files[f"{1:032x}"]
                assert await two.files.fetch("none") is None
                keys = list(files)
                await one.files.retain(keys[:1])
                assert len(api.objects("ConfigMap")) == 3
                await asyncio.sleep(0.35)
                await two.files.keep({keys[1]: files[keys[1]]})
                await one.files.retain(keys[:1])
                assert set(api.objects("ConfigMap")) == {f"sidecar-mesh.file.{key}" for key in keys[:2]}
                await one.files.keep(files)
                assert await one.files.fetch(keys[2]) == files[keys[2]]

        run(test)

    def test_what_was_kept_lately_is_not_written_again(self, api: FakeKubernetes, engines: Engines) -> None:
        """A rollout's every step keeps all of its files."""

        async def test() -> None:
            async with engines:
                engine = await engines.open(api)
                files = {f"{n:032x}": b"text" for n in range(20)}
                await engine.files.keep(files)
                api.asked.clear()
                await engine.files.keep(files)
                assert api.asked == []

        run(test)


class TestMover:
    """A Lease, by the clocks of those who watch it."""

    def test_one_has_it_and_hands_it_on(self, api: FakeKubernetes, engines: Engines) -> None:
        """On leaving at once; by a clock that is an hour off, all the same."""

        async def test() -> None:
            async with engines:
                one, two = [await engines.open(api, name) for name in "ab"]
                two.mover._now_s = lambda: 3600.0
                first = asyncio.create_task(one.mover.campaign())
                await until(lambda: one.mover.is_ours)
                second = asyncio.create_task(two.mover.campaign())
                await asyncio.sleep(0.5)
                assert not two.mover.is_ours
                first.cancel()
                await until(lambda: two.mover.is_ours)
                assert not one.mover.is_ours
                (lease,) = api.objects("Lease").values()
                assert lease["metadata"]["name"] == "sidecar-mesh.mover"
                assert lease["spec"]["holderIdentity"].startswith("b_")
                assert lease["spec"]["leaseTransitions"] == 1
                second.cancel()

        run(test)

    def test_holder_that_is_cut_off_stops_before_another_begins(self, api: FakeKubernetes, engines: Engines) -> None:
        """Never two at a time."""

        async def test() -> None:
            async with engines:
                one, two = [await engines.open(api, name) for name in "ab"]
                first = asyncio.create_task(one.mover.campaign())
                await until(lambda: one.mover.is_ours)
                second = asyncio.create_task(two.mover.campaign())
                await asyncio.sleep(0.2)
                one.mover._client._settings = read_settings({}, url="http://127.0.0.1:1", namespace="shop")
                both = 0
                while not two.mover.is_ours:
                    both += one.mover.is_ours and two.mover.is_ours
                    await asyncio.sleep(0.005)
                assert not both
                assert not one.mover.is_ours
                first.cancel()
                second.cancel()
                await asyncio.gather(first, second, return_exceptions=True)

        run(test)


class TestReplicas:
    """A Lease each."""

    def test_those_that_fell_silent_are_left_out_and_then_deleted(self, api: FakeKubernetes, engines: Engines) -> None:
        """By when they were seen to move; the name may be anything."""

        async def test() -> None:
            async with engines:
                one, two = [await engines.open(api, name) for name in ("a", "B c")]
                await two.replicas.announce(Replica("B c", "http://10.0.0.2:15010", "0.9"))

                async def listed() -> set[tuple[str, str, str]]:
                    await one.replicas.announce(Replica("a", "http://10.0.0.1:15010", "0.9"))
                    return {(each.name, each.address, each.release) for each in await one.replicas.list()}

                mine = ("a", "http://10.0.0.1:15010", "0.9")
                assert await listed() == {mine, ("B c", "http://10.0.0.2:15010", "0.9")}
                while await listed() != {mine}:
                    await asyncio.sleep(0.05)
                while len(api.objects("Lease")) > 1:
                    assert await listed() == {mine}
                    await asyncio.sleep(0.05)
                await one.replicas.leave("a")
                assert api.objects("Lease") == {}

        run(test)


class TestDiscovery:
    """EndpointSlices, by list and watch."""

    def test_slices_of_a_service_are_one(self, api: FakeKubernetes, engines: Engines) -> None:
        """Zones, not ready, terminating; deleted while the slice lives is a fact, a deleted slice is not."""

        async def test() -> None:
            api.slice("web-1", "web", [endpoint("10.0.0.1", "a"), endpoint("10.0.0.2", ready=False)])
            api.slice("web-2", "web", [endpoint("10.0.0.3", "b"), endpoint("10.0.0.1", "a")])
            api.slice("other-1", "other", [endpoint("10.0.0.9")])
            async with engines:
                engine = await engines.open(api)
                stream = engine.discoverers["kubernetes"].follow(WEB)
                first = await find(stream, Sighting)
                assert set(first.endpoints) == {
                    Sighted("10.0.0.1:8080", zone="a"), Sighted("10.0.0.2:8080", is_ready=False),
                    Sighted("10.0.0.3:8080", zone="b"),
                }  # fmt: skip
                assert not first.gone
                api.slice("web-1", "web", [endpoint("10.0.0.2"), endpoint("10.0.0.4")])
                second = await find(stream, Sighting)
                # 10.0.0.1 has moved to the other slice, which is nothing.
                assert addresses(second) == {f"10.0.0.{n}:8080" for n in (1, 2, 3, 4)}
                assert not second.gone
                api.slice("web-1", "web", [endpoint("10.0.0.2", ready=False, terminating=True)])
                third = await find(stream, Sighting)
                assert addresses(third) == {"10.0.0.1:8080", "10.0.0.3:8080"}
                assert third.gone == {"10.0.0.2:8080", "10.0.0.4:8080"}
                api.delete("EndpointSlice", "web-2")
                fourth = await find(stream, Sighting)
                assert not fourth.endpoints
                assert fourth.gone == {"10.0.0.2:8080"}
                await stream.aclose()

        run(test)

    def test_scale_to_zero_is_a_fact_and_a_relist_is_none(self, api: FakeKubernetes, engines: Engines) -> None:
        """The empty slice has neither endpoints nor ports; what was lost while nobody watched only vanished."""

        async def test() -> None:
            api.bookmark_s = 60.0
            api.slice("web-1", "web", [endpoint("10.0.0.1"), endpoint("10.0.0.2")])
            api.slice("web-2", "web", [endpoint("10.0.0.3")])
            async with engines:
                engine = await engines.open(api)
                stream = engine.discoverers["kubernetes"].follow(WEB)
                await find(stream, Sighting)
                waiting = asyncio.ensure_future(find(stream, Sighting))
                await until(lambda: api.watches)
                api.lose("EndpointSlice", "web-2")
                found = await waiting
                assert addresses(found) == {"10.0.0.1:8080", "10.0.0.2:8080"}
                assert not found.gone
                api.slice("web-1", "web", [])
                found = await find(stream, Sighting)
                assert not found.endpoints
                assert found.gone == {"10.0.0.1:8080", "10.0.0.2:8080"}
                await stream.aclose()

        run(test)

    def test_number_is_the_services_not_the_pods(self, api: FakeKubernetes, engines: Engines) -> None:
        """The Service names its port 80 `web`; a Service that is changed moves all endpoints, as a fact."""

        async def test() -> None:
            ports = [{"name": "web", "port": 8080}, {"name": "grpc", "port": 9090}]
            api.slice("web-1", "web", [endpoint("10.0.0.1")], ports)
            named = [{"name": "web", "port": 80, "targetPort": 8080}, {"name": "grpc", "port": 81}]
            api.apply("Service", "web", spec={"ports": named})
            async with engines:
                engine = await engines.open(api)
                stream = engine.discoverers["kubernetes"].follow({"service": "web", "port": 80, "namespace": "shop"})
                assert addresses(await find(stream, Sighting)) == {"10.0.0.1:8080"}
                api.apply("Service", "web", spec={"ports": [{"name": "grpc", "port": 80}]})
                found = await find(stream, Sighting)
                assert addresses(found) == {"10.0.0.1:9090"}
                assert found.gone == {"10.0.0.1:8080"}
                api.apply("Service", "web", spec={"ports": [{"name": "grpc", "port": 443}]})
                trouble = await find(stream, Trouble)
                assert trouble.error == "shop/web: the Service has no TCP port 80; it has 443"
                # Without a Service, for somebody else makes the slices, the number is of the slices.
                api.delete("Service", "web")
                said = "shop/web: no TCP port `80` in its EndpointSlices; there is `grpc`, `web`"
                assert (await find(stream, Trouble)).error == said
                await stream.aclose()
                stream = engine.discoverers["kubernetes"].follow({"service": "web", "port": 9090})
                assert addresses(await find(stream, Sighting)) == {"10.0.0.1:9090"}
                await stream.aclose()

        run(test)

    def test_service_or_port_that_is_not_there_is_told(self, api: FakeKubernetes, engines: Engines) -> None:
        """And that it is there, when it is."""

        async def test() -> None:
            async with engines:
                engine = await engines.open(api)
                stream = engine.discoverers["kubernetes"].follow(WEB)
                assert await find(stream, Sighting) == Sighting(())
                assert (await find(stream, Trouble)).error == "shop/web: there are no EndpointSlices of such a Service"
                api.slice("web-1", "web", [endpoint("10.0.0.1")], [{"name": "grpc", "port": 9090}])
                said = "shop/web: no TCP port `http` in its EndpointSlices; there is `grpc`"
                assert (await find(stream, Trouble)).error == said
                api.slice("web-1", "web", [endpoint("10.0.0.1")])
                assert addresses(await find(stream, Sighting)) == {"10.0.0.1:8080"}
                assert await find(stream, Trouble) == Trouble("")
                await stream.aclose()

        run(test)


def test_pod_has_all_that_is_needed(engines: Engines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Address by environment; token, CA and namespace as the kubelet mounts them, and as it replaces them: all at once, by
    swapping a link.
    """
    ca = authority(tmp_path, "ca")
    mine = certificate(ca, "server")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(mine, mine.with_suffix(".key"))
    account = tmp_path / "account"
    account.mkdir()

    def mount(name: str, token: str) -> None:
        (account / name).mkdir()
        for file, content in {"token": token, "ca.crt": ca.read_text(), "namespace": "shop"}.items():
            (account / name / file).write_text(content)
        (account / "..new").symlink_to(name)
        (account / "..new").rename(account / "..data")

    mount("..first", TOKEN)
    for file in ("token", "ca.crt", "namespace"):
        (account / file).symlink_to(Path("..data") / file)
    monkeypatch.setattr(settings, "ACCOUNT", str(account))

    async def test() -> None:
        with FakeKubernetes(context) as api:
            pod = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(api.port)}
            engine = KubernetesEngine(read_settings(pod), "a")
            await engine.open()
            try:
                version = await engine.record.swap(b"1", "")
                mount("..second", "the-next")
                api.tokens = {"the-next"}
                await engine.record.swap(b"2", version)
                assert set(api.objects("ConfigMap")) == {"sidecar-mesh.record"}
            finally:
                await engine.close()

    run(test)


def test_start_waits_for_who_is_away_and_ends_for_who_refuses(
    api: FakeKubernetes, engines: Engines, tmp_path: Path
) -> None:
    """And for files of ours that are not there, by their names."""

    async def test() -> None:
        async with engines:
            api.stop()
            engine = await engines.open(api)
            with pytest.raises(Unavailable, match="kubernetes: "):
                await engine.record.read()
            api.start()
            assert await engine.record.read() is None
            api.forbidden = {"GET configmaps"}
            with pytest.raises(EngineError, match="403: configmaps is forbidden"):
                await engines.open(api)
            with pytest.raises(EngineError, match="absent: no such file"):
                await engines.open(api, token_file=str(tmp_path / "absent"))

    run(test)


@pytest.mark.parametrize("seed", range(3))
def test_whatever_happens_all_is_known_in_the_end(api: FakeKubernetes, engines: Engines, seed: int) -> None:
    """
    Registrations come, change and go while watches end, history is forgotten, and the API is busy or away: nobody is
    said to have left who is there, whoever left during a watch is said to, and in the end all are known as they are.
    """
    chance = random.Random(seed)

    async def test() -> None:
        api.bookmark_s = 0.05
        async with engines:
            writer, reader = [await engines.open(api, name) for name in "wr"]
            known: dict[str, Registration] = {}
            there: dict[str, Registration] = {}
            wrong: list[str] = []

            async def follow() -> None:
                async for change in reader.registrations.watch():
                    if isinstance(change, Trouble):
                        continue
                    if change.is_snapshot:
                        known.clear()
                    known.update({one.instance: one for one in change.put})
                    for instance in change.left:
                        known.pop(instance, None)
                        wrong.extend([instance] if instance in keepers else [])

            keepers = {"keeper-1", "keeper-2"}
            for name in sorted(keepers):
                there[name] = registration(name)
                await writer.registrations.put(there[name])
            following = asyncio.create_task(follow())
            for number in range(150):
                name = f"i{chance.randrange(12)}"
                if chance.random() < 0.6:
                    there[name] = registration(name, version=str(number))
                    await repeated(partial(writer.registrations.put, there[name]))
                else:
                    there.pop(name, None)
                    await repeated(partial(writer.registrations.remove, name))
                what = chance.random()
                if what < 0.06:
                    api.cut()
                elif what < 0.1:
                    api.compact()
                    api.cut()
                elif what < 0.13:
                    api.busy += [(chance.choice((429, 500, 503)), 0)] * 2
                elif what < 0.14:
                    await off_loop(api.stop)
                    await off_loop(api.start)
                await asyncio.sleep(chance.random() * 0.01)
            await until(lambda: known == there)
            assert not wrong
            following.cancel()

    run(test)


def test_token_that_rotates_is_followed(api: FakeKubernetes, engines: Engines, tmp_path: Path) -> None:
    """One that is refused is read anew at once; one that stays wrong is told."""

    async def test() -> None:
        async with engines:
            engine = await engines.open(api)
            (tmp_path / "token").write_text("the-next")
            api.tokens = {"the-next"}
            assert await engine.record.read() is None
            api.tokens = {"another"}
            with pytest.raises(Unavailable, match="401: Unauthorized"):
                await engine.record.read()

    run(test)
