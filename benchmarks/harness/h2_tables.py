"""The tables of the scenarios of HTTP/2. Pure."""

from __future__ import annotations

from collections.abc import Callable

from .records import Records, by_case, cell, table


def _h2(found: Records) -> str:
    head, *rows = by_case(found, "cpu_us", 1, lambda case: f"{case}, CPU us a call")
    return table(head, rows)


def _h2memory(found: Records) -> str:
    head = ["subject", *(f"KiB a {case}" for case in found.cases)]
    rows = [[name, *(cell(found.spread("kib_each", name, case), 2) for case in found.cases)] for name in found.subjects]
    return table(head, rows)


H2_TABLES: dict[str, Callable[[Records], str]] = {"h2": _h2, "h2bodies": _h2, "h2memory": _h2memory}
