"""Name resolution: what an answer is, what a failure is, and when the next question is asked."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
import weakref
from collections.abc import Iterable

import pytest

from sidecar.net import resolve
from sidecar.net.resolve import DaemonThreads, ResolveError, Resolver, SystemLookup, refresh_forever
from tests.support.held_loop import run_held


class Script:
    """A lookup that gives these answers in turn, the last one for ever; an exception is raised, None hangs."""

    def __init__(self, *answers: Iterable[str] | Exception | None) -> None:
        self.answers = list(answers)
        self.asked_at: list[float] = []

    async def __call__(self, name: str) -> Iterable[str]:
        self.asked_at.append(asyncio.get_running_loop().time())
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is None:
            await asyncio.get_running_loop().create_future()
            raise AssertionError
        if isinstance(answer, Exception):
            raise answer
        return answer


class Notes:
    """A watcher that writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, ...] | str] = []

    def on_answer(self, hosts: tuple[str, ...]) -> None:
        self.told.append(hosts)

    def on_failure(self, error: str) -> None:
        self.told.append(error)


def test_answer_is_sorted_by_number_without_repeats() -> None:
    """Records come in any order and more than once; the answer is IPv4 then IPv6, by number."""
    lookup = Script(["10.0.0.10", "2001:db8::2", "10.0.0.9", "10.0.0.10", "2001:db8::1", "fe80::1%2"])
    answer = run_held(Resolver(lookup).resolve("app"))
    assert answer == ("10.0.0.9", "10.0.0.10", "2001:db8::1", "2001:db8::2", "fe80::1%2")


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ([], "the answer has no addresses"),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "Name or service not known"),
        (UnicodeError("label empty or too long"), "label empty or too long"),
        (["not-an-address"], "not-an-address"),
        (None, "no answer within 5 s"),
    ],
)
def test_everything_but_addresses_is_a_failure(result: Iterable[str] | Exception | None, message: str) -> None:
    """An empty answer, an error, a broken name and a lookup that hangs are failures with a reason."""
    with pytest.raises(ResolveError, match=message):
        run_held(Resolver(Script(result)).resolve("app"))


def test_lookup_that_hangs_is_given_up_after_the_deadline() -> None:
    """The deadline is the resolver's own, whatever the lookup does."""

    async def main() -> float:
        with pytest.raises(ResolveError, match=r"within 0\.25 s"):
            await Resolver(Script(None), timeout_s=0.25).resolve("app")
        return asyncio.get_running_loop().time()

    assert run_held(main()) == pytest.approx(0.25)


def watch(lookup: Script, for_s: float, *, has_answer: bool, chance: float = 0.0) -> Notes:
    """Let a refresh run for some held seconds."""

    async def main() -> Notes:
        notes = Notes()
        task = asyncio.create_task(
            refresh_forever(Resolver(lookup), "app", notes, has_answer=has_answer, chance=lambda: chance)
        )
        await asyncio.sleep(for_s)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        return notes

    return run_held(main())


def test_name_with_an_answer_is_asked_for_every_five_seconds() -> None:
    """The first question comes one period after the caller's own, then one a period."""
    lookup = Script(["10.0.0.1"])
    notes = watch(lookup, 16, has_answer=True)
    assert lookup.asked_at == pytest.approx([5, 10, 15])
    assert notes.told == [("10.0.0.1",)] * 3


def test_jitter_only_ever_shortens_the_period() -> None:
    """An answer is never older than the period says, and names do not ask in step."""
    lookup = Script(["10.0.0.1"])
    watch(lookup, 14, has_answer=True, chance=1.0)
    assert lookup.asked_at == pytest.approx([4.5, 9.0, 13.5])


def test_name_without_any_answer_is_asked_for_every_second_until_it_has_one() -> None:
    """A name that is just being deployed is found within a second; afterwards the normal period holds."""
    lookup = Script(OSError("no such name"), OSError("no such name"), ["10.0.0.1"])
    notes = watch(lookup, 9, has_answer=False)
    assert lookup.asked_at == pytest.approx([1, 2, 3, 8])
    assert notes.told == ["no such name", "no such name", ("10.0.0.1",), ("10.0.0.1",)]


def test_failure_after_an_answer_keeps_the_normal_period() -> None:
    """A name server that is down is not asked more often than one that is up."""
    lookup = Script(["10.0.0.1"], OSError("refused"), [], ["10.0.0.2"])
    notes = watch(lookup, 21, has_answer=True)
    assert lookup.asked_at == pytest.approx([5, 10, 15, 20])
    assert notes.told == [("10.0.0.1",), "refused", "the answer has no addresses", ("10.0.0.2",)]


def test_fault_in_a_lookup_does_not_end_the_refreshing(caplog: pytest.LogCaptureFixture) -> None:
    """An exception that nobody foresaw is logged and counted as a failure; the next question is asked all the same."""
    lookup = Script(RuntimeError("a bug"), ["10.0.0.1"])
    notes = watch(lookup, 11, has_answer=True)
    assert notes.told == ["RuntimeError('a bug')", ("10.0.0.1",)]
    assert [record.message for record in caplog.records] == ["dns_lookup_broken name=app"]


class TestSystemLookup:
    """getaddrinfo on threads of its own; real threads, a fake getaddrinfo that the test releases."""

    def test_every_record_of_both_families_is_taken(self) -> None:
        """A and AAAA records are returned as numbers, link-local ones with their scope; other families are not."""

        def getaddrinfo(name: str, port: None, *, type: int, flags: int) -> list[object]:
            assert (name, type, flags) == ("app", socket.SOCK_STREAM, socket.AI_ADDRCONFIG)
            return [
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", 0)),
                (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::1", 0, 0, 0)),
                (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fe80::1", 0, 0, 3)),
                (socket.AF_UNIX, socket.SOCK_STREAM, 0, "", "/nonsense"),
            ]

        lookup = SystemLookup(getaddrinfo=getaddrinfo)
        try:
            assert asyncio.run(lookup("app")) == ["10.0.0.1", "2001:db8::1", "fe80::1%3"]
        finally:
            lookup.close()

    def test_system_resolver_is_asked_for_real(self) -> None:
        """With nothing faked an address resolves to itself and a name that cannot exist fails."""

        async def main() -> None:
            resolver = Resolver()
            try:
                assert await resolver.resolve("127.0.0.1") == ("127.0.0.1",)
                with pytest.raises(ResolveError):
                    await resolver.resolve("a" * 64)
            finally:
                resolver.close()

        asyncio.run(main())

    def test_name_that_hangs_takes_one_thread_however_often_it_is_asked_for(self) -> None:
        """Callers that give up leave their lookup to the next; other names go on being answered by the other thread."""
        release = threading.Event()
        hanging_calls = []

        def getaddrinfo(name: str, *_: object, **__: object) -> list[object]:
            if name == "hangs":
                hanging_calls.append(name)
                release.wait()
            return [(socket.AF_INET, 0, 0, "", ("10.0.0.1", 0))]

        async def main() -> None:
            lookup = SystemLookup(max_threads=2, getaddrinfo=getaddrinfo)
            try:
                for _ in range(3):
                    with pytest.raises(ResolveError):
                        await Resolver(lookup, timeout_s=0.0).resolve("hangs")
                    assert await Resolver(lookup).resolve("works") == ("10.0.0.1",)
                joining = asyncio.create_task(lookup("hangs"))
                await asyncio.sleep(0)
                release.set()
                assert await joining == ["10.0.0.1"]
            finally:
                release.set()
                lookup.close()

        asyncio.run(main())
        assert hanging_calls == ["hangs"]

    def test_lookup_after_close_fails_and_hanging_one_does_not_hold_up_the_close(self) -> None:
        """Shutdown waits for no thread, and a refresh that is late gets an error, not a thread."""
        release = threading.Event()
        threads = DaemonThreads(1, "test")
        future = threads.submit(release.wait)
        assert all(thread.daemon for thread in threading.enumerate() if thread.name.startswith("test-"))
        threads.close()
        assert not future.done()
        with pytest.raises(OSError, match="closed"):
            threads.submit(release.wait)
        release.set()
        assert future.result(timeout=10) is True

    def test_number_of_threads_is_bounded(self) -> None:
        """More lookups than threads wait for a free one."""
        release = threading.Event()
        threads = DaemonThreads(2, "bounded")
        futures = [threads.submit(release.wait) for _ in range(5)]
        assert sum(thread.name.startswith("bounded-") for thread in threading.enumerate()) == 2
        release.set()
        assert [future.result(timeout=10) for future in futures] == [True] * 5
        threads.close()


def test_periods_are_what_the_documentation_promises() -> None:
    """docs/upstreams.md names these numbers."""
    assert (resolve.REFRESH_PERIOD_S, resolve.RETRY_PERIOD_S, resolve.LOOKUP_TIMEOUT_S) == (5.0, 1.0, 5.0)


def test_a_lookup_that_fails_leaves_no_cycle() -> None:
    """A reload exempts from collection what is under way: a cycle would then be there for good."""

    class NoSuchNameError(OSError):
        pass

    raised: list[weakref.ref[NoSuchNameError]] = []

    def getaddrinfo(name: str, *_: object, **__: object) -> list[object]:
        if name == "b":
            return []
        error = NoSuchNameError(name)
        raised.append(weakref.ref(error))
        try:
            raise error
        finally:
            del error

    async def main() -> None:
        lookup = SystemLookup(getaddrinfo=getaddrinfo)
        with pytest.raises(NoSuchNameError):
            await lookup("a")
        assert await lookup("b") == []  # which forgets the lookup before
        lookup.close()

    gc.disable()
    try:
        asyncio.run(main())
        assert [reference() for reference in raised] == [None]
    finally:
        gc.enable()
