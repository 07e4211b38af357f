"""Which descriptors are left, and for whom."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
import textwrap

import pytest

from sidecar.net import descriptors
from sidecar.net.descriptors import Descriptors, is_local


@pytest.mark.parametrize(
    ("limit", "ceiling", "connections"),
    [(64, 48, 8), (256, 192, 80), (1024, 768, 368), (2400, 1800, 884), (20_000, 19_400, 9_684)],
)
def test_a_part_is_kept_for_what_must_always_work(limit: int, ceiling: int, connections: int) -> None:
    """A quarter of few, of many what two listeners of ours can need."""
    found = Descriptors(limit)
    assert (found.ceiling, found.connections) == (ceiling, connections)


@pytest.mark.parametrize(("free", "has_room"), [(0, True), (191, True), (192, False), (255, False)])
def test_the_lowest_that_is_free_tells_whether_there_is_room(
    free: int, has_room: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the kernel gives them out."""
    closed: list[int] = []
    monkeypatch.setattr(descriptors.os, "dup", lambda _: free)
    monkeypatch.setattr(descriptors.os, "close", closed.append)
    assert Descriptors(256).has_room() is has_room
    assert closed == [free]


def test_where_none_is_free_there_is_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is that an exception."""

    def fail(number: int) -> int:
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(descriptors.os, "dup", fail)
    assert not Descriptors(256).has_room()


def test_who_is_turned_away_takes_nothing_from_those_who_are_in() -> None:
    """An answer keeps a descriptor for seconds: not one of a server's connection, nor the last of the reserve."""
    found = Descriptors(256)
    answered = [number for number in range(256) if found.may_answer(number)]
    assert answered == [*range(144), *range(192, 224)]


def test_what_we_lack_is_told_from_what_a_peer_does() -> None:
    """The peer has not even been asked."""
    ours = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL)
    theirs = (errno.ECONNREFUSED, errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ECONNRESET)
    assert all(is_local(OSError(number, os.strerror(number))) for number in ours)
    assert not any(is_local(OSError(number, os.strerror(number))) for number in theirs)
    assert not is_local(ValueError())


def test_the_limit_is_raised_and_children_may_have_the_old_one() -> None:
    """An app that closes every descriptor up to its limit, or uses select(2), is none the wiser."""
    code = """
        import resource, subprocess, sys
        from sidecar.net.descriptors import Descriptors, original_limit, raise_limit
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        raise_limit()
        found = Descriptors()
        ask = [sys.executable, "-c", "import resource; print(*resource.getrlimit(resource.RLIMIT_NOFILE))"]
        with original_limit():
            child = subprocess.run(ask, capture_output=True, text=True, check=True).stdout.split()
        assert child == ["256", str(hard)], child
        assert (found.limit, found.raised_from) == (hard, 256)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (soft, hard)
