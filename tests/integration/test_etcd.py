"""The engine `etcd` against real members: one, three, with TLS, with users; cut, silenced, compacted, killed."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from sidecar.control.engines.etcd import changes, client, compiled, leases, mesh
from sidecar.control.engines.etcd.engine import EtcdEngine
from sidecar.control.engines.etcd.settings import read_settings
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
    Versioned,
)
from sidecar.link.report import Port
from tests.support.etcd import Cluster, Relay, etcd
from tests.support.wait import refusing_port

T = TypeVar("T")
WAIT_S = 60.0
_numbers = itertools.count()


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A member that no test ends."""
    with etcd(tmp_path_factory.mktemp("one")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three, of which a test starts again those that it ends."""
    with etcd(tmp_path_factory.mktemp("three"), 3) as cluster:
        yield cluster


@pytest.fixture
def prefix() -> str:
    """Of a mesh that no other test has."""
    return f"/sidecar/shop-{next(_numbers)}/"


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "CHECK_S", 0.5)
    monkeypatch.setattr(changes, "SECOND_LOOK_S", 0.3)
    monkeypatch.setattr(changes, "MOST_PAUSE_S", 0.3)
    monkeypatch.setattr(client, "ATTEMPT_S", 2.5)
    monkeypatch.setattr(client, "MOST_BACK_OFF_S", 0.5)
    monkeypatch.setattr(leases, "CAMPAIGN_PERIOD_S", 0.1)
    monkeypatch.setattr(leases, "MOVER_TTL_S", 3)
    monkeypatch.setattr(leases, "REPLICA_TTL_S", 2)


def run(test: Callable[[], Coroutine[Any, Any, T]]) -> T:
    async def bounded() -> T:
        async with asyncio.timeout(WAIT_S):
            return await test()

    return asyncio.run(bounded())


class Engines:
    """Engines that are open, and closed on leaving."""

    def __init__(self) -> None:
        self._open: list[EtcdEngine] = []

    async def __aenter__(self) -> Engines:
        return self

    async def __aexit__(self, *error: object) -> None:
        for engine in self._open:
            await engine.close()

    async def open(self, url: str, name: str = "r1", **options: str) -> EtcdEngine:
        made = EtcdEngine(read_settings(url, **options), name)
        checked: Engine = made  # it is one, says mypy
        await checked.open()
        self._open.append(made)
        return made


def registration(instance: str, service: str = "shop", **values: Any) -> Registration:
    return Registration(service, instance, ports={"http": Port("10.0.0.1:15000")}, **values)


async def find(stream: AsyncIterator[T], is_it: Callable[[T], object]) -> T:
    """The next that is so; what comes before is let go."""
    async for found in stream:
        if is_it(found):
            return found
    raise AssertionError("a stream of changes has ended")


async def content(stream: AsyncIterator[Content | Trouble]) -> Content:
    found = await find(stream, lambda one: isinstance(one, Content))
    assert isinstance(found, Content)
    return found


async def change(stream: AsyncIterator[RegistrationChange | Trouble]) -> RegistrationChange:
    found = await find(stream, lambda one: isinstance(one, RegistrationChange))
    assert isinstance(found, RegistrationChange)
    return found


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


async def repeated(act: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """As a control plane does: again, until the engine answers."""
    while True:
        try:
            return await act()
        except Unavailable:
            await asyncio.sleep(0.05)


def relayed(relay: Relay, prefix: str) -> str:
    return f"etcd://127.0.0.1:{relay.port}{prefix}"


class TestMesh:
    """The mesh's files: staged, then committed by the manifest's revision."""

    def test_push_is_told_whole_and_only_what_is_new_is_written(self, one: Cluster, prefix: str) -> None:
        """A follower gets all files of each push; a file that did not change keeps its key, what is left over goes."""

        async def test() -> None:
            async with Engines() as engines:
                writer, reader = [await engines.open(one.url + prefix, name) for name in ("w", "r")]
                stream = reader.mesh.follow()
                assert await content(stream) == Content({}, "")
                files = {"mesh.yaml": b"mesh: shop", "services/caf\u00e9 \u4e2d.yaml": "service: caf\u00e9".encode()}
                version = await writer.mesh.push(files, "")
                assert await content(stream) == Content(files, version)
                before = one.members[0].keys(f"{prefix}mesh/files/")
                files = {"mesh.yaml": b"mesh: shop", "services/b.yaml": b"service: b"}
                version = await writer.mesh.push(files, version)
                assert await content(stream) == Content(files, version)
                after = one.members[0].keys(f"{prefix}mesh/files/")
                assert sorted(key.partition("files/")[2].partition("/")[2] for key in after) == sorted(files)
                assert [key for key in after if key in before] == [key for key in before if key.endswith("mesh.yaml")]
                await stream.aclose()

        run(test)

    def test_push_on_another_version_is_a_conflict_and_leaves_nothing(self, one: Cluster, prefix: str) -> None:
        """Neither in what is wanted nor among the keys."""

        async def test() -> None:
            async with Engines() as engines:
                engine = await engines.open(one.url + prefix)
                version = await engine.mesh.push({"a.yaml": b"1"}, "")
                before = one.members[0].keys(prefix)
                for wrong in ("", "1", str(int(version) + 1)):
                    with pytest.raises(Conflict):
                        await engine.mesh.push({"a.yaml": b"2"}, wrong)
                assert one.members[0].keys(prefix) == before

        run(test)

    def test_of_pushes_at_the_same_time_one_wins_whole(self, one: Cluster, prefix: str) -> None:
        """The others are conflicts, and what is read afterwards is the winner's, with no file of another."""

        async def test() -> None:
            async with Engines() as engines:
                all_of_them = [await engines.open(one.url + prefix, f"r{number}") for number in range(4)]
                version = await all_of_them[0].mesh.push({"a.yaml": b"0"}, "")
                for turn in range(5):
                    pushes = [
                        engine.mesh.push({f"{name}.yaml": b"%d %d" % (turn, number) for name in "abc"}, version)
                        for number, engine in enumerate(all_of_them)
                    ]
                    results = await asyncio.gather(*pushes, return_exceptions=True)
                    won = [index for index, result in enumerate(results) if isinstance(result, str)]
                    assert len(won) == 1
                    assert all(isinstance(one, str | Conflict) for one in results), results
                    version = str(results[won[0]])
                    stream = all_of_them[0].mesh.follow()
                    found = await content(stream)
                    await stream.aclose()
                    assert found == Content({f"{name}.yaml": b"%d %d" % (turn, won[0]) for name in "abc"}, version)

        run(test)

    def test_ten_mebibytes_in_a_thousand_files(self, one: Cluster, prefix: str) -> None:
        """More than a request, a transaction and an answer may hold; a file changed later takes one write."""

        async def test() -> None:
            files = {f"services/s{number}.yaml": b"%9d\n" % number * 900 for number in range(1000)}
            files["services/large.yaml"] = b"x" * 1_499_000
            assert sum(map(len, files.values())) > 10 * 1024 * 1024
            async with Engines() as engines:
                engine = await engines.open(one.url + prefix)
                stream = engine.mesh.follow()
                await content(stream)
                version = await engine.mesh.push(files, "")
                found = await content(stream)
                assert found.version == version
                assert found.files == files
                before = one.members[0].keys(f"{prefix}mesh/files/").keys()
                files["services/s7.yaml"] = b"service: s7"
                await engine.mesh.push(files, version)
                assert (await content(stream)).files == files
                assert len(one.members[0].keys(f"{prefix}mesh/files/").keys() - before) == 1
                await stream.aclose()

        run(test)

    def test_file_that_etcd_cannot_hold_is_refused_by_name(self, one: Cluster, prefix: str) -> None:
        """Before anything is written."""

        async def test() -> None:
            async with Engines() as engines:
                engine = await engines.open(one.url + prefix)
                with pytest.raises(EngineError, match=r"services/huge\.yaml: expected at most 1500000 octets"):
                    await engine.mesh.push({"services/huge.yaml": b"x" * (mesh.MAX_VALUE_BYTES + 1)}, "")
                assert one.members[0].keys(prefix) == {}
                await engine.mesh.push({"services/large.yaml": b"x" * mesh.MAX_VALUE_BYTES}, "")

        run(test)

    def test_content_that_was_damaged_is_told_and_what_was_before_holds(self, one: Cluster, prefix: str) -> None:
        """A file deleted by hand, a manifest written by hand; the next push makes it whole."""

        async def test() -> None:
            member = one.members[0]
            async with Engines() as engines:
                engine = await engines.open(one.url + prefix)
                version = await engine.mesh.push({"a.yaml": b"1"}, "")
                for key in member.keys(f"{prefix}mesh/files/"):
                    member.delete(key)
                stream = engine.mesh.follow()
                trouble = await anext(stream)
                assert isinstance(trouble, Trouble)
                assert "expected a.yaml as it was pushed, found another or none; push the mesh again" in trouble.error
                version = str(member.put(f"{prefix}mesh/wanted", "nonsense"))
                trouble = await anext(stream)
                assert isinstance(trouble, Trouble)
                assert f"{prefix}mesh/wanted: expected JSON" in trouble.error
                version = await engine.mesh.push({"a.yaml": b"2"}, version)
                assert await anext(stream) == Trouble("")
                assert await anext(stream) == Content({"a.yaml": b"2"}, version)
                await stream.aclose()

        run(test)


class TestRegistrations:
    """Keys without a lease, and a watch that loses nothing."""

    def test_registration_is_seen_by_all_and_outlives_who_wrote_it(self, one: Cluster, prefix: str) -> None:
        """No key has a lease; a goodbye is a fact."""

        async def test() -> None:
            async with Engines() as engines:
                writer, reader = [await engines.open(one.url + prefix, name) for name in ("w", "r")]
                stream = reader.registrations.watch()
                full = registration("pod/1 \u00fc", version="v1", zone="a", weight=2.0, holder="w", lost_s=12.5)
                await writer.registrations.put(full)
                # Of an etcd in which nobody ever registered there is no snapshot; of this one there may be.
                assert (await change(stream)).put == (full,)
                await writer.registrations.put(registration("pod-2", health="unhealthy"))
                assert (await change(stream)).put[0].health == "unhealthy"
                assert [pair.get("lease") for pair in one.members[0].keys(prefix).values()] == [None] * 3
                await writer.close()
                late = reader.registrations.watch()
                assert {found.instance for found in (await change(late)).put} == {"pod/1 \u00fc", "pod-2"}
                await reader.registrations.remove("pod-2")
                assert await change(stream) == RegistrationChange(left=("pod-2",))
                await stream.aclose()
                await late.aclose()
                await reader.registrations.remove(full.instance)
                # All have left, which is not the same as that nobody ever came.
                late = reader.registrations.watch()
                assert await change(late) == RegistrationChange(is_snapshot=True)
                await late.aclose()

        run(test)

    def test_registrations_that_somebody_deletes_at_once_have_not_said_goodbye(self, one: Cluster, prefix: str) -> None:
        """They vanished; that there were any is written again with the next one."""

        async def test() -> None:
            async with Engines() as engines:
                engine = await engines.open(one.url + prefix)
                for name in ("a", "b", "c"):
                    await engine.registrations.put(registration(name))
                stream = engine.registrations.watch()
                assert (await change(stream)).is_snapshot
                one.members[0].delete_all(f"{prefix}registrations/")
                assert await change(stream) == RegistrationChange(vanished=("a", "b", "c"))
                await engine.registrations.put(registration("a"))
                assert await change(stream) == RegistrationChange((registration("a"),))
                assert len(one.members[0].keys(f"{prefix}registrations/")) == 2
                await stream.aclose()

        run(test)

    def test_goodbye_while_the_watch_was_cut_is_still_one(self, one: Cluster, prefix: str) -> None:
        """The watch goes on where it ended; nothing is listed again."""

        async def test() -> None:
            async with Relay(one.members[0].port) as relay, Engines() as engines:
                writer, reader = await engines.open(one.url + prefix), await engines.open(relayed(relay, prefix))
                await writer.registrations.put(registration("a"))
                stream = reader.registrations.watch()
                assert (await change(stream)).is_snapshot
                await relay.cut()
                assert isinstance(trouble := await anext(stream), Trouble)
                assert trouble.error
                await writer.registrations.remove("a")
                await writer.registrations.put(registration("b"))
                await relay.open()
                found = [await change(stream)]
                while not found[-1].put:
                    found.append(await change(stream))
                assert [name for each in found for name in each.left] == ["a"]
                assert [one for each in found for one in each.put] == [registration("b")]
                assert not any(each.is_snapshot for each in found)
                assert await find(stream, lambda one: one == Trouble(""))
                await stream.aclose()

        run(test)

    def test_compacted_watch_begins_again_with_a_snapshot(self, one: Cluster, prefix: str) -> None:
        """What went in between vanished without a word."""

        async def test() -> None:
            async with Relay(one.members[0].port) as relay, Engines() as engines:
                writer, reader = await engines.open(one.url + prefix), await engines.open(relayed(relay, prefix))
                await writer.registrations.put(registration("a"))
                stream = reader.registrations.watch()
                assert (await change(stream)).is_snapshot
                await relay.cut()
                await find(stream, lambda one: isinstance(one, Trouble) and one.error)
                await writer.registrations.remove("a")
                await writer.registrations.put(registration("b"))
                one.members[0].compact()
                await relay.open()
                assert await change(stream) == RegistrationChange((registration("b"),), is_snapshot=True)
                await writer.registrations.put(registration("c"))
                assert await change(stream) == RegistrationChange((registration("c"),))
                await stream.aclose()

        run(test)

    def test_silent_watch_is_found_by_a_read(self, one: Cluster, prefix: str) -> None:
        """A connection on which nothing comes any more looks like a quiet mesh; goodbyes are found, too."""

        async def test() -> None:
            async with Relay(one.members[0].port) as relay, Engines() as engines:
                writer, reader = await engines.open(one.url + prefix), await engines.open(relayed(relay, prefix))
                await writer.registrations.put(registration("a"))
                stream = reader.registrations.watch()
                assert (await change(stream)).is_snapshot
                await writer.registrations.put(registration("b"))
                assert (await change(stream)).put == (registration("b"),)
                relay.silence()
                await writer.registrations.put(registration("c"))
                assert await change(stream) == RegistrationChange((registration("c"),))
                relay.silence()
                await writer.registrations.remove("a")
                assert await change(stream) == RegistrationChange(left=("a",))
                await stream.aclose()

        run(test)

    def test_many_are_listed_in_pages(self, one: Cluster, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """And the watch begins behind the last of them."""
        monkeypatch.setattr(changes, "PAGE", 7)

        async def test() -> None:
            async with Engines() as engines:
                engine = await engines.open(one.url + prefix)
                many = {f"i{number}": registration(f"i{number}") for number in range(50)}
                await asyncio.gather(*map(engine.registrations.put, many.values()))
                stream = engine.registrations.watch()
                found = await change(stream)
                assert {one.instance: one for one in found.put} == many
                await engine.registrations.remove("i9")
                assert await change(stream) == RegistrationChange(left=("i9",))
                await stream.aclose()

        run(test)

    def test_value_that_nobody_can_read_leaves_the_others_alone(
        self, one: Cluster, prefix: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """It is told in the log, with its key."""

        async def test() -> None:
            async with Engines() as engines:
                engine = await engines.open(one.url + prefix)
                one.members[0].put(f"{prefix}registrations/bad", "{}")
                await engine.registrations.put(registration("good"))
                stream = engine.registrations.watch()
                assert await change(stream) == RegistrationChange((registration("good"),), is_snapshot=True)
                await stream.aclose()

        run(test)
        assert f"registration_damaged key={prefix}registrations/bad" in caplog.text


class TestRecord:
    """One key, by compare-and-swap."""

    def test_record_that_somebody_deletes_is_told_and_written_anew(self, one: Cluster, prefix: str) -> None:
        """Over the version of none; what another has written meanwhile stays."""

        async def test() -> None:
            async with Engines() as engines:
                engine = await engines.open(one.url + prefix)
                stream = engine.record.watch()
                version = await engine.record.swap(b"1", "")
                assert await anext(stream) == Versioned(b"1", version)
                one.members[0].delete(f"{prefix}record")
                assert await anext(stream) == Gone()
                assert await engine.record.read() is None
                with pytest.raises(Conflict):
                    await engine.record.swap(b"2", version)
                assert Versioned(b"2", await engine.record.swap(b"2", "")) == await anext(stream)
                with pytest.raises(Conflict):
                    await engine.record.swap(b"3", "")
                await stream.aclose()

        run(test)

    def test_swaps_by_many_lose_nothing(self, one: Cluster, prefix: str) -> None:
        """Eight that count to ten each end at eighty, and a watcher sees numbers that only rise."""

        async def test() -> None:
            async with Engines() as engines:
                engine, other = await engines.open(one.url + prefix), await engines.open(one.url + prefix)
                assert await engine.record.read() is None
                stream = engine.record.watch()
                seen: list[int] = []

                async def watch() -> None:
                    async for found in stream:
                        if isinstance(found, Versioned):
                            seen.append(int(found.value))

                async def count(record: Any) -> None:
                    for _ in range(10):
                        while True:
                            found = await record.read()
                            try:
                                value = int(found.value) + 1 if found is not None else 1
                                await record.swap(b"%d" % value, found.version if found is not None else "")
                                break
                            except Conflict:
                                continue

                watching = asyncio.create_task(watch())
                await asyncio.gather(*(count(each.record) for each in (engine, other) * 4))
                found = await other.record.read()
                assert found is not None
                assert found.value == b"80"
                await until(lambda: bool(seen) and seen[-1] == 80)
                assert seen == sorted(set(seen))
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)
                with pytest.raises(Conflict):
                    await engine.record.swap(b"0", "")

        run(test)


class TestFiles:
    """Compiled files by hash."""

    def test_what_is_kept_is_fetched_and_what_is_not_retained_goes(
        self, one: Cluster, prefix: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Also one that is larger than a value may be; what was kept just now stays."""
        monkeypatch.setattr(client, "_REVISION_PERIOD_S", 0.0)

        async def test() -> None:
            async with Engines() as engines:
                engine = await engines.open(one.url + prefix)
                large = random.Random(1).randbytes(3 * compiled.PART_BYTES)
                files = {"a" * 32: b"listen: 1", "b" * 32: large, "c" * 32: b""}
                await engine.files.keep(files)
                before = one.members[0].keys(prefix)
                await engine.files.keep(files)
                assert one.members[0].keys(prefix) == before
                assert {key: await engine.files.fetch(key) for key in files} == files
                assert await engine.files.fetch("d" * 32) is None
                await engine.files.retain([])
                assert await engine.files.fetch("a" * 32) == b"listen: 1"
                # That somebody needs one again is written, and keeps it.
                monkeypatch.setattr(compiled, "FRESH_S", -1.0)
                await engine.files.keep({"a" * 32: b"listen: 1"})
                after = one.members[0].keys(prefix)
                assert [key for key in after if after[key] != before[key]] == [f"{prefix}compiled/{'a' * 32}/kept"]
                monkeypatch.setattr(compiled, "RECENT_S", 0.0)
                await engine.files.retain(["a" * 32])
                assert [await engine.files.fetch(key) for key in files] == [b"listen: 1", None, None]
                assert len(one.members[0].keys(f"{prefix}compiled/")) == 2

        run(test)


class TestLeases:
    """The mover's right and the replicas' announcements end with who has them."""

    def test_mover_that_is_cut_off_stops_before_another_begins(self, one: Cluster, prefix: str) -> None:
        """At no time two believe that they have it."""

        async def test() -> None:
            async with Relay(one.members[0].port) as relay, Engines() as engines:
                first = await engines.open(relayed(relay, prefix), "first")
                second = await engines.open(one.url + prefix, "second")
                campaigns = [asyncio.create_task(first.mover.campaign())]
                await until(lambda: first.mover.is_ours)
                campaigns.append(asyncio.create_task(second.mover.campaign()))
                await relay.cut()
                while not second.mover.is_ours:
                    await asyncio.sleep(0.01)
                    assert not (first.mover.is_ours and second.mover.is_ours)
                assert not first.mover.is_ours
                await relay.open()
                campaigns[1].cancel()
                await asyncio.gather(campaigns[1], return_exceptions=True)
                assert not second.mover.is_ours
                # It was given up, not left to end.
                await until(lambda: first.mover.is_ours)
                # Somebody takes the key away: it is noticed at the next keep-alive.
                one.members[0].delete(f"{prefix}mover")
                await until(lambda: not first.mover.is_ours)
                await until(lambda: first.mover.is_ours)
                campaigns[0].cancel()
                await asyncio.gather(*campaigns, return_exceptions=True)
            assert f"{prefix}mover" not in one.members[0].keys(prefix)

        run(test)

    def test_replicas_are_listed_as_they_came_until_they_are_silent(self, one: Cluster, prefix: str) -> None:
        """In etcd's order; one that leaves goes at once, one that says no more when its lease ends."""

        async def test() -> None:
            async with Engines() as engines:
                names = ["z", "m", "a"]
                replicas = {name: await engines.open(one.url + prefix, name) for name in names}
                for name, engine in replicas.items():
                    await engine.replicas.announce(Replica(name, f"http://{name}:15010", "0.9.0"))
                first = await replicas["a"].replicas.list()
                assert [(each.name, each.address, each.release) for each in first] == [
                    (name, f"http://{name}:15010", "0.9.0") for name in names
                ]
                await replicas["z"].replicas.announce(Replica("z", "http://z:15010", "0.9.1"))
                second = await replicas["a"].replicas.list()
                assert [each.name for each in second] == names
                assert second[0].release == "0.9.1"
                assert second[0].seen_s > first[0].seen_s
                assert second[1].seen_s == first[1].seen_s
                await replicas["m"].replicas.leave("m")
                assert [each.name for each in await replicas["a"].replicas.list()] == ["z", "a"]
                while [each.name for each in await replicas["a"].replicas.list()] != ["a"]:
                    await replicas["a"].replicas.announce(Replica("a"))
                    await asyncio.sleep(0.1)
                # It ended with its lease, and gets another.
                await replicas["z"].replicas.announce(Replica("z"))
                assert [each.name for each in await replicas["a"].replicas.list()] == ["a", "z"]

        run(test)


class TestDiscovery:
    """Endpoints that others keep in etcd."""

    def test_deleted_key_is_a_fact_and_an_ended_lease_is_a_silence(self, one: Cluster) -> None:
        """A value that cannot be read is told, and what its key said before holds."""
        member = one.members[0]
        at = f"/endpoints-{next(_numbers)}/"

        async def test() -> None:
            async with Engines() as engines:
                engine = await engines.open(one.url)
                member.put(f"{at}a", '{"address": "10.0.0.1:80", "weight": 2, "zone": "z", "more": []}')
                stream = engine.discoverers["etcd"].follow({"key": at})
                a = Sighted("10.0.0.1:80", 2.0, "z")
                assert await anext(stream) == Sighting((a,))
                lease = member.ask("/v3/lease/grant", {"TTL": "60"})["ID"]
                member.put(f"{at}b", '{"address": "[::1]:80", "ready": false}', lease)
                b = Sighted("[::1]:80", is_ready=False)
                assert await anext(stream) == Sighting((a, b))
                member.put(f"{at}c", '{"address": "10.0.0.3:80"}', lease)
                c = Sighted("10.0.0.3:80")
                assert await anext(stream) == Sighting((a, b, c))
                member.put(f"{at}a", '{"address": "10.0.0.1"}')
                assert await anext(stream) == Sighting((a, b, c))
                assert isinstance(trouble := await anext(stream), Trouble)
                assert trouble.error.startswith(f"etcd: {at}a: address: expected")
                member.delete(f"{at}a")
                assert await anext(stream) == Sighting((b, c), frozenset(("10.0.0.1:80",)))
                assert await anext(stream) == Trouble("")
                member.delete(f"{at}b")
                assert await anext(stream) == Sighting((c,), frozenset(("[::1]:80",)))
                member.ask("/v3/lease/revoke", {"ID": lease})
                assert await anext(stream) == Sighting(())
                await stream.aclose()  # type: ignore[attr-defined]

        run(test)


class TestMembers:
    """Members that go and come back."""

    def test_etcd_that_is_not_there_yet_is_waited_for(self, tmp_path: Path, prefix: str) -> None:
        """A control plane may start first; killed and started again, etcd is met where it was left."""

        async def test() -> None:
            with etcd(tmp_path) as cluster:
                member = cluster.members[0]
                member.kill()
                async with Engines() as engines:
                    engine = await engines.open(cluster.url + prefix)
                    stream = engine.registrations.watch()
                    assert isinstance(trouble := await anext(stream), Trouble)
                    assert trouble.error
                    await asyncio.to_thread(cluster.start, member)
                    await engine.registrations.put(registration("a"))
                    assert (await change(stream)).put == (registration("a"),)
                    await find(stream, lambda one: one == Trouble(""))
                    member.kill()
                    await find(stream, lambda one: isinstance(one, Trouble) and one.error)
                    await asyncio.to_thread(cluster.start, member)
                    await repeated(lambda: engine.registrations.remove("a"))
                    assert await change(stream) == RegistrationChange(left=("a",))
                    await stream.aclose()

        run(test)

    def test_members_are_tried_in_order(self, one: Cluster, prefix: str) -> None:
        """One that refuses connections and one that is no etcd cost a try."""

        async def test() -> None:
            url = f"etcd://127.0.0.1:{refusing_port()},127.0.0.1:{one.members[0].port}{prefix}"
            async with Engines() as engines:
                engine = await engines.open(url)
                stream = engine.record.watch()
                await engine.record.swap(b"1", "")
                assert await find(stream, lambda one: isinstance(one, Versioned))
                await stream.aclose()

        run(test)

    def test_leader_killed_loses_nothing(self, three: Cluster, prefix: str) -> None:
        """Writes are tried again, each arrives once, in order, and nobody is told to have left."""

        async def test() -> None:
            async with Engines() as engines:
                engine = await engines.open(three.url + prefix)
                await engine.registrations.put(registration("first"))
                stream = engine.registrations.watch()
                assert (await change(stream)).is_snapshot
                campaign = asyncio.create_task(engine.mover.campaign())
                await until(lambda: engine.mover.is_ours)
                leader = await asyncio.to_thread(three.leader)
                version = await engine.record.swap(b"0", "")
                for number in range(20):
                    if number == 5:
                        leader.kill()
                    await repeated(lambda: engine.registrations.put(registration(f"i{number}")))  # noqa: B023
                    version = await repeated(lambda: swap(engine, number, version))  # noqa: B023
                found: list[str] = []
                while len(found) < 20:
                    changed = await change(stream)
                    assert not changed.is_snapshot
                    assert not changed.left
                    found += [each.instance for each in changed.put if each.instance not in found[-1:]]
                assert found == [f"i{number}" for number in range(20)]
                await until(lambda: engine.mover.is_ours)
                campaign.cancel()
                await asyncio.gather(campaign, return_exceptions=True)
                await stream.aclose()
                await asyncio.to_thread(three.start, leader)

        run(test)

    @pytest.mark.long
    def test_lost_quorum_is_told_and_changes_nothing(
        self, three: Cluster, prefix: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        The watch of the member that is left tells it within seconds, reads and writes say `Unavailable`, never
        something old, and the mover stops; when quorum is back, all goes on where it was.
        """

        async def test() -> None:
            left, *others = three.members
            # The watch itself tells it, not the read that looks after it.
            monkeypatch.setattr(changes, "CHECK_S", 3600.0)
            monkeypatch.setattr(changes, "SECOND_LOOK_S", 3600.0)
            async with Engines() as engines:
                engine = await engines.open(three.url + prefix)
                await engine.registrations.put(registration("a"))
                await engine.record.swap(b"1", "")
                stream = engine.registrations.watch()
                assert (await change(stream)).put == (registration("a"),)
                following = asyncio.create_task(change(stream))
                await engine.registrations.put(registration("a2"))
                # Now the watch is open, at the member that will be left: it is the first.
                assert (await following).put == (registration("a2"),)
                campaign = asyncio.create_task(engine.mover.campaign())
                await until(lambda: engine.mover.is_ours)
                for each in others:
                    each.kill()
                await find(stream, lambda one: isinstance(one, Trouble) and one.error)
                monkeypatch.setattr(changes, "CHECK_S", 0.5)
                monkeypatch.setattr(changes, "SECOND_LOOK_S", 0.3)
                await until(lambda: not engine.mover.is_ours)
                assert left.is_running
                acts: list[Callable[[], Coroutine[Any, Any, object]]] = [
                    engine.record.read, engine.replicas.list, lambda: engine.registrations.put(registration("b")),
                ]  # fmt: skip
                for result in await asyncio.gather(*(act() for act in acts), return_exceptions=True):
                    assert isinstance(result, Unavailable), result
                await asyncio.to_thread(three.start, *others)
                await repeated(lambda: engine.registrations.put(registration("c")))
                seen: list[str] = []
                while "c" not in seen:
                    changed = await change(stream)
                    assert not changed.left
                    assert not changed.is_snapshot
                    seen += [each.instance for each in changed.put]
                await find(stream, lambda one: one == Trouble(""))
                assert (await engine.record.read()) is not None
                await until(lambda: engine.mover.is_ours)
                campaign.cancel()
                await asyncio.gather(campaign, return_exceptions=True)
                await stream.aclose()

        run(test)


async def swap(engine: EtcdEngine, number: int, version: str) -> str:
    """The record is this number afterwards, whether or not the try before this one was done."""
    try:
        return await engine.record.swap(b"%d" % number, version)
    except Conflict:
        found = await engine.record.read()
        assert found is not None
        assert found.value == b"%d" % number
        return found.version
