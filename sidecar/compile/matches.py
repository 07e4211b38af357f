"""What a request must be, compiled from the file's words. *Cold.*"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, get_args

from sidecar.config.values.grpc import CONTENT_TYPE, METHOD, path_of
from sidecar.redact import HIDDEN, NO_SECRETS, Secrets, is_sensitive
from sidecar.routing.match import Condition, Match, make_match
from sidecar.routing.matchers import (
    PathKind,
    PathMatcher,
    ValueKind,
    ValueMatcher,
    any_path,
    path_matcher,
    value_matcher,
)

if TYPE_CHECKING:
    from sidecar.config.model import matches

_PATH_KINDS: tuple[str, ...] = get_args(PathKind)
_VALUE_KINDS: tuple[str, ...] = get_args(ValueKind)
_OF_GRPC = value_matcher("regex", CONTENT_TYPE, ignore_case=True)


def key_of(source: matches.KeySource) -> tuple[str, str]:
    """Kind and name of a key, for `sticky`, `hash` and `rate_limit`."""
    for kind in ("cookie", "header", "query"):
        name = getattr(source, kind)
        if name is not None:
            return kind, name
    return "source_ip", ""


def match(settings: matches.Match) -> Match:
    """One match of a route, or of a rule, which may give several paths."""
    grpc = settings.grpc
    return make_match(
        hosts=settings.host,
        path=_paths(settings.path) if grpc is None else _call(grpc),
        methods=settings.methods if grpc is None else [METHOD],
        headers=values(settings.headers) if grpc is None else {"content-type": _OF_GRPC, **values(settings.headers)},
        cookies=values(settings.cookies),
        query=values(settings.query),
    )


def shown(condition: Condition, secrets: Secrets = NO_SECRETS) -> str:
    """What a condition expects, for people: without what its name says is a secret, and without known secrets."""
    name = condition.part.partition(" ")[2]
    is_value = name and not condition.text.endswith(("present true", "present false"))
    return HIDDEN if is_value and is_sensitive(name) else secrets.hide(condition.text)


def values(tests: Mapping[str, matches.ValueMatch]) -> dict[str, ValueMatcher]:
    """Tests of header fields, cookies or parameters, by their names."""
    return {name: value(test) for name, test in tests.items()}


def _paths(tests: matches.PathMatch | list[matches.PathMatch] | None) -> PathMatcher | None:
    if not tests:
        return None
    return any_path([_path(one) for one in (tests if isinstance(tests, list) else [tests])])


def _call(grpc: matches.GrpcMatch) -> PathMatcher | None:
    """The path of a call, which the table finds as any other; None for every call."""
    asked = path_of(grpc.service, grpc.method)
    return path_matcher(*asked) if asked is not None else None


def _path(test: matches.PathMatch) -> PathMatcher:
    kind, operand = _given(test, _PATH_KINDS)
    assert isinstance(operand, str)
    return path_matcher(kind, operand, ignore_case=test.ignore_case, invert=test.invert)


def value(test: matches.ValueMatch) -> ValueMatcher:
    """One test of a value."""
    kind, operand = _given(test, _VALUE_KINDS)
    return value_matcher(kind, operand, ignore_case=test.ignore_case, invert=test.invert)


def _given(
    test: matches.ValueMatch | matches.PathMatch, kinds: tuple[str, ...]
) -> tuple[str, str | bool | tuple[int, int]]:
    """The one kind of test that there is."""
    for kind in kinds:
        operand = getattr(test, kind)
        if operand is not None:
            return kind, operand
    raise ValueError(f"expected one of {', '.join(kinds)}, found none")
