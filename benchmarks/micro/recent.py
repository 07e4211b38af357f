"""
What it costs a request that its head is kept: `telemetry.recent_requests` on and off, in turns. Each request is kept
here, however fast they come (`proxy.recent.SPAN_NS`).

    python -m benchmarks.micro.recent                # of the interpreted data path
    PYTHONPATH=build/compiled:. python -P -m benchmarks.micro.recent    # of the compiled one (`make compile`)
    python -m benchmarks.micro.recent --json

Both data paths stand side by side in one process and serve the same requests in rounds of a few milliseconds, now the
one first and now the other, so that what the machine does meanwhile hits both. Processor time of the thread, not time
on the wall. Told is the median of the rounds' differences, as a share of a request through the data path without
network: of a request through a real sidecar, with its system calls, the share is smaller.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import statistics
import time
from collections.abc import Mapping
from typing import Final

from benchmarks.micro.data_path import DataPath, requests

KEEP: Final = 2000
_ROUNDS, _A_ROUND = 400, 100
_CASES: Final[Mapping[str, Mapping[str, object]]] = {
    "routes read a cookie (hashed)": {},
    "and an address asks for 3 headers": {"reads": ", headers: [accept, user-agent, accept-language]"},
    "without log and spans": {"has_log": False, "has_spans": False},
    "to the app": {"rules": 0},
}


def measured(settings: Mapping[str, object], rounds: int = _ROUNDS) -> dict[str, float]:
    """Nanoseconds of processor time for a request, without and with; and the share of the difference."""
    paths = (DataPath(**settings), DataPath(**settings, keep=KEEP))  # type: ignore[arg-type]
    paths[1].recent.gap_ns = 0
    users = itertools.cycle(requests(5000, seed=3))
    for path in paths:
        for _ in range(KEEP + 500):
            path.round_trip(next(users))
    gc.collect()
    gc.freeze()
    differences: list[float] = []
    without: list[float] = []
    for number in range(rounds):
        batch = [next(users) for _ in range(_A_ROUND)]
        took = [0.0, 0.0]
        for at in (0, 1) if number % 2 else (1, 0):
            round_trip = paths[at].round_trip
            began = time.thread_time_ns()
            for request in batch:
                round_trip(request)
            took[at] = (time.thread_time_ns() - began) / _A_ROUND
        without.append(took[0])
        differences.append(took[1] - took[0])
    for path in paths:
        path.close()
    base, more = statistics.median(without), statistics.median(differences)
    return {"without_ns": round(base), "more_ns": round(more), "share": round(more / base, 4)}


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[1])
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument("--rounds", type=int, default=_ROUNDS)
    arguments = parser.parse_args()
    figures = {name: measured(settings, arguments.rounds) for name, settings in _CASES.items()}
    if arguments.json:
        print(json.dumps(figures))
        return
    for name, row in figures.items():
        print(f"{name:36} {row['without_ns']:8.0f} ns  +{row['more_ns']:6.0f} ns  {row['share']:7.2%}")


if __name__ == "__main__":
    main()
