"""
Two configurations, and the requests that were seen last: what the one does otherwise than the other. *Cold.*

It is done in a process of its own (`loader.compiler`), which stands back for the data path.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from sidecar.compile.deserialize import Written
from sidecar.compile.dry_plan import plan_of
from sidecar.compile.frames import Header, read_header
from sidecar.insight.preview.report import tally_of
from sidecar.insight.preview.settings import changed_settings, position
from sidecar.insight.preview.wire import unpack
from sidecar.redact import Secrets

_PLACE: Final = re.compile(r"^\S*?:\d+:\d+: ")


def preview(
    live: Sequence[bytes], new: Sequence[bytes], rings: Sequence[Sequence[bytes]], file: str, secrets: Secrets
) -> dict[str, Any]:
    """
    The report of a file that is good.

    Args:
        live: Frames of the configuration in force.
        new: Frames of the one that may take its place.
        rings: Of each process' recent requests, as `wire.pack` makes them.
        file: Name of the new file.
        secrets: What may not be shown.
    """
    entries = [entry for ring in rings for entry in unpack(ring)]
    before, after = plan_of(live), plan_of(new)
    was, is_now = Written(live), Written(new)
    lines = is_now.lines()

    def locate(direction: str, route: str, index: int) -> str:
        if index < 0:
            return position(lines, file, ("upstreams", route))
        return position(lines, file, (direction, "routes", index)) or position(lines, file, ("upstreams", route))

    shown = tally_of(entries, before, after).shown(before, after, locate, secrets.hide)
    return {
        **shown,
        "settings": changed_settings(was, is_now, file, secrets),
        "warnings": _new_warnings(read_header(live[0]), read_header(new[0])),
        "problems": [],
    }


def refused(problems: Sequence[dict[str, Any]], error: str = "") -> dict[str, Any]:
    """The report of a file that cannot be put in force."""
    return {
        "requests": 0, "moved": 0, "moved_share": 0.0, "unknown": 0, "refused": 0, "not_found": 0, "groups": [],
        "groups_left_out": 0, "unknowns": [], "splits": [], "settings": [], "warnings": [],
        "problems": [*problems, *([{"text": error, "message": error}] if error else [])],
    }  # fmt: skip


def _new_warnings(live: Header, new: Header) -> list[str]:
    """Those of the new file that the one in force does not have, wherever in it."""
    known = {_PLACE.sub("", warning) for warning in live.warnings}
    return [warning for warning in new.warnings if _PLACE.sub("", warning) not in known]
