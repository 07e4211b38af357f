"""
Two configurations, and the requests that were seen last: what the one does otherwise than the other. *Cold.*

It is done in a process of its own (`loader.compiler`), which stands back for the data path.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sidecar.compile.deserialize import Written
from sidecar.compile.dry_plan import plan_of
from sidecar.compile.frames import read_header
from sidecar.compile.time_slices import at_once
from sidecar.config.problems import Problem
from sidecar.insight.preview.report import tally_of
from sidecar.insight.preview.settings import changed_settings, position
from sidecar.insight.preview.warned import new_warnings
from sidecar.insight.preview.wire import unpack
from sidecar.redact import Secrets


def preview(
    live: Sequence[bytes],
    new: Sequence[bytes],
    rings: Sequence[Sequence[bytes]],
    file: str,
    secrets: Secrets,
    found: Sequence[Problem] = (),
) -> dict[str, Any]:
    """
    The report of a file that is good.

    Args:
        live: Frames of the configuration in force.
        new: Frames of the one that may take its place.
        rings: Of each process' recent requests, as `wire.pack` makes them.
        file: Name of the new file.
        secrets: What may not be shown.
        found: What the new plan is warned of, where that was asked.
    """
    entries = [entry for ring in rings for entry in unpack(ring)]
    before, after = plan_of(live), plan_of(new)
    was, is_now = Written(live), Written(new)
    lines = at_once(is_now.lines())

    def locate(direction: str, route: str, index: int) -> str:
        if index < 0:
            return position(lines, file, ("upstreams", route))
        return position(lines, file, (direction, "routes", index)) or position(lines, file, ("upstreams", route))

    shown = tally_of(entries, before, after).shown(before, after, locate, secrets.hide)
    return {
        **shown,
        "settings": changed_settings(was, is_now, file, secrets),
        "warnings": [
            secrets.hide(one) for one in new_warnings(read_header(live[0]), read_header(new[0]), before, after, found)
        ],
        "problems": [],
    }


def refused(problems: Sequence[dict[str, Any]], error: str = "") -> dict[str, Any]:
    """The report of a file that cannot be put in force."""
    return {
        "requests": 0, "moved": 0, "moved_share": 0.0, "unknown": 0, "refused": 0, "not_found": 0, "groups": [],
        "groups_left_out": 0, "unknowns": [], "splits": [], "settings": [], "warnings": [],
        "problems": [*problems, *([{"text": error, "message": error}] if error else [])],
    }  # fmt: skip
