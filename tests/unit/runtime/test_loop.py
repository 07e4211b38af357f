"""The event loop's runner, and the garbage collector while a configuration is loaded."""

from __future__ import annotations

import asyncio
import gc
import logging
import platform
import subprocess
import sys
import textwrap

import pytest
import uvloop

from sidecar.runtime.loop import COLLECTOR_THRESHOLDS, run_in_loop, without_collection


def test_the_loop_is_uvloop_and_gives_back_the_result() -> None:
    """One loop, one main, one exit code."""
    kinds: list[type] = []

    async def main() -> int:
        kinds.append(type(asyncio.get_running_loop()))
        return 7

    assert run_in_loop(main) == 7
    assert kinds == [uvloop.Loop]


def test_what_nobody_caught_is_logged_in_our_form(caplog: pytest.LogCaptureFixture) -> None:
    """One line that names it, with its traceback."""

    async def main() -> int:
        asyncio.get_running_loop().call_soon(lambda: 1 // 0)
        await asyncio.sleep(0)
        return 0

    run_in_loop(main)
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.getMessage().startswith("unhandled_exception")
    assert record.exc_info is not None


def test_a_load_is_not_collected_and_what_was_garbage_before_does_not_stay() -> None:
    """The collector is off inside, on outside; what is there afterwards is exempt, young garbage of before is not."""

    class Cycle:
        alive = 0

        def __init__(self) -> None:
            Cycle.alive += 1
            self.me = self

        def __del__(self) -> None:
            Cycle.alive -= 1

    exempt_before = gc.get_freeze_count()
    Cycle()
    with without_collection():
        assert Cycle.alive == 0
        assert not gc.isenabled()
        kept = [[] for _ in range(5000)]  # type: ignore[var-annotated]
    assert gc.isenabled()
    assert gc.get_freeze_count() > exempt_before + len(kept)
    assert not any(one is kept for one in gc.get_objects())


def test_collector_comes_by_seldom_but_bounds_what_a_fault_can_gather() -> None:
    """Cycles are cleared away on the loop, by themselves, before there are many more than the threshold."""

    class Cycle:
        made = alive = 0

        def __init__(self) -> None:
            Cycle.made += 1
            Cycle.alive += 1
            self.me = self

        def __del__(self) -> None:
            Cycle.alive -= 1

    most: list[int] = []

    async def main() -> int:
        for _ in range(4 * COLLECTOR_THRESHOLDS[0]):
            Cycle()
            most.append(Cycle.alive)
        return 0

    before = gc.get_threshold()
    try:
        run_in_loop(main)
    finally:
        gc.set_threshold(*before)
        gc.collect()
    assert COLLECTOR_THRESHOLDS[0] // 4 < max(most) <= COLLECTOR_THRESHOLDS[0] + 100
    assert Cycle.alive == 0


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a promise of glibc")
def test_pieces_of_bodies_do_not_cost_page_faults() -> None:
    """Eight connections' pieces of 256 KiB are made and freed, over and over, in memory that the process keeps."""
    program = """
        import asyncio, resource
        from sidecar.runtime.loop import run_in_loop

        def faults():
            return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

        async def main():
            held = []
            for number in range(40):
                if number == 20:
                    before = faults()
                held += [b"%0262144d" % piece for piece in range(8)]
                held.clear()
            # 64 pages a piece, were they given back each time
            return min((faults() - before) // (20 * 8), 100)

        raise SystemExit(run_in_loop(main))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], timeout=60, check=False)
    assert done.returncode == 0, f"{done.returncode} page faults a piece"
