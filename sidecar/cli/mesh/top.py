"""`sidecar mesh top`: who calls whom, how often and how well, live. *Cold.*"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import click

from sidecar.cli.admin_client import AskError, fail
from sidecar.cli.mesh.asking import ControlPlane, control_options, milliseconds, table
from sidecar.terminal import can_draw

_MAX_ROWS = 40


@click.command("top")
@control_options
@click.option(
    "--interval", type=click.FloatRange(0.5, 3600), default=2.0, show_default=True, metavar="SECONDS",
    help="Between two looks.",
)  # fmt: skip
@click.option("--once", is_flag=True, help="Print once and end.")
def top(url: str, token_file: str, trust: str, as_json: bool, interval: float, once: bool) -> None:
    """
    Show the calls of the last minute by caller, callee, version and route, the busiest first, until Ctrl-C.

    As the callers' sidecars counted them: success is the share of requests that did not fail. With --json a line for
    each look.
    """
    try:
        control = ControlPlane(url, token_file, trust)
        is_screen = can_draw(sys.stdout, os.environ) and not as_json and not once
        while True:
            shown = control.get("/v1/mesh")
            if as_json:
                click.echo(json.dumps({"time": shown["time"], "mesh": shown["mesh"], "edges": shown["edges"]}))
            else:
                click.echo(("\x1b[H\x1b[2J" if is_screen else "") + written(shown))
            if once:
                return
            time.sleep(interval)
    except AskError as error:
        fail(error)
    except KeyboardInterrupt:
        pass


def written(shown: dict[str, Any]) -> str:
    """For people."""
    edges = sorted(shown["edges"], key=lambda one: (-one["rate"], one["from"], one["to"], one["route"]))
    total = sum(one["rate"] for one in edges)
    head = f"mesh {shown['mesh'] or '(not known)'}  revision {shown['revision']}  {total:.1f} requests/s"
    if not edges:
        return f"{head}\n\nno calls in the last minute"
    rows = [
        [
            one["from"], one["to"], one["version"] or "-", one["route"], f"{one['rate']:.1f}",
            "-" if one["success"] is None else f"{one['success']:.2%}", milliseconds(one["p50_s"]),
            milliseconds(one["p99_s"]), _reasons(one["failures"]),
        ]
        for one in edges[:_MAX_ROWS]
    ]  # fmt: skip
    heads = ["CALLER", "CALLEE", "VERSION", "ROUTE", "REQ/S", "SUCCESS", "P50", "P99", "FAILURES"]
    more = f"\nand {len(edges) - _MAX_ROWS} quieter ones (--json has all)" if len(edges) > _MAX_ROWS else ""
    return f"{head}\n\n{table(heads, rows)}{more}"


def _reasons(failures: dict[str, int]) -> str:
    return " ".join(f"{reason}:{number}" for reason, number in sorted(failures.items(), key=lambda one: -one[1])[:4])
