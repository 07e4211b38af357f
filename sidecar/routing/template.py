"""
Templates of paths, `/orders/{id}`, compiled: the question that one asks, and the index of many. *Hot path; pure.*

A template is as many questions as it has segments, asked from left to right; a path is cut at its slashes once, and no
deeper than the template goes. Many templates of one host are a tree of their segments (`Forks`): a path follows, at
each of its segments, the branch of that literal and the one of any segment, so that ten thousand templates that differ
by a literal cost what one does. Only templates that have a name where others have a literal make it follow both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

from sidecar.http1.target import normalise
from sidecar.path_template import Segment, parse_template

_NEVER: Final = float("inf")


@dataclass(frozen=True, slots=True)
class Template:
    """
    A template in the form in which paths are compared. Built by `make_template`.

    Attributes:
        text: As the file has it: what `http.route` shows.
        segments: A literal in the normal form of paths, or None for any segment that is not empty.
        has_rest: Whether one segment or more may follow, the first of them not empty.
    """

    text: str
    segments: tuple[bytes | None, ...]
    has_rest: bool

    def matches(self, path: bytes) -> bool:
        """Whether a path in normal form is one of the template's."""
        wanted = self.segments
        count = len(wanted)
        if path[:1] != b"/":
            return False
        # Two more than there are: so what is in the last of them is known to be a whole segment, or not to matter.
        found = path.split(b"/", count + 2)
        after = len(found) - 1 - count
        if self.has_rest:
            if after < 1 or not found[count + 1]:
                return False
        elif after:
            return False
        for position, literal in enumerate(wanted, 1):
            segment = found[position]
            if segment != literal if literal is not None else not segment:
                return False
        return True


def make_template(text: str, octets: Callable[[str], bytes]) -> Template:
    """
    Compile a template.

    Args:
        octets: Makes of a literal what a path may hold: `matchers.path_octets`.

    Raises:
        ValueError: It is none, or a literal of it is no part of a path.
    """
    segments = parse_template(text)
    has_rest = segments[-1].is_rest
    return Template(text, tuple(_literal(one, octets) for one in segments if not one.is_rest), has_rest)


def _literal(segment: Segment, octets: Callable[[str], bytes]) -> bytes | None:
    return None if segment.literal is None else normalise(b"/" + octets(segment.literal))[1:]


def lowered(template: Template) -> Template:
    """The template whose literals are in lower case, for paths that are, too."""
    segments: list[bytes | None] = []
    for literal in template.segments:
        segments.append(literal.lower() if literal is not None else None)
    return Template(template.text, tuple(segments), template.has_rest)


class Ordered(Protocol):
    """What can be filed: it has its place in the file."""

    order: int


E = TypeVar("E", bound=Ordered)


class Forks(Generic[E]):
    """
    Entries by their templates. Invariant: every list is in file order, for entries are filed in that order.

    Attributes:
        depth: Segments of the deepest template.
    """

    __slots__ = ("_root", "depth")

    def __init__(self) -> None:
        self._root: _Fork[E] = _Fork()
        self.depth = 0

    def file(self, template: Template, entry: E) -> None:
        """Add an entry; to be called in file order."""
        fork = self._root
        self.depth = max(self.depth, len(template.segments))
        for literal in template.segments:
            fork = fork.branch(literal)
        (fork.rests if template.has_rest else fork.ends).append(entry)

    def lists_of(self, path: bytes, limit: int) -> Sequence[list[E]]:
        """
        Lists of entries whose templates match the path, those that begin at `limit` or behind it left out.

        No deeper than the deepest template: a path of thirty thousand slashes costs no more than another.
        """
        found: list[list[E]] = []
        if path[:1] != b"/":
            return found
        segments = path.split(b"/", self.depth + 2)
        last = len(segments) - 1
        waiting: list[tuple[_Fork[E], int]] = [(self._root, 0)]
        while waiting:
            fork, position = waiting.pop()
            if position == last:
                entries = fork.ends
            else:
                segment = segments[position + 1]
                branch = fork.literals.get(segment)
                if branch is not None:
                    waiting.append((branch, position + 1))
                if not segment:
                    continue
                if fork.any is not None:
                    waiting.append((fork.any, position + 1))
                entries = fork.rests
            if entries and entries[0].order < limit:
                found.append(entries)
        return found

    def dismantle(self) -> Iterator[None]:
        """As `Table.dismantle`."""
        waiting = [self._root]
        self._root = _Fork()
        while waiting:
            fork = waiting.pop()
            while fork.literals:
                waiting.append(fork.literals.popitem()[1])
            if fork.any is not None:
                waiting.append(fork.any)
                fork.any = None
            for entries in (fork.ends, fork.rests):
                while entries:
                    entries.pop()
                    yield


class _Fork(Generic[E]):
    """What templates have in common up to a segment, and where they go on."""

    __slots__ = ("any", "ends", "literals", "rests")

    def __init__(self) -> None:
        self.literals: dict[bytes, _Fork[E]] = {}
        self.any: _Fork[E] | None = None
        self.ends: list[E] = []
        self.rests: list[E] = []

    def branch(self, literal: bytes | None) -> _Fork[E]:
        """Where templates go on that have this literal here, or any segment."""
        if literal is not None:
            return self.literals.setdefault(literal, _Fork())
        if self.any is None:
            self.any = _Fork()
        return self.any
