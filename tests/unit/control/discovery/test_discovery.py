"""Endpoints from registrations and sources, doubted and joined; the clock is the test's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sidecar.control.discovery import discovery as module
from sidecar.control.discovery.discovery import RETURN_S, Discovery
from sidecar.control.discovery.registry import DoubtKey, Registry, doubt_key
from sidecar.control.discovery.sources import own_discoverers
from sidecar.control.doubt import REMOVE_AFTER_S, STALE_AFTER_S, Doubt
from sidecar.control.engines.interface import Registration, RegistrationChange, Sighted, Sighting, Trouble
from sidecar.control.revision.compiled import Origin, Source
from sidecar.link.report import Port


class Told:
    """A kind of source whose changes the test tells."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Sighting | Trouble] = asyncio.Queue()

    async def follow(self, values: Mapping[str, Any]) -> AsyncIterator[Sighting | Trouble]:
        while True:
            yield await self.queue.get()

    async def tell(self, *addresses: str, gone: Collection[str] = ()) -> None:
        self.queue.put_nowait(Sighting(tuple(Sighted(one) for one in addresses), frozenset(gone)))
        await settle()


async def settle() -> None:
    """Let tasks and gathered changes happen: gathering takes no time here."""
    for _ in range(20):
        await asyncio.sleep(0)


class World:
    def __init__(self, **discoverers: Any) -> None:
        self.now_s = 0.0
        self.doubt: Doubt[DoubtKey] = Doubt(lambda: self.now_s)
        self.registry = Registry(self.doubt, lambda service: self.discovery.service_changed(service))
        self.changes: list[Origin] = []
        self.discovery = Discovery(
            self.registry, self.doubt, {**own_discoverers(), **discoverers}, self.changes.extend, lambda: self.now_s
        )

    def sweep(self) -> None:
        swept = self.doubt.sweep()
        self.discovery.judged(swept.stale, are_removed=False)
        self.discovery.judged(swept.removed, are_removed=True)
        for name, instance in swept.removed:
            if not name:
                self.registry.remove(instance)

    def addresses(self, origin: Origin) -> list[str] | None:
        views = self.discovery.views(origin)
        if views is None or views.current is None:
            return None
        return sorted(views.current.entries)

    def is_sure(self, origin: Origin) -> bool:
        views = self.discovery.views(origin)
        assert views is not None
        return views.is_sure


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await test()

    asyncio.run(bounded())


@pytest.fixture(autouse=True)
def _gather_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GATHER_S", 0.0)


def registered(**labels: str) -> Origin:
    return Origin("a", "http", (Source.of("registered", labels),))


def instance(name: str, host: str = "", **values: Any) -> Registration:
    address = f"{host or '10.0.0.' + name}:15000"
    return Registration("a", name, ports={"http": Port(address, "http", True)}, holder="r", **values)


def known(world: World, *registrations: Registration) -> None:
    """There is a copy of what was registered before."""
    world.registry.apply(RegistrationChange(registrations, is_snapshot=True), "r")


ALL = registered()


def test_registrations_become_endpoints_by_label_and_port() -> None:
    """Version and zone must be equal; one without the port is none; TLS and weight are told."""

    async def test() -> None:
        world = World()
        known(world)
        beta = registered(version="beta")
        other = Origin("a", "grpc", (Source.of("registered", {}),))
        world.discovery.use([ALL, beta, other])
        world.registry.put(instance("1", version="v1", weight=2.0, zone="z"))
        world.registry.put(instance("2", version="beta"))
        await settle()
        assert world.addresses(ALL) == ["10.0.0.1:15000", "10.0.0.2:15000"]
        assert world.addresses(beta) == ["10.0.0.2:15000"]
        assert world.addresses(other) == []
        views = world.discovery.views(ALL)
        assert views is not None
        assert views.current is not None
        entry = views.current.entries["10.0.0.1:15000"]
        assert (entry.weight, entry.zone, entry.is_tls) == (2.0, "z", True)
        await world.discovery.close()

    run(test)


def test_lost_stream_is_used_while_nothing_better_is_left() -> None:
    """Stale after 30 s: out of an upstream with a fresh one, in one without."""

    async def test() -> None:
        world = World()
        known(world)
        beta = registered(version="beta")
        world.discovery.use([ALL, beta])
        world.registry.put(instance("1"))
        world.registry.put(instance("2", version="beta"))
        world.registry.lost("2")
        await settle()
        world.now_s += STALE_AFTER_S
        world.sweep()
        await settle()
        assert world.addresses(ALL) == ["10.0.0.1:15000"]
        assert world.addresses(beta) == ["10.0.0.2:15000"]
        world.registry.put(instance("2", version="beta"))
        await settle()
        assert len(world.addresses(ALL) or ()) == 2
        await world.discovery.close()

    run(test)


def test_lost_one_is_removed_after_ten_minutes_and_no_goodbye_is_needed() -> None:
    """While most are fresh."""

    async def test() -> None:
        world = World()
        known(world)
        world.discovery.use([ALL])
        for number in range(1, 7):
            world.registry.put(instance(str(number)))
        world.registry.lost("6")
        world.now_s += REMOVE_AFTER_S
        world.sweep()
        await settle()
        assert len(world.registry) == 5
        assert len(world.addresses(ALL) or ()) == 5
        await world.discovery.close()

    run(test)


def test_all_that_vanish_at_once_stay() -> None:
    """The control plane's port was cut: nobody is removed, and every upstream keeps what it had."""

    async def test() -> None:
        world = World()
        known(world)
        world.discovery.use([ALL])
        for number in range(1, 6):
            world.registry.put(instance(str(number)))
            world.registry.lost(str(number))
        await settle()
        before = world.addresses(ALL)
        world.now_s += 100 * REMOVE_AFTER_S
        world.sweep()
        await settle()
        assert world.addresses(ALL) == before
        assert len(world.registry) == 5
        await world.discovery.close()

    run(test)


def test_goodbye_is_applied_at_once() -> None:
    """Also that of the last one: it is a fact."""

    async def test() -> None:
        world = World()
        known(world)
        world.discovery.use([ALL])
        world.registry.put(instance("1"))
        await settle()
        world.registry.remove("1")
        await settle()
        assert world.addresses(ALL) == []
        assert world.is_sure(ALL)
        await world.discovery.close()

    run(test)


def test_ill_one_is_out_while_most_are_well() -> None:
    """And in again with its health; all of them in when most are ill."""

    async def test() -> None:
        world = World()
        known(world)
        world.discovery.use([ALL])
        for number in "123":
            world.registry.put(instance(number))
        world.registry.put(instance("3", health="unhealthy"))
        await settle()
        assert world.addresses(ALL) == ["10.0.0.1:15000", "10.0.0.2:15000"]
        world.registry.put(instance("2", health="unhealthy"))
        await settle()
        assert len(world.addresses(ALL) or ()) == 3
        await world.discovery.close()

    run(test)


def test_without_a_copy_nothing_is_sure_before_everyone_had_time_to_return() -> None:
    """And that there is nobody at all never is; with a copy it is at once."""

    async def test() -> None:
        world = World()
        other = Origin("b", "http", (Source.of("registered", {}),))
        world.discovery.use([ALL, other])
        world.registry.put(instance("1"))
        await settle()
        assert world.addresses(ALL) == ["10.0.0.1:15000"]
        assert not world.is_sure(ALL)
        world.now_s += RETURN_S
        world.discovery.surely()
        await settle()
        assert world.is_sure(ALL)
        assert ALL in world.changes
        assert not world.is_sure(other)
        known(world)
        world.discovery.surely()
        await settle()
        assert world.is_sure(other)
        await world.discovery.close()

    run(test)


def test_copy_of_before_is_lost_since_the_restart() -> None:
    """Its endpoints are told as they were, for 30 s and, where nobody returns, for good."""

    async def test() -> None:
        world = World()
        world.now_s = 1000.0
        known(world, instance("1"), instance("2"))
        world.discovery.use([ALL])
        await settle()
        assert len(world.addresses(ALL) or ()) == 2
        world.now_s += STALE_AFTER_S
        world.registry.put(instance("1"))
        world.sweep()
        await settle()
        assert world.addresses(ALL) == ["10.0.0.1:15000"]
        await world.discovery.close()

    run(test)


def test_source_that_shrinks_without_a_word_is_doubted_and_with_one_is_believed() -> None:
    """A relist that lost one: stale after 30 s; an endpoint that said goodbye is gone at once."""

    async def test() -> None:
        source = Told()
        world = World(etcd=source)
        origin = Origin("a", "http", (Source.of("etcd", {"key": "/a/"}),))
        world.discovery.use([origin])
        assert world.addresses(origin) == []
        assert not world.is_sure(origin)
        await settle()
        await source.tell("10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80")
        await source.tell("10.0.0.1:80", "10.0.0.2:80", gone={"10.0.0.3:80"})
        assert world.addresses(origin) == ["10.0.0.1:80", "10.0.0.2:80"]
        await source.tell("10.0.0.1:80")
        assert world.addresses(origin) == ["10.0.0.1:80", "10.0.0.2:80"]
        world.now_s += STALE_AFTER_S
        world.sweep()
        await settle()
        assert world.addresses(origin) == ["10.0.0.1:80"]
        await source.tell()
        world.now_s += 10 * REMOVE_AFTER_S
        world.sweep()
        await settle()
        assert world.addresses(origin) == ["10.0.0.1:80", "10.0.0.2:80"], "all are stale: all are used"
        await world.discovery.close()

    run(test)


def test_source_that_fails_changes_nothing_and_is_told() -> None:
    """Until it says something again."""

    async def test() -> None:
        source = Told()
        world = World(etcd=source)
        origin = Origin("a", "http", (Source.of("etcd", {"key": "/a/"}),))
        world.discovery.use([origin])
        await settle()
        await source.tell("10.0.0.1:80")
        source.queue.put_nowait(Trouble("no quorum"))
        await settle()
        world.now_s += 10 * REMOVE_AFTER_S
        world.sweep()
        assert world.addresses(origin) == ["10.0.0.1:80"]
        assert dict(world.discovery.status())[origin].error == "no quorum"
        await source.tell("10.0.0.1:80")
        assert dict(world.discovery.status())[origin].error == ""
        await world.discovery.close()

    run(test)


def test_kubernetes_endpoint_is_dialled_at_its_registered_listener() -> None:
    """Joined by address; one without a registration at its own port, in clear, and counted."""

    async def test() -> None:
        source = Told()
        world = World(kubernetes=source)
        known(world)
        origin = Origin("a", "http", (Source.of("kubernetes", {"service": "a", "port": "http"}),))
        world.discovery.use([origin])
        world.registry.put(instance("1", "10.0.0.1"))
        await settle()
        await source.tell("10.0.0.1:8080", "10.0.0.2:8080")
        assert world.addresses(origin) == ["10.0.0.1:15000", "10.0.0.2:8080"]
        assert dict(world.discovery.status())[origin].plain == 1
        await world.discovery.close()

    run(test)


def test_kubernetes_endpoint_whose_sidecar_said_goodbye_is_gone_at_once() -> None:
    """
    Its slice says so a moment later; meanwhile it is not dialled past its sidecar. One that comes back is there again;
    one whose sidecar stays away while its pod stays ready is one without a sidecar, after a while.
    """

    async def test() -> None:
        source = Told()
        world = World(kubernetes=source)
        known(world)
        origin = Origin("a", "http", (Source.of("kubernetes", {"service": "a", "port": "http"}),))
        world.discovery.use([origin])
        world.registry.put(instance("1", "10.0.0.1"))
        await settle()
        await source.tell("10.0.0.1:8080", "10.0.0.2:8080")
        world.registry.remove("1")
        await settle()
        assert world.addresses(origin) == ["10.0.0.2:8080"]
        await source.tell("10.0.0.1:8080", "10.0.0.2:8080")
        assert world.addresses(origin) == ["10.0.0.2:8080"]
        world.registry.put(instance("1", "10.0.0.1"))
        await settle()
        assert world.addresses(origin) == ["10.0.0.1:15000", "10.0.0.2:8080"]
        world.registry.remove("1")
        await settle()
        world.now_s += module.DEPARTED_S
        world.discovery.service_changed("a")
        await settle()
        assert world.addresses(origin) == ["10.0.0.1:8080", "10.0.0.2:8080"]
        await world.discovery.close()

    run(test)


def test_kubernetes_endpoint_has_the_health_that_its_sidecar_says() -> None:
    """Ready as its pod may be."""

    async def test() -> None:
        source = Told()
        world = World(kubernetes=source)
        known(world)
        origin = Origin("a", "http", (Source.of("kubernetes", {"service": "a", "port": "http"}),))
        world.discovery.use([origin])
        world.registry.put(replace(instance("1", "10.0.0.1"), health="unhealthy"))
        await settle()
        await source.tell("10.0.0.1:8080", "10.0.0.2:8080", "10.0.0.3:8080")
        assert world.addresses(origin) == ["10.0.0.2:8080", "10.0.0.3:8080"]
        await world.discovery.close()

    run(test)


def test_union_has_each_address_once() -> None:
    """Registered ones come first and know best."""

    async def test() -> None:
        listed = {"endpoints": [{"address": "10.0.0.1:15000", "weight": 5, "zone": ""},
                                {"address": "10.0.0.9:80", "weight": 3, "zone": "z"}]}  # fmt: skip
        world = World()
        known(world)
        origin = Origin("a", "http", (Source.of("registered", {}), Source.of("endpoints", listed)))
        world.discovery.use([origin])
        world.registry.put(instance("1"))
        await settle()
        assert world.addresses(origin) == ["10.0.0.1:15000", "10.0.0.9:80"]
        views = world.discovery.views(origin)
        assert views is not None
        assert views.current is not None
        assert views.current.entries["10.0.0.1:15000"].is_tls
        assert views.current.entries["10.0.0.9:80"].weight == 3.0
        await world.discovery.close()

    run(test)


def test_file_is_followed_and_a_bad_edit_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An edit is a fact: what is out of it is gone at once."""
    monkeypatch.setattr("sidecar.upstream.discovery.discovery.PERIOD_S", 0.01)

    async def test() -> None:
        path = tmp_path / "endpoints.json"
        path.write_text('[{"targets": ["10.0.0.1:80", "10.0.0.2:80"], "labels": {"zone": "z"}}]')
        world = World()
        origin = Origin("a", "http", (Source.of("file", {"path": str(path)}),))
        world.discovery.use([origin])

        async def until(wanted: list[str]) -> None:
            while world.addresses(origin) != wanted:
                await asyncio.sleep(0.005)

        await until(["10.0.0.1:80", "10.0.0.2:80"])
        path.write_text("[")
        while not dict(world.discovery.status())[origin].error:
            await asyncio.sleep(0.005)
        assert world.addresses(origin) == ["10.0.0.1:80", "10.0.0.2:80"]
        path.write_text('[{"targets": ["10.0.0.2:80"]}]')
        await until(["10.0.0.2:80"])
        await world.discovery.close()

    run(test)


def test_kind_that_the_engine_does_not_know_is_told() -> None:
    """Nothing is invented."""

    async def test() -> None:
        world = World()
        origin = Origin("a", "http", (Source.of("kubernetes", {"service": "a", "port": 80}),))
        world.discovery.use([origin])
        await settle()
        assert "kubernetes" in dict(world.discovery.status())[origin].error
        await world.discovery.close()

    run(test)


def test_what_is_not_used_any_more_is_forgotten() -> None:
    """With its doubt."""

    async def test() -> None:
        source = Told()
        world = World(etcd=source)
        origin = Origin("a", "http", (Source.of("etcd", {"key": "/a/"}),))
        world.discovery.use([origin])
        await settle()
        await source.tell("10.0.0.1:80")
        world.discovery.use([])
        assert world.discovery.views(origin) is None
        assert world.doubt.fresh == 0
        await world.discovery.close()

    run(test)


def test_what_other_replicas_say_does_not_overrule_what_is_heard_here() -> None:
    """Of those whose streams this replica holds it knows better; others are believed."""

    async def test() -> None:
        world = World()
        known(world)
        world.registry.put(instance("1"))
        theirs = Registration("a", "2", ports={"http": Port("10.0.0.2:15000")}, holder="other")
        stale_news = Registration("a", "1", ports={}, holder="r")
        world.registry.apply(RegistrationChange((theirs, stale_news)), "r")
        found = world.registry.get("1")
        assert found is not None
        assert found.ports
        assert world.registry.get("2") is not None
        world.registry.apply(RegistrationChange((), is_snapshot=True), "r")
        world.now_s += STALE_AFTER_S
        world.sweep()
        assert world.doubt.is_stale(doubt_key("2"))
        assert not world.doubt.is_stale(doubt_key("1"))
        world.registry.apply(RegistrationChange(left=("2",)), "r")
        assert world.registry.get("2") is None
        await world.discovery.close()

    run(test)


def test_who_is_at_another_replica_is_there_after_a_restart_of_this_one() -> None:
    """The engine says nothing more of who is well, so the other replica is asked; its own goodbyes and losses count."""

    async def test() -> None:
        world = World()
        world.discovery.use([ALL])
        one, two, three = (
            Registration("a", name, ports={"http": Port(f"10.0.0.{name}:15000")}, holder="other", lost_s=lost_s)
            for name, lost_s in (("1", None), ("2", None), ("3", 7.0))
        )
        known(world, one, two, three)
        await settle()
        for _ in range(int(STALE_AFTER_S)):
            world.registry.heard_elsewhere("r", {"1", "3"}, {"r", "other"})
            world.now_s += 1
            world.sweep()
        await settle()
        assert [world.doubt.is_stale(doubt_key(name)) for name in ("1", "2", "3")] == [False, True, True]
        assert world.addresses(ALL) == ["10.0.0.1:15000"]
        world.registry.heard_elsewhere("r", {"1", "2"}, {"r", "other"})
        await settle()
        assert world.addresses(ALL) == ["10.0.0.1:15000", "10.0.0.2:15000"]
        await world.discovery.close()

    run(test)


def test_whoever_is_lost_with_its_replica_is_doubted() -> None:
    """A replica that was killed has written nothing of those whose streams it held."""

    async def test() -> None:
        world = World()
        known(world)
        for name in ("1", "2"):
            theirs = Registration("a", name, ports={"http": Port(f"10.0.0.{name}:15000")}, holder="other")
            world.registry.apply(RegistrationChange((theirs,)), "r")
        world.registry.put(instance("3"))
        world.registry.heard_elsewhere("r", set(), {"r", "other"})
        world.now_s += STALE_AFTER_S
        world.sweep()
        assert world.doubt.stale == 0, "it is announced, and only does not answer"
        world.registry.heard_elsewhere("r", {"2"}, {"r", "third"})
        world.now_s += STALE_AFTER_S
        world.sweep()
        assert [world.doubt.is_stale(doubt_key(name)) for name in ("1", "2", "3")] == [True, False, False]
        await world.discovery.close()

    run(test)
