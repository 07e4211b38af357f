"""
How else a server may read a request than we do: what must not get past a rule by that. *Hot path: `Readings.of`; pure.*

What was matched is what is sent, but servers behind us read some of it in their own ways. One decodes `%2F` and `%5C`,
merges slashes, and takes `;` and what follows off each segment (RFC 3986, 3.3 leaves such parameters to it), before it
resolves dots: `/public/..%2finternal` is then `/internal`. Another takes the last of several parameters, cookies or
fields of a name where we take the first, or all of them joined. Such a request is judged once more for each reading:

* a rule that denies, denies it by any reading;
* where a reading climbs by `..`, which we have not seen in it, it must be allowed by that reading, too.

So an ordinary request costs a look at its path; names that occur twice are looked for only where a rule denies by them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sidecar.message import Field, Kind, RequestHead
from sidecar.routing.cookies import parse_cookies
from sidecar.routing.query import parse_query
from sidecar.security.authorization.rules import Rule

_MAX_VALUES: Final = 8
"""Of one name, the last included; a server takes the first, the last, or all."""


class Reading:
    """
    A request as somebody else may read it.

    Attributes:
        head: As routes see one.
        climbs: Whether its path goes up by what we read otherwise.
    """

    __slots__ = ("climbs", "head")

    def __init__(self, head: RequestHead, climbs: bool) -> None:
        self.head = head
        self.climbs = climbs


_NONE: Final[Sequence[Reading]] = ()


class Readings:
    """Knows which parts of a request the rules look at."""

    __slots__ = ("_asks_path", "_cookies", "_has_names", "_headers", "_params")

    def __init__(self) -> None:
        self._asks_path = False
        self._has_names = False
        self._headers: dict[bytes, None] = {}
        self._cookies: dict[bytes, None] = {}
        self._params: dict[bytes, None] = {}

    def learn(self, rule: Rule) -> None:
        """One more rule; before the first question."""
        for clause in rule.clauses:
            self._asks_path = self._asks_path or clause.match.path is not None
            for condition in clause.match.conditions if not rule.is_allow else ():
                part, _, name = condition.part.partition(" ")
                if part == "header":
                    self._headers[name.encode()] = None
                elif part == "cookie":
                    self._cookies[name.encode()] = None
                elif part == "query":
                    self._params[name.encode()] = None
        self._has_names = bool(self._headers or self._cookies or self._params)

    def of(self, head: RequestHead) -> Sequence[Reading]:
        """How else this request may be read; usually in no other way."""
        path = head.path
        # `find`, because `in` tries the needle as a number first.
        is_odd = self._asks_path and (path.find(b"%") >= 0 or path.find(b"//") >= 0 or path.find(b";") >= 0)
        if not is_odd and not self._has_names:
            return _NONE
        found: list[Reading] = []
        if is_odd:
            other, climbs = read_path(path)
            if other != path:
                read = copied(head)
                read.path = other
                found.append(Reading(read, climbs))
        if self._has_names:
            for one in (head, *[reading.head for reading in found]):
                found += [Reading(read, False) for read in self._with_one_value(one)]
        return found

    def _with_one_value(self, head: RequestHead) -> list[RequestHead]:
        """For each name that occurs several times, one for each of its values alone."""
        found: list[RequestHead] = []
        for name in self._headers:
            fields = [field for field in head.fields if field.name == name]
            if len(fields) > 1:
                for field in fields[: _MAX_VALUES - 1] + fields[-1:]:
                    read = copied(head)
                    read.fields = [one for one in head.fields if one.name != name or one is field]
                    found.append(read)
        if self._params and head.query is not None and head.query.find(b"&") >= 0:
            pairs = [pair for piece in head.query.split(b"&") for pair in parse_query(piece).items()]
            for name in self._params:
                for value in _several(pairs, name):
                    read = copied(head)
                    read.params = {**dict(reversed(pairs)), name: value}
                    found.append(read)
        if self._cookies and head.kinds & Kind.COOKIE:
            crumbs = [
                pair for field in head.fields if field.kind & Kind.COOKIE for piece in field.value.split(b";")
                for pair in parse_cookies(piece).items()
            ]  # fmt: skip
            for name in self._cookies:
                for value in _several(crumbs, name):
                    read = copied(head)
                    note = {**dict(reversed(crumbs)), name: value}
                    read.fields = [Field(b"cookie", b"", Kind.COOKIE, b"", note)]
                    read.fields += [field for field in head.fields if not field.kind & Kind.COOKIE]
                    found.append(read)
        return found


def _several(pairs: Sequence[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    """The values of a name that occurs more than once, without the first, which is ours."""
    values = [value for other, value in pairs if other == name][1:]
    return values[: _MAX_VALUES - 1] + values[-1:] if len(values) >= _MAX_VALUES else values


def read_path(path: bytes) -> tuple[bytes, bool]:
    """
    A path in our normal form, as a server reads it that decodes slashes, merges them, and drops parameters of segments;
    and whether it goes up by `..` then.
    """
    if path[:1] != b"/":
        return path, False
    out: list[bytes] = []
    climbs = False
    segments = path.replace(b"%2F", b"/").replace(b"%5C", b"/").split(b"/")[1:]
    last = b""
    for segment in segments:
        last = segment.partition(b";")[0]
        if last == b"..":
            climbs = True
            if out:
                out.pop()
        elif last not in (b"", b"."):
            out.append(last)
    if last in (b"", b".", b".."):
        out.append(b"")
    return b"/" + b"/".join(out), climbs


def copied(head: RequestHead) -> RequestHead:
    """Another head of the same request."""
    copy = RequestHead(head.method, head.path, head.query, head.minor)
    copy.host = head.host
    copy.port = head.port
    copy.fields = head.fields
    copy.kinds = head.kinds
    copy.framing = head.framing
    copy.content_length = head.content_length
    copy.keep_alive = head.keep_alive
    copy.absolute = head.absolute
    copy.params = head.params
    return copy
