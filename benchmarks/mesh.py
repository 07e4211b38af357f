"""
What a mesh carries and costs: the figures of a control plane, and of what sidecars feel of it.

    .venv/bin/python benchmarks/mesh.py [--scenario whole] [--save] [--sidecar compiled]

- `whole`: 1,000 sidecars that speak the real protocol and no more, beside five real ones under load; 200 services that
  call 20 each, 10,000 endpoints; for ten minutes an endpoint changes every second, a route every twelve; then the
  control plane is killed. What the measuring process adds is measured, too. 13 minutes.
- `node`: a push to 50 real sidecars on this machine, spread as by default and at once: p99 of their traffic. 6 minutes.
- `growth`: the changes of `whole` at 100 to 1,000 sidecars and at 20 to 200 services. 8 minutes.
- `control-cost`: CPU a request of a sidecar with a file, and of one that was told the same file. 4 minutes.

The control plane is `sidecar control` with the engine `files`; but for `node` waves are skipped, pushes not spread, and
it has one core where there are two. Figures go to the terminal, with `--save` to `results/`. docs/performance.md has
what they mean. Ends with 1 if a request was lost or a sidecar did not do what it was told.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import uvloop  # noqa: E402

from benchmarks.harness.bench import AVAILABLE, Bench, cores  # noqa: E402
from benchmarks.harness.load import missing_wrk  # noqa: E402
from benchmarks.harness.processes import Others  # noqa: E402
from benchmarks.harness.site import tool  # noqa: E402
from benchmarks.harness.surroundings import surroundings  # noqa: E402
from benchmarks.mesh_fleet.control_cost import control_cost  # noqa: E402
from benchmarks.mesh_fleet.growth import growth  # noqa: E402
from benchmarks.mesh_fleet.node import Node, node  # noqa: E402
from benchmarks.mesh_fleet.real import FORMS, missing  # noqa: E402
from benchmarks.mesh_fleet.report import faults, goals, lines  # noqa: E402
from benchmarks.mesh_fleet.run import Size  # noqa: E402
from benchmarks.mesh_fleet.whole import whole  # noqa: E402

FORMAT = 1  # of the result files
Figures = dict[str, Any]


def _whole(options: argparse.Namespace, folder: Path) -> Figures:
    own = options.sidecars + options.real
    size = Size(
        options.sidecars, options.services, options.calls, max(0, (options.endpoints - own) // options.services),
        real=options.real, rate=options.rate, minutes=options.minutes, form=options.sidecar,
    )  # fmt: skip
    return _loop(whole(size, folder))


def _growth(options: argparse.Namespace, folder: Path) -> Figures:
    most, services = options.sidecars, options.services
    base = Size(
        most, services, options.calls, max(0, (options.endpoints - most) // services),
        minutes=options.growth_minutes, route_period_s=4.0, idle_s=5.0, kills=False,
    )  # fmt: skip
    by_sidecars = [max(1, most // 10), max(1, 3 * most // 10), most]
    by_services = [max(2, services // 10), max(2, 3 * services // 10), services]
    return _loop(growth(by_sidecars, by_services, base, services, by_sidecars[1], folder, _say))


def _node(options: argparse.Namespace, folder: Path) -> Figures:
    size = Node(
        options.node_sidecars, options.services, options.calls, options.node_rate,
        options.pushes, options.cycles, options.sidecar,
    )  # fmt: skip
    return node(size, folder, _say)


def _control_cost(options: argparse.Namespace, folder: Path) -> Figures:
    subject, others = cores(True)
    os.sched_setaffinity(0, others)
    try:
        bench = Bench([], folder, options.rounds, options.seconds, subject, others)
        return control_cost(bench, options.sidecar)
    finally:
        os.sched_setaffinity(0, AVAILABLE)


SCENARIOS: dict[str, Callable[[argparse.Namespace, Path], Figures]] = {
    "whole": _whole,
    "node": _node,
    "growth": _growth,
    "control-cost": _control_cost,
}


def _loop(work: Any) -> Figures:
    found: Figures = uvloop.run(work)
    return found


def _say(text: str) -> None:
    print(f"  {text}", flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", default="whole", help=f"one of {', '.join(SCENARIOS)}, some by commas, or all")
    parser.add_argument("--sidecar", choices=FORMS, default="interpreted", help="form of the real ones (make compile)")
    parser.add_argument("--save", action="store_true", help="keep the figures in results/")
    of = parser.add_argument_group("whole, growth, and services and calls of node")
    of.add_argument("--sidecars", type=int, default=1000, help="simulated; the most of growth")
    of.add_argument("--services", type=int, default=200, help="the most of growth")
    of.add_argument("--calls", type=int, default=20, help="of each service")
    of.add_argument("--endpoints", type=int, default=10_000, help="all together, those of the sidecars included")
    of.add_argument("--minutes", type=float, default=10.0, help="of changes, in whole")
    of.add_argument("--growth-minutes", type=float, default=0.5, help="of changes, at each size of growth")
    of.add_argument("--real", type=int, default=5, help="real sidecars with clients, in whole")
    of.add_argument("--rate", type=float, default=40.0, help="requests a second of each one's clients")
    of = parser.add_argument_group("node")
    of.add_argument("--node-sidecars", type=int, default=50)
    of.add_argument("--node-rate", type=float, default=8.0, help="requests a second of each one's clients")
    of.add_argument("--pushes", type=int, default=2, help="with each spread, in each cycle")
    of.add_argument("--cycles", type=int, default=2, help="of both spreads")
    of = parser.add_argument_group("control-cost")
    of.add_argument("--rounds", type=int, default=10)
    of.add_argument("--seconds", type=int, default=5, help="length of one sidecar's load in a round")
    parser.add_argument("--table", type=Path, metavar="RESULT", help="print the goals and what a file has of them")
    options = parser.parse_args()
    names = list(SCENARIOS) if options.scenario == "all" else options.scenario.split(",")
    for name in names:
        if name not in SCENARIOS:
            parser.error(f"unknown scenario {name!r}; expected some of {', '.join(SCENARIOS)}")
    options.scenarios = names
    lacking = [missing(options.sidecar), None if tool("nginx") else "nginx (apt-get install nginx)"]
    if "control-cost" in names:
        lacking.append(missing_wrk())
    if found := [one for one in lacking if one is not None]:
        parser.error(f"missing: {', '.join(found)}")
    return options


def main() -> int:
    """Run, print, and perhaps keep."""
    options = arguments()
    if options.table is not None:
        print(goals(json.loads(options.table.read_text())))
        return 0
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4 * options.sidecars + 4000)), hard))
    document: Figures = {
        "format": FORMAT,
        "surroundings": surroundings([]),
        "options": {name: value for name, value in vars(options).items() if name not in ("scenario", "save", "table")},
        "scenarios": {},
    }
    status = 0
    try:
        for name in options.scenarios:
            print(name, flush=True)
            began, others = time.monotonic(), Others()
            with tempfile.TemporaryDirectory(prefix="sidecar-mesh-bench-", ignore_cleanup_errors=True) as folder:
                os.chmod(folder, 0o755)  # nginx as root has its worker run as another user
                figures = SCENARIOS[name](options, Path(folder))
            seconds = round(time.monotonic() - began, 1)
            foreign, steal = (round(one, 3) for one in others.cores())
            document["scenarios"][name] = {
                "seconds": seconds, "foreign": foreign, "steal": steal, "figures": figures,
            }  # fmt: skip
            print("\n".join(lines(figures)))
            for fault in faults(figures):
                status = 1
                print(f"fault: {name}: {fault}", file=sys.stderr)
            print(f"{name}: {seconds:.0f} s; cores that others kept busy: {foreign}, that were taken away: {steal}\n")
    finally:
        if document["scenarios"]:
            print(goals(document))
        if options.save and document["scenarios"]:
            path = HERE / "results" / f"mesh-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
            path.write_text(json.dumps(document, indent=1) + "\n")
            print(f"written: {os.path.relpath(path)}")
    return status


if __name__ == "__main__":
    sys.exit(main())
