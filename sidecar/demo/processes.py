"""The children of the demonstration: real processes of the same Python, none of which outlives it."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

KILL_AFTER_S = 15.0
"""More than the sidecar's `drain.timeout`."""
LOG_TAIL_LINES = 15
_CANDIDATES = [*range(10_300, 15_000), *range(15_100, 20_000)]
"""Ports that nobody was given yet, in no order; those between are the product's own."""
random.shuffle(_CANDIDATES)
_NOT_HANDED_ON = ("OTEL_", "SIDECAR_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")


class DemoError(Exception):
    """The demonstration cannot go on; the text says why, for people."""


class Child:
    """
    One process in a session of its own: Ctrl-C reaches only the demonstration, which ends its children in order.

    Attributes:
        name: For people.
        log: What it writes to standard error.
    """

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.log = log
        self._process = process

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.returncode

    @property
    def output(self) -> asyncio.StreamReader:
        """Its standard output, which must be read."""
        assert self._process.stdout is not None
        return self._process.stdout

    async def wait(self) -> int:
        """Wait for the end; returns the exit code."""
        return await self._process.wait()

    async def stop(self) -> int:
        """SIGTERM, and SIGKILL if that does not end it; returns the exit code."""
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(KILL_AFTER_S):
                return await self._process.wait()
        except TimeoutError:
            self._process.kill()
            return await self._process.wait()

    async def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    def tail(self) -> str:
        """The end of its log."""
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(f"  {line}" for line in lines[-LOG_TAIL_LINES:])


async def start(
    name: str, arguments: Sequence[str], directory: Path, extra: Mapping[str, str] | None = None, *,
    is_read: bool = True, within: Sequence[str] = (), program: str = "",
) -> Child:  # fmt: skip
    """
    Start `python -m ARGUMENTS...`.

    Args:
        directory: Where its log goes.
        extra: Added to the environment, from which settings of telemetry and proxies are taken out.
        is_read: Whether its standard output will be read; else it goes to the log, too.
        within: What begins its command line, and replaces itself by the rest.
        program: Instead of Python, which is then not asked to let it end with us: `within` is.
    """
    launch = (sys.executable, "-m", "sidecar.demo.launch", str(os.getpid()))
    words = (*within, *((program,) if program else launch), *arguments)
    environment = {key: value for key, value in os.environ.items() if not key.startswith(_NOT_HANDED_ON)}
    environment.update(extra or {})
    log = directory / f"{name}.log"
    with log.open("ab") as stderr:
        process = await asyncio.create_subprocess_exec(
            *words,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE if is_read else stderr, stderr=stderr,
            env=environment, start_new_session=True,
        )  # fmt: skip
    return Child(name, process, log)


async def port_of(child: Child, timeout_s: float) -> int:
    """
    Wait until an app listens; returns its port.

    Raises:
        DemoError: It ended, or took too long.
    """
    try:
        async with asyncio.timeout(timeout_s):
            line = await child.output.readline()
    except TimeoutError:
        raise DemoError(f"{child.name} did not listen within {timeout_s:g} s") from None
    word, _, port = line.decode().strip().partition(" ")
    if word != "listening":
        raise DemoError(f"{child.name} ended before it listened:\n{child.tail()}")
    return int(port)


async def until_ready(child: Child, is_ready: Callable[[], Awaitable[bool]], timeout_s: float) -> None:
    """
    Ask until the child is ready.

    Raises:
        DemoError: It ended, or took too long.
    """
    try:
        async with asyncio.timeout(timeout_s):
            while child.exit_code is None:
                if await is_ready():
                    return
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise DemoError(f"{child.name} was not ready within {timeout_s:g} s:\n{child.tail()}") from None
    raise DemoError(f"{child.name} ended with code {child.exit_code}:\n{child.tail()}")


def choose_ports(wanted: tuple[int, ...]) -> list[int]:
    """
    These ports of 127.0.0.1; for 0, and for one that somebody has, another that nobody has and that is given once.

    It lies below those that the kernel takes for outgoing connections (ip_local_port_range, from 32768): a server that
    is started later, or again, would find one of these taken by any client on this machine.
    """
    held: list[socket.socket] = []
    try:
        for port in wanted:
            held.append((_bound(port) if port else None) or _another())
        return [int(taken.getsockname()[1]) for taken in held]
    finally:
        for taken in held:
            taken.close()


def _another() -> socket.socket:
    while _CANDIDATES:
        found = _bound(_CANDIDATES.pop())
        if found is not None:
            return found
    return _bound(0) or _no_port()


def _bound(port: int) -> socket.socket | None:
    candidate = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        candidate.bind(("127.0.0.1", port))
    except OSError:
        candidate.close()
        return None
    return candidate


def _no_port() -> socket.socket:
    raise DemoError("no free port on 127.0.0.1")


def replace_file(file: Path, text: str) -> None:
    """Write a file as editors do: a new one is renamed over it."""
    new = file.with_suffix(".new")
    new.write_text(text)
    os.replace(new, file)


async def cancelled(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait until it is over; raises what it raised before."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.result()
