"""
Which exchanges a tap shows: criteria made once, asked once a request. *Pure; runs on the data path while one looks.*

Several values of one criterion are alternatives, except for `header`, all of which must hold; different criteria must
all hold.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from fnmatch import translate

from sidecar import grpc
from sidecar.errors import REASONS
from sidecar.exchange import Direction, Exchange
from sidecar.redact import is_sensitive

Test = Callable[[Exchange], bool]

_STATUS = re.compile(r"(>=|<=|>|<|=|!=)?([1-9][0-9]{2})|([1-5])xx|([1-9][0-9]{2})-([1-9][0-9]{2})")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_FLAGS = frozenset({"-", *(reason.flag for reason in REASONS)})
_GRPC_STATUSES = {text: number for number, name in enumerate(grpc.NAMES) for text in (name, str(number))}
_WILD = re.compile(r"[*?\[]")

NAMES = ("direction", "route", "upstream", "path", "method", "status", "grpc_status", "header", "flag")
"""The criteria."""


class Filter:
    """
    Accepts exchanges that meet all criteria.

    Args:
        criteria: Pairs of a name of `NAMES` and a value.

    Raises:
        ValueError: A name or a value is not one; the text says what was expected.
    """

    __slots__ = ("_tests",)

    def __init__(self, criteria: Iterable[tuple[str, str]]) -> None:
        alternatives: dict[str, list[Test]] = {}
        self._tests: list[tuple[Test, ...]] = []
        for name, value in criteria:
            make = _MAKERS.get(name)
            if make is None:
                raise ValueError(f"{name}: no such criterion; there are {', '.join(NAMES)}, limit and rate")
            if name == "header":
                self._tests.append((make(value),))
            else:
                alternatives.setdefault(name, []).append(make(value))
        self._tests += [tuple(tests) for tests in alternatives.values()]

    def __call__(self, exchange: Exchange) -> bool:
        """Whether the exchange, which is over, is shown."""
        for tests in self._tests:
            for test in tests:
                if test(exchange):
                    break
            else:
                return False
        return True


def _direction(value: str) -> Test:
    by_label = {direction.label: direction for direction in Direction}
    if value not in by_label:
        raise ValueError(f"direction: expected inbound or outbound, got {value!r}")
    wanted = by_label[value]
    return lambda exchange: exchange.direction is wanted


def _name(value: str) -> Callable[[str], bool]:
    """A name as it is, with `*`, `?` and `[...]` as in a shell; `-` for none."""
    if _WILD.search(value):
        matches = re.compile(translate(value)).match
        return lambda name: matches(name) is not None
    wanted = "" if value == "-" else value
    return lambda name: name == wanted


def _route(value: str) -> Test:
    matches = _name(value)
    return lambda exchange: matches(exchange.scope.route if exchange.scope is not None else "")


def _upstream(value: str) -> Test:
    matches = _name(value)
    return lambda exchange: matches(exchange.scope.upstream if exchange.scope is not None else "")


def _path(value: str) -> Test:
    """With a wildcard the whole path, else its beginning; the query does not count."""
    if not value.startswith(("/", "*")):
        raise ValueError(f"path: expected the beginning of a path or a pattern, such as /v1 or */items, got {value!r}")
    if _WILD.search(value):
        matches = re.compile(translate(value).encode("utf-8")).match
        return lambda exchange: exchange.head is not None and matches(exchange.head.path) is not None
    prefix = value.encode("utf-8")
    return lambda exchange: exchange.head is not None and exchange.head.path.startswith(prefix)


def _method(value: str) -> Test:
    if not _TOKEN.fullmatch(value):
        raise ValueError(f"method: expected a token such as GET, got {value!r}")
    wanted = value.encode("ascii")
    return lambda exchange: exchange.head is not None and exchange.head.method == wanted


def _status(value: str) -> Test:
    """Of the status of HTTP; of a call of gRPC that failed, the one that stands for how, for what was sent is 200."""
    found = _STATUS.fullmatch(value)
    if found is None:
        raise ValueError(f"status: expected one of 404, 5xx, 400-499, >=400, <400, !=200, got {value!r}")
    operator, number, hundred, first, last = found.groups()
    if hundred is not None:
        low, high = int(hundred) * 100, int(hundred) * 100 + 99
    elif first is not None:
        low, high = int(first), int(last)
    elif operator == "!=":
        unwanted = int(number)
        return lambda exchange: grpc.counts_as(exchange.status, exchange.grpc_status) != unwanted
    else:
        given = int(number)
        low, high = {
            ">=": (given, 999), ">": (given + 1, 999), "<=": (0, given), "<": (0, given - 1)
        }.get(operator, (given, given))  # fmt: skip
    return lambda exchange: low <= grpc.counts_as(exchange.status, exchange.grpc_status) <= high


def _grpc_status(value: str) -> Test:
    """By name or number, or any but that; `-` for what is no gRPC."""
    if value == "-":
        return lambda exchange: exchange.grpc_status < 0
    said = value.removeprefix("!=")
    wanted = _GRPC_STATUSES.get(said)
    if wanted is None:
        raise ValueError(f"grpc_status: expected one of UNAVAILABLE, 14, !=OK, or - for what is no gRPC, got {value!r}")
    if said != value:
        return lambda exchange: exchange.grpc_status >= 0 and exchange.grpc_status != wanted
    return lambda exchange: exchange.grpc_status == wanted


def _header(value: str) -> Test:
    """`name` or `name=value`; several fields of one name count as joined by `, `, as in the routes of the file."""
    name, equals, text = value.partition("=")
    if not _TOKEN.fullmatch(name):
        raise ValueError(f"header: expected name or name=value, got {value!r}")
    if equals and is_sensitive(name):
        # Or whoever may look could find the value letter by letter.
        raise ValueError(f"header: the value of {name} cannot be asked for; expected {name} alone")
    key = name.lower().encode("ascii")
    if not equals:
        return lambda exchange: exchange.head is not None and exchange.head.first(key) is not None
    if _WILD.search(text):
        matches = re.compile(translate(text).encode("utf-8")).match

        def is_like(exchange: Exchange) -> bool:
            found = exchange.head.joined(key) if exchange.head is not None else None
            return found is not None and matches(found) is not None

        return is_like
    wanted = text.encode("utf-8")
    return lambda exchange: exchange.head is not None and exchange.head.joined(key) == wanted


def _flag(value: str) -> Test:
    if value not in _FLAGS:
        raise ValueError(f"flag: expected one of {' '.join(sorted(_FLAGS))}, got {value!r}")
    return lambda exchange: (exchange.reason.flag if exchange.reason is not None else "-") == value


_MAKERS: dict[str, Callable[[str], Test]] = {
    "direction": _direction,
    "route": _route,
    "upstream": _upstream,
    "path": _path,
    "method": _method,
    "status": _status,
    "grpc_status": _grpc_status,
    "header": _header,
    "flag": _flag,
}
