"""A file that may be put in force, and how it goes to a successor. *Cold, pure.*"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sidecar.config.problems import Problem
from sidecar.link.identity.held import Held, read_held
from sidecar.link.messages import EndpointEntry
from sidecar.link.report import Refused, RefusedProblem, Source
from sidecar.loader.load_outcome import LoadOutcome
from sidecar.loader.plan_source import Pushed
from sidecar.runtime.mesh.crashes import Record, read_record
from sidecar.runtime.mesh.last_good import Kept, Memory, endpoints_of, endpoints_shown

PUSHED = "pushed"
"""Name of what was pushed, in problems and on pages."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """
    A file, and where it was had from.

    Attributes:
        revision: That it came with; 0 for none.
    """

    pushed: Pushed
    source: Source
    revision: int = 0

    def kept(self) -> Kept | None:
        """As it is kept on disk; None for one that nobody pushed."""
        if not self.pushed.hash or self.pushed.text is None:
            return None
        return Kept(self.pushed.hash, self.revision, self.pushed.text)


def refused_by(tried: Candidate, outcome: LoadOutcome) -> Refused:
    """What is reported of a file that could not be put in force."""
    problems = tuple(_reported(one, tried) for one in outcome.problems)
    if outcome.error:
        problems = (RefusedProblem(0, 0, "", outcome.error),)
    return Refused(tried.pushed.hash, tried.revision, problems)


def _reported(problem: Problem, tried: Candidate) -> RefusedProblem:
    """A place that the control plane can look up is one in what it pushed; others are said in words."""
    if problem.file == tried.pushed.name:
        return RefusedProblem(problem.line, problem.column, problem.path, problem.message, problem.hint)
    message = f"{problem.file}:{problem.line}:{problem.column}: {problem.message}"
    return RefusedProblem(0, 0, problem.path, message, problem.hint)


def write_hand_over(
    record: Record,
    in_force: Candidate | None,
    endpoints: Mapping[str, Sequence[EndpointEntry]],
    identity: Held | None = None,
) -> bytes:
    """What a successor needs to be this instance, its key included."""
    kept = in_force.kept() if in_force is not None else None
    value = {
        "record": record.shown(),
        "file": {"hash": kept.hash, "revision": kept.revision, "text": kept.text} if kept is not None else None,
        "endpoints": endpoints_shown(endpoints),
        "identity": identity.shown() if identity is not None else None,
    }
    return json.dumps(value, separators=(",", ":")).encode("utf-8", "surrogatepass")


def read_hand_over(raw: bytes) -> Memory | None:
    """As a start needs it; None if nothing was handed over that is understood."""
    try:
        value: Any = json.loads(raw)
        file = value["file"]
        files = [Kept(str(file["hash"]), int(file["revision"]), str(file["text"]))] if file is not None else []
        # A predecessor of an older release has none.
        identity = read_held(value.get("identity"))
        return Memory(files, endpoints_of(value["endpoints"]), read_record(value["record"]), identity=identity)
    except (ValueError, LookupError, TypeError, AttributeError):
        return None
