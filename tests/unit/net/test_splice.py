"""Octets go from socket to socket by the kernel: all of them, once, in order, and none stays in the pipe."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from sidecar.net.splice import SplicePipe

LARGE = 200_000


class Transport:
    """A socket, and what was written to its transport because the socket did not take it."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self.written: list[bytes] = []

    def get_extra_info(self, name: str) -> socket.socket:
        assert name == "socket"
        return self.socket

    def write(self, data: bytes) -> None:
        self.written.append(data)


class Wires:
    """Two connections by TCP: `source` reads what `sender` sends, `receiver` reads what `target` sends."""

    def __init__(self, stack: ExitStack) -> None:
        self.sender, source = self._pair(stack)
        target, self.receiver = self._pair(stack)
        self.source, self.target = Transport(source), Transport(target)
        self.pipe = SplicePipe()
        stack.callback(self.pipe.close)

    @staticmethod
    def _pair(stack: ExitStack) -> tuple[socket.socket, socket.socket]:
        with socket.create_server(("127.0.0.1", 0)) as server:
            one = stack.enter_context(socket.create_connection(server.getsockname()))
            other = stack.enter_context(server.accept()[0])
        other.setblocking(False)
        one.settimeout(10)
        return one, other

    def splice(self, limit: int = 1 << 20, first: bytes = b"!") -> int:
        """From source to target, as the data path calls it."""
        return self.pipe.splice(first, self.source, self.target, limit)  # type: ignore[arg-type]

    def wait_for(self, size: int) -> None:
        """Until so much has arrived at the source, and is unread."""
        while len(self.source.socket.recv(size, socket.MSG_PEEK | socket.MSG_WAITALL)) < size:
            pass


@pytest.fixture
def wires() -> Iterator[Wires]:
    """Closed afterwards."""
    with ExitStack() as stack:
        wires = Wires(stack)
        wires.target.socket.setblocking(False)
        wires.receiver.setblocking(True)
        wires.receiver.settimeout(10)
        wires.source.socket.setblocking(True)
        wires.source.socket.settimeout(10)
        yield wires


def pattern(size: int) -> bytes:
    """Octets of which no part is like another's."""
    return b"".join(b"%d;" % number for number in range(size // 2))[:size]


def read(receiver: socket.socket, size: int) -> bytes:
    parts = b""
    while len(parts) < size:
        parts += receiver.recv(size - len(parts))
    return parts


def test_what_has_come_goes_on(wires: Wires) -> None:
    """All of it, in order."""
    wires.sender.sendall(pattern(40_000))
    wires.wait_for(40_000)
    assert wires.splice(first=b"first") == 40_000
    assert read(wires.receiver, 40_005) == b"first" + pattern(40_000)
    assert wires.target.written == []


def test_no_more_than_the_limit_is_taken(wires: Wires) -> None:
    """What is behind it is another message."""
    wires.sender.sendall(pattern(1000))
    wires.wait_for(1000)
    assert wires.splice(600) == 600
    assert wires.source.socket.recv(1000) == pattern(1000)[600:]
    assert read(wires.receiver, 601) == b"!" + pattern(1000)[:600]


def test_nothing_and_the_end_are_0(wires: Wires) -> None:
    """The transport will meet the end itself."""
    assert wires.splice() == 0
    wires.sender.close()
    assert wires.source.socket.recv(1, socket.MSG_PEEK) == b""
    assert wires.splice() == 0
    assert wires.pipe.is_supported
    assert read(wires.receiver, 2) == b"!!"


def test_what_a_slow_target_does_not_take_waits_in_its_transport(wires: Wires) -> None:
    """And not in the pipe, where the next would find it."""
    wires.target.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    wires.sender.setblocking(False)
    sent = taken = 0
    content = pattern(20_000_000)
    while not wires.target.written:
        sent += wires.sender.send(content[sent : sent + 100_000])
        wires.wait_for(sent - taken)
        taken += wires.splice(first=b"")
    kept = b"".join(wires.target.written)
    assert read(wires.receiver, taken - len(kept)) + kept == content[:taken]
    wires.target.written.clear()
    wires.sender.sendall(b"next")
    wires.wait_for(4)
    assert wires.splice() == 4
    assert read(wires.receiver, 5) == b"!next"


def test_a_target_that_is_gone_has_it_in_its_transport(wires: Wires) -> None:
    """Which finds out when it writes, as always."""
    wires.sender.sendall(b"lost")
    wires.wait_for(4)
    wires.target.socket.shutdown(socket.SHUT_WR)
    assert wires.splice() == 4
    assert wires.target.written == [b"!lost"]
    assert wires.pipe.is_supported


def test_a_source_that_was_reset_is_an_error(wires: Wires) -> None:
    """The kernel says it once."""
    wires.sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    wires.sender.close()
    with pytest.raises(ConnectionResetError):
        wires.splice()
    assert read(wires.receiver, 1) == b"!"


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS, errno.EPERM])
@pytest.mark.parametrize("fails_at", [1, 2], ids=["source", "target"])
def test_a_kernel_that_cannot_is_asked_once(
    wires: Wires, monkeypatch: pytest.MonkeyPatch, number: int, fails_at: int
) -> None:
    """Nothing is lost, and from then on all is read and written."""
    calls = []
    original = os.splice

    def refuse(*arguments: int, **flags: int) -> int:
        calls.append(arguments)
        if len(calls) == fails_at:
            raise OSError(number, os.strerror(number))
        return original(*arguments, **flags)

    wires.sender.sendall(b"hello")
    wires.wait_for(5)
    monkeypatch.setattr(os, "splice", refuse)
    size = wires.splice()
    assert size + len(wires.source.socket.recv(100) if not size else b"") == 5
    assert not wires.pipe.is_supported
    assert wires.splice(first=b"?") == 0
    if fails_at == 2:
        assert wires.target.written == [b"!hello", b"?"]
        assert len(calls) == 2
    else:
        assert wires.target.written == [b"?"]
        assert read(wires.receiver, 1) == b"!"
        assert len(calls) == 2  # the second sent what was first


def test_what_an_interruption_left_goes_to_nobody(wires: Wires, monkeypatch: pytest.MonkeyPatch) -> None:
    """It belongs to a connection that is over by now."""
    original = os.splice
    calls = []

    def interrupted(*arguments: int, **flags: int) -> int:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(*arguments, **flags)

    wires.sender.sendall(b"secret of one")
    wires.wait_for(13)
    monkeypatch.setattr(os, "splice", interrupted)
    with pytest.raises(KeyboardInterrupt):
        wires.splice()
    wires.sender.sendall(b"other")
    wires.wait_for(5)
    assert wires.splice() == 5
    assert read(wires.receiver, 6) == b"!other"


def test_without_descriptors_it_is_tried_another_time(wires: Wires, monkeypatch: pytest.MonkeyPatch) -> None:
    """Meanwhile bodies are read."""

    def refuse(flags: int) -> tuple[int, int]:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(os, "pipe2", refuse)
        assert wires.splice() == 0
    assert wires.target.written == [b"!"]
    wires.sender.sendall(b"hello")
    wires.wait_for(5)
    assert wires.splice() == 5


def test_its_descriptors_are_given_back(wires: Wires) -> None:
    """Two for all connections; none before it is used."""
    before = set(os.listdir("/proc/self/fd"))
    wires.splice()
    assert len(set(os.listdir("/proc/self/fd")) - before) == 2
    wires.pipe.close()
    assert set(os.listdir("/proc/self/fd")) == before
