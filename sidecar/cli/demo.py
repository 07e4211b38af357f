"""`sidecar demo`: an app with its sidecar and two versions of a service, with traffic. *Cold.*"""

from __future__ import annotations

import sys

import click

from sidecar.demo.single.show import show


@click.command("demo")
@click.option(
    "--seconds", type=click.FloatRange(0.5, 86400), default=None,
    help="Run unattended for so long, then check every claim; without it, run until Ctrl-C.",
)  # fmt: skip
@click.option(
    "--requests-per-second", type=click.FloatRange(1, 1000), default=200, show_default=True, help="Of the traffic.",
)  # fmt: skip
def demo(seconds: float | None, requests_per_second: float) -> None:
    """
    Run an app with its sidecar and two versions of a service, and show what happens.

    All are real processes on 127.0.0.1, with traffic of their own. It prints what to try: curl commands, and the YAML
    file to edit while it runs. Exit codes: 0 ended by Ctrl-C, or with --seconds every claim held; 1 something failed;
    130 interrupted before the claims were checked.
    """
    sys.exit(show(seconds, requests_per_second))
