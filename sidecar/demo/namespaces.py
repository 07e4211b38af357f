"""
Hosts on this machine: network namespaces joined by a switch, each with an address of IPv4 and of IPv6. *As root.*

Nothing in them reaches any other network, and nothing of this machine's own network changes: the switch has a namespace
of its own, and their addresses are of networks for documentation (RFC 5737, 3849). Names are resolved by a file of
their own, which ip-netns(8) puts in the place of /etc/hosts for whatever `ip netns exec` starts.

Every name begins with that of the process that made it, so that what one has left that was killed is found
(`remove_left_behind`).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

T = TypeVar("T")

TIMEOUT_S: Final = 60.0
RUN: Final = Path("/run")
"""For directories of files; unlike those for temporary ones all users may always look things up there."""
NETNS: Final = RUN / "netns"
ETC: Final = Path("/etc/netns")
_CLONE_NEWNET: Final = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class NamespaceError(Exception):
    """They cannot be made here; the text says why, for people."""


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
        Do something in it, in a thread of this process: the sockets that it makes stay there.

        Args:
            user: Whose these sockets are, by number; default: who we are.
        """
        found: list[T] = []
        failed: list[BaseException] = []

        def enter() -> None:
            try:
                with (NETNS / self.name).open() as entrance:
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

    def argv(self, user: int | None = None) -> tuple[str, ...]:
        """What begins the command line of a program that runs in it, as this user."""
        become = () if user is None else ("setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups")
        return ("ip", "netns", "exec", self.name, *become)


@contextlib.contextmanager
def network(
    prefix: str, names: Sequence[str], *, v4: bool = True, v6: bool = True,
    known_as: Mapping[str, Sequence[str]] | None = None,
) -> Iterator[Sequence[Host]]:  # fmt: skip
    """
    Hosts of these names, for the time of a block.

    Args:
        prefix: Before all names.
        v4, v6: Which addresses they have.
        known_as: By which names each resolves others, as `{host: names}`; none: as this machine does.

    Raises:
        NamespaceError: They cannot be made.
    """
    if os.geteuid() != 0:
        raise NamespaceError("network namespaces need root")
    if shutil.which("ip") is None:
        raise NamespaceError("the program `ip` is missing: it is in the package iproute2")
    switch = f"{prefix}-switch"
    with contextlib.ExitStack() as stack:
        _namespace(stack, switch)
        _ip("-n", switch, "link", "add", "switch", "type", "bridge")
        _ip("-n", switch, "link", "set", "switch", "up")
        made = [
            Host(f"{prefix}-{name}", f"198.51.100.{n}" * v4, f"2001:db8:1::{n}" * v6) for n, name in enumerate(names, 1)
        ]
        for n, host in enumerate(made, 1):
            _attach(stack, host, switch, f"port{n}")
        if known_as is not None:
            of = dict(zip(names, made, strict=True))
            text = "127.0.0.1 localhost\n::1 localhost\n" + "".join(
                f"{of[name].v4 or of[name].v6} {' '.join(aliases)}\n" for name, aliases in known_as.items()
            )
            for host in made:
                _resolve_by(stack, host, text)
        yield made


def remove_left_behind(prefix: str) -> list[str]:
    """
    Remove what processes have left that were killed outright: namespaces `PREFIX-PID-...` whose process is not there
    any more, with all that runs in them, and directories of such names in `RUN`. Returns the names of the namespaces.
    """
    found = []
    for place in (NETNS, ETC, RUN):
        for path in sorted(place.glob(f"{prefix}-*")):
            match = re.fullmatch(re.escape(prefix) + r"-(\d+)-.+", path.name)
            if match is None or Path(f"/proc/{match[1]}").exists():
                continue
            if place == NETNS:
                found.append(path.name)
                for pid in _ip("netns", "pids", path.name).split():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(int(pid), signal.SIGKILL)
                _ip("netns", "delete", path.name)
            else:
                shutil.rmtree(path, ignore_errors=True)
    return found


def _checked(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _attach(stack: contextlib.ExitStack, host: Host, switch: str, port: str) -> None:
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


def _namespace(stack: contextlib.ExitStack, name: str) -> None:
    try:
        _ip("netns", "add", name)
    except subprocess.CalledProcessError as error:
        raise NamespaceError(f"no network namespace can be made here: {error.stderr.strip()}") from None
    stack.callback(_ip, "netns", "delete", name)
    _ip("-n", name, "link", "set", "lo", "up")


def _resolve_by(stack: contextlib.ExitStack, host: Host, text: str) -> None:
    directory = ETC / host.name
    directory.mkdir(parents=True)
    stack.callback(shutil.rmtree, directory, ignore_errors=True)
    (directory / "hosts").write_text(text)
    # Without servers of names it is this host that is asked, where nobody listens: what is not known is not waited for.
    (directory / "resolv.conf").write_text("# names are in /etc/hosts\n")


def _ip(*words: str) -> str:
    done = subprocess.run(["ip", *words], check=True, text=True, capture_output=True, timeout=TIMEOUT_S)
    return done.stdout
