"""
A whole file: read, injected, proved, and taken back. *Pure.*

What was injected before is taken out first, so that bringing it up to date and injecting it are the same. Nothing is
given out that was not proved: the new text, read again, says what the old one said with the edits applied to it and
nothing else, and what takes them out makes of it the old text, byte by byte.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from sidecar.config.problems import ConfigError, Problem
from sidecar.config.yaml.document import join_path
from sidecar.inject.edits import Edit, Path, Value, applied
from sidecar.inject.kubernetes.services import services_of
from sidecar.inject.marking import UNCOPIED, marked
from sidecar.inject.platforms import decisions, marks
from sidecar.inject.text.restore import parse_notes, restoring
from sidecar.inject.text.settle import TextError, settled
from sidecar.inject.text.splice import Splice, spliced, splices_of
from sidecar.inject.text.tree import Alias, Document, Mapping, Node, below, parse, target_of
from sidecar.inject.text.tree import Sequence as SequenceNode
from sidecar.inject.text.values import value_of
from sidecar.inject.wanted import UNDO, Decision, Wanted

_DAMAGED: Final = "take the sidecar out by hand, and this annotation with it"


@dataclass(slots=True)
class Outcome:
    """
    What came of a file.

    Attributes:
        text: The new one; the old one if there are problems.
        told: Lines for people, one a workload, each with its place.
        problems: Why nothing of it may be used.
    """

    text: str
    told: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def inject(text: str, filename: str, wanted: Wanted) -> Outcome:
    """
    Give every workload of a file its sidecar, or bring it up to date.

    Args:
        text: Without a byte order mark.

    Raises:
        ConfigError: It cannot be read.
    """
    found = _taken_out(text, filename)
    if found.problems:
        return Outcome(text, problems=found.problems)
    outcome = Outcome(text)
    splices: list[Splice] = []
    expected: list[Value] = []
    values = [value_of(document.root) for document in found.documents]
    services = services_of(values)
    for document, value in zip(found.documents, values, strict=True):
        edits: list[Edit] = []
        for decision in decisions(value, wanted, services):
            place = found.place(document, decision.at)
            outcome.problems += (found.problem(document, one.path, one.message, one.hint) for one in decision.problems)
            if decision.added or decision.told:
                outcome.told.append(_line(filename, place, decision, decision.name in found.names))
            if not decision.problems and decision.added:
                edits += _marked(found, document, decision, outcome)
        expected.append(applied(value, edits))
        if edits and not outcome.problems:
            splices += _written(found, document, edits, outcome)
    if outcome.problems:
        return Outcome(text, problems=sorted(outcome.problems))
    outcome.text = spliced(found.text, splices)
    try:
        _prove(outcome.text, found, expected)
    except NotProvedError as error:
        outcome.text = text
        outcome.problems.append(_why_not(found, splices, error))
    return outcome


def uninject(text: str, filename: str) -> Outcome:
    """
    Take out what `inject` added to the workloads of a file.

    Raises:
        ConfigError: It cannot be read.
    """
    found = _taken_out(text, filename)
    if found.problems:
        return Outcome(text, problems=found.problems)
    return Outcome(found.text, told=[f"{filename}: {name}: taken out" for name in found.names])


class NotProvedError(Exception):
    """A text that does not say what it should: by an alias that shares an edit, or a style that nobody thought of."""


@dataclass(slots=True)
class _Without:
    """
    A file without what was injected before.

    Attributes:
        given: Its text with that; `text` is without.
        names: Of the workloads that had something.
        cut: What was cut from `given`.
    """

    filename: str
    given: str
    text: str
    documents: list[Document]
    names: list[str]
    cut: list[Splice]
    problems: list[Problem]

    def place(self, document: Document, path: Path) -> tuple[int, int]:
        """Line and column of a path, in the text as it was given."""
        node = _nearest(document.root, path)
        return self.given_place(node.start if node is not None else document.start)

    def given_place(self, at: int) -> tuple[int, int]:
        """Line and column of an offset in `text`, in the text as it was given."""
        for splice in sorted(self.cut, key=lambda one: one.start):
            if at >= splice.start:
                at += splice.end - splice.start - len(splice.text)
        return self.given.count("\n", 0, at) + 1, at - self.given.rfind("\n", 0, at)

    def problem(self, document: Document, path: Path, message: str, hint: str) -> Problem:
        """What is wrong there."""
        return Problem(self.filename, *self.place(document, path), shown(path), message, hint)


def _taken_out(text: str, filename: str) -> _Without:
    found = _cut(text, filename, parse(text, filename))
    if found.cut and not found.problems:
        try:
            found.documents = parse(found.text, filename)
        except ConfigError as error:
            message = f"cannot tell what was injected: without it the file is {error.problems[0].message}"
            found.problems.append(Problem(filename, 1, 1, "", message, _DAMAGED))
    return found


def _cut(text: str, filename: str, documents: list[Document]) -> _Without:
    """The text without what was injected, not yet read again."""
    found = _Without(filename, text, text, documents, [], [], [])
    for document in documents:
        if document.root is None:
            continue
        for mark in marks(value_of(document.root)):
            try:
                cut = restoring(text, document.root, mark.path, parse_notes(json.loads(mark.undo or "")))
                found.text = spliced(text, [*found.cut, *cut])
            except (ValueError, TextError, RecursionError):
                message = f"cannot tell what was injected: `{UNDO}` is damaged"
                found.problems.append(found.problem(document, (*mark.marks, UNDO), message, _DAMAGED))
                continue
            found.names.append(mark.name)
            found.cut += cut
    return found


def _marked(found: _Without, document: Document, decision: Decision, outcome: Outcome) -> list[Edit]:
    assert document.root is not None
    try:
        return marked(found.text, document.root, decision)
    except TextError as error:
        outcome.problems.append(_text_problem(found, error))
        return []


def _written(found: _Without, document: Document, edits: list[Edit], outcome: Outcome) -> list[Splice]:
    assert document.root is not None
    try:
        return splices_of(found.text, document.root, settled(edits, document.root, UNCOPIED))
    except TextError as error:
        outcome.problems.append(_text_problem(found, error))
        return []


def _text_problem(found: _Without, error: TextError) -> Problem:
    return Problem(found.filename, error.node.line, error.node.column, "", str(error), error.hint)


def _prove(text: str, found: _Without, expected: Sequence[Value]) -> None:
    """Raises `NotProvedError`: the text does not say that, or could not be taken back."""
    try:
        documents = parse(text, found.filename)
    except ConfigError as error:
        raise NotProvedError(f"what would be written cannot be read: {error}") from None
    if [value_of(document.root) for document in documents] != list(expected):
        raise NotProvedError("what would be written says something else than it should")
    if _cut(text, found.filename, documents).text != found.text:
        raise NotProvedError("what would be written could not be taken out again")


def _why_not(found: _Without, splices: Sequence[Splice], error: NotProvedError) -> Problem:
    """Where an edit would show in another place, too; the file as a whole if that is not it."""
    for document in found.documents:
        for node in below(document.root) if document.root is not None else ():
            if isinstance(node, Alias) and any(
                node.target.start <= splice.start <= node.target.end for splice in splices
            ):
                line, column = found.given_place(node.start)
                message = f"the alias `*{node.name}` shares what a sidecar is added to"
                return Problem(found.filename, line, column, "", message, "write it out here")
    hint = "write it in the usual style, `key: value` below each other, without aliases; and tell us"
    return Problem(found.filename, 1, 1, "", f"nothing is written: {error}", hint)


def _line(filename: str, place: tuple[int, int], decision: Decision, was_injected: bool) -> str:
    added = f"{'has' if was_injected else 'added'} {decision.added}" if decision.added else ""
    return f"{filename}:{place[0]}: {decision.name}: {'; '.join(one for one in (added, *decision.told) if one)}"


def _nearest(root: Node | None, path: Path) -> Node | None:
    """The node at a path, or the nearest before it that is written; of a key the key itself."""
    place, node = root, root
    for step in path:
        node = target_of(node) if node is not None else None
        if isinstance(node, Mapping):
            entry = node.entry(str(step))
            if entry is None:
                break
            place, node = entry
        elif isinstance(node, SequenceNode) and isinstance(step, int) and step < len(node.items):
            place = node = node.items[step]
        else:
            break
    return place


def shown(path: Path) -> str:
    """A path for people: `spec.containers[0].name`."""
    shown = ""
    for step in path:
        shown = f"{shown}[{step}]" if isinstance(step, int) else join_path(shown, step)
    return shown
