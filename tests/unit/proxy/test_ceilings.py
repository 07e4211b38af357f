"""
What a request may cost, in counts (calls, instructions, objects) against `benchmarks/micro/ceilings.json`.

Counts and not seconds, so that the answer is the same on any machine, busy or not. A change that costs more fails here
and has to be worth it; one that costs much less fails too, so that the gain is committed and cannot be lost again.
Either way `make ceilings` writes the file anew.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.micro.counts import CEILINGS, NOTHING, VERSION, Counts

ROOT = Path(__file__).resolve().parents[3]
SCENARIOS = ("full", "plain", "piece", "call")
ABOVE = 1.01
"""Of what is committed; a point release of Python may compile a statement to an instruction more."""
ABOVE_OF_A_NEIGHBOUR = 1.10
"""Where this version of Python has no ceilings and the nearest one's are used."""
BELOW = 0.9
ADVICE = "`make ceilings` writes what is counted now to benchmarks/micro/ceilings.json; commit it with the change"


@functools.cache
def counted(hash_seed: int = 0) -> dict[str, Counts]:
    """What this interpreter counts, in a process of its own: nothing that other tests did is in it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV", "OTEL"))}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.micro.counts", "--json"],
        cwd=ROOT,
        env={**environment, "PYTHONHASHSEED": str(hash_seed)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    counts: dict[str, Counts] = json.loads(done.stdout)
    return counts


def committed() -> tuple[dict[str, Counts], float]:
    """The ceilings for this interpreter, or for the nearest that has some, and what may be above them."""
    by_version: dict[str, dict[str, Counts]] = json.loads(CEILINGS.read_text())
    if VERSION in by_version:
        return by_version[VERSION], ABOVE
    ours = int(VERSION.partition(".")[2])
    nearest = min(by_version, key=lambda version: abs(int(version.partition(".")[2]) - ours))
    return by_version[nearest], ABOVE_OF_A_NEIGHBOUR


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_no_count_is_above_its_ceiling(scenario: str) -> None:
    """No change makes a request or a piece of a body cost more without saying so."""
    ceilings, allowance = committed()
    above = {
        name: f"{counted()[scenario][name]} instead of {ceiling}"
        for name, ceiling in ceilings[scenario].items()
        if counted()[scenario].get(name, 0) > ceiling * allowance
    }
    assert not above, f"{scenario} costs more than is committed: {above}. If it is worth it: {ADVICE}"


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_gain_is_committed(scenario: str) -> None:
    """No count is so far below its ceiling that the gain could be lost again unseen."""
    ceilings, allowance = committed()
    if allowance != ABOVE:
        pytest.skip(f"no ceilings of Python {VERSION}, and those of its neighbour say nothing about gains: {ADVICE}")
    below = {
        name: f"{counted()[scenario][name]} instead of {ceiling}"
        for name, ceiling in ceilings[scenario].items()
        if counted()[scenario][name] < ceiling * BELOW
    }
    assert not below, f"{scenario} costs less than is committed: {below}. Well done: {ADVICE}"


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_nothing_is_left_behind(scenario: str) -> None:
    """A request leaves no object and no memory block behind, and makes no cycle for the collector to find."""
    assert {name: counted()[scenario][name] for name in NOTHING} == dict.fromkeys(NOTHING, 0)


def test_counts_do_not_depend_on_chance() -> None:
    """Another order of sets and dictionaries changes no count: a failure here is a change, not bad luck."""
    assert counted(hash_seed=4711) == counted()


def test_each_ceiling_is_of_something_counted() -> None:
    """A count that was renamed or removed does not leave a ceiling that nothing can exceed."""
    ceilings, _ = committed()
    assert set(ceilings) == set(SCENARIOS) == set(counted())
    if VERSION in json.loads(CEILINGS.read_text()):
        assert {name: set(row) for name, row in ceilings.items()} == {
            name: set(row) - set(NOTHING) for name, row in counted().items()
        }
