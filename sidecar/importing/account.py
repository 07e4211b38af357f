"""
Of every field that comes in, what became of it: kept, changed, or dropped. *Cold, pure.*

Nothing may get lost silently. So the account is not what a translation remembers to tell: the whole tree of each
resource is walked at the end, and what no translation has looked at is told as dropped, an unknown field. Each leaf (a
scalar, or an empty mapping or list) is in exactly one entry.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Literal

from sidecar.config.problems import Problem
from sidecar.config.yaml.document import Mapping, Node, Scalar, Sequence, describe, join_path

Path = tuple[int | str, ...]
"""Keys and indices of the tree, from the root of the file's document."""

Outcome = Literal["kept", "changed", "dropped", "assumed"]
"""`assumed`: a default of the other mesh that no field says and that is written out here."""

UNKNOWN: Final = "unknown field"
_ABSENT: Final = "nothing is said"


@dataclass(frozen=True, slots=True)
class Mark:
    """
    What was decided of a field and, where nothing else is said of them, of all fields below it.

    Attributes:
        outcome: In one word.
        how: What it became, or why it was dropped.
        what_to_do: For the reader; may be empty.
        is_lost: Whether what it says could not be imported though the mesh would need it.
    """

    outcome: Outcome
    how: str
    what_to_do: str = ""
    is_lost: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """
    A line of the report.

    Attributes:
        path: Of the field, within its file's document.
        within: The same, within its resource.
        value: As the file has it, shortened.
        leaves: How many leaves of the input it stands for; 0 for what is assumed.
    """

    file: str
    line: int
    column: int
    path: str
    within: str
    value: str
    outcome: Outcome
    how: str
    what_to_do: str
    is_lost: bool
    leaves: int

    @property
    def problem(self) -> Problem:
        """The same as a problem at its place."""
        return Problem(self.file, self.line, self.column, self.path, f"not imported: {self.how}", self.what_to_do)


@dataclass(slots=True)
class Account:
    """
    What became of one part of the input: a resource, or what stands around resources.

    Attributes:
        label: What it is: `VirtualNode colorteller-blue`.
        root: Its tree.
        at: Where in the document that tree stands.
        marks: By path, what was decided.
        apart: What another account has.
        assumed: What no field says.
    """

    label: str
    root: Node
    at: Path
    marks: dict[Path, Mark] = field(default_factory=dict)
    apart: set[Path] = field(default_factory=set)
    assumed: list[Entry] = field(default_factory=list)

    def mark(self, path: Path, mark: Mark) -> None:
        """Decide of a field and what is below it; what was decided of it before stays."""
        self.marks.setdefault(path, mark)

    def give_up(self, path: Path, mark: Mark) -> None:
        """Decide of a field that cannot be had; but for losses, what was decided before of what is below it is void."""
        for other in [one for one, told in self.marks.items() if one[: len(path)] == path and not told.is_lost]:
            if path != self.at:
                del self.marks[other]
        self.mark(path, mark)

    def assume(self, path: Path, how: str, what_to_do: str = "", *, is_lost: bool = False) -> None:
        """Tell what no field of the input says: a default, or what follows from several."""
        root = self.root
        line, column = max(root.line, 1), max(root.column, 1)
        entry = Entry(
            root.file,
            line,
            column,
            shown(path),
            shown(path[len(self.at) :]),
            "",
            "assumed",
            how,
            what_to_do,
            is_lost,
            0,
        )
        if entry not in self.assumed:
            self.assumed.append(entry)

    def entries(self) -> list[Entry]:
        """Every leaf in one of them, in the order of the file; behind them what was assumed."""
        above = {path[:end] for path in (*self.marks, *self.apart) for end in range(len(path))}
        found = [*self._walk(self.root, self.at, None, above)]
        told = {(entry.how, entry.is_lost) for entry in found}
        for path, mark in self.marks.items():
            # Of all that is below it something else was decided.
            if mark.is_lost and (mark.how, True) not in told:
                self.assume(path, mark.how, mark.what_to_do, is_lost=True)
        return [*found, *self.assumed]

    def _walk(self, node: Node, path: Path, inherited: Mark | None, above: set[Path]) -> Iterator[Entry]:
        if path in self.apart:
            return
        mark = self.marks.get(path, inherited)
        if path in above:
            if isinstance(node, Mapping):
                for key, (_, value) in node.entries.items():
                    yield from self._walk(value, (*path, key), mark, above)
                return
            if isinstance(node, Sequence):
                for index, item in enumerate(node.items):
                    yield from self._walk(item, (*path, index), mark, above)
                return
        if mark is None:
            mark = Mark("kept", _ABSENT) if _is_nothing(node) else Mark("dropped", UNKNOWN, _unknown_hint(path))
        text = describe(node) if isinstance(node, Scalar) else _container(node)
        full, within = shown(path), shown(path[len(self.at) :])
        yield Entry(
            node.file, node.line, node.column, full, within, text, mark.outcome, mark.how, mark.what_to_do,
            mark.is_lost, leaves_of(node),
        )  # fmt: skip


def _unknown_hint(path: Path) -> str:
    return f"see whether `{path[-1]}` is spelled right; if it is, this version does not know it" if path else ""


def _is_nothing(node: Node) -> bool:
    """A null, an empty string, mapping or list, which says that there is nothing."""
    if isinstance(node, Mapping):
        return not node.entries
    if isinstance(node, Sequence):
        return not node.items
    return isinstance(node, Scalar) and (node.value is None or not node.text)


def _container(node: Node) -> str:
    if _is_nothing(node):
        return "{}" if isinstance(node, Mapping) else "[]"
    return "{...}" if isinstance(node, Mapping) else "[...]"


def leaves_of(node: Node) -> int:
    """How many scalars, empty mappings and empty lists a tree has."""
    if isinstance(node, Mapping) and node.entries:
        return sum(leaves_of(value) for _, value in node.entries.values())
    if isinstance(node, Sequence) and node.items:
        return sum(leaves_of(item) for item in node.items)
    return 1


def shown(path: Path) -> str:
    """`("spec", "listeners", 0)` as `spec.listeners[0]`."""
    text = ""
    for step in path:
        text = f"{text}[{step}]" if isinstance(step, int) else join_path(text, step)
    return text
