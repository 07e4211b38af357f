"""The table of stages stays in step with the data path that it measures."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from benchmarks.micro.stages import STAGES

ROOT = Path(__file__).resolve().parents[2]


def test_every_stage_of_a_request_is_measured() -> None:
    """`python -m benchmarks.micro` runs, and has a figure and a budget for each stage and for all together."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.micro", "--quick"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"^(\w+) +(-?\d+\.\d\d) +(\d+\.\d\d)", done.stdout, re.MULTILINE)
    assert [row[0] for row in rows] == [*(stage.name for stage in STAGES), "together"]
    figures = {name: float(figure) for name, figure, _ in rows}
    # Differences of rough figures may fall below nothing; what is timed itself may not.
    assert all(figures[name] > 0 for name in ("head", "match", "choose", "forward", "acquire", "record", "together"))


def test_every_benchmark_knows_what_it_measures() -> None:
    """Each is loaded: what it names is there. One called a function for weeks that had gone."""
    modules = sorted(f"benchmarks.micro.{path.stem}" for path in (ROOT / "benchmarks" / "micro").glob("[a-z]*.py"))
    done = subprocess.run(
        [sys.executable, "-c", f"import {', '.join(modules)}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
