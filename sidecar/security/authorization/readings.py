"""
How else a server may read a request than we do: what must not get past a rule by that. *Hot path: `Readings.of`; pure.*

What was matched is what is sent, but servers behind us read some of it in their own ways. One decodes `%2F` and `%5C`,
merges slashes, and takes `;` and what follows off each segment (RFC 3986, 3.3 leaves such parameters to it), before it
resolves dots: `/public/..%2finternal` is then `/internal`. One does only some of that, or in another order. Another
takes the last of several parameters, cookies or fields of a name where we take the first, or all of them joined. Such
a request is judged once more for each reading:

* a rule that denies, denies it by any reading;
* where a reading climbs by `..`, which we have not seen in it, it must be allowed by that reading, too.

So an ordinary request costs a look at its path; names that occur twice are looked for only where a rule denies by them.
What can be read in more ways than anybody has a use for is not read at all, and refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from sidecar.http1.target import remove_dot_segments
from sidecar.message import Field, Kind, RequestHead
from sidecar.routing.cookies import parse_cookies
from sidecar.routing.query import parse_query
from sidecar.security.authorization.rules import Rule

_MAX_VALUES: Final = 8
"""Of one name, the last included; a server takes the first, the last, or all."""
_MAX_READINGS: Final = 256
"""Each is judged, which takes some microseconds."""
_MAX_CLIMBING_BYTES: Final = 1024
"""Of a path that goes up by what we do not see; dots are resolved segment by segment, once for each reading."""

_ODD: Final = re.compile(rb"%2F|%5C|%3B|;|//")
_PARAMETERS: Final = re.compile(rb";[^/]*")
_SLASHES: Final = re.compile(rb"//+")
_CLIMB: Final = re.compile(rb"/\.\.(?:/|$)")
_HIDDEN_CLIMB: Final = re.compile(rb"(?:/|%2F|%5C)\.\.(?:/|;|%2F|%5C|%3B|$)")


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

    def of(self, head: RequestHead) -> Sequence[Reading] | None:
        """How else this request may be read; usually in no other way. None: in too many to look at."""
        path = head.path
        # `find`, because `in` tries the needle as a number first.
        is_odd = self._asks_path and (path.find(b"%") >= 0 or path.find(b"//") >= 0 or path.find(b";") >= 0)
        if not is_odd and not self._has_names:
            return _NONE
        found: list[Reading] = []
        if is_odd:
            if len(path) > _MAX_CLIMBING_BYTES and _HIDDEN_CLIMB.search(path) is not None:
                return None
            for other, climbs in read_paths(path).items():
                found.append(Reading(_with_path(head, other), climbs))
        if self._has_names:
            heads = self._with_one_value(head)
            paths = [reading.head.path for reading in found]
            if (len(heads) + 1) * (len(paths) + 1) > _MAX_READINGS:
                return None
            for one in heads:
                found.append(Reading(one, False))
                found += [Reading(_with_path(one, other), False) for other in paths]
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


def read_paths(path: bytes) -> dict[bytes, bool]:
    """
    A path in our normal form as servers may read it otherwise, and of each whether it goes up by `..` for that.

    All that servers are known to do, in every way of putting it together, because one that does less than another may
    end elsewhere: `/public/..%2Finternal%2F..;%2Fpublic` is below `/public` for who drops parameters, and below
    `/internal` for who keeps them.

    * `%2F` is decoded, or `%2F` and `%5C`, or neither; who decodes a slash decodes `%3B`, too;
    * parameters of segments are kept, or dropped before that or after it;
    * slashes are merged, or not;
    * dot segments are resolved, or not.
    """
    found: dict[bytes, bool] = {}
    if path[:1] != b"/" or _ODD.search(path) is None:
        return found
    for text in _texts(path):
        merged = _SLASHES.sub(b"/", text) if text.find(b"//") >= 0 else text
        for one in (merged, text) if merged != text else (text,):
            if one.find(b"/.") >= 0:
                climbs = _CLIMB.search(one) is not None
                resolved = remove_dot_segments(one)
                for each in (resolved, _SLASHES.sub(b"/", resolved)):
                    found[each] = found.get(each, False) or climbs
            found.setdefault(one, False)
    found.pop(path, None)
    return found


def _texts(path: bytes) -> list[bytes]:
    """With slashes decoded, parameters dropped, both in both orders, or neither; that with most of it first."""
    found: dict[bytes, None] = {}
    bare = _PARAMETERS.sub(b"", path) if path.find(b";") >= 0 else path
    for begun in (path, bare) if bare != path else (path,):
        some = begun.replace(b"%2F", b"/").replace(b"%3B", b";")
        every = some.replace(b"%5C", b"/")
        for text in (every, some, begun):
            if text.find(b";") >= 0:
                found[_PARAMETERS.sub(b"", text)] = None
            found[text] = None
    return list(found)


def _with_path(head: RequestHead, path: bytes) -> RequestHead:
    read = copied(head)
    read.path = path
    return read


def copied(head: RequestHead) -> RequestHead:
    """Another head of the same request."""
    copy = RequestHead(head.method, head.path, head.query, head.version)
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
