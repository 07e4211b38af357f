"""Runs the demonstration of a mesh: live until Ctrl-C, or unattended with a verdict."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import click

from sidecar.demo.http11 import HTTPError
from sidecar.demo.mesh.claims import verify
from sidecar.demo.mesh.stage import Stage, running
from sidecar.demo.mesh.text import introduction, progress, rollout_lines, source_lines
from sidecar.demo.processes import cancelled
from sidecar.demo.run import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, perform, until_one_ends
from sidecar.runtime.loop import run_in_loop

LINE_EVERY_S = 1.0
LOOK_S = 0.25


def show(seconds: float | None, per_second: float) -> int:
    """
    Run the demonstration; returns the exit code.

    Args:
        seconds: Of unattended traffic before the claims are checked; None runs until a signal.
        per_second: Requests of customers.
    """
    return run_in_loop(lambda: _run(seconds, per_second))


async def _run(seconds: float | None, per_second: float) -> int:
    stage: Stage | None = None

    async def play() -> int:
        nonlocal stage
        async with running(per_second) as stage:
            _say("\n".join(introduction(stage)))
            if seconds is None:
                # The control plane may end: whoever looks kills it to see what happens.
                children = [child for name, child in stage.children.items() if name != "control"]
                await until_one_ends((stage.send(), _tell(stage)), children)
            return EXIT_OK if await _unattended(stage, seconds) else EXIT_FAILED

    return await perform(play, lambda: _on_interrupt(stage) if seconds is None else EXIT_INTERRUPTED)


async def _unattended(stage: Stage, seconds: float) -> bool:
    telling = asyncio.create_task(_tell(stage))
    try:
        return await verify(stage, seconds, _say)
    finally:
        await cancelled(telling)


async def _tell(stage: Stage) -> None:
    """A line a second, and one for whatever changes of rollouts and of the mesh's files."""
    told: list[str] = []
    count = 0
    while True:
        shown: Any = None
        with suppress(HTTPError):  # while it is away, which changes nothing; the line of progress says so
            shown = await stage.control.shows()
        if shown is not None:
            lines = [*source_lines(shown), *rollout_lines(shown)]
            for line in lines:
                if line not in told:
                    _say(line)
            told = lines
        if count % round(LINE_EVERY_S / LOOK_S) == 0:
            _say(progress(stage, shown))
        count += 1
        await asyncio.sleep(LOOK_S)


def _on_interrupt(stage: Stage | None) -> int:
    if stage is None:
        return EXIT_OK
    codes = {name: child.exit_code for name, child in stage.children.items()}
    ok = sum(tally.ok for tally in stage.traffic.tallies)
    failed = sum(tally.failed.total() for tally in stage.traffic.tallies)
    ends = ", ".join(f"{name} {code}" for name, code in codes.items())
    _say(f"\nended: {ok} requests answered, {failed} failed; exit codes: {ends}")
    return EXIT_FAILED if any(codes.values()) else EXIT_OK


def _say(text: str) -> None:
    click.echo(text)
