"""How a demonstration runs and ends: its exit codes, signals that interrupt it once, a process that ends too early."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, NoReturn

import click

from sidecar.demo.http11 import HTTPError
from sidecar.demo.processes import Child, DemoError

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_INTERRUPTED = 130
"""An unattended run that was not let finish has verified nothing; 128 + SIGINT, as shells have it."""


async def perform(play: Callable[[], Awaitable[int]], on_interrupt: Callable[[], int]) -> int:
    """
    The exit code of a whole run.

    The first signal cancels it, and only the first, so that nothing interrupts the clean-up.

    Args:
        play: The run; what it returns is its exit code.
        on_interrupt: Says what one that was interrupted has come to.
    """
    is_interrupted = False
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def interrupt() -> None:
        nonlocal is_interrupted
        if not is_interrupted:
            is_interrupted = True
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) is signal.SIG_DFL:  # nohup has it ignored
            loop.add_signal_handler(number, interrupt)
    try:
        return await play()
    except (DemoError, HTTPError, OSError) as error:
        click.echo(f"the demonstration failed: {error}", err=True)
        return EXIT_FAILED
    except asyncio.CancelledError:
        if not is_interrupted:
            raise
        return on_interrupt()


async def until_one_ends(works: Iterable[Coroutine[Any, Any, Any]], children: Iterable[Child]) -> NoReturn:
    """
    Do all of this until a process ends, which none should, or a work does, which only a fault brings about.

    Raises:
        DemoError: A process has ended.
    """
    children = tuple(children)
    tasks = [asyncio.create_task(work) for work in works]
    ends = [asyncio.create_task(child.wait()) for child in children]
    try:
        done, _ = await asyncio.wait((*tasks, *ends), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (*tasks, *ends):
            task.cancel()
        await asyncio.wait((*tasks, *ends))
    for child in children:
        tell_ended(child)
    for task in done:
        task.result()
    raise AssertionError("only a child that ended, or a fault, ends the show")


def tell_ended(child: Child) -> None:
    """
    Nothing, if it runs.

    Raises:
        DemoError: It has ended.
    """
    if child.exit_code is not None:
        raise DemoError(f"{child.name} has ended with code {child.exit_code}:\n{child.tail()}") from None
