"""`sidecar mesh top`: who calls whom, how often and how well, live. *Cold.*"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import click

from sidecar.cli.admin_client import AskError, fail
from sidecar.cli.mesh.asking import ControlPlane, control_options, milliseconds, octets, table
from sidecar.demo.terminal import can_draw

_MAX_ROWS = 40
_MAX_REFUSED = 10


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

    A call that carries no requests, or none that can be seen, is told as TCP: connections that ended, and octets.
    As the callers' sidecars counted them: success is the share of requests that did not fail. In a mesh with identities
    TLS is how many of them were by it; whom rules of authorization refused follows. With --json a line for each look.
    """
    try:
        control = ControlPlane(url, token_file, trust)
        is_screen = can_draw(sys.stdout, os.environ) and not as_json and not once
        while True:
            shown = control.get("/v1/mesh")
            if as_json:
                said = {"time": shown["time"], "mesh": shown["mesh"], "edges": shown["edges"]}
                click.echo(json.dumps({**said, "refused": shown.get("refused", [])}))
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
    refused = _refused(shown.get("refused", []))
    if not edges:
        return f"{head}\n\nno calls in the last minute{refused}"
    # Where nothing is by TLS, nothing is said of it.
    has_tls = any(one.get("tls") in ("all", "some") for one in edges)
    rows = [
        [
            one["from"], one["to"], one["version"] or "-", one["route"] or "-", _busy(one),
            "-" if one["success"] is None else f"{one['success']:.2%}", milliseconds(one["p50_s"]),
            milliseconds(one["p99_s"]), *([one.get("tls") or "-"] if has_tls else []), _reasons(one["failures"]),
        ]
        for one in edges[:_MAX_ROWS]
    ]  # fmt: skip
    heads = ["CALLER", "CALLEE", "VERSION", "ROUTE", "REQ/S", "SUCCESS", "P50", "P99"]
    heads += ["TLS", "FAILURES"] if has_tls else ["FAILURES"]
    more = f"\nand {len(edges) - _MAX_ROWS} quieter ones (--json has all)" if len(edges) > _MAX_ROWS else ""
    return f"{head}\n\n{table(heads, rows)}{more}{refused}"


def _busy(edge: dict[str, Any]) -> str:
    """Requests a second; of TCP, connections and octets, of which a control plane of an older release does not know."""
    tcp = edge.get("tcp")
    if not tcp or edge["requests"]:
        return f"{edge['rate']:.1f}"
    return f"TCP {tcp['rate']:.1f}, {octets(tcp['octet_rate'])}/s"


def _refused(rows: list[dict[str, Any]]) -> str:
    """Whom rules refused, the most first."""
    if not rows:
        return ""
    rows = sorted(rows, key=lambda one: (-one["count"], one["to"], one["from"]))
    cells = [
        [
            one["from"] or "(no identity)", one["to"], one["rule"], "would be" if one["audit"] else "is",
            str(one["count"]), one["identity"],
        ]
        for one in rows[:_MAX_REFUSED]
    ]  # fmt: skip
    more = f"\nand {len(rows) - _MAX_REFUSED} more" if len(rows) > _MAX_REFUSED else ""
    return f"\n\n{table(['CALLER', 'CALLEE', 'RULE', 'REFUSED', 'REQUESTS', 'IDENTITY'], cells)}{more}"


def _reasons(failures: dict[str, int]) -> str:
    return " ".join(f"{reason}:{number}" for reason, number in sorted(failures.items(), key=lambda one: -one[1])[:4])
