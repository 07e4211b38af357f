"""How the figures grow: with the sidecars at one number of services, and with the services at one of sidecars."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from .figures import growth as power
from .run import Size
from .whole import whole

FEW_CALLS = 10
"""Of each service where their number grows: as many are concerned by a change at every size."""
COLUMNS = (
    ("endpoint p99 ms", "endpoint_change_by_report", "slowest.p99_ms"),
    ("endpoint CPU ms", "endpoint_change_by_report", "cpu_ms_net_of_idle"),
    ("route p99 ms", "route_change", "slowest.p99_ms"),
    ("route CPU s", "route_change", "cpu_s_median"),
    ("services concerned", "route_change", "services"),
    ("sidecars concerned", "route_change", "receivers"),
    ("idle core", "idle", "core_share"),
    ("MiB", "control", "pss_peak_mib"),
)


async def growth(
    sidecars: list[int], services: list[int], base: Size, at_services: int, at_sidecars: int, folder: Path,
    show: Callable[[str], None],
) -> dict[str, Any]:  # fmt: skip
    """Each size by itself; the figures of all, and by which power of the size each figure grows."""
    rows: dict[str, list[dict[str, Any]]] = {"by_sidecars": [], "by_services": []}
    for number in sidecars:
        size = replace(base, sidecars=number, services=at_services)
        show(f"{number} sidecars, {at_services} services")
        rows["by_sidecars"].append(await whole(size, folder / f"sidecars-{number}"))
    for number in services:
        size = replace(base, sidecars=at_sidecars, services=number, calls=min(FEW_CALLS, base.calls))
        show(f"{number} services, {at_sidecars} sidecars, {size.calls} calls")
        rows["by_services"].append(await whole(size, folder / f"services-{number}"))
    powers = {
        kind: {
            column: power([float(one[kind[3:]]) for one in found], [value_of(one, part, name) for one in found])
            for column, part, name in COLUMNS
        }
        for kind, found in rows.items()
        if found
    }
    return {**rows, "grows_by_the_power": {k: {n: p and round(p, 2) for n, p in v.items()} for k, v in powers.items()}}


def value_of(figures: dict[str, Any], part: str, name: str) -> float:
    """A figure of a run; 0 if it was not taken."""
    value: Any = figures.get(part, {})
    for key in name.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return float(value or 0.0)
