"""The plots of docs/performance.md, from a result file of compare.py. Run by benchmarks/.venv, which has matplotlib.

benchmarks/.venv/bin/python benchmarks/plots.py RESULT.json FOLDER      # prints what it wrote
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
from harness.records import Document, Records, records_of
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

COLOURS = {
    "relay": "#8c8c8c",
    "nginx": "#009e73",
    "haproxy": "#56b4e9",
    "envoy": "#cc79a7",
    "aiohttp": "#e69f00",
    "sidecar": "#0072b2",
    "compiled": "#d55e00",
}
PERCENTILES = {"p50_ms": 50.0, "p90_ms": 90.0, "p99_ms": 99.0, "p999_ms": 99.9}
OVERLOADED_MS = 100.0  # a subject whose median is above cannot follow the rate; its curve would flatten all others


def _bars(axes: Axes, found: Records, title: str) -> None:
    """CPU time per request of every subject, with the range over rounds."""
    axes.set_title(title, fontsize=11)
    for place, name in enumerate(found.subjects):
        spread = found.spread("cpu_us", name)
        assert spread is not None
        reach = [[spread.median - spread.low], [spread.high - spread.median]]
        axes.barh(place, spread.median, xerr=reach, color=COLOURS.get(name), capsize=3, height=0.65)
        axes.text(spread.high, place, f"  {spread.median:.1f}", va="center", fontsize=9)
    axes.set_yticks(range(len(found.subjects)), found.subjects)
    axes.invert_yaxis()
    axes.set_xlabel("CPU time per request, µs (median; whiskers: least and most of all rounds)", fontsize=9)
    axes.margins(x=0.12)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)


def cpu(document: Document, path: Path) -> bool:
    """CPU time per request by subject, plain and full."""
    names = [name for name in ("plain", "full") if records_of(document, name).subjects]
    if not names:
        return False
    titles = {
        "plain": "plain: cookie and weighted routing",
        "full": "full: also access log, metrics, spans (Envoy, ours)",
    }
    figure, axes = plt.subplots(1, len(names), figsize=(5.6 * len(names), 3.6), squeeze=False)
    for each, name in zip(axes[0], names, strict=True):
        _bars(each, records_of(document, name), titles[name])
    _save(figure, path)
    return True


def routes(document: Document, path: Path) -> bool:
    """CPU time per request against the number of routes, both logarithmic."""
    found = records_of(document, "routes")
    if not found.subjects:
        return False
    figure, axes = plt.subplots(figsize=(7, 4))
    counts = [int(case) for case in found.cases]
    for name in found.subjects:
        spreads = [spread for case in found.cases if (spread := found.spread("cpu_us", name, case)) is not None]
        axes.plot(counts, [each.median for each in spreads], "o-", color=COLOURS.get(name), label=name)
        lows, highs = [each.low for each in spreads], [each.high for each in spreads]
        axes.fill_between(counts, lows, highs, color=COLOURS.get(name), alpha=0.15)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(FixedLocator(counts))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.yaxis.set_major_locator(FixedLocator([10, 20, 50, 100, 200, 500, 1000, 2000]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel("routes in the table, of which the last two are asked for (logarithmic)")
    axes.set_ylabel("CPU time per request, µs (logarithmic)")
    axes.set_title("CPU time against the number of routes", fontsize=11)
    axes.grid(alpha=0.3)
    axes.legend()
    _save(figure, path)
    return True


def latency(document: Document, path: Path) -> bool:
    """Percentiles of latency at a fixed rate, as far from 100 as they are rare."""
    found = records_of(document, "latency")
    if not found.subjects:
        return False
    figure, axes = plt.subplots(figsize=(7, 4))
    left_out = []
    for name in found.subjects:
        spreads = [spread for figure_ in PERCENTILES if (spread := found.spread(figure_, name)) is not None]
        if len(spreads) < len(PERCENTILES) or spreads[0].median > OVERLOADED_MS:
            left_out.append(name)
            continue
        places = range(len(PERCENTILES))
        axes.plot(places, [each.median for each in spreads], "o-", color=COLOURS.get(name), label=name)
        lows, highs = [each.low for each in spreads], [each.high for each in spreads]
        axes.fill_between(places, lows, highs, color=COLOURS.get(name), alpha=0.12)
    offered = found.spread("offered", found.subjects[0])
    rate = f"{offered.median:,.0f} requests/s" if offered is not None else ""
    axes.set_title(f"latency at {rate}, half of Envoy's saturation rate, everything on", fontsize=11)
    axes.set_xticks(range(len(PERCENTILES)), [f"p{share:g}" for share in PERCENTILES.values()])
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(FixedLocator([0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_ylabel("ms from when a request was due (logarithmic)")
    axes.set_xlabel(f"percentile{'; not shown, for it cannot follow: ' + ', '.join(left_out) if left_out else ''}")
    axes.grid(alpha=0.3)
    axes.legend()
    _save(figure, path)
    return True


def _save(figure: plt.Figure, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, dpi=130, metadata={"Software": None})
    plt.close(figure)


PLOTS = {"performance-cpu.png": cpu, "performance-routes.png": routes, "performance-latency.png": latency}


def main(result: str, folder: str) -> None:
    """Draw what the result has figures for."""
    document: Document = json.loads(Path(result).read_text())
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, draw in PLOTS.items():
        path = Path(folder) / name
        if draw(document, path):
            print(path)


if __name__ == "__main__":
    main(*sys.argv[1:])
