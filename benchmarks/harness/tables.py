"""Results in, tables in Markdown out: for the terminal and for docs/performance.md. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .figures import Spread, ratio
from .h2_tables import H2_TABLES
from .records import Document, Records, by_case, cell, median, table
from .tls_tables import TABLES as TLS_TABLES


def _everyone(found: Records, bases: Sequence[str]) -> str:
    head = ["subject", "CPU us a request", *(f"against {base}" for base in bases)]
    head += ["requests/s", "core", "log lines a request", "spans a request", "PSS MiB"]
    rows = [
        [
            name,
            cell(found.spread("cpu_us", name), 1),
            *(cell(found.against("cpu_us", name, base), 2) for base in bases),
            median(found.spread("rate", name), 0),
            median(found.spread("busy", name), 0, 100, "%"),
            median(found.spread("logs", name), 3),
            median(found.spread("spans", name), 3),
            median(found.spread("pss_mib", name), 0),
        ]
        for name in found.subjects
    ]
    return table(head, rows)


def _plain(found: Records) -> str:
    return _everyone(found, ("relay", "haproxy", "envoy"))


def _full(found: Records) -> str:
    return _everyone(found, ("relay", "envoy"))


def _routes(found: Records) -> str:
    head, *rows = by_case(found, "cpu_us", 1, lambda case: f"{int(case):,} routes, us a request")
    if len(found.cases) < 2:
        return table(head, rows)
    few, many = found.cases[0], found.cases[-1]
    for row in rows:
        growth = ratio(found.series("cpu_us", row[0], many), found.series("cpu_us", row[0], few))
        row.append(cell(growth, 2))
    return table([*head, f"{int(many):,} against {int(few):,}"], rows)


def _bodies(found: Records) -> str:
    head, *rows = by_case(found, "cpu_us", 0, lambda case: f"{case}, CPU us a request")
    longest = found.cases[-1]
    for row in rows:
        is_subject = row[0] in found.subjects
        row.append(median(found.spread("cpu_us", row[0], longest), 0, 1 / 16) if is_subject else "")
        row.append(median(found.spread("rate", row[0], longest), 0, 16) if is_subject else "")
    return table([*head, f"{longest}, us a MiB", f"{longest}, MiB/s"], rows)


def _connections(found: Records) -> str:
    names = {"new each": "a new one for each request"}
    head, *rows = by_case(found, "cpu_us", 1, lambda case: names.get(case, f"{case} connections") + ", us a request")
    return table(head, rows)


def _latency(found: Records) -> str:
    percentiles = {
        "p50_ms": "p50 ms",
        "p90_ms": "p90 ms",
        "p99_ms": "p99 ms",
        "p999_ms": "p99.9 ms",
        "max_ms": "longest ms",
    }
    has_cases = found.cases != [""]
    head = ["subject", *(["TLS"] if has_cases else []), *percentiles.values(), "p99 against envoy"]
    head += ["p99.9 against envoy", "requests", "failed", "unanswered", "generator late, p99 ms"]
    rows = []
    for case in found.cases:
        for name in found.subjects:
            row = [name, *([case] if has_cases else [])]
            row += [cell(found.spread(figure, name, case), 2) for figure in percentiles]
            row += [cell(found.against(figure, name, "envoy", case), 2) for figure in ("p99_ms", "p999_ms")]
            sums = ("requests", "failed", "unanswered")
            row += [f"{sum(found.series(figure, name, case).values()):.0f}" for figure in sums]
            rows.append([*row, median(found.spread("lag_p99_ms", name, case), 2)])
    return table(head, rows)


def slower_around(found: Records, subject: str) -> Spread | None:
    """p99 around the reload less that of the rest, in milliseconds, within a round."""
    around, rest = found.series("around.p99_ms", subject), found.series("rest.p99_ms", subject)
    values = [value - rest[number] for number, value in around.items() if number in rest]
    return Spread.of(values) if values else None


def _reload(found: Records) -> str:
    head = ["subject", "requests", "failed", "applied after s", "p99 around ms", "p99 rest ms", "difference ms"]
    head += ["longest around ms", "longest rest ms", "a core stood still ms", "longest while none did ms"]
    rows = [
        [
            name,
            *(f"{sum(found.series(figure, name).values()):.0f}" for figure in ("requests", "failed")),
            cell(found.spread("applied_s", name), 2),
            cell(found.spread("around.p99_ms", name), 2),
            cell(found.spread("rest.p99_ms", name), 2),
            cell(slower_around(found, name), 2),
            cell(found.spread("around.max_ms", name), 1),
            cell(found.spread("rest.max_ms", name), 1),
            cell(found.spread("stalled_ms", name), 1),
            cell(found.spread("awake_max_ms", name), 1),
        ]
        for name in found.subjects
    ]
    return table(head, rows)


def _memory(found: Records) -> str:
    head = ["subject", "PSS at start MiB", "after some load MiB", "idle connections", "with them MiB", "KiB each"]
    rows = [
        [
            name,
            median(found.spread("started_mib", name), 1),
            median(found.spread("before_mib", name), 1),
            median(found.spread("connections", name), 0),
            median(found.spread("with_idle_mib", name), 1),
            median(found.spread("kib_each", name), 1),
        ]
        for name in found.subjects
    ]
    return table(head, rows)


def by_cpu(found: Records, name: str, count: int) -> Spread | None:
    """How many times one worker's work so many workers can do, by the CPU time that a request takes."""
    one = ratio(found.series("cpu_us", name, "1"), found.series("cpu_us", name, f"{count}"))
    return Spread(one.median * count, one.low * count, one.high * count) if one is not None else None


def by_rate(found: Records, name: str, count: int) -> Spread | None:
    return ratio(found.series("rate", name, f"{count}"), found.series("rate", name, "1"))


def _workers(found: Records) -> str:
    head = ["subject", "workers", "CPU us a request", "times one worker, by CPU time", "requests/s"]
    head += ["times one worker, by rate", "log lines a request", "spans a request", "PSS MiB"]
    rows = [
        [
            name,
            case,
            cell(found.spread("cpu_us", name, case), 1),
            cell(by_cpu(found, name, int(case)), 2),
            cell(found.spread("rate", name, case), 0),
            cell(by_rate(found, name, int(case)), 2),
            median(found.spread("logs", name, case), 3),
            median(found.spread("spans", name, case), 3),
            median(found.spread("pss_mib", name, case), 0),
        ]
        for name in found.subjects
        for case in found.cases
    ]
    return table(head, rows)


def _start(found: Records) -> str:
    head, *rows = by_case(found, "ready_ms", 0, lambda case: f"{int(case):,} routes, ms")
    return table(head, rows)


TABLES: dict[str, Callable[[Records], str]] = {
    "plain": _plain,
    "full": _full,
    "routes": _routes,
    "bodies": _bodies,
    "uploads": _bodies,
    "connections": _connections,
    "latency": _latency,
    "reload": _reload,
    "memory": _memory,
    "workers": _workers,
    "start": _start,
    "tlslatency": _latency,
    **TLS_TABLES,
    "h2latency": _latency,
    **H2_TABLES,
}


def tables(document: Document, name: str) -> str:
    """The table of one scenario and its notes, in Markdown."""
    scenario = document["scenarios"].get(name)
    if scenario is None:
        return "Not measured in this run."
    parts = [TABLES[name](Records(scenario["records"]))] if scenario["records"] else []
    parts += [f"{note[:1].upper()}{note[1:]}." for note in scenario["notes"]]
    faulty = sum(bool(each.get("faults")) for each in scenario["records"])
    if faulty:
        parts.append(f"**{faulty} of {len(scenario['records'])} rounds had a fault**: see the result file.")
    return "\n\n".join(parts)


def others(document: Document) -> Spread | None:
    """How many cores were kept busy by processes outside of the comparison, in all rounds of all scenarios."""
    values = [each["foreign"] for one in document["scenarios"].values() for each in one["records"] if "foreign" in each]
    return Spread.of(values) if values else None
