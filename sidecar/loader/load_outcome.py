"""What came of reading the file once, and how it is shown. *Cold, pure.*"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from sidecar.config.problems import Problem


@dataclass(frozen=True, slots=True)
class LoadOutcome:
    """
    What came of reading the file once.

    Attributes:
        trigger: As `PlanSource.frames` has it.
        finished_s: Seconds since the Unix epoch.
        took_s: From reading to the swap.
        is_ok: Whether the file is live.
        config_hash: First 12 hexadecimal digits of the file's SHA-256; empty if it could not be read.
        generation: Of the plan that is live now; 0 for none.
        problems: What is wrong in the file, if that is why it is not live.
        error: Why it is not live, if not for something in the file; empty otherwise.
        warnings: Of a file that is live: what is hardly meant, a line each.
        is_transient: Why it is not live may pass by itself; it is tried again.
        preview: What it would do to recent requests, if that is why it is not live.
    """

    trigger: str
    finished_s: float
    took_s: float
    is_ok: bool
    config_hash: str
    generation: int
    problems: tuple[Problem, ...] = ()
    error: str = ""
    warnings: tuple[str, ...] = ()
    is_transient: bool = False
    preview: Mapping[str, object] | None = None

    @property
    def lines(self) -> list[str]:
        """Everything that is wrong, one line each."""
        return [self.error] if self.error else [str(problem) for problem in self.problems]

    def shown(self) -> dict[str, object]:
        """As `/config` and `/reload` show it."""
        return {
            "ok": self.is_ok,
            "trigger": self.trigger,
            "at": shown_time(self.finished_s),
            "took_ms": round(self.took_s * 1000, 1),
            "hash": self.config_hash,
            "generation": self.generation,
            "error": self.error or None,
            "problems": [shown_problem(problem) for problem in self.problems],
            "warnings": list(self.warnings),
            **({"preview": self.preview} if self.preview is not None else {}),
        }


def shown_live(good: LoadOutcome | None) -> dict[str, object]:
    """Which configuration is live, by the last outcome that was good."""
    if good is None:
        return {"hash": None, "generation": 0, "loaded_at": None}
    return {"hash": good.config_hash, "generation": good.generation, "loaded_at": shown_time(good.finished_s)}


def shown_time(seconds: float) -> str:
    """RFC 3339 in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def shown_problem(problem: Problem) -> dict[str, object]:
    """A problem for programs."""
    return {
        "text": str(problem),
        "file": problem.file,
        "line": problem.line,
        "column": problem.column,
        "path": problem.path,
        "message": problem.message,
        "hint": problem.hint,
    }
