"""
Whether a question includes another: every value that answers the one answers the other. *Cold, pure.*

What is compared are the compiled questions of `routing`. A `yes` here is certain; a `no` is not, for regular
expressions and inverted questions are known to include each other only where they are equal, or where the other allows
a single value, which the question itself is then asked about.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from sidecar.message import Field, Kind, RequestHead, Version
from sidecar.routing.match import Condition, split_pattern
from sidecar.routing.matchers import PathMatcher

_OF_TEXT: Final = re.compile(
    r'(?P<not>not )?(?P<kind>exact|prefix|suffix|contains|regex) "(?P<value>.*)"(?P<any> \(any case\))?', re.DOTALL
)
_OF_RANGE: Final = re.compile(r"(?P<not>not )?range \[(?P<start>-?\d+), (?P<end>-?\d+)\)")
_OF_PRESENCE: Final = re.compile(r"(?P<not>not )?present (?P<value>true|false)")
_REMEMBERED: Final = 4096
"""Questions: each is compared with many, and few are between one comparison of it and the next."""
_ANYTHING: Final = (b".*", b"^.*$", b"^.*", b".*$")
_ANY_PATH: Final = (b"/.*", b"^/.*$", b"^/.*", b"/.*$")


@dataclass(frozen=True, slots=True)
class Question:
    """
    What is asked of one value: a path, a header, a cookie, a parameter.

    Attributes:
        kind: As `PathKind` and `ValueKind`, of values `absent` for "is not there"; other words are not understood.
        value: What is compared with; of `regex` the pattern. In lower case if `is_any_case`.
        text: All of it, as people read it: two questions of one text are one question.
        is_any_case: Whether letters are compared without regard to case.
        is_inverted: Whether the answer is turned around.
        bounds: Of `range`: from, and to without.
    """

    kind: str
    value: bytes
    text: str
    is_any_case: bool = False
    is_inverted: bool = False
    bounds: tuple[int, int] = (0, 0)

    @property
    def is_one_value(self) -> bool:
        """Whether a single value answers it."""
        return self.kind == "exact" and not self.is_any_case and not self.is_inverted


def question_of_path(path: PathMatcher) -> Question:
    """What is asked of the path."""
    return _question_of_path(path.kind, path.value, path.text, path.is_inverted)


@lru_cache(_REMEMBERED)
def _question_of_path(kind: str, value: bytes, text: str, is_inverted: bool) -> Question:
    is_any_case = text.endswith(" (any case)")
    return Question(kind, value.lower() if is_any_case and kind != "regex" else value, text, is_any_case, is_inverted)


def question_of(condition: Condition) -> Question:
    """What is asked of a header, cookie or parameter, read from the text that the condition has for people."""
    return _question_in(condition.text)


@lru_cache(_REMEMBERED)
def _question_in(text: str) -> Question:
    found = _OF_TEXT.fullmatch(text)
    if found is not None:
        value, is_any_case = found["value"], found["any"] is not None
        octets = value.encode()
        if is_any_case and found["kind"] != "regex":
            octets = octets.lower()
        return Question(found["kind"], octets, text, is_any_case, found["not"] is not None)
    found = _OF_RANGE.fullmatch(text)
    if found is not None:
        bounds = int(found["start"]), int(found["end"])
        return Question("range", b"", text, is_inverted=found["not"] is not None, bounds=bounds)
    found = _OF_PRESENCE.fullmatch(text)
    if found is not None:
        is_there = (found["value"] == "true") is (found["not"] is None)
        return Question("present" if is_there else "absent", b"", "present" if is_there else "absent")
    return Question("", b"", text)


def host_includes(wide: bytes, narrow: bytes) -> bool:
    """Whether every host of one pattern of `routing.match.host_pattern` is one of another's; `*` is every host."""
    if wide == narrow:
        return True
    (wide, wide_port), (narrow, narrow_port) = split_pattern(wide), split_pattern(narrow)
    if wide_port is not None and wide_port != narrow_port:
        return False
    if wide in (b"*", narrow):
        return True
    # `*.b` has all that is below `b`; a pattern `*.a.b` only such, and `a.b` itself is such.
    return wide[:1] == b"*" and narrow.removeprefix(b"*").endswith(wide[1:]) and narrow not in (b"*", wide[1:])


def patterns_above(host: bytes) -> list[bytes]:
    """The wildcards that a host or a pattern without a port is below, the longest first; not `*`."""
    name = host.removeprefix(b"*.")
    found = []
    dot = name.find(b".")
    while dot >= 0:
        found.append(b"*" + name[dot:])
        dot = name.find(b".", dot + 1)
    return found


def path_includes(wide: PathMatcher | None, narrow: PathMatcher | None) -> bool:
    """Whether every path that answers `narrow` answers `wide`; None asks nothing, and alone has CONNECT, too."""
    if wide is None or narrow is None:
        return wide is None
    one, other = question_of_path(wide), question_of_path(narrow)
    if one.text == other.text:
        return True
    if other.is_one_value:
        return wide.test(narrow.value)
    if one.is_inverted or other.is_inverted:
        return False
    if one.kind == "regex":
        begins = other.kind in ("exact", "prefix", "starts_with")
        return one.value in _ANYTHING or (one.value in _ANY_PATH and begins)
    return _is_within_path(other, one)


def _is_within_path(narrow: Question, wide: Question) -> bool:
    if narrow.is_any_case and not wide.is_any_case:
        return False
    kind, value = narrow.kind, narrow.value.lower() if wide.is_any_case else narrow.value
    if wide.kind == "prefix":
        if kind in ("exact", "prefix"):
            return value == wide.value or value.startswith(wide.value + b"/")
        return kind == "starts_with" and value.startswith(wide.value + b"/")
    # Of whole segments: what each path begins with, which for `/` is the slash.
    value = value or b"/"
    if wide.kind == "starts_with":
        return kind in ("exact", "prefix", "starts_with") and value.startswith(wide.value)
    if kind in ("prefix", "starts_with"):
        kind = "prefix"
    return _is_within(kind, value, wide)


def value_includes(wide: Condition, narrow: Condition) -> bool:
    """Whether every value, or absence, that answers `narrow` answers `wide`, which is asked of the same part."""
    one, other = question_of(wide), question_of(narrow)
    if one.text == other.text:
        return True
    if "absent" in (one.kind, other.kind) or not one.kind or not other.kind:
        return False
    if one.kind == "present":
        return True  # to an absent value nothing else says yes
    if other.is_one_value:
        return wide.test(head_with(wide.part, other.value))
    if one.is_inverted or other.is_inverted:
        return False
    if one.kind == "range":
        return other.kind == "range" and one.bounds[0] <= other.bounds[0] and other.bounds[1] <= one.bounds[1]
    if one.kind == "regex":
        return one.value in _ANYTHING and other.kind != "present"
    if other.is_any_case and not one.is_any_case:
        return False
    return _is_within(other.kind, other.value.lower() if one.is_any_case else other.value, one)


def _is_within(kind: str, value: bytes, wide: Question) -> bool:
    """Of octets: whether all that begin, end, or so, like this have what `wide` asks for."""
    if wide.kind == "exact":
        return kind == "exact" and value == wide.value
    if wide.kind == "prefix":
        return kind in ("exact", "prefix") and value.startswith(wide.value)
    if wide.kind == "suffix":
        return kind in ("exact", "suffix") and value.endswith(wide.value)
    return wide.kind == "contains" and kind in ("exact", "prefix", "suffix", "contains") and wide.value in value


_ENDS: Final = {"prefix": "begin", "starts_with": "begin", "suffix": "end", "contains": "middle"}


def do_cross(one: Question, other: Question) -> bool:
    """Whether some values answer both and some only one, for certain: one asks how a value begins, one how it ends."""
    ends = _ENDS.get(one.kind), _ENDS.get(other.kind)
    if None in ends or one.is_inverted or other.is_inverted:
        return False
    return ends[0] != ends[1]


def head_with(part: str, value: bytes | None) -> RequestHead:
    """
    A head of which one part is asked, for a condition to be tested on.

    Args:
        part: `Condition.part` of a header, cookie or parameter.
        value: None for one that is not there.
    """
    head = RequestHead(b"GET", b"/", None, Version.HTTP11)
    where, _, name = part.partition(" ")
    if value is None:
        return head
    if where == "query":
        head.query, head.params = b"", {name.encode(): value}
    elif where == "cookie":
        head.kinds = Kind.COOKIE
        head.fields.append(Field(b"cookie", b"", Kind.COOKIE, b"", {name.encode(): value}))
    else:
        head.fields.append(Field(name.encode(), value, 0, b""))
    return head
