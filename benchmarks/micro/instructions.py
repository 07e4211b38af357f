"""
What a request costs in instructions of this program, counted by valgrind: a figure that no neighbour moves.

    python -m benchmarks.micro.instructions                          # of the data path as `make compile` made it
    python -m benchmarks.micro.instructions --also before=/checkout  # beside that of another, compiled and with a .venv

Time on a shared machine is spread by a tenth and more, so that a difference of a hundredth is not seen in it. This sees
it, but for what instructions do not tell: system calls, and how long memory is waited for. Needs valgrind (Debian:
`valgrind`) and takes four minutes.
"""

from __future__ import annotations

import argparse
import gc
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).resolve().parents[2]
_REQUESTS: Final = 2_000
_BEFORE: Final = 300
"""Requests that are not counted: what the first of a kind leaves behind is there for all others."""

_WHAT: Final[Mapping[str, Mapping[str, object]]] = {
    "metrics": {"has_log": False, "has_spans": False},
    "metrics, log": {"has_spans": False},
    "metrics, log, span": {},
    "a call of gRPC, all of it": {"calls": True},
    "to the app, no rules": {"rules": 0},
    "to the app, 1,000 rules": {"rules": 1_000},
}


def _serve(what: str, number: int) -> None:
    """As many requests, by whichever `benchmarks.micro.data_path` there is."""
    serve: Callable[[bytes], None]
    if "calls" in _WHAT[what]:
        from benchmarks.micro.call_path import CallPath

        calling = CallPath(users=_BEFORE + number, seed=5)
        users, serve = calling.calls, calling.call
    else:
        from benchmarks.micro.data_path import DataPath, requests

        path = DataPath(**_WHAT[what])  # type: ignore[arg-type]
        users, serve = requests(_BEFORE + number, seed=5), path.round_trip
    gc.collect()
    gc.freeze()  # as the sidecar does after it has loaded its file
    gc.disable()
    for user in users:
        serve(user)


def _instructions(root: Path, what: str, number: int) -> int:
    """Of a process that serves so many."""
    paths = os.pathsep.join((str(root / "build" / "compiled"), str(root)))
    # By hashes that are the same each time: how often a dictionary has to look further is a matter of chance.
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONHASHSEED": "0"}
    counting = ("valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null")
    serving = (str(root / ".venv" / "bin" / "python"), "-P", __file__, "--serve", what, str(number))
    done = subprocess.run((*counting, *serving), env=environment, capture_output=True, text=True, check=False)
    found = re.search(r"I\s+refs:\s+([\d,]+)", done.stderr)
    if done.returncode or found is None:
        raise SystemExit(f"{root}: {what}: ended with {done.returncode}\n{done.stderr[-2000:]}")
    return int(found[1].replace(",", ""))


def _per_request(root: Path, what: str) -> float:
    return (_instructions(root, what, _REQUESTS) - _instructions(root, what, 0)) / _REQUESTS


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    also = "another checkout; what it cannot do is left out"
    parser.add_argument("--also", metavar="NAME=CHECKOUT", type=_named, help=also)
    parser.add_argument("--serve", nargs=2, metavar=("WHAT", "REQUESTS"), help=argparse.SUPPRESS)
    wants = parser.parse_args()
    if wants.serve:
        _serve(wants.serve[0], int(wants.serve[1]))
        return
    if shutil.which("valgrind") is None:
        raise SystemExit("valgrind is not installed; on Debian and Ubuntu: apt install valgrind")
    name, other = wants.also or ("", None)
    for root in filter(None, (_ROOT, other)):
        if not (root / "build" / "compiled" / "sidecar").is_dir():
            raise SystemExit(f"{root}: nothing compiled; run `make compile` first")
    print(f"{'instructions a request':<26}{'here':>10}" + (f"{name:>10}{'ratio':>8}" if other else ""))
    for what in _WHAT:
        here = _per_request(_ROOT, what)
        line = f"{what:<26}{here:>10,.0f}"
        if other is not None and _WHAT[what].keys().isdisjoint(("rules", "calls")):
            there = _per_request(other, what)
            line += f"{there:>10,.0f}{here / there:>8.3f}"
        print(line, flush=True)


def _named(value: str) -> tuple[str, Path]:
    name, _, where = value.partition("=")
    if not name or not where:
        raise argparse.ArgumentTypeError(f"expected NAME=CHECKOUT, found {value!r}")
    return name, Path(where).resolve()


if __name__ == "__main__":
    main()
