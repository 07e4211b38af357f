"""`sidecar routes`: the rules of a running sidecar with how often each was hit, or those that never were. *Cold.*"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import click

from sidecar.cli.admin_client import Admin, AskError, admin_option, fail, printable

_SHORT = {"inbound": "in", "outbound": "out"}
_AGO = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)(s|m|h|d)")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_WIDTH = 140


@dataclass(frozen=True, slots=True)
class Rule:
    """
    A route as it is shown.

    Attributes:
        direction: `inbound` or `outbound`.
        name: Of the route.
        position: `file:line`; empty for one that the file does not write, as an upstream's own hosts.
        hits: Requests since `counted_since`.
        last_hit: When the last of them ended, or None.
        share: Of its direction's requests.
        counted_since: Since when they are counted.
    """

    direction: str
    name: str
    position: str
    hits: int
    last_hit: str | None
    share: float
    counted_since: str


def ago(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """How long ago, in seconds: `30m`, `12h`, `7d`."""
    if value is None:
        return None
    found = _AGO.fullmatch(value)
    if found is None:
        raise click.BadParameter(f"expected how long ago, such as `12h` or `7d`, found `{value}`")
    return float(found[1]) * _SECONDS[found[2]]


@click.command("routes")
@admin_option
@click.option("--unused", is_flag=True, help="Only those that were not hit since the sidecar counts, or since --since.")
@click.option("--since", metavar="AGO", callback=ago, help="With --unused: since so long ago, such as 12h or 7d.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def routes(address: str, unused: bool, since: float | None, as_json: bool) -> None:
    """
    Show each route in the order in which they are tried: where it is written, how often and when it was hit.

    Hits are counted by the running process, or since the reload that brought the route; a route without a name is known
    by its position. With --unused and a --since that lies before that, a line says how far back is known.
    """
    if since is not None and not unused:
        raise click.UsageError("--since goes with --unused: what was not hit since then")
    try:
        with Admin(address) as admin:
            page = json.loads(admin.get("/routes"))
        rules = list(rules_of(page))
        counted_since = str(page["counted_since"])
    except AskError as error:
        fail(error)
        return
    except (ValueError, KeyError, TypeError, AttributeError):
        fail(f"{address} gave no routes that can be read; is it a sidecar of this version?")
        return
    now = datetime.now(UTC)
    if unused:
        rules = [rule for rule in rules if is_unused(rule, since, now)]
    if as_json:
        found: dict[str, Any] = {"counted_since": counted_since, "routes": [asdict(rule) for rule in rules]}
        if unused and since is not None:
            found["is_known_since_then"] = not _late(rules, counted_since, since, now)
        click.echo(json.dumps(found))
        return
    _show(rules, counted_since, since, unused=unused, now=now)


def rules_of(page: Mapping[str, Any]) -> Iterator[Rule]:
    """All routes of `/routes`, with those of what matches none."""
    for direction in ("inbound", "outbound"):
        side = page.get(direction)
        if isinstance(side, Mapping):
            ports = [port["unmatched"] for port in side.get("ports", {}).values()]
            for entry in (*side["routes"], side.get("unmatched"), *ports):
                if isinstance(entry, Mapping):
                    yield Rule(
                        direction, entry["name"], entry.get("from", ""), entry["hits"], entry["last_hit"],
                        entry["share"], entry["counted_since"],
                    )  # fmt: skip


def is_unused(rule: Rule, since_s: float | None, now: datetime) -> bool:
    """Whether it is not known to have been hit since so long ago; None: since it is counted."""
    if rule.last_hit is None:
        return True
    return since_s is not None and (now - _parsed(rule.last_hit)).total_seconds() > since_s


def _late(rules: list[Rule], counted_since: str, since_s: float, now: datetime) -> str:
    """The latest beginning of the counts of these, if it lies after what was asked for; else empty."""
    begun = max((rule.counted_since for rule in rules), default=counted_since)
    return begun if begun and (now - _parsed(begun)).total_seconds() < since_s else ""


def _show(rules: list[Rule], counted_since: str, since: float | None, *, unused: bool, now: datetime) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    begun = f"counted since {counted_since} ({_age(counted_since, now)})"
    if unused and not rules:
        click.echo(f"every route was hit; {begun}")
    if rules:
        table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
        table.add_column("", no_wrap=True)
        table.add_column("ROUTE", overflow="fold")
        table.add_column("AT", overflow="fold")
        for name in ("HITS", "SHARE", "LAST HIT"):
            table.add_column(name, justify="right", no_wrap=True)
        for rule in rules:
            last = f"{_age(rule.last_hit, now)} ago" if rule.last_hit else "never"
            table.add_row(
                _SHORT[rule.direction], Text(printable(rule.name)), Text(printable(rule.position or "-")),
                str(rule.hits), f"{rule.share:.2%}", last,
            )  # fmt: skip
        console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH)
        console.print(Text(begun))
        console.print(table)
    if unused and since is not None and (late := _late(rules, counted_since, since, now)):
        click.echo(
            f"known only since {late} ({_age(late, now)}): a route that is listed may have been hit before that",
            err=True,
        )


def _parsed(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def _age(text: str, now: datetime) -> str:
    seconds = max(0, int((now - _parsed(text)).total_seconds()))
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds / size:.3g}{unit}"
    return f"{seconds}s"
