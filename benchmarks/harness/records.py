"""The records of a result, to be asked for figures, and what tables are made of. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypedDict

from .figures import Spread, ratio

FORMAT = 2  # of the result files; 1 had two scenarios and no records
OURS = ("sidecar", "compiled")  # the subjects that are this product
CORES_FOR_RATE = 4  # two for two workers, and as many for what loads them
Record = dict[str, Any]
NOTHING = "-"


class Scenario(TypedDict):
    """What one scenario found: every round, a record each."""

    seconds: float
    notes: list[str]
    records: list[Record]


class Document(TypedDict):
    """A result file."""

    format: int
    surroundings: dict[str, Any]
    options: dict[str, Any]
    pinned: dict[str, list[int]]
    scenarios: dict[str, Scenario]


class Records:
    """The rounds of one scenario, to be asked for figures."""

    def __init__(self, records: Sequence[Record]) -> None:
        self._records = records
        self.subjects = list(dict.fromkeys(each["subject"] for each in records))
        self.cases = list(dict.fromkeys(each["case"] for each in records))

    def series(self, figure: str, subject: str, case: str = "") -> dict[int, float]:
        """One figure of every round that has it; `around.p99_ms` is one within a figure."""
        found = {}
        for record in self._records:
            if record["subject"] == subject and record["case"] == case:
                value: Any = record
                for part in figure.split("."):
                    value = value.get(part) if isinstance(value, dict) else None
                if value is not None:
                    found[int(record["round"])] = float(value)
        return found

    def spread(self, figure: str, subject: str, case: str = "") -> Spread | None:
        values = list(self.series(figure, subject, case).values())
        return Spread.of(values) if values else None

    def against(self, figure: str, subject: str, base: str, case: str = "") -> Spread | None:
        return ratio(self.series(figure, subject, case), self.series(figure, base, case))


def records_of(document: Document, name: str) -> Records:
    """The records of a scenario, none if it was not run."""
    found = document["scenarios"].get(name)
    return Records(found["records"] if found else [])


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows])


def cell(spread: Spread | None, digits: int) -> str:
    return spread.text(digits) if spread is not None else NOTHING


def median(spread: Spread | None, digits: int, scale: float = 1.0, unit: str = "") -> str:
    return f"{spread.median * scale:.{digits}f}{unit}" if spread is not None else NOTHING


def by_case(found: Records, figure: str, digits: int, name_case: Callable[[str], str]) -> list[list[str]]:
    """A row a subject, a column a case, and ours against Envoy below."""
    rows = [
        [name, *(cell(found.spread(figure, name, case), digits) for case in found.cases)] for name in found.subjects
    ]
    for name in OURS:
        against = [found.against(figure, name, "envoy", case) for case in found.cases]
        if any(each is not None for each in against):
            rows.append([f"{name} against envoy", *(cell(each, 2) for each in against)])
    return [["subject", *map(name_case, found.cases)], *rows]
