"""Runs the demonstration: live until Ctrl-C, or unattended with a verdict; everything is given back either way."""

from __future__ import annotations

import asyncio
import os
import sys

import click

from sidecar.demo.http11 import HTTPError
from sidecar.demo.processes import Child, DemoError, cancelled
from sidecar.demo.run import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, Interruptible
from sidecar.demo.single.claims import verify
from sidecar.demo.single.display.text import introduction, progress, reload_lines, trace_lines
from sidecar.demo.single.observer import PERIOD_S, Observer
from sidecar.demo.single.stage import Stage, running
from sidecar.runtime.loop import run_in_loop
from sidecar.terminal import can_draw

LINE_EVERY_S = 1.0
TRACE_EVERY_LINES = 5


def show(seconds: float | None, per_second: float) -> int:
    """
    Run the demonstration; returns the exit code.

    Args:
        seconds: Of unattended traffic before the claims are checked; None runs until a signal.
        per_second: Requests.
    """
    return run_in_loop(lambda: Demonstration(seconds, per_second).run())


class Demonstration:
    """One run; a signal cancels it once, so that nothing interrupts the clean-up."""

    def __init__(self, seconds: float | None, per_second: float) -> None:
        self._seconds = seconds
        self._per_second = per_second

    async def run(self) -> int:
        """The whole run; returns the exit code."""
        signals = Interruptible()
        stage: Stage | None = None
        try:
            async with running(self._per_second) as stage:
                _say("\n".join(introduction(stage)))
                if self._seconds is None:
                    return await _watch(stage)
                return EXIT_OK if await _unattended(stage, self._seconds) else EXIT_FAILED
        except (DemoError, HTTPError, OSError) as error:
            click.echo(f"the demonstration failed: {error}", err=True)
            return EXIT_FAILED
        except asyncio.CancelledError:
            if not signals.is_interrupted:
                raise
            return _on_interrupt(stage) if self._seconds is None else EXIT_INTERRUPTED


async def _unattended(stage: Stage, seconds: float) -> bool:
    observer = Observer(stage)

    async def tell() -> None:
        while True:
            await asyncio.sleep(LINE_EVERY_S)
            await observer.look()
            if not observer.board.trouble:
                _say(progress(observer.board))

    telling = asyncio.create_task(tell())
    try:
        return await verify(stage, seconds, _say)
    except HTTPError:
        _tell_ended(stage.sidecar)
        raise
    finally:
        await cancelled(telling)


async def _watch(stage: Stage) -> int:
    """Show what happens until a child ends, which none should; a signal cancels it."""
    observer = Observer(stage)
    tasks = [asyncio.create_task(work) for work in (stage.traffic.run(), observer.run(), _display(stage, observer))]
    ends = [asyncio.create_task(_end_of(child)) for child in (stage.sidecar, *stage.apps)]
    try:
        done, _ = await asyncio.wait((*tasks, *ends), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (*tasks, *ends):
            task.cancel()
        await asyncio.wait((*tasks, *ends))
    for task in done:
        child = task.result()
        if child is not None:
            _tell_ended(child)
    raise AssertionError("only a child that ended, or a fault, ends the show")


def _tell_ended(child: Child) -> None:
    if child.exit_code is not None:
        raise DemoError(f"{child.name} has ended with code {child.exit_code}:\n{child.tail()}") from None


async def _end_of(child: Child) -> Child:
    await child.wait()
    return child


async def _display(stage: Stage, observer: Observer) -> None:
    if can_draw(sys.stdout, os.environ):
        from sidecar.demo.single.display.screen import Screen

        with Screen(stage) as screen:
            while True:
                screen.show(observer.board)
                await asyncio.sleep(PERIOD_S)
    lines, reloads = 0, 0
    while True:
        await asyncio.sleep(LINE_EVERY_S)
        board = observer.board
        if board.reloads != reloads:
            reloads = board.reloads
            _say("\n".join(reload_lines(board)))
        _say(progress(board))
        lines += 1
        if board.traces and lines % TRACE_EVERY_LINES == 0:
            _say("\n".join(trace_lines(board.traces[-1])))


def _on_interrupt(stage: Stage | None) -> int:
    if stage is None:
        return EXIT_OK
    tally = stage.traffic.tally
    cut = tally.sent - tally.ok - tally.failed.total()
    codes = {child.name: child.exit_code for child in (stage.sidecar, *stage.apps)}
    ends = ", ".join(f"{name} {code}" for name, code in codes.items())
    _say(f"\nended: {tally.ok} requests answered, {tally.failed.total()} failed, {cut} under way; exit codes: {ends}")
    return EXIT_FAILED if any(codes.values()) else EXIT_OK


def _say(text: str) -> None:
    click.echo(text)
