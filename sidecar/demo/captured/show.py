"""Runs the demonstration of captured traffic: live until Ctrl-C, or unattended with a verdict."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress
from typing import Any

import click

from sidecar.demo.captured.claims import verify
from sidecar.demo.captured.files import APP_PORT, BANK
from sidecar.demo.captured.stage import Stage, running
from sidecar.demo.http11 import HTTPError
from sidecar.demo.mesh.text import now, source_lines
from sidecar.demo.namespaces import NamespaceError
from sidecar.demo.run import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, perform, until_one_ends
from sidecar.runtime.loop import run_in_loop

LINE_EVERY_S = 1.0
EXIT_NOT_HERE = 2


def show(seconds: float | None, per_second: float) -> int:
    """
    Run the demonstration; returns the exit code.

    Args:
        seconds: Of unattended traffic before the claims are checked; None runs until a signal.
        per_second: Pages that customers ask for.
    """
    return run_in_loop(lambda: _run(seconds, per_second))


async def _run(seconds: float | None, per_second: float) -> int:
    stage: Stage | None = None

    async def play() -> int:
        nonlocal stage
        try:
            async with running(per_second) as stage:
                _say("\n".join(introduction(stage)))
                if seconds is None:
                    await stage.send()
                    await until_one_ends((_tell(stage),), stage.children.values())
                return EXIT_OK if await verify(stage, seconds, _say) else EXIT_FAILED
        except NamespaceError as error:
            click.echo(f"the demonstration of captured traffic cannot run here: {error}", err=True)
            return EXIT_NOT_HERE

    return await perform(play, lambda: _on_interrupt(stage) if seconds is None else EXIT_INTERRUPTED)


def introduction(stage: Stage) -> list[str]:
    """What is running, where to look, what to try."""
    control = f"http://127.0.0.1:{stage.control.port}"
    enter = f"ip netns exec {stage.hosts['storefront'].name}"
    as_app = f"{enter} setpriv --reuid=1000 --regid=1000 --clear-groups"
    store = "a redis-server" if stage.has_redis else "a double of Redis, as no redis-server is installed"
    return [
        "sidecar demo: storefront, recommendations v1 and beta, each on a host with a sidecar of which its app knows"
        f" nothing; payments, cart ({store}) and bank have none",
        "  customers -> storefront -> http://recommendations/ (v1 | beta), by mutual TLS between sidecars",
        f"               storefront -> http://payments:{APP_PORT}/, redis://cart/ and https://{BANK}/, both as TCP",
        f"  pids {' '.join(str(child.pid) for child in stage.processes)}",
        f"  map:      {control}/",
        f"  edit:     {stage.directory}/services/recommendations.yaml  (80 and 20, or a mistake)",
        f"  edges:    sidecar mesh top --control {control}",
        f"  try:      {as_app} curl -s http://recommendations/    # as an app of that host",
        f"  rules:    {enter} nft list table inet sidecar",
        f"  proof:    {enter} sidecar capture check",
        f"  metrics:  {enter} curl -s http://127.0.0.1:15020/metrics",
    ]


async def _tell(stage: Stage) -> None:
    """A line a second, and what is wrong with the mesh's files when that changes."""
    told: list[str] = []
    while True:
        shown: Any = None
        with suppress(HTTPError):  # while it is away, which changes nothing
            shown = await stage.control.shows()
        if shown is not None and (lines := source_lines(shown)) != told:
            told = lines
            _say("\n".join(lines))
        ok = stage.answers[200]
        answered = f"{ok} answered, {stage.answers.total() - ok} failed"
        trouble = [stage.last_trouble] if stage.last_trouble else []
        _say(" | ".join([answered, *trouble, *now(shown)]))
        await asyncio.sleep(LINE_EVERY_S)


def _on_interrupt(stage: Stage | None) -> int:
    if stage is None:
        return EXIT_OK
    codes = {name: child.exit_code for name, child in stage.children.items()}
    ok = stage.answers[200]
    ends = ", ".join(f"{name} {code}" for name, code in codes.items())
    _say(f"\nended: {ok} pages, {stage.answers.total() - ok} failed; exit codes: {ends}")
    # Customers that had only begun to come have not learned yet to leave in another way.
    bad = {name: code for name, code in codes.items() if (name, code) != ("customers", -signal.SIGTERM)}
    return EXIT_FAILED if any(bad.values()) else EXIT_OK


def _say(text: str) -> None:
    click.echo(text)
