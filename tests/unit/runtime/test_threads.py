"""Threads that may hang: nothing waits for them, and nothing that they make late is lost."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import threading

import pytest

from sidecar.runtime.loop import run_in_loop
from sidecar.runtime.threads import in_time


def ended(code: str) -> subprocess.CompletedProcess[str]:
    """What came of a program, which must end by itself."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60, check=False
    )


def test_a_process_whose_thread_hangs_ends() -> None:
    """Neither the loop's end nor the interpreter's waits for a call that never returns."""
    done = ended("""
        import asyncio, threading
        from sidecar.runtime.loop import run_in_loop

        async def main():
            hangs = asyncio.create_task(asyncio.to_thread(threading.Event().wait))
            await asyncio.sleep(0)
            return 7

        raise SystemExit(run_in_loop(main))
    """)
    assert (done.returncode, done.stderr) == (7, "")


def test_leaving_flushes_and_waits_for_nothing() -> None:
    """A thread that is no daemon would keep any other end."""
    done = ended("""
        import threading
        from sidecar.runtime.loop import run_and_leave

        async def main():
            threading.Thread(target=threading.Event().wait).start()
            print("written")
            return 7

        run_and_leave(main)
    """)
    assert (done.returncode, done.stdout, done.stderr) == (7, "written\n", "")


def test_a_fault_of_ours_is_told_before_leaving() -> None:
    """With its traceback, and code 1."""
    done = ended("""
        from sidecar.runtime.loop import run_and_leave

        async def main():
            raise RuntimeError("boom")

        run_and_leave(main)
    """)
    assert done.returncode == 1
    assert done.stderr.endswith("RuntimeError: boom\n")


def test_what_comes_too_late_is_given_back() -> None:
    """A socket that was bound after the limit would else listen for ever."""
    gate, given_back = threading.Event(), threading.Event()
    late: list[int] = []

    def call() -> int:
        gate.wait()
        return 3

    def give_back(value: int) -> None:
        late.append(value)
        given_back.set()

    async def main() -> int:
        with pytest.raises(TimeoutError):
            await in_time(call, 0.0, give_back)
        gate.set()
        while not given_back.is_set():
            await asyncio.sleep(0)
        return 0

    run_in_loop(main)
    assert late == [3]


def test_what_comes_in_time_is_the_result_and_failures_are_raised() -> None:
    """As from the call itself; nothing is given back."""

    async def main() -> int:
        assert await in_time(lambda: 3, 60.0, pytest.fail) == 3
        with pytest.raises(ZeroDivisionError):
            await in_time(lambda: 1 // 0, 60.0, pytest.fail)
        return 0

    run_in_loop(main)
