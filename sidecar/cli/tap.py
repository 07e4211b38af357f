"""`sidecar tap`: requests of a running sidecar as they happen. *Cold.*"""

from __future__ import annotations

import http.client
import io
import json
import sys
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import click

from sidecar import grpc
from sidecar.cli.admin_client import Admin, AskError, admin_option, fail, printable

_ARROWS = {"inbound": "→", "outbound": "←"}
_HIGHLIGHT = ((500, "red"), (400, "yellow"), (300, "cyan"), (0, "green"))


@click.command("tap")
@admin_option
@click.option("--direction", multiple=True, help="inbound (to the app) or outbound (from the app).")
@click.option("--route", multiple=True, metavar="NAME", help="Route; '*' and '?' as in a shell, - for none.")
@click.option("--upstream", multiple=True, metavar="NAME", help="Upstream, likewise.")
@click.option("--path", multiple=True, metavar="PREFIX|GLOB", help="Beginning of the path, or a pattern for all of it.")
@click.option("--method", multiple=True, metavar="METHOD", help="Method, as sent.")
@click.option("--status", multiple=True, metavar="RANGE", help="404, 5xx, 400-499, '>=400', '!=200'.")
@click.option(
    "--grpc-status", multiple=True, metavar="STATUS", help="Of a call of gRPC: UNAVAILABLE, 14, '!=OK'; - for no call."
)
@click.option(
    "--header", multiple=True, metavar="NAME[=VALUE]", help="Field of the request; every one given must match."
)
@click.option("--flag", multiple=True, metavar="FLAG", help="Response flag, such as UF or NR; - for none.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="End after N requests.")
@click.option("--rate", type=click.IntRange(1, 10_000), metavar="N", help="Requests a second at most; default 1000.")
@click.option("--show-headers", is_flag=True, help="Print the request's fields too, a line each.")
@click.option("--json", "as_json", is_flag=True, help="Print the events as they come, JSON, one a line.")
def tap(
    address: str, limit: int | None, rate: int | None, show_headers: bool, as_json: bool, **criteria: tuple[str, ...]
) -> None:
    """
    Show requests as they end, until Ctrl-C.

    Options of one kind are alternatives (but all --header must match), options of different kinds must all match. By
    --status a call of gRPC that failed is found by what stands for how it ended, such as 503. What is shown is chosen
    in the sidecar. It leaves out and counts what exceeds --rate or what this terminal cannot take; no request waits
    for it. Secrets are shown as [redacted].
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    numbers = {name: value for name, value in (("limit", limit), ("rate", rate)) if value is not None}
    query = urlencode([*((name, value) for name, values in criteria.items() for value in values), *numbers.items()])
    try:
        with Admin(address) as admin, admin.stream(f"/tap?{query}") as answer:
            shown = _follow(answer, show_headers, as_json)
    except AskError as error:
        fail(error)
    except KeyboardInterrupt:
        return
    else:
        if shown != limit:
            fail(f"{address} ended the stream; the sidecar is stopping, or the connection was lost")


def _follow(answer: http.client.HTTPResponse, show_headers: bool, as_json: bool) -> int:
    """Print events until the stream ends; returns how many there were."""
    shown = 0
    try:
        while line := answer.readline():
            if line.isspace():
                continue  # a heartbeat
            event = json.loads(line)
            dropped = event.get("dropped")
            shown += dropped is None
            if as_json:
                click.echo(line.rstrip(b"\n"))
            elif dropped is not None:
                click.secho(_dropped(dropped), fg="magenta", err=True)
            else:
                click.echo(describe(event, show_headers))
    except (OSError, http.client.HTTPException, ValueError):
        pass  # the end, however it came
    return shown


def _dropped(counts: Mapping[str, int]) -> str:
    return f"... left out: {counts.get('rate', 0)} over the rate, {counts.get('slow_reader', 0)} not read in time"


def describe(event: Mapping[str, Any], show_headers: bool = False) -> str:
    """
    An event as a line for people; nothing in it can command the terminal.

    Args:
        event: As `docs/live.md` has it.
        show_headers: Whether a line follows for each field.
    """
    status, said = event["response_code"], event.get("grpc_status")
    judged = grpc.counts_as(status, grpc.NAMES.index(said)) if said in grpc.NAMES else status
    color = next(color for least, color in _HIGHLIGHT if judged >= least)
    clock = str(event["start_time"])[11:23]
    what = f"{event['method']} {event['authority'] or ''}{event['path']}"
    shown = str(status)
    if event["method"] is None and "raw_line" not in event:
        what, shown = str(event["authority"]), event["protocol"]
        color = "green" if event["response_flags"] == "-" else "red"
    elif event["method"] is None:
        what = f"unreadable: {event.get('raw_line', '')}"
    call = f" {said}" if said else ""
    flag = "" if event["response_flags"] == "-" else f" {event['response_flags']} {event['response_code_details']}"
    where = event["upstream_cluster"]
    route = f"{event['route_name'] or '-'}" + (f" → {where}" if where else "")
    host = f" ({event['upstream_host']})" if event["upstream_host"] else ""
    tries = f" x{event['attempts']}" if event["attempts"] > 1 else ""
    parts = (
        click.style(clock, dim=True),
        _ARROWS.get(event["direction"], "?"),
        click.style(f"{printable(shown)}{printable(call)}{printable(flag)}", fg=color),
        f"{event['duration']:.1f}ms",
        printable(what),
        click.style(printable(f"{route}{host}{tries}"), dim=True),
    )
    lines = [" ".join(parts)]
    if event.get("detail"):
        lines.append(f"    {printable(str(event['detail']))}")
    if show_headers:
        lines += [f"    {printable(name)}: {printable(value)}" for name, value in event["headers"] or ()]
    return "\n".join(lines)
