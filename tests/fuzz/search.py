"""
Search with atheris for what makes a target raise: `python -m tests.fuzz.search TARGET SECONDS FOLDER`.

What was found to reach something new is kept in the folder, for the next search to begin with; an input that breaks a
target is written there as `crash-...`, and the search ends with its traceback.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import atheris


def main(name: str, seconds: str, folder: str) -> None:
    """Search for so long."""
    with atheris.instrument_imports(include=["sidecar.http2", "sidecar.http1"]):
        targets = importlib.import_module("tests.fuzz.targets")
    kept = Path(folder) / name
    kept.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(targets.SEEDS[name]):
        (kept / f"seed-{number}").write_bytes(seed)
    options = [f"-max_total_time={seconds}", "-max_len=4096", f"-artifact_prefix={kept}/", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *options, str(kept)], targets.TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
