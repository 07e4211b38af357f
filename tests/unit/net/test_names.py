"""Names that are connected to, on a held clock: what is known is used, and what hangs holds up nobody else."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Coroutine, Iterable
from typing import Any

import pytest

from sidecar.net import names as names_module
from sidecar.net.names import FRESH_S, MAX_SEEN, Names
from sidecar.net.resolve import LOOKUP_TIMEOUT_S, REFRESH_PERIOD_S, ResolveError, Resolver, SystemLookup
from tests.support.held_loop import run_held


class Servers:
    """Name servers that know some names, hang for others, and deny the rest."""

    def __init__(self, **known: str) -> None:
        self.known = {name: known[name].split() for name in known}
        self.hanging: set[str] = set()
        self.asked: list[str] = []
        self.under_way: list[str] = []
        self.most_at_once = 0

    async def __call__(self, name: str) -> Iterable[str]:
        self.asked.append(name)
        self.under_way.append(name)
        self.most_at_once = max(self.most_at_once, len(self.under_way))
        try:
            if name in self.hanging or name.startswith("hang"):
                await asyncio.get_running_loop().create_future()
            await asyncio.sleep(0.01)
            if name not in self.known:
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            return self.known[name]
        finally:
            self.under_way.remove(name)


class Notes:
    """A watcher that writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, ...] | str] = []

    def on_answer(self, hosts: tuple[str, ...]) -> None:
        self.told.append(hosts)

    def on_failure(self, error: str) -> None:
        self.told.append(error)


def names_of(servers: Servers, unknown: Servers | None = None) -> Names:
    return Names(
        Resolver(servers, keeps_order=True), Resolver(unknown or servers, keeps_order=True), chance=lambda: 0.0
    )


def run(main: Coroutine[Any, Any, None]) -> None:
    async def to_the_end() -> None:
        try:
            await main
        finally:
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()

    run_held(to_the_end())


class TestSeen:
    """Names that nobody keeps."""

    def test_order_is_the_resolvers(self) -> None:
        """What it puts first is the best to connect to."""

        async def main() -> None:
            names = names_of(Servers(app="2001:db8::1 10.0.0.2 10.0.0.1 10.0.0.2"))
            assert await names.addresses("app", 1.0) == ("2001:db8::1", "10.0.0.2", "10.0.0.1")

        run(main())

    def test_fresh_answer_is_used_without_asking_and_an_older_one_is_asked_for_again(self) -> None:
        """A name that moved is followed by the next connection after a few seconds."""

        async def main() -> None:
            servers = Servers(app="10.0.0.1")
            names = names_of(servers)
            await names.addresses("app", 1.0)
            servers.known["app"] = ["10.0.0.2"]
            await asyncio.sleep(FRESH_S - 0.1)
            assert await names.addresses("app", 1.0) == ("10.0.0.1",)
            await asyncio.sleep(0.2)
            assert await names.addresses("app", 1.0) == ("10.0.0.2",)
            assert servers.asked == ["app", "app"]

        run(main())

    @pytest.mark.parametrize("trouble", ["hangs", "fails"])
    def test_last_answer_goes_on_when_there_is_no_new_one(self, trouble: str) -> None:
        """It is waited for only for a moment, and the deadline is not touched."""

        async def main() -> None:
            servers = Servers(app="10.0.0.1")
            names = names_of(servers)
            await names.addresses("app", 1.0)
            await asyncio.sleep(FRESH_S)
            if trouble == "hangs":
                servers.hanging.add("app")
            else:
                del servers.known["app"]
            began = asyncio.get_running_loop().time()
            assert await names.addresses("app", 0.25) == ("10.0.0.1",)
            assert asyncio.get_running_loop().time() - began == pytest.approx(0.25 if trouble == "hangs" else 0.01)

        run(main())

    def test_lookup_is_shared_and_outlives_who_gave_up(self) -> None:
        """Ten who ask at once and ten who come after the first have left are served by one."""

        async def main() -> None:
            servers = Servers(app="10.0.0.1")
            names = names_of(servers)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.005):
                    await asyncio.gather(*(names.addresses("app", 1.0) for _ in range(10)))
            assert await asyncio.gather(*(names.addresses("app", 1.0) for _ in range(10))) == [("10.0.0.1",)] * 10
            assert servers.asked == ["app"]

        run(main())

    def test_name_without_an_answer_says_whose_fault_that_is(self) -> None:
        """It has no address; or no name server answered, after the resolver's own patience."""

        async def main() -> None:
            names = names_of(Servers())
            with pytest.raises(ResolveError) as denied:
                await names.addresses("nowhere", 1.0)
            assert denied.value.cause == "failed"
            with pytest.raises(ResolveError) as silent:
                await names.addresses("hangs", 1.0)
            assert silent.value.cause == "timeout"
            assert asyncio.get_running_loop().time() == pytest.approx(0.01 + LOOKUP_TIMEOUT_S)
            with pytest.raises(ResolveError) as long:
                await names.addresses("a" * 254, 1.0)
            assert long.value.cause == "failed"

        run(main())

    def test_number_of_names_is_bounded(self) -> None:
        """Clients choose them; the one that was used longest ago is forgotten."""

        async def main() -> None:
            servers = Servers(first="10.0.0.1", second="10.0.0.2")
            names = names_of(servers)
            await names.addresses("first", 1.0)
            for index in range(MAX_SEEN - 1):
                with pytest.raises(ResolveError):
                    await names.addresses(f"x{index}", 1.0)
                await names.addresses("first", 1.0)
            await names.addresses("second", 1.0)
            assert repr(names) == f"<Names [Kept: 0 | Seen: {MAX_SEEN} of {MAX_SEEN}]>"
            assert "first" in names._seen
            assert "x0" not in names._seen

        run(main())


class TestIsolation:
    """Unknown names are asked for elsewhere than known ones."""

    def test_known_name_is_asked_for_where_unknown_ones_cannot_hang(self) -> None:
        """The first time it is unknown itself."""

        async def main() -> None:
            known, unknown = Servers(app="10.0.0.1"), Servers(app="10.0.0.1")
            names = names_of(known, unknown)
            await names.addresses("app", 1.0)
            await asyncio.sleep(FRESH_S)
            await names.addresses("app", 1.0)
            assert (unknown.asked, known.asked) == (["app"], ["app"])

        run(main())

    def test_names_that_hang_hold_a_thread_each_and_no_others(self) -> None:
        """With real threads: two of four are held for as long as it takes, and the other names are answered."""
        release = threading.Event()
        calls: list[str] = []

        def getaddrinfo(name: str, *_: object, **__: object) -> list[object]:
            calls.append(name)
            if name.startswith("hang"):
                release.wait()
            return [(socket.AF_INET, 0, 0, "", ("10.0.0.1", 0))]

        async def main() -> None:
            unknown = Resolver(SystemLookup(4, getaddrinfo, max_names=3, flags=0), keeps_order=True)
            names = Names(Resolver(SystemLookup(1, getaddrinfo, flags=0)), unknown)
            try:
                hanging = [
                    asyncio.create_task(names.addresses(name, 1.0)) for name in ("hang1", "hang2", "hang1", "hang1")
                ]
                for index in range(10):
                    assert await names.addresses(f"works{index}", 1.0) == ("10.0.0.1",)
                more = asyncio.create_task(names.addresses("hang3", 1.0))
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                with pytest.raises(ResolveError) as refused:
                    await names.addresses("another", 1.0)
                assert refused.value.cause == "refused"
                release.set()
                assert await asyncio.gather(*hanging, more) == [("10.0.0.1",)] * 5
                assert await names.addresses("another", 1.0) == ("10.0.0.1",)
            finally:
                release.set()
                names.close()

        asyncio.run(main())
        assert sorted(name for name in calls if name.startswith("hang")) == ["hang1", "hang2", "hang3"]


class TestKept:
    """The configuration's names."""

    def test_kept_name_is_asked_for_again_and_again(self) -> None:
        """Its last answer is there at once, however old, also when the name servers are gone."""

        async def main() -> None:
            servers, notes = Servers(app="10.0.0.1"), Notes()
            names = names_of(servers)
            names.keep("app", notes)
            await asyncio.sleep(1)
            servers.known["app"] = ["10.0.0.2"]
            await asyncio.sleep(REFRESH_PERIOD_S)
            assert notes.told == [("10.0.0.1",), ("10.0.0.2",)]
            servers.hanging.add("app")
            await asyncio.sleep(3600)
            began = asyncio.get_running_loop().time()
            assert await names.addresses("app", 0.25) == ("10.0.0.2",)
            assert asyncio.get_running_loop().time() == began
            names.drop("app", notes)
            assert repr(names) == f"<Names [Kept: 0 | Seen: 0 of {MAX_SEEN}]>"

        run(main())

    def test_name_that_several_keep_is_asked_for_once(self) -> None:
        """Until the last of them drops it."""

        async def main() -> None:
            servers, notes = Servers(app="10.0.0.1"), [Notes(), Notes()]
            names = names_of(servers)
            for each in notes:
                names.keep("app", each)
            await asyncio.sleep(1)
            assert servers.asked == ["app"]
            names.drop("app", notes[0])
            await asyncio.sleep(REFRESH_PERIOD_S)
            assert [len(each.told) for each in notes] == [1, 2]
            names.drop("app", notes[1])
            await asyncio.sleep(10 * REFRESH_PERIOD_S)
            assert len(servers.asked) == 2

        run(main())

    def test_kept_name_without_an_answer_is_asked_for_every_second_and_used_at_once(self) -> None:
        """It is being deployed at this moment."""

        async def main() -> None:
            servers, notes = Servers(), Notes()
            names = names_of(servers)
            names.keep("app", notes)
            await asyncio.sleep(3)
            servers.known["app"] = ["10.0.0.1"]
            assert await names.addresses("app", 0.25) == ("10.0.0.1",)
            assert 3 <= len(servers.asked) <= 5

        run(main())


def test_defaults_are_bounded() -> None:
    """Threads and names that a client can hold."""
    names = Names()
    try:
        lookup = names._unknown._lookup
        assert isinstance(lookup, SystemLookup)
        assert lookup._max_names == names_module.MAX_UNKNOWN
        assert lookup._threads._max_threads == names_module.UNKNOWN_THREADS
    finally:
        names.close()
