"""`sidecar top`: rates, success and latency of a running sidecar, refreshing in place. *Cold.*"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

import click

from sidecar.cli.admin_client import Admin, AskError, admin_option, fail, printable
from sidecar.cli.rates import Flow, Interval, Snapshot, between, read
from sidecar.demo.terminal import can_draw

_QUANTILES = (0.5, 0.9, 0.99)
_MAX_ROWS = 40
_MAX_KINDS = 3
"""Of failures of calls, in a row."""
_WIDTH = 140
"""Of a table that goes to a file or a pipe."""
_SHORT = {"inbound": "in", "outbound": "out"}


@click.command("top")
@admin_option
@click.option(
    "--interval", type=click.FloatRange(0.1, 3600), default=2.0, show_default=True, metavar="SECONDS",
    help="Time between two scrapes.",
)  # fmt: skip
@click.option("--once", is_flag=True, help="Print one interval and end.")
@click.option("--json", "as_json", is_flag=True, help="Print each interval as a line of JSON.")
def top(address: str, interval: float, once: bool, as_json: bool) -> None:
    """
    Show requests by route and upstream, until Ctrl-C: rate, success, latency.

    Success is the share of requests without a status of 500 or more; calls of gRPC count by the status that stands for
    how they ended. Latencies are read from histograms, as precise as
    their buckets. Costs the sidecar one scrape of its metrics per interval.
    """
    try:
        with Admin(address) as admin:
            intervals = _intervals(admin, interval)
            if as_json:
                for one in intervals:
                    click.echo(json.dumps(as_dict(one)))
                    if once:
                        break
            else:
                _show(intervals, address, once)
    except AskError as error:
        fail(error)
    except KeyboardInterrupt:
        pass


def _intervals(admin: Admin, seconds: float) -> Iterator[Interval]:
    earlier = _scrape(admin)
    due = earlier.time_s
    while True:
        # From the beginning, not from the last scrape: the time that scraping takes must not add up.
        due = max(due + seconds, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))
        later = _scrape(admin)
        yield between(earlier, later)
        earlier = later


def _scrape(admin: Admin) -> Snapshot:
    text = admin.get("/metrics").decode("utf-8", "replace")
    try:
        return read(text, time.monotonic())
    except ValueError as error:
        raise AskError(f"{admin.address} gave no metrics that can be read: {error}") from error


def as_dict(interval: Interval) -> dict[str, Any]:
    """An interval for programs: `docs/live.md` has the keys; what is not known is null."""
    now = interval.now
    return {
        "seconds": round(interval.seconds, 3),
        "version": now.label("sidecar_build_info", "version"),
        "service": now.label("target_info", "service_name"),
        "config_hash": now.label("sidecar_config_info", "hash"),
        "config_is_good": now.single("sidecar_config_last_reload_successful") == 1,
        "totals": [
            {"direction": direction, **_numbers(flow, interval.seconds)}
            for direction, flow in sorted(interval.totals.items())
        ],
        "routes": [
            {"direction": direction, "route": route, **_numbers(flow, interval.seconds)}
            for (direction, route), flow in sorted(interval.routes.items())
        ],
        "upstreams": [
            {"direction": direction, "route": route, "upstream": upstream, **_numbers(flow, interval.seconds)}
            for (direction, route, upstream), flow in sorted(interval.upstreams.items())
        ],
        "overhead_ms": _latencies(interval.overhead),
        "lost": {name.removeprefix("sidecar_").removesuffix("_total"): n for name, n in interval.losses.items()},
    }


def _numbers(flow: Flow, seconds: float) -> dict[str, Any]:
    return {
        "requests": flow.requests,
        "rate": round(flow.requests / seconds, 3) if seconds else None,
        "failed": flow.failed,
        "refused": flow.refused,
        "client_left": flow.left,
        "success": flow.success,
        "grpc": flow.calls,
        "latency_ms": _latencies(flow),
    }


def _latencies(flow: Flow) -> dict[str, float | None]:
    found = {f"p{share * 100:g}": flow.quantile(share) for share in _QUANTILES}
    return {name: None if value is None else round(value * 1000, 3) for name, value in found.items()}


# --- for people ------------------------------------------------------------------------------------------------


def _show(intervals: Iterator[Interval], address: str, once: bool) -> None:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    is_screen = can_draw(sys.stdout, os.environ)
    console = Console(highlight=False, force_terminal=is_screen, width=None if sys.stdout.isatty() else _WIDTH)
    if once or not is_screen:
        for one in intervals:
            console.print(picture(one, address))
            if once:
                return
        return
    with Live(Text(f"asking {address} ..."), console=console, screen=True, auto_refresh=False) as live:
        for one in intervals:
            live.update(picture(one, address), refresh=True)


def picture(interval: Interval, address: str) -> Any:
    """An interval as a rich renderable: lines on the sidecar, then a table of routes and upstreams."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("", no_wrap=True)
    table.add_column("ROUTE → UPSTREAM", overflow="fold")
    for name in ("REQ/S", "SUCCESS", "4XX/S", "5XX/S", "P50", "P90", "P99"):
        table.add_column(name, justify="right", no_wrap=True)
    has_calls = any(flow.calls for flow in interval.totals.values())
    if has_calls:
        table.add_column("GRPC/S", overflow="fold")
    busiest = sorted(interval.routes.items(), key=lambda item: (-item[1].requests, item[0]))
    shown = 0
    for (direction, route), flow in busiest:
        own = sorted((key[2], of) for key, of in interval.upstreams.items() if key[:2] == (direction, route))
        if table.row_count + len(own) > _MAX_ROWS:
            break
        shown += 1
        name = route or "(no route)"
        if len(own) == 1 and own[0][0] not in ("", route):
            name += f" → {own[0][0]}"
        rows = [(_SHORT.get(direction, direction), name, flow)]
        rows += [("", f"  → {upstream or '(none)'}", of) for upstream, of in own if len(own) > 1]
        for side, label, one in rows:
            calls = [_calls(one, interval.seconds)] if has_calls else []
            table.add_row(side, Text(printable(label)), *_cells(one, interval.seconds), *calls)
    parts = [Text(line) for line in _heading(interval, address)]
    if shown < len(busiest):
        return Group(*parts, table, Text(f"and {len(busiest) - shown} quieter routes (--json has all)"))
    return Group(*parts, table)


def _heading(interval: Interval, address: str) -> list[str]:
    now = interval.now
    start = now.single("process_start_time_seconds")
    facts = [
        f"sidecar {now.label('sidecar_build_info', 'version')} of {now.label('target_info', 'service_name') or '?'}",
        address,
        f"up {_age(time.time() - start)}" if start else "",
        f"configuration {now.label('sidecar_config_info', 'hash')}",
        "" if now.single("sidecar_config_last_reload_successful") == 1 else "LAST RELOAD FAILED (/config says why)",
    ]
    rates = [
        f"{direction} {flow.requests / interval.seconds:.1f}/s"
        for direction, flow in sorted(interval.totals.items())
        if interval.seconds
    ]
    added = _latencies(interval.overhead)
    rates.append(f"connections {now.total('sidecar_downstream_connections_active'):.0f}")
    rates.append(f"proxy adds p50 {_ms(added['p50'])} p99 {_ms(added['p99'])}")
    lost = sum(interval.losses.values())
    if lost:
        rates.append(f"TELEMETRY LOST {lost:.0f}")
    return [printable("  ".join(fact for fact in facts if fact)), printable("  ".join(rates)), ""]


def _cells(flow: Flow, seconds: float) -> list[str]:
    success = "-" if flow.success is None else f"{flow.success:.2%}"
    requests, refused, failed = (
        f"{count / seconds:.1f}" if seconds else "-" for count in (flow.requests, flow.refused + flow.left, flow.failed)
    )
    return [requests, success, refused, failed, *(_ms(value) for value in _latencies(flow).values())]


def _calls(flow: Flow, seconds: float) -> str:
    """How calls of gRPC failed, the most frequent first; of those that did not, that they did not."""
    failed = sorted((item for item in flow.calls.items() if item[0] != "OK"), key=lambda item: (-item[1], item[0]))
    if not failed:
        return "OK" if flow.calls else ""
    shown = failed[:_MAX_KINDS]
    return " ".join(printable(f"{name} {count / seconds:.1f}" if seconds else name) for name, count in shown)


def _ms(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}ms" if value < 10 else f"{value:.0f}ms" if value < 10_000 else f"{value / 1000:.1f}s"


def _age(seconds: float) -> str:
    minutes, left = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours // 24}d{hours % 24}h" if hours >= 24 else f"{hours}h{minutes}m" if hours else f"{minutes}m{left}s"
