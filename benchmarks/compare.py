"""Compare what proxies cost: CPU per request of a relay, nginx, Envoy and the sidecar on the same work.

Each scenario starts all subjects, proves by their answers that each does the work, then loads one after the other
in interleaved rounds (A B C D, A B C D, ...), so that a machine that slows down slows all of them. What is read is
the CPU time of the subject's whole process tree, divided by the requests that were answered; medians and ratios go to
the terminal and, with every round, to a JSON file. docs/performance.md has the method.

    python benchmarks/compare.py                 # five rounds of four seconds, both scenarios: about 4 minutes
    python benchmarks/compare.py --quick         # a minute; for a first look
    python benchmarks/compare.py --subjects envoy,sidecar --scenario full --rounds 9

Ends with 0 when every round was good, 1 when a subject failed requests or lost logs or spans, 2 when something
that was asked for is missing.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from harness.nginx import start_upstreams
from harness.processes import StartError
from harness.report import markdown, summary, surroundings
from harness.rounds import Load, Round, WrongWorkError, measure, verify, warm
from harness.site import HERE, Running, Site, Subject
from harness.subjects import SUBJECTS, start_sink

SCENARIOS = ("plain", "full")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", default="all", help=f"comma-separated, of {', '.join(SUBJECTS)} (default: all)")
    parser.add_argument("--scenario", choices=(*SCENARIOS, "all"), default="all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of one subject's load in a round")
    parser.add_argument("--connections", type=int, default=32, help="keep-alive connections")
    parser.add_argument("--users", type=int, default=10_000, help="different cookies and targets in the load")
    parser.add_argument("--body", type=int, default=1024, help="octets of a response body")
    parser.add_argument("--quick", action="store_true", help="three rounds of two seconds")
    parser.add_argument("--no-pin", action="store_true", help="let the scheduler place all processes")
    parser.add_argument("--out", type=Path, help="JSON file (default: benchmarks/results/compare-<time>.json)")
    parser.add_argument("--keep", action="store_true", help="keep configurations and output, and say where")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 3, 2.0
    if options.rounds < 1 or not 1 <= options.seconds <= 60 or not 1 <= options.connections <= 4096:
        parser.error("expected rounds >= 1, 1 <= seconds <= 60, 1 <= connections <= 4096")
    return options


def chosen(names: str) -> list[Subject]:
    """The subjects to run. One that was named and cannot run ends the program; of "all" it is left out, and said."""
    wanted = list(SUBJECTS) if names == "all" else names.split(",")
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
    for tool in ("nginx", "wrk"):  # upstreams and load
        if shutil.which(tool) is None and not os.access(f"/usr/sbin/{tool}", os.X_OK):
            print(f"missing: {tool}; install it (apt-get install {tool})", file=sys.stderr)
            sys.exit(2)
    return found


def cores(is_pinned: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The subject's core, and the cores of load, upstreams and collector; empty when nothing is pinned."""
    available = sorted(os.sched_getaffinity(0))
    if not is_pinned or len(available) < 2:
        return (), ()
    return (available[0],), tuple(available[1:])


def run_scenario(
    scenario: str, subjects: list[Subject], options: argparse.Namespace, folder: Path
) -> dict[str, list[Round]]:
    """Start everything, verify, warm, measure in interleaved rounds, stop everything."""
    proxy_cpus, other_cpus = cores(not options.no_pin)
    load = Load(options.seconds, options.connections, options.users, other_cpus)
    rounds: dict[str, list[Round]] = {subject.name: [] for subject in subjects}
    with contextlib.ExitStack() as started:
        upstream, v1_port, beta_port = start_upstreams(folder, other_cpus, options.body)
        started.callback(upstream.stop)
        sink, sink_ports = start_sink(folder, other_cpus, len(subjects))
        started.callback(sink.stop)
        running: dict[str, tuple[Running, int]] = {}
        for subject, sink_port in zip(subjects, sink_ports, strict=True):
            one = subject.start(Site(folder, proxy_cpus, v1_port, beta_port, sink_port), scenario == "full")
            started.callback(one.process.stop)
            running[subject.name] = one, sink_port
            if one.reads_http:
                verify(subject.name, one)
            warm(one, sink_port, load)
        for number in range(1, options.rounds + 1):
            for name, (one, sink_port) in running.items():
                result = measure(name, one, sink_port, load)
                rounds[name].append(result)
                print(
                    f"{scenario} {number}/{options.rounds} {name:8} {result.cpu_us:7.1f} us  {result.rate:7.0f}/s  "
                    f"p99 {result.p99_us / 1000:6.2f} ms  others {result.foreign:.2f}  {'; '.join(result.faults())}",
                    flush=True,
                )
                if not one.process.is_running():
                    raise StartError(f"{name} ended under load:\n{one.process.tail()}")
    return rounds


def main() -> int:
    options = arguments()
    subjects = chosen(options.subjects)
    if not subjects:
        return 2
    document: dict[str, object] = {
        "surroundings": surroundings(subjects),
        "options": {name: value for name, value in vars(options).items() if name not in ("out", "keep")},
        "pinned": {"subject": cores(not options.no_pin)[0], "load_and_upstream": cores(not options.no_pin)[1]},
    }
    folder = Path(tempfile.mkdtemp(prefix="sidecar-compare-"))
    faults: list[str] = []
    try:
        scenarios: dict[str, object] = {}
        document["scenarios"] = scenarios
        for scenario in SCENARIOS if options.scenario == "all" else (options.scenario,):
            inside = folder / scenario
            inside.mkdir()
            rounds = run_scenario(scenario, subjects, options, inside)
            scenarios[scenario] = {
                "summary": summary(rounds),
                "rounds": [[each.as_json() for each in turn] for turn in zip(*rounds.values(), strict=True)],
            }
            faults += [
                f"{scenario}, {each.subject}: {fault}"
                for all_ in rounds.values()
                for each in all_
                for fault in each.faults()
            ]
            print(f"\n{scenario}\n{markdown(rounds)}\n", flush=True)
    except (StartError, WrongWorkError) as problem:
        print(f"stopped: {problem}", file=sys.stderr)
        return 1
    finally:
        if options.keep:
            print(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    out = options.out or HERE / "results" / f"compare-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(document, indent=1) + "\n")
    print(f"written: {out}")
    for fault in faults:
        print(f"fault: {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
