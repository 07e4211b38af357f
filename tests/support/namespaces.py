"""
Hosts of a test's own: network namespaces joined by a switch, each with an address of IPv4 and of IPv6. As root.

Nothing in them reaches any other network: their addresses are of networks for documentation (RFC 5737, 3849).
"""

from __future__ import annotations

import contextlib
import ctypes
import encodings.idna  # noqa: F401  # another user might not find it when it is needed
import os
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from tests.support.peers import missing, require

T = TypeVar("T")

TIMEOUT_S = 60.0
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class Host:
    """
    Attributes:
        name: Of its namespace.
        v4, v6: Its addresses; empty if it has none of the kind.
    """

    def __init__(self, name: str, v4: str, v6: str) -> None:
        self.name = name
        self.v4 = v4
        self.v6 = v6

    def do(self, action: Callable[[], T], user: int | None = None) -> T:
        """
        Do something in it, in a thread of the test's own process: the sockets that it makes stay there.

        Args:
            user: Whose these sockets are; default: root's.
        """
        found: list[T] = []
        failed: list[BaseException] = []

        def enter() -> None:
            try:
                with (Path("/run/netns") / self.name).open() as entrance:
                    _checked(_libc.setns(entrance.fileno(), _CLONE_NEWNET))
                if user is not None:
                    _libc.setfsuid(user)  # of this thread only, and it says nothing
                found.append(action())
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join(TIMEOUT_S)
        if failed:
            raise failed[0]
        return found[0]

    def argv(self, *words: object, user: int | None = None) -> list[str]:
        """What runs a program in it, as this user."""
        become = () if user is None else ("setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups")
        return ["ip", "netns", "exec", self.name, *become, *map(str, words)]

    def run(self, *words: object, user: int | None = None, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a program to its end."""
        return subprocess.run(
            self.argv(*words, user=user), text=True, capture_output=True, timeout=TIMEOUT_S, check=False, **options
        )

    def said(self, *words: object, user: int | None = None) -> str:
        """What it printed; it must have done well."""
        done = self.run(*words, user=user)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout

    @contextlib.contextmanager
    def started(self, *words: object, user: int | None = None, **options: Any) -> Iterator[subprocess.Popen[str]]:
        """A program that runs until the end of the block."""
        process = subprocess.Popen(self.argv(*words, user=user), text=True, stdin=subprocess.DEVNULL, **options)
        try:
            yield process
        finally:
            process.kill()
            process.wait(TIMEOUT_S)


@contextlib.contextmanager
def hosts(count: int, *, v4: bool = True, v6: bool = True) -> Iterator[Sequence[Host]]:
    """So many, for the time of a block; skips, or fails with `CI=true`, where they cannot be made."""
    require("ip")
    if os.geteuid() != 0:
        missing("network namespaces need root")
    prefix = f"sidecar-{uuid4().hex[:8]}"
    switch = f"{prefix}-switch"
    with contextlib.ExitStack() as stack:
        _namespace(stack, switch)
        _ip("-n", switch, "link", "add", "switch", "type", "bridge")
        _ip("-n", switch, "link", "set", "switch", "up")
        made = [
            _attached(stack, Host(f"{prefix}-{n}", f"198.51.100.{n}" * v4, f"2001:db8:1::{n}" * v6), switch, f"port{n}")
            for n in range(1, count + 1)
        ]
        yield made


def _checked(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _attached(stack: contextlib.ExitStack, host: Host, switch: str, port: str) -> Host:
    _namespace(stack, host.name)
    _ip("-n", switch, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", host.name)
    _ip("-n", switch, "link", "set", port, "master", "switch", "up")
    if host.v4:
        _ip("-n", host.name, "address", "add", f"{host.v4}/24", "dev", "eth0")
    if host.v6:
        _ip("-n", host.name, "address", "add", f"{host.v6}/64", "dev", "eth0", "nodad")
    _ip("-n", host.name, "link", "set", "eth0", "up")
    # Whatever else is dialled goes out there, as it does where there is a router.
    for family, address in (("-4", host.v4), ("-6", host.v6)):
        if address:
            _ip("-n", host.name, family, "route", "add", "default", "dev", "eth0")
    return host


def _namespace(stack: contextlib.ExitStack, name: str) -> None:
    made = subprocess.run(["ip", "netns", "add", name], text=True, capture_output=True, timeout=TIMEOUT_S, check=False)
    if made.returncode:
        missing(f"no network namespace can be made here: {made.stderr.strip()}")
    undo: Callable[..., object] = _ip
    stack.callback(undo, "netns", "delete", name)
    _ip("-n", name, "link", "set", "lo", "up")


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, text=True, capture_output=True, timeout=TIMEOUT_S)
