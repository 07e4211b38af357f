"""Parts of a group that need no process: beats, delays, pages, taps, and the sums of processes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from typing import Any

import pytest

from sidecar.telemetry.metrics.exposition import Format
from sidecar.telemetry.metrics.merge import Merged
from sidecar.telemetry.metrics.merge_processes import Processes
from sidecar.workers.group import MAX_DELAY_S, delay_s
from sidecar.workers.member import HUNG_AFTER, SLOW_AFTER, Answer, Member
from sidecar.workers.tap import GroupTap
from sidecar.workers.views import merge_upstreams
from sidecar.workers.worker import instance_of
from tests.support.wait import eventually


class TestBeats:
    """Whether a worker is there."""

    @pytest.fixture
    def member(self, monkeypatch: pytest.MonkeyPatch) -> Member:
        """A live worker without a process."""
        member = Member(0, Merged())
        member.state = "LIVE"
        return member

    def test_one_that_does_not_answer_gets_nothing_new_and_is_ended_then(
        self, member: Member, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Counted in turns of the supervisor."""
        ended: list[str] = []
        monkeypatch.setattr(member, "kill", ended.append)
        for _ in range(SLOW_AFTER):
            member.beat()
        assert member.is_answering
        member.beat()
        assert not member.is_answering
        for _ in range(HUNG_AFTER - SLOW_AFTER - 1):
            member.beat()
        assert ended == []
        member.beat()
        assert ended == ["hung"]

    def test_one_that_says_anything_is_there(self, member: Member, monkeypatch: pytest.MonkeyPatch) -> None:
        """A report will do."""
        monkeypatch.setattr(member, "kill", pytest.fail)
        for _ in range(3 * HUNG_AFTER):
            for _ in range(HUNG_AFTER):
                member.beat()
            member._on_message(("reported", 0))
            assert member.is_answering

    def test_one_that_is_not_live_is_not_asked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Its start has a limit of its own."""
        member = Member(0, Merged())
        monkeypatch.setattr(member, "kill", pytest.fail)
        for _ in range(3 * HUNG_AFTER):
            member.beat()


def test_replacements_wait_longer_each_time_up_to_a_limit() -> None:
    """The first is made at once."""
    delays = [delay_s(deaths) for deaths in range(12)]
    assert delays[:4] == [0.0, 0.1, 0.2, 0.4]
    assert delays == sorted(delays)
    assert delays[-1] == MAX_DELAY_S


def test_an_instance_id_that_is_given_is_made_the_worker_s_own() -> None:
    """Other attributes stay as they are."""
    env = {"OTEL_RESOURCE_ATTRIBUTES": "a=b, service.instance.id=pod-7 ,c=d", "X": "y"}
    assert instance_of(env, 1) == {"OTEL_RESOURCE_ATTRIBUTES": "a=b, service.instance.id=pod-7-1,c=d", "X": "y"}
    assert instance_of({"X": "y"}, 1) == {"X": "y"}


def upstream(**changes: Any) -> dict[str, Any]:
    """A page of one upstream with one endpoint."""
    endpoint = {
        "address": "10.0.0.1:80", "weight": 1.0, "zone": None, "share": 1.0, "health": "healthy", "ejected": False,
        "probation": False, "active": 2, "idle_connections": 3, "shared_connections": 4, "streams": 9,
        "connecting": 1,
    }  # fmt: skip
    stats = {"requests": 10, "ejected": 1, "dns_last_success": 7.5, "connections_closed_by": {"idle_timeout": 2}}
    page = {"load_balancing": "least_request", "panic": False, "endpoints": [endpoint | changes.pop("endpoint", {})]}
    return {"recs": page | {"stats": stats | changes.pop("stats", {})} | changes}


def test_upstreams_add_up_but_what_each_sees_for_itself() -> None:
    """Counts are added, whoever had them; health is shown by worker."""
    other = upstream(
        endpoint={"health": "unhealthy", "ejected": True, "active": 5},
        stats={"requests": 5, "dns_last_success": 3.5, "connections_closed_by": {"idle_timeout": 1, "lost": 4}},
        panic=True,
    )
    merged: Any = merge_upstreams([(0, upstream()), (1, other)])["recs"]
    assert merged["stats"] == {
        "requests": 15, "ejected": 1, "dns_last_success": 3.5, "connections_closed_by": {"idle_timeout": 3, "lost": 4},
    }  # fmt: skip
    assert (merged["panic"], merged["load_balancing"]) == (True, "least_request")
    (endpoint,) = merged["endpoints"]
    assert (endpoint["active"], endpoint["idle_connections"], endpoint["connecting"]) == (7, 6, 2)
    assert (endpoint["shared_connections"], endpoint["streams"]) == (8, 18)
    assert endpoint["by_worker"]["0"] == {"health": "healthy", "ejected": False, "probation": False, "share": 1.0}
    assert endpoint["by_worker"]["1"]["health"] == "unhealthy"


def test_one_worker_s_upstreams_are_its_own() -> None:
    """Only that health stands under its number."""
    merged: Any = merge_upstreams([(0, upstream())])["recs"]
    assert merged["stats"] == upstream()["recs"]["stats"]


class FakeStream:
    """A worker's tap that was told what to say."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = [*pieces, b""]
        self.asked = 0
        self.is_finished = self.is_closed = False

    async def next(self) -> bytes:
        self.asked += 1
        return self.pieces.pop(0)

    def finish(self) -> None:
        self.is_finished = True

    def close(self) -> None:
        self.is_closed = True


class FakeMember:
    """A worker that has a tap, or none to give."""

    def __init__(self, stream: FakeStream | None) -> None:
        self.stream = stream
        self.targets: list[str] = []

    async def ask(self, method: str, target: str) -> Any:
        self.targets.append(target)
        return Answer(200 if self.stream else 503, b"", (), b"", self.stream)  # type: ignore[arg-type]


async def told(tap: GroupTap) -> list[bytes]:
    """All that it gives."""
    found = []
    while piece := await tap.next():
        found.append(piece)
    return found


def test_a_tap_gives_what_all_workers_give_and_ends_with_the_last() -> None:
    """Each may show its share of the rate."""
    members = [FakeMember(FakeStream(b'{"n": 1}\n', b'{"n": 2}\n')), FakeMember(FakeStream(b'{"n": 3}\n'))]

    async def run() -> None:
        tap = GroupTap([("path", "/x y"), ("rate", "15")], 15, 0)
        assert await tap.open(members)  # type: ignore[arg-type]
        assert sorted(await told(tap)) == [b'{"n": 1}\n', b'{"n": 2}\n', b'{"n": 3}\n']

    asyncio.run(run())
    assert [member.targets for member in members] == [["/tap?path=%2Fx+y&rate=8"]] * 2


def test_a_tap_ends_at_its_limit_and_counts_only_requests() -> None:
    """What was left out and heartbeats are shown beyond it."""
    stream = FakeStream(b'{"n": 1}\n{"dropped": {"rate": 2}}\n\n{"n": 2}\n{"n": 3}\n', b'{"n": 4}\n')

    async def run() -> None:
        tap = GroupTap([], 10, 2)
        assert await tap.open([FakeMember(stream)])  # type: ignore[list-item]
        assert await told(tap) == [b'{"n": 1}\n{"dropped": {"rate": 2}}\n\n{"n": 2}\n']
        tap.close()

    asyncio.run(run())
    assert stream.is_closed


def test_a_tap_does_not_read_ahead_of_its_reader() -> None:
    """So that what it does not take is left out, and counted, in the worker."""
    stream = FakeStream(*[b"{}\n"] * 100)

    async def run() -> None:
        tap = GroupTap([], 10, 0)
        await tap.open([FakeMember(stream)])  # type: ignore[list-item]
        for _ in range(50):
            await asyncio.sleep(0)
        assert stream.asked <= 2
        tap.close()

    asyncio.run(run())


def test_a_tap_that_one_worker_refuses_is_not_begun() -> None:
    """Those that were opened are closed again."""
    stream = FakeStream(b"{}\n")

    async def run() -> None:
        assert not await GroupTap([], 10, 0).open([FakeMember(stream), FakeMember(None)])  # type: ignore[list-item]

    asyncio.run(run())
    assert stream.is_closed


def test_processes_are_shown_as_one_and_their_cpu_time_stays() -> None:
    """Memory and descriptors of those that are there; the CPU of those that were, too."""
    spin = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\ntime.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", spin], stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        child.stdout.readline()
        others = [child.pid]
        own, both = Processes(list), Processes(lambda: others)
        alone, together = _samples(own), _samples(both)
        assert together["process_resident_memory_bytes"] > alone["process_resident_memory_bytes"] + 1e6
        assert together["process_cpu_seconds_total"] >= alone["process_cpu_seconds_total"] + 0.29
        assert together["process_open_fds"] == alone["process_open_fds"], "each has a limit of its own"
        assert together["process_start_time_seconds"] == alone["process_start_time_seconds"]
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()  # type: ignore[union-attr]
    eventually(lambda: not os.path.exists(f"/proc/{child.pid}"), "the child to be gone")
    others.clear()
    later = _samples(both)
    assert later["process_cpu_seconds_total"] >= together["process_cpu_seconds_total"]
    assert later["process_resident_memory_bytes"] < together["process_resident_memory_bytes"]


def _samples(processes: Processes) -> dict[str, float]:
    lines = processes.exposition(Format.TEXT).decode().splitlines()
    return {line.split()[0]: float(line.split()[1]) for line in lines if line.startswith("process_")}
