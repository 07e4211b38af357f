"""Compare what proxies cost: a relay, nginx, HAProxy, Envoy, a proxy on aiohttp and the sidecar on the same work.

Each scenario starts its subjects, proves by their answers that each does the work, then loads one after the other
in interleaved rounds (A B C, A B C, ...), so that a machine that slows down slows all of them. Every round goes to a
JSON file; the tables that are made of it go to the terminal. docs/performance.md has the method.

    python benchmarks/compare.py                              # everything: about 40 minutes
    python benchmarks/compare.py --quick                      # a first look: two rounds of a second, four minutes
    python benchmarks/compare.py --scenarios full --subjects envoy,sidecar --rounds 9
    python benchmarks/compare.py --write-docs RESULT.json ... # tables and plots of docs/performance.md, nothing is run

Ends with 0 when every round was good, 1 when a subject failed requests or lost logs or spans, 2 when something
that was asked for is missing.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from harness import (
    cpu_scenarios,
    h2_mesh_scenario,
    h2_scenarios,
    memory_scenario,
    time_scenarios,
    tls_memory_scenario,
    tls_scenarios,
    tls_time_scenarios,
)
from harness.bench import Bench, Result, cores, faults_of
from harness.evidence import WrongWorkError
from harness.load import missing_wrk
from harness.page import MissingError, write_page
from harness.processes import StartError
from harness.records import FORMAT, Document
from harness.site import HERE, Subject
from harness.subjects import SUBJECTS, another_sidecar
from harness.surroundings import surroundings
from harness.tables import tables

MODULES = (
    cpu_scenarios,
    time_scenarios,
    memory_scenario,
    tls_scenarios,
    tls_time_scenarios,
    tls_memory_scenario,
    h2_scenarios,
    h2_mesh_scenario,
)
SCENARIOS: dict[str, Callable[[Bench], Result]] = {
    name: scenario for module in MODULES for name, scenario in module.SCENARIOS.items()
}


QUICK = ("plain", "full", "routes", "latency", "reload", "start")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenarios", default="all", help=f"comma-separated, of {', '.join(SCENARIOS)} (default: all)")
    parser.add_argument("--subjects", default="all", help=f"comma-separated, of {', '.join(SUBJECTS)} (default: all)")
    parser.add_argument(
        "--also",
        action="append",
        default=[],
        metavar="NAME=COMMAND",
        help="another sidecar among the subjects, say of the commit before: before=/path/to/sidecar",
    )
    parser.add_argument("--rounds", type=int, default=5, help="at most 3 in all but plain, full and start")
    parser.add_argument("--seconds", type=int, default=3, help="length of one subject's load in a round")
    parser.add_argument("--quick", action="store_true", help=f"two rounds of one second; of {', '.join(QUICK)}")
    parser.add_argument("--no-pin", action="store_true", help="let the scheduler place all processes")
    parser.add_argument("--out", type=Path, help="JSON file (default: benchmarks/results/compare-<time>.json)")
    parser.add_argument("--keep", action="store_true", help="keep configurations and output, and say where")
    parser.add_argument(
        "--write-docs",
        type=Path,
        nargs="+",
        metavar="RESULT",
        help="write docs/performance.md of JSON files; of a scenario that several have, the last counts",
    )
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 2, 1
    if options.rounds < 1 or not 1 <= options.seconds <= 60:
        parser.error("expected rounds >= 1, 1 <= seconds <= 60")
    for also in options.also:
        name, _, command = also.partition("=")
        if not command or name in SUBJECTS:
            parser.error(f"--also {also}: expected NAME=COMMAND, with a name that is not one of the subjects")
        SUBJECTS[name] = another_sidecar(name, Path(command).resolve())
    every = QUICK if options.quick else tuple(SCENARIOS)
    options.scenarios = list(every) if options.scenarios == "all" else options.scenarios.split(",")
    for name in options.scenarios:
        if name not in SCENARIOS:
            parser.error(f"unknown scenario {name!r}; expected some of {', '.join(SCENARIOS)}")
    return options


def chosen(names: str, also: Sequence[str]) -> list[Subject]:
    """
    The subjects to run: those named, and those that were given by `--also`. One that was named and cannot run ends the
    program; of "all" it is left out, and said.
    """
    wanted = list(SUBJECTS) if names == "all" else names.split(",")
    wanted += [name for name in (one.partition("=")[0] for one in also) if name not in wanted]
    found = []
    for name in wanted:
        if name not in SUBJECTS:
            sys.exit(f"unknown subject {name!r}; expected one of {', '.join(SUBJECTS)}")
        if (missing := SUBJECTS[name].missing()) is None:
            found.append(SUBJECTS[name])
            continue
        print(f"missing: {name} cannot run; install {missing}", file=sys.stderr)
        if names != "all":
            sys.exit(2)
    for what, missing in (("upstreams", SUBJECTS["nginx"].missing()), ("load", missing_wrk())):
        if missing is not None:
            print(f"missing: {what} of all subjects; install {missing}", file=sys.stderr)
            sys.exit(2)
    return found


def run(bench: Bench, names: list[str], document: Document) -> None:
    """Run the scenarios into the document, each with how long it took."""
    for name in names:
        began = time.monotonic()
        result = SCENARIOS[name](bench)
        document["scenarios"][name] = {
            "seconds": round(time.monotonic() - began, 1),
            "notes": result.notes,
            "records": result.records,
        }
        print(f"\n{name}, {time.monotonic() - began:.0f} s\n\n{tables(document, name)}\n", flush=True)


def main() -> int:
    options = arguments()
    if options.write_docs is not None:
        try:
            for path in write_page(options.write_docs):
                print(f"written: {path}")
        except MissingError as problem:
            print(problem, file=sys.stderr)
            return 2
        return 0
    subjects = chosen(options.subjects, options.also)
    if not subjects:
        return 2
    subject_cpus, other_cpus = cores(not options.no_pin)
    os.sched_setaffinity(0, other_cpus)  # scraping and looking on are not to disturb the subject
    document: Document = {
        "format": FORMAT,
        "surroundings": surroundings(subjects),
        "options": {"rounds": options.rounds, "seconds": options.seconds, "scenarios": options.scenarios},
        "pinned": {"subject": list(subject_cpus), "load_and_upstream": list(other_cpus)},
        "scenarios": {},
    }
    folder = Path(tempfile.mkdtemp(prefix="sidecar-compare-"))
    folder.chmod(0o755)  # nginx as root runs its worker as another user
    status = 0
    try:
        bench = Bench(subjects, folder, options.rounds, options.seconds, subject_cpus, other_cpus, options.keep)
        run(bench, options.scenarios, document)
    except (StartError, WrongWorkError, OSError) as problem:
        print(f"stopped: {problem}; what was measured before is kept", file=sys.stderr)
        status = 1
    finally:
        if options.keep:
            print(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    out = options.out or HERE / "results" / f"compare-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(document, indent=1) + "\n")
    print(f"written: {os.path.relpath(out)}")
    for name, scenario in document["scenarios"].items():
        for record in scenario["records"]:
            for fault in faults_of(record):
                status = 1
                print(f"fault: {name} {record['case']}, {record['subject']}: {fault}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
