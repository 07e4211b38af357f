"""Runs the demonstration: live until Ctrl-C, or unattended with a verdict; everything is given back either way."""

from __future__ import annotations

import asyncio
import os
import sys

import click

from sidecar.demo.http11 import HTTPError
from sidecar.demo.processes import cancelled
from sidecar.demo.run import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, perform, tell_ended, until_one_ends
from sidecar.demo.single.claims import verify
from sidecar.demo.single.display.text import introduction, progress, reload_lines, trace_lines
from sidecar.demo.single.observer import PERIOD_S, Observer
from sidecar.demo.single.stage import Stage, running
from sidecar.demo.terminal import can_draw
from sidecar.runtime.loop import run_in_loop

LINE_EVERY_S = 1.0
TRACE_EVERY_LINES = 5


def show(seconds: float | None, per_second: float) -> int:
    """
    Run the demonstration; returns the exit code.

    Args:
        seconds: Of unattended traffic before the claims are checked; None runs until a signal.
        per_second: Requests.
    """
    return run_in_loop(lambda: _run(seconds, per_second))


async def _run(seconds: float | None, per_second: float) -> int:
    stage: Stage | None = None

    async def play() -> int:
        nonlocal stage
        async with running(per_second) as stage:
            _say("\n".join(introduction(stage)))
            if seconds is None:
                observer = Observer(stage)
                works = (stage.traffic.run(), observer.run(), _display(stage, observer))
                await until_one_ends(works, (stage.sidecar, *stage.apps))
            return EXIT_OK if await _unattended(stage, seconds) else EXIT_FAILED

    return await perform(play, lambda: _on_interrupt(stage) if seconds is None else EXIT_INTERRUPTED)


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
        tell_ended(stage.sidecar)
        raise
    finally:
        await cancelled(telling)


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
