"""A process without a descriptor left rests, whoever takes the one that its loop needs to turn clients away."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator

import pytest

from sidecar.net import reserve
from sidecar.net.reserve import SPARE, Reserve

_LOST = """
    import asyncio, os, resource, signal, socket, sys, threading, time, uvloop
    from sidecar.net.reserve import Reserve

    CROWD = 300

    class Client(asyncio.Protocol):
        def connection_made(self, transport):
            accepted.append(transport)

    accepted = []

    def kept():
        # Of a place that is opened only to be kept.
        found = set()
        for number in range(100):
            try:
                if os.readlink(f"/proc/self/fd/{number}") in ("/", "/dev/null"):
                    found.add(number)
            except OSError:
                pass
        return found

    async def main():
        loop = asyncio.get_running_loop()
        listening = socket.create_server(("127.0.0.1", 0), backlog=CROWD)
        await loop.create_server(Client, sock=listening)
        loops_own = kept()
        reserve = Reserve(loop)
        reserve.look()
        theirs, ours = os.pipe()
        crowd = os.fork()
        if not crowd:
            os.close(ours)
            clients = [socket.create_connection(listening.getsockname()) for _ in range(CROWD)]
            while os.read(theirs, 1):
                for _ in range(CROWD):
                    clients.append(socket.create_connection(listening.getsockname()))
            os._exit(0)
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 10, hard))
        is_lost = False

        def open_files():
            while not is_lost:
                try:
                    os.close(os.open(sys.executable, os.O_RDONLY))
                except OSError:
                    pass

        # It is quicker than the loop within a burst or two.
        opener = threading.Thread(target=open_files)
        opener.start()
        for _ in range(200):
            await asyncio.sleep(0.1)
            is_lost = len(accepted) > 5 and not loops_own <= kept()
            if is_lost:
                break
            os.write(ours, b"!")
        assert is_lost
        opener.join()
        os.write(ours, b"!")  # more, for whom there is nothing left
        await asyncio.sleep(1)
        reserve.start()
        for _ in range(60):
            cpu_s, began_s = time.process_time(), time.monotonic()
            await asyncio.sleep(0.5)
            if (time.process_time() - cpu_s) / (time.monotonic() - began_s) < 0.2:
                print("rests", flush=True)
                break
        else:
            print("spins", flush=True)
        os.close(ours)
        os.kill(crowd, signal.SIGKILL)
        os.waitpid(crowd, 0)
        reserve.stop()

    uvloop.run(main())
"""


def test_a_loop_that_lost_its_descriptor_rests() -> None:
    """It is given another one; without, it would spin for as long as the crowd waits."""
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(_LOST)], capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stderr, ended.stdout) == (0, "", "rests\n")


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """One of our own, which is closed afterwards."""
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def test_as_long_as_there_are_descriptors_some_are_kept(loop: asyncio.AbstractEventLoop) -> None:
    """And given back at the end."""
    before = len(os.listdir("/proc/self/fd"))
    kept = Reserve(loop)
    kept.start()
    kept.look()
    assert len(os.listdir("/proc/self/fd")) == before + SPARE
    kept.stop()
    assert len(os.listdir("/proc/self/fd")) == before


def test_each_look_gives_one_at_most(loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long there is none; and when all are given, nothing more is tried."""
    kept = Reserve(loop)
    kept.look()

    def fail(number: int) -> int:
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(reserve.os, "dup", fail)
    for left in (*range(SPARE - 1, -1, -1), 0):
        kept.look()
        kept.look()
        loop.run_until_complete(asyncio.sleep(0.01))
        assert repr(kept) == f"<Reserve {left}>"
