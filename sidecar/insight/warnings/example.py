"""
A request that one match takes, or two: made up, and then asked of the data path's own parser and matches. *Cold, pure.*

What is found is certain; that nothing is found means nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote_from_bytes

from sidecar.errors import ProtocolError
from sidecar.http1.head import parse_request_head
from sidecar.insight.warnings.filed import Asked
from sidecar.insight.warnings.questions import Question, head_with, host_includes, question_of_path
from sidecar.insight.warnings.regex_words import word_of
from sidecar.message import RequestHead
from sidecar.redact import HIDDEN, is_sensitive
from sidecar.routing.match import Condition, split_pattern
from sidecar.routing.matchers import PathMatcher

_ANY_HOST: Final = "any.example"
"""Where no host is asked for; the top-level domain is that of examples (RFC 2606)."""
_MAX_HEADERS: Final = 1000
_MOST_TRIED: Final = 200
_OTHERS: Final = (b"x", b"1", b"")


@dataclass(frozen=True, slots=True)
class Example:
    """
    A request.

    Attributes:
        head: As the data path reads it.
        text: As `sidecar explain` and curl take it: `GET http://shop/v1 -H 'cookie: a=1'`; what is secret is hidden.
    """

    head: RequestHead
    text: str


def example_of(asked: Asked, host: bytes, other: Asked | None = None) -> Example | None:
    """
    A request for this host that the match takes, and the other one as well; None if none is found.

    Args:
        host: One of the match's patterns.
    """
    both = (asked,) if other is None else (asked, other)
    authority = _authority(host, other.hosts if other is not None else (b"*",))
    method = _method([one.methods for one in both])
    path = _path([one.path for one in both if one.path is not None], method)
    if authority is None or method is None or path is None:
        return None
    values: dict[str, bytes | None] = {}
    for part in dict.fromkeys(part for one in both for part in one.conditions):
        asking = [one.conditions[part] for one in both if part in one.conditions]
        found = _value(part, asking)
        if found is _NOTHING:
            return None
        values[part] = found
    made = _made(method, authority, path, values)
    return made if made is not None and all(one.match.matches(made.head) for one in both) else None


def _authority(host: bytes, others: Sequence[bytes]) -> str | None:
    """A host with a port, if one is asked for, that is of the one pattern and of one of the others."""
    for other in others:
        (name, port), (other_name, other_port) = split_pattern(host), split_pattern(other)
        if port is not None and other_port is not None and port != other_port:
            continue
        if host_includes(other_name, name):
            narrow = name
        elif host_includes(name, other_name):
            narrow = other_name
        else:
            continue
        text = _ANY_HOST if narrow == b"*" else narrow.decode("ascii").replace("*.", "any.")
        number = port if port is not None else other_port
        return text if number is None else f"{text}:{number}"
    return None


def _method(asked: Sequence[tuple[str, ...]]) -> str | None:
    wanted = [set(methods) for methods in asked if methods]
    if not wanted:
        return "GET"
    common = set.intersection(*wanted)
    return "GET" if "GET" in common else min(common, default=None)


def _path(asked: Sequence[PathMatcher], method: str | None) -> str | None:
    if method == "CONNECT":
        return None if asked else ""
    questions = [question_of_path(one) for one in asked]
    for candidate in itertools.islice(_paths(questions), _MOST_TRIED):
        if all(one.test(candidate) for one in asked):
            return candidate.decode("latin-1")
    return None


def _paths(questions: Sequence[Question]) -> Iterator[bytes]:
    if not questions:
        yield b"/"
    begins = [one.value or b"/" for one in questions if one.kind in ("exact", "prefix", "starts_with")]
    yield from begins
    yield from (begin + more for begin in begins for more in (b"x", b"/x", b"/"))
    others = [word for one in questions for word in _words(one)]
    bare = [begin.rstrip(b"/") for begin in begins] or [b""]
    starts = [begin + more for more in (b"/x", b"/", b"") for begin in bare]
    for start in starts:
        for some in _joined(others):
            yield start + some
    yield from (some for some in _joined(others) if some.startswith(b"/"))
    yield from (b"/", b"/x", b"/x/y", b"/any")


def _words(question: Question) -> list[bytes]:
    if question.kind in ("suffix", "contains"):
        return [question.value]
    if question.kind == "regex":
        word = word_of(question.value.decode())
        return [] if word is None else [word.encode()]
    return []


def _joined(words: Sequence[bytes]) -> Iterator[bytes]:
    for count in range(1, min(len(words), 3) + 1):
        yield from (b"".join(some) for some in itertools.permutations(words, count))


_NOTHING: Final = b"\0"
"""Stands for a value that was not found, which no header, cookie or parameter can have."""


def _value(part: str, asking: Sequence[tuple[Condition, Question]]) -> bytes | None:
    """A value of a part, or None for one that is not there, that answers all of these."""
    for candidate in itertools.islice(_values([question for _, question in asking]), _MOST_TRIED):
        if all(condition.test(head_with(part, candidate)) for condition, _ in asking):
            return candidate
    return _NOTHING


def _values(questions: Sequence[Question]) -> Iterator[bytes | None]:
    yield from (one.value for one in questions if one.kind == "exact" and not one.is_inverted)
    yield from (str(bound).encode() for one in questions if one.kind == "range" for bound in one.bounds)
    if any(one.kind == "absent" for one in questions):
        yield None
    words = [one.value for one in questions if one.kind in ("prefix", "suffix", "contains")]
    words += [word for one in questions if one.kind == "regex" for word in _words(one)]
    yield from _joined(words)
    yield from _OTHERS
    yield from (str(bound - 1).encode() for one in questions if one.kind == "range" for bound in one.bounds)


def _made(method: str, authority: str, path: str, values: Mapping[str, bytes | None]) -> Example | None:
    """The request, if the data path's parser takes it."""
    shown: list[str] = []
    fields: list[bytes] = [b"Host: " + authority.encode()]
    cookies: list[tuple[str, bytes]] = []
    query: list[tuple[str, bytes]] = []
    for part, value in values.items():
        if value is None:
            continue
        where, _, name = part.partition(" ")
        if where == "cookie":
            cookies.append((name, value))
        elif where == "query":
            query.append((name, value))
        else:
            fields.append(name.encode() + b": " + value)
            shown.append(f"{name}: {_shown(name, value)}")
    if cookies:
        fields.append(b"Cookie: " + b"; ".join(name.encode() + b"=" + value for name, value in cookies))
        shown.append("cookie: " + "; ".join(f"{name}={_shown(name, value)}" for name, value in cookies))
    target = authority + ":80" * (":" not in authority) if method == "CONNECT" else path
    raw = target + _query((name, quote_from_bytes(value, safe="")) for name, value in query)
    try:
        lines = b"\r\n".join([f"{method} {raw} HTTP/1.1".encode(), *fields])
        head = parse_request_head(lines, _MAX_HEADERS)
    except ProtocolError:
        return None
    url = f"http://{authority}" + ("" if method == "CONNECT" else target)
    url += _query((name, _shown(name, value)) for name, value in query)
    return Example(head, " ".join([method, url, *(f"-H '{one}'" for one in shown)]))


def _query(pairs: Iterable[tuple[str, str]]) -> str:
    text = "&".join(f"{quote_from_bytes(name.encode(), safe='')}={value}" for name, value in pairs)
    return f"?{text}" if text else ""


def _shown(name: str, value: bytes) -> str:
    return HIDDEN if is_sensitive(name) else value.decode(errors="replace")
