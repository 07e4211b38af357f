"""
What each stage of a request costs, with its budget; their sum, the whole, and the figure of docs/performance.md.

    python -m benchmarks.micro            # about ten seconds
    python -m benchmarks.micro --quick    # a first look
    python -m benchmarks.micro --compiled # of the data path as `make compile` made it
    python -m benchmarks.micro --strict   # ends with 1 if a stage is over its budget

Microseconds a request; see `stages` for how. Between requests a piece of fixed work is timed; budgets are scaled by how
this machine does it, so that a slower or a busy machine does not look like a slower sidecar. `rest` is what the whole
costs beyond its stages. What the macro figure has beyond the whole is the event loop and the system calls, which a bare
relay has too.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.micro.data_path import requests
from benchmarks.micro.stages import STAGES, Walk, make_paths
from sidecar import clock

REFERENCE_US = 9.1
"""What the loop of fixed work costs on the machine of docs/performance.md, when it is quiet."""
_ROOT = Path(__file__).resolve().parents[2]
_RESULTS = _ROOT / "benchmarks" / "results"


class _Thing:
    __slots__ = ("count", "line")

    def __init__(self, line: bytes) -> None:
        self.line = line
        self.count = 0

    def take(self, known: dict[bytes, int]) -> None:
        name, _, value = self.line.partition(b":")
        if known.get(name.lower()) is None:
            self.count += len(value)


def fixed_work() -> None:
    """Fixed work of the kind that the data path does: small objects, calls, dictionaries, octets."""
    known = {b"host": 1, b"cookie": 2}
    for number in range(20):
        thing = _Thing(b"Accept-%d: text/html" % number)
        thing.take(known)


def measure(walks: int) -> dict[str, float]:
    """
    Medians in microseconds: of each stage, the fixed work, and the whole.

    Of single calls, a request after the other, so that what else the machine does in between moves no median.
    """
    paths = make_paths()
    users = requests(2 * walks, seed=5)
    whole = paths[0].round_trip
    samples: dict[str, list[int]] = {}

    def timed(name: str, work: Callable[..., object], *args: bytes) -> None:
        began = now()
        work(*args)
        samples.setdefault(name, []).append(now() - began)

    now = time.perf_counter_ns
    gc.collect()
    gc.freeze()  # as the sidecar does after it has loaded its file
    gc.disable()
    for number in range(walks):
        timed("whole", whole, users[walks + number])
        for name, work in Walk(paths, users[number]).works():
            timed(name, work)
        timed("fixed", fixed_work)
    medians = {name: statistics.median(values) / 1000 for name, values in samples.items()}
    medians = {name: value - medians["nothing"] for name, value in medians.items() if name != "nothing"}
    return medians | {"collector": _collector(whole, users)}


def _collector(whole: Callable[[bytes], None], users: list[bytes]) -> float:
    """What a request costs more with the collector than without: of many together, for it comes by seldom."""
    differences = []
    for _ in range(9):
        took = []
        for switch in (gc.disable, gc.enable):
            switch()
            began = time.process_time_ns()
            for user in users[:2000]:
                whole(user)
            took.append((time.process_time_ns() - began) / len(users[:2000]) / 1000)
        differences.append(took[1] - took[0])
    return statistics.median(differences)


def rows_of(measured: Mapping[str, float]) -> dict[str, float]:
    """The table's rows, those included that are differences."""
    rows = {stage.name: measured[stage.name] for stage in STAGES if stage.name in measured}
    rows["log"] = measured["record_log"] - measured["record"]
    rows["span"] = measured["record_log_span"] - measured["record_log"]
    rows["rest"] = measured["whole"] - sum(value for name, value in rows.items() if name != "collector")
    return rows


def macro(subject: str) -> tuple[str, float, float] | None:
    """The newest comparison's file, and what relay and subject (scenario `full`) cost in it."""
    for path in sorted(_RESULTS.glob("compare-*.json"), reverse=True):
        try:
            records = json.loads(path.read_text())["scenarios"]["full"]["records"]
            costs = [
                statistics.median(one["cpu_us"] for one in records if one["subject"] == name)
                for name in ("relay", subject)
            ]
            return path.name, costs[0], costs[1]
        except (KeyError, statistics.StatisticsError):
            continue  # of another form, or without one of the two
    return None


def _run_compiled() -> None:
    """Begin anew, with the compiled package before the source."""
    compiled = _ROOT / "build" / "compiled"
    if not (compiled / "sidecar").is_dir():
        raise SystemExit(f"{compiled}: nothing compiled; run `make compile` first")
    environment = {**os.environ, "PYTHONPATH": f"{compiled}{os.pathsep}{_ROOT}"}
    os.execve(sys.executable, [sys.executable, "-P", "-m", "benchmarks.micro", *sys.argv[1:]], environment)


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="few rounds: figures are rough")
    parser.add_argument("--strict", action="store_true", help="end with 1 if a stage is over its budget")
    parser.add_argument("--compiled", action="store_true", help="measure what `make compile` made, not the source")
    wants = parser.parse_args()
    if wants.compiled and clock.__file__.endswith(".py"):
        _run_compiled()
    measured = measure(200 if wants.quick else 5000)
    pace = measured["fixed"] / REFERENCE_US
    print(f"fixed work {measured['fixed']:.2f} us: {pace:.2f} times what the reference machine needs\n")
    print(f"{'stage':<11}{'us':>7}{'budget':>8}")
    rows = rows_of(measured)
    over = []
    for stage in STAGES:
        figure, budget = rows[stage.name], stage.budget_us * pace
        verdict = "" if figure <= budget else f"over by {figure / budget - 1:4.0%}"
        over += [stage.name] if verdict else []
        print(f"{stage.name:<11}{figure:>7.2f}{budget:>8.2f}  {verdict:<12} {stage.what}")
    total, budget = sum(rows.values()), sum(stage.budget_us for stage in STAGES) * pace
    print(f"{'together':<11}{total:>7.2f}{budget:>8.2f}\n")
    subject = "sidecar" if clock.__file__.endswith(".py") else "compiled"
    compared = macro(subject)
    if compared is not None:
        name, relay, cost = compared
        explained = total / pace + relay
        print(f"{name}: {subject} {cost:.1f} us a request, relay {relay:.1f}")
        print(f"together, at its pace, and relay {explained:.1f}; left to explain {cost - explained:+.1f}")
    return 1 if wants.strict and over else 0


if __name__ == "__main__":
    raise SystemExit(main())
