"""The tables of the scenarios of HTTP/2. Pure."""

from __future__ import annotations

from collections.abc import Callable

from .figures import Spread
from .records import Records, by_case, cell, median, table


def _h2(found: Records) -> str:
    head, *rows = by_case(found, "cpu_us", 1, lambda case: f"{case}, CPU us a call")
    return table(head, rows)


def _h2memory(found: Records) -> str:
    head = ["subject", *(f"KiB a {case}" for case in found.cases)]
    rows = [[name, *(cell(found.spread("kib_each", name, case), 2) for case in found.cases)] for name in found.subjects]
    return table(head, rows)


def more_by_resets(found: Records, name: str, case: str) -> Spread | None:
    """p99 beside the peer less that of the same round without it, in milliseconds."""
    calm = found.series("p99_ms", name, "none")
    values = [value - calm[number] for number, value in found.series("p99_ms", name, case).items() if number in calm]
    return Spread.of(values) if values else None


def _h2reset(found: Records) -> str:
    head = ["subject", "resets", "of them a second", "taken in a second", "connections a second", "p50 ms", "p99 ms"]
    head += ["p99 more ms", "longest ms", "requests", "failed", "unanswered", "subject's core", "peer's core"]
    head += ["generator late, p99 ms"]
    rows = []
    for name in found.subjects:
        for case in found.cases:
            rows.append(
                [
                    name,
                    case,
                    *(median(found.spread(each, name, case), 0) for each in ("resets_s", "taken_s", "connections_s")),
                    cell(found.spread("p50_ms", name, case), 2),
                    cell(found.spread("p99_ms", name, case), 2),
                    cell(more_by_resets(found, name, case), 2) if case != "none" else "",
                    cell(found.spread("max_ms", name, case), 1),
                    *(
                        f"{sum(found.series(figure, name, case).values()):.0f}"
                        for figure in ("requests", "failed", "unanswered")
                    ),
                    median(found.spread("busy", name, case), 0, 100, "%"),
                    median(found.spread("peer_busy", name, case), 0, 100, "%"),
                    median(found.spread("lag_p99_ms", name, case), 2),
                ]
            )
    return table(head, rows)


def _h2mesh(found: Records) -> str:
    head = ["sidecars, and what is between them", "connections", "CPU us a request, both", "against http1"]
    head += ["the client's", "the server's", "requests/s", "p50 ms", "p99 ms", "connections between them"]
    rows = []
    for case in found.cases:
        for name in found.subjects:
            base = f"{name.rpartition(' ')[0]} http1"
            rows.append(
                [
                    name,
                    case,
                    cell(found.spread("cpu_us", name, case), 1),
                    cell(found.against("cpu_us", name, base, case), 3) if name != base else "",
                    *(cell(found.spread(figure, name, case), 1) for figure in ("near_us", "far_us")),
                    median(found.spread("rate", name, case), 0),
                    *(median(found.spread(figure, name, case), 2, 1e-3) for figure in ("p50_us", "p99_us")),
                    median(found.spread("opened", name, case), 0),
                ]
            )
    return table(head, rows)


H2_TABLES: dict[str, Callable[[Records], str]] = {
    "h2": _h2,
    "h2bodies": _h2,
    "h2reset": _h2reset,
    "h2memory": _h2memory,
    "h2mesh": _h2mesh,
}
