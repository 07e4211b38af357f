"""Where a subject's CPU time goes while it does the work of compare.py: by function, by library, by kernel or user.

Python functions come from py-spy (`benchmarks/.venv/bin/pip install py-spy`, or on the PATH), native symbols from perf;
either may be missing, and this then says so. Both slow the subject a little: shares are here, costs in compare.py.

    python benchmarks/hotspots.py                       # the sidecar, full
    python benchmarks/hotspots.py --subject envoy --scenario plain
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from harness.bench import Bench, cores
from harness.rounds import Round, Stage, measure, warm
from harness.site import HERE, Work
from harness.subjects import SUBJECTS


def _tool(name: str) -> str | None:
    beside = HERE / ".venv" / "bin" / name
    return str(beside) if os.access(beside, os.X_OK) else shutil.which(name)


def python_shares(folded: Path) -> tuple[int, Counter[str], Counter[str]]:
    """Samples, samples by function with what it calls (once a stack), and by function alone, of the main thread."""
    total, inclusive, alone = 0, Counter[str](), Counter[str]()
    for line in folded.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        if "_bootstrap" in frames[0]:  # another thread: py-spy counts its waiting as work; see `print_threads`
            continue
        total += int(count)
        alone[frames[-1]] += int(count)
        for frame in set(frames):
            inclusive[frame] += int(count)
    return total, inclusive, alone


def print_python(folded: Path, lines: int, cpu_us: float) -> None:
    total, inclusive, alone = python_shares(folded)
    for title, counted in (("with what it calls", inclusive), ("alone", alone)):
        print(f"\nPython functions, {title}: share, and us of {cpu_us:.1f} us a request")
        for frame, count in counted.most_common(lines):
            print(f"  {count / total:6.1%} {count / total * cpu_us:6.2f} us  {frame}")


def thread_times(pid: int) -> dict[str, tuple[str, float]]:
    """Name and CPU seconds, from the scheduler's own account, of each thread."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            ns = int((task / "schedstat").read_text().split()[0])
            found[task.name] = (task / "comm").read_text().strip(), ns / 1e9
    return found


def print_threads(before: dict[str, tuple[str, float]], after: dict[str, tuple[str, float]], requests: int) -> None:
    print("\nthreads: us a request")
    for tid, (name, spent_s) in after.items():
        print(f"  {(spent_s - before.get(tid, ('', 0.0))[1]) / max(requests, 1) * 1e6:6.2f} us  {tid} {name}")


def print_native(perf: str, recorded: Path, lines: int) -> None:
    for title, keys in (("library", "dso"), ("symbol", "dso,symbol")):
        argv = [perf, "report", "-i", str(recorded), "--stdio", "--no-children", "-g", "none", "--sort", keys]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        rows = [line for line in done.stdout.splitlines() if line.strip() and not line.startswith("#")]
        print(f"\nnative code by {title}")
        print("\n".join(rows[:lines]) or done.stderr)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subject", choices=tuple(SUBJECTS), default="sidecar")
    parser.add_argument("--scenario", choices=("plain", "full"), default="full")
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--lines", type=int, default=40)
    options = parser.parse_args()
    subject = SUBJECTS[options.subject]
    if (missing := subject.missing()) is not None:
        print(f"missing: {options.subject} cannot run; install {missing}", file=sys.stderr)
        return 2
    subject_cpus, other_cpus = cores(True)
    with tempfile.TemporaryDirectory(prefix="sidecar-hotspots-") as name, contextlib.ExitStack() as started:
        folder = Path(name)
        folder.chmod(0o755)  # nginx as root runs its worker as another user
        bench = Bench([subject], folder, 1, options.seconds, subject_cpus, other_cpus)
        grounds = started.enter_context(bench.grounds("hotspots", sinks=1))
        work = Work(is_full=options.scenario == "full")
        entry = bench.start(grounds, subject, work, grounds.sink_ports[0])
        running, load = entry.running, bench.load()
        started.callback(running.process.stop)
        warm(running, entry.sink_port, load)

        def under_load() -> Round:
            return measure(Stage("", 1), subject.name, running, entry.sink_port, load)

        threads = thread_times(running.process.pid)
        result = under_load()
        cost = result.cpu_us
        print(f"{subject.name}, {options.scenario}: {cost:.1f} us a request without a profiler")
        print_threads(threads, thread_times(running.process.pid), result.requests)

        pid, seconds = str(running.process.pid), f"{max(1, options.seconds - 1)}"
        folded, recorded = folder / "folded", folder / "perf"
        py_spy, perf = _tool("py-spy"), _tool("perf")
        if py_spy is None:
            print("missing: py-spy; no Python functions", file=sys.stderr)
        elif options.subject in ("relay", "sidecar"):
            argv = [py_spy, "record", "-p", pid, "-d", seconds, "-r", "500", "-f", "raw", "-F", "-o", str(folded)]
            _under_load(argv, under_load)
            if folded.exists():
                print_python(folded, options.lines, cost)
        if perf is None:
            print("missing: perf (apt-get install linux-perf); no native symbols", file=sys.stderr)
        else:
            argv = [perf, "record", "-q", "-e", "cpu-clock", "-F", "997", "-o", str(recorded), "-p", pid]
            _under_load([*argv, "--", "sleep", seconds], under_load)
            print_native(perf, recorded, options.lines)
    return 0


def _under_load(argv: list[str], load: Callable[[], object]) -> None:
    """Run a profiler beside the load."""
    loading = threading.Thread(target=load)
    loading.start()
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    loading.join()
    if done.returncode != 0:
        print(f"{argv[0]} ended with code {done.returncode}: {done.stderr[-500:]}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
