"""What holds for every test."""

from __future__ import annotations

import filecmp
import gc
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController

ROOT = Path(__file__).resolve().parent.parent

# The same examples in every run: a test run says something about the change, not about chance. `HYPOTHESIS_RANDOM=1`
# looks further, and what it finds becomes a test of its own. How fast the machine makes examples, or runs one, is no
# promise of ours: its tables of characters alone take two seconds in a fresh clone beside a busy neighbour.
_SLOW = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("repeatable", derandomize=True, **_SLOW)
settings.register_profile("searching", **_SLOW)
settings.load_profile("searching")
if os.environ.get("HYPOTHESIS_RANDOM") != "1":
    settings.load_profile("repeatable")

# A shell starts what it runs in the background with SIGINT ignored, which every child would inherit, and with it the
# commands whose end by Ctrl-C is tested.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Containers often forbid bytecode in files. Each of some five hundred sidecars would then compile the whole source
# again, which is half of the CPU that its start costs.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# What waits for real processes, and may run beside anything.
BESIDE = ("tests/browser/", "tests/integration/", "tests/soak/")
# What tries many inputs, and takes about as long as all that remains.
SEARCHES = ("tests/property/", "tests/wire/")
IN_ORDER = ("searches", "units")


class Scheduling(LoadFileScheduling):
    """
    What runs where, when pytest has several processes (`-n 4`): a file of `BESIDE` at a time in whichever is free, and
    each of the two that are `IN_ORDER` in one process, test after test in the same order as always, so that whatever
    one of these tests leaves behind in the interpreter is the same in every run.

    These come first, for they are the longest. Of `BESIDE` the files with the fewest tests do, for each of those
    takes long: what is left for the end is short, and no process waits for another's last minute.
    """

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith(BESIDE):
            return super()._split_scope(nodeid)
        return IN_ORDER[not nodeid.startswith(SEARCHES)]

    def _assign_work_unit(self, node: WorkerController) -> None:
        units = self.workqueue
        units.move_to_end(min(units, key=lambda scope: (scope not in IN_ORDER, len(units[scope]))), last=False)
        super()._assign_work_unit(node)


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Scheduling:
    """Ours, whatever `--dist` says."""
    return Scheduling(config, log)


def _test_the_build(build: Path) -> None:
    """
    Let `sidecar` be the compiled package in this folder instead of the source beside the tests: in this process, which
    imports it now, before any test does, and in all that tests start.

    Raises:
        pytest.UsageError: The folder has another source's build, or one that is not compiled.
    """
    sources = {path.relative_to(ROOT) for path in ROOT.glob("sidecar/**/*.py")}
    built = {path.relative_to(build) for path in build.glob("sidecar/**/*.py")}
    changed = [name for name in sources & built if not filecmp.cmp(ROOT / name, build / name, shallow=False)]
    if changed or sources != built:
        stale = ", ".join(sorted(map(str, {*changed, *(sources ^ built)}))[:5])
        raise pytest.UsageError(f"{build} is not made from this source; run make compile ({stale})")
    sys.path.insert(0, str(build))
    os.environ["PYTHONPATH"] = os.pathsep.join((str(build), str(ROOT)))
    # Else `python -m` puts the working directory first, which has the source.
    os.environ["PYTHONSAFEPATH"] = "1"
    from sidecar.proxy import live

    ask = [sys.executable, "-c", "from sidecar.proxy import live; print(live.__file__)"]
    child = subprocess.run(ask, capture_output=True, text=True, check=True, cwd=ROOT).stdout.strip()
    for file in (live.__file__, child):
        if not file.startswith(str(build)) or file.endswith(".py"):
            raise pytest.UsageError(f"expected the data path to be native in {build}, found {file}")


if "SIDECAR_TEST_BUILD" in os.environ:
    _test_the_build(Path(os.environ["SIDECAR_TEST_BUILD"]).resolve())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what looks at the interpreter's own work where there is none."""
    from sidecar.build import IS_COMPILED

    if IS_COMPILED:
        for item in items:
            marker = item.get_closest_marker("interpreted_only")
            if marker is not None:
                item.add_marker(pytest.mark.skip(reason=f"interpreted only: {marker.args[0]}"))


def pytest_collection_finish() -> None:
    """
    Exempt what collecting has made from garbage collection: it lives as long as the process, and each collection of
    everything, of which tests ask for many, would look through a million objects of pytest's.
    """
    gc.collect()
    gc.freeze()
