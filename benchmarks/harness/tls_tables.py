"""Tables of the scenarios with TLS and authorization. Pure."""

from __future__ import annotations

from collections.abc import Callable

from .figures import Spread, ratio
from .records import Records, by_case, cell, median, table

LEGS = {
    "clear": "`plain` in clear",
    "in": "`plain`, TLS in",
    "out": "`plain`, mutual TLS out",
    "both": "`full`, mutual TLS in and out",
}


def _tls(found: Records) -> str:
    head, *rows = by_case(found, "cpu_us", 1, lambda case: f"{LEGS.get(case, case)}, us a request")
    for row in rows:
        shares = [found.spread("generator", row[0], case) for case in found.cases]
        busiest = max((each.high for each in shares if each is not None), default=None)
        row.append("" if row[0] not in found.subjects or busiest is None else f"{busiest * 100:.0f}%")
    return table([*head, "the load's core, at most"], rows)


def _bodies(found: Records) -> str:
    head, *rows = by_case(found, "cpu_us", 0, lambda case: f"{LEGS.get(case, case)}, us a MiB")
    return table(head, rows)


def _connections(found: Records) -> str:
    names = {"full": "full handshake", "resumed": "session resumed"}
    head, *rows = by_case(found, "cpu_us", 0, lambda case: f"{names.get(case, case)}, us a connection")
    return table(head, rows)


def more_by_rules(found: Records, name: str) -> Spread | None:
    """CPU a request with the rules against without, of the same round."""
    many = found.cases[-1] if found.cases else ""
    return ratio(found.series("cpu_us", name, many), found.series("cpu_us", name, "0"))


def _authorization(found: Records) -> str:
    head, *rows = by_case(found, "cpu_us", 1, lambda case: f"{int(case):,} rules, us a request")
    for row in rows:
        row.append(cell(more_by_rules(found, row[0]), 3) if row[0] in found.subjects else "")
    return table([*head, "with rules against without"], rows)


def longer_around(found: Records, name: str) -> Spread | None:
    """The longest latency around the floods less that of the rest, in milliseconds, within a round."""
    around, rest = found.series("around.max_ms", name), found.series("rest.max_ms", name)
    values = [value - rest[number] for number, value in around.items() if number in rest]
    return Spread.of(values) if values else None


def _flood(found: Records) -> str:
    head = ["subject", "floods", "hellos", "answered", "requests", "failed", "longest around ms", "longest rest ms"]
    head += ["difference ms", "p99 around ms", "p99 rest ms", "all answered after ms", "a core stood still ms"]
    rows = [
        [
            name,
            *(
                f"{sum(found.series(figure, name).values()):.0f}"
                for figure in ("floods", "hellos", "answered", "requests", "failed")
            ),
            cell(found.spread("around.max_ms", name), 1),
            cell(found.spread("rest.max_ms", name), 1),
            cell(longer_around(found, name), 1),
            cell(found.spread("around.p99_ms", name), 2),
            cell(found.spread("rest.p99_ms", name), 2),
            cell(found.spread("answered_ms", name), 0),
            cell(found.spread("stalled_ms", name), 1),
        ]
        for name in found.subjects
    ]
    return table(head, rows)


def _rotation(found: Records) -> str:
    counted = ("rotations", "requests", "failed", "unanswered", "reopened", "refused")
    head = ["subject", "rotations", "requests", "failed", "unanswered", "connections closed", "new ones refused"]
    head += ["shown after s", "p99 ms", "longest ms"]
    rows = [
        [
            name,
            *(f"{sum(found.series(figure, name).values()):.0f}" for figure in counted),
            cell(found.spread("applied_s", name), 2),
            cell(found.spread("p99_ms", name), 2),
            cell(found.spread("max_ms", name), 1),
        ]
        for name in found.subjects
    ]
    return table(head, rows)


def _memory(found: Records) -> str:
    names = {"fresh": "after 1 KiB", "1 MiB": "after 1 MiB"}
    head, *rows = by_case(found, "kib_each", 1, lambda case: f"{names.get(case, case)}, KiB each")
    for row in rows:
        held = [found.spread("connections", row[0], case) for case in found.cases]
        row.append(median(held[0], 0) if held and row[0] in found.subjects else "")
    return table([*head, "idle connections"], rows)


TABLES: dict[str, Callable[[Records], str]] = {
    "tls": _tls,
    "tlsbodies": _bodies,
    "tlsconnections": _connections,
    "tlsmemory": _memory,
    "flood": _flood,
    "rotation": _rotation,
    "authorization": _authorization,
}
