"""Rounds in, medians and ratios out: for the terminal, for docs/performance.md, and as JSON."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from .rounds import Round
from .site import HERE, Subject

BASES = ("relay", "envoy")  # what ratios are taken against


@dataclass(frozen=True, slots=True)
class Spread:
    """A median and the range that it stands in."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))

    def as_json(self) -> dict[str, float]:
        return {"median": round(self.median, 3), "min": round(self.low, 3), "max": round(self.high, 3)}

    def text(self, digits: int) -> str:
        return f"{self.median:.{digits}f} ({self.low:.{digits}f}-{self.high:.{digits}f})"


def ratio(rounds: Sequence[Round], base: Sequence[Round]) -> Spread | None:
    """CPU a request against another subject's in the same round: what slowed both, cancels."""
    pairs = [mine.cpu_us / theirs.cpu_us for mine, theirs in zip(rounds, base, strict=True) if theirs.cpu_us]
    return Spread.of(pairs) if pairs else None


def summary(scenario: dict[str, list[Round]]) -> dict[str, dict[str, object]]:
    """Medians with minimum and maximum, and the ratios, of every subject of one scenario."""
    table: dict[str, dict[str, object]] = {}
    for name, rounds in scenario.items():
        row: dict[str, object] = {
            "cpu_us": Spread.of([each.cpu_us for each in rounds]).as_json(),
            "rate": Spread.of([each.rate for each in rounds]).as_json(),
            "busy": Spread.of([each.busy for each in rounds]).as_json(),
            "p50_us": Spread.of([each.p50_us for each in rounds]).as_json(),
            "p99_us": Spread.of([each.p99_us for each in rounds]).as_json(),
            "pss_mib": Spread.of([each.pss_mib for each in rounds]).as_json(),
        }
        for base in BASES:
            if base in scenario and (against := ratio(rounds, scenario[base])) is not None:
                row[f"cpu_against_{base}"] = against.as_json()
        table[name] = row
    return table


def _share(rounds: Sequence[Round], pick: Callable[[Round], float | None]) -> str:
    values = [value for each in rounds if (value := pick(each)) is not None]
    return f"{statistics.median(values):.3f}" if values else "-"


def markdown(scenario: dict[str, list[Round]]) -> str:
    """The table of one scenario, ready for docs/performance.md."""
    lines = [
        "| subject | CPU us a request | against relay | against Envoy | requests/s | core | p50 ms | p99 ms | "
        "logs | spans | PSS MiB |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, rounds in scenario.items():
        against = [
            spread.text(2) if base in scenario and (spread := ratio(rounds, scenario[base])) is not None else "-"
            for base in BASES
        ]
        lines.append(
            f"| {name} | {Spread.of([each.cpu_us for each in rounds]).text(1)} | {against[0]} | {against[1]} "
            f"| {statistics.median(each.rate for each in rounds):.0f} "
            f"| {statistics.median(each.busy for each in rounds):.0%} "
            f"| {statistics.median(each.p50_us for each in rounds) / 1000:.2f} "
            f"| {statistics.median(each.p99_us for each in rounds) / 1000:.2f} "
            f"| {_share(rounds, lambda each: each.logs)} | {_share(rounds, lambda each: each.spans)} "
            f"| {statistics.median(each.pss_mib for each in rounds):.0f} |"
        )
    return "\n".join(lines)


def _command(*argv: str) -> str:
    try:
        return subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False, cwd=HERE).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def surroundings(subjects: Sequence[Subject]) -> dict[str, object]:
    """The machine and the versions, without which the figures say nothing."""
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    wrk = _command("wrk", "--version").splitlines()
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "virtual": _command("systemd-detect-virt") or "unknown",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "commit": _command("git", "describe", "--always", "--dirty", "--exclude", "*"),
        "load_average": round(os.getloadavg()[0], 2),
        "versions": {subject.name: subject.version() for subject in subjects} | {"wrk": wrk[0] if wrk else "unknown"},
    }
