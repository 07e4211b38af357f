"""What a request must be for a rule of the Gateway API, in our words. *Cold, pure.*"""

from __future__ import annotations

import re
from typing import Final

from sidecar.config.values.grpc import CONTENT_TYPE
from sidecar.config.values.grpc import METHOD as CALL
from sidecar.importing.checked import (
    GRPC_METHOD,
    GRPC_SERVICE,
    HEADER,
    METHOD,
    PARAMETER,
    PATH,
    REGEX,
    checked,
    refuse_content_type,
)
from sidecar.importing.draft import Plain
from sidecar.importing.field import Field, WrongError
from sidecar.importing.gateway_api.precedence import PathKind, Ranked
from sidecar.importing.kubernetes import Object

_EVERY: Final[tuple[PathKind, int]] = ("prefix", 1)
_PATH_KINDS: Final[dict[str, PathKind]] = {"Exact": "exact", "PathPrefix": "prefix", "RegularExpression": "regex"}


def ranked_matches(rule: Field, index: int, route: Object) -> list[Ranked]:
    """All matches of a rule; without one it is every request."""
    matches = rule.each("matches")
    found = [_ranked(match, index, number, route) for number, match in enumerate(matches)]
    return found or [Ranked({}, *_EVERY, False, 0, 0, route.created, route.key, index, 0)]


def _ranked(match: Field, rule: int, index: int, route: Object) -> Ranked:
    found: dict[str, Plain] = {}
    kind, chars = _EVERY
    if route.kind == "GRPCRoute":
        kind, chars = _put_call(match.get("method"), found)
        method = None
    else:
        kind, chars = _put_path(match.get("path"), found)
        method = match.get("method")
    if method is not None:
        found["methods"] = [checked(method, METHOD)]
        method.kept("match.methods")
    headers = _put_values(match.each("headers"), "headers", found)
    query = _put_values(match.each("queryParams"), "query", found)
    if route.kind == "GRPCRoute":
        refuse_content_type(match, match.each("headers"))
    return Ranked(found, kind, chars, method is not None, headers, query, route.created, route.key, rule, index)


def spell_out(match: dict[str, Plain]) -> None:
    """Say what a call of gRPC is but for its path, for a match that asks for that in its own way."""
    match.pop("grpc", None)
    match["methods"] = [CALL]
    headers = match.get("headers")
    of_calls: dict[str, Plain] = {"content-type": {"regex": CONTENT_TYPE, "ignore_case": True}}
    match["headers"] = {**headers, **of_calls} if isinstance(headers, dict) else of_calls


def _put_path(path: Field | None, found: dict[str, Plain]) -> tuple[PathKind, int]:
    if path is None:
        return _EVERY
    kind_field, value = path.get("type"), path.get("value")
    word = "PathPrefix" if kind_field is None else kind_field.text()
    if word not in _PATH_KINDS:
        assert kind_field is not None
        raise WrongError(kind_field, f"expected Exact, PathPrefix or RegularExpression, found `{word}`")
    if kind_field is not None:
        kind_field.kept("match.path")
    kind = _PATH_KINDS[word]
    if value is None:
        return _EVERY
    text = checked(value, REGEX if kind == "regex" else PATH)
    value.kept(f"match.path, {'whole segments' if kind == 'prefix' else 'the whole path'}")
    found["path"] = text if kind == "exact" else {kind: text}
    return kind, len(text)


def _put_call(call: Field | None, found: dict[str, Plain]) -> tuple[PathKind, int]:
    """A call of gRPC; by a pattern, or by a method of any service, as the path `/package.Service/Method` of it."""
    if call is None:
        found["grpc"] = {}
        return _EVERY
    kind_field, service, method = call.get("type"), call.get("service"), call.get("method")
    is_regex = kind_field is not None and kind_field.text() == "RegularExpression"
    words = ["" if one is None else one.text() for one in (service, method)]
    if service is None and method is None:
        found["grpc"] = {}
        if kind_field is not None:
            kind_field.kept("match.grpc")
        return _EVERY
    if is_regex or service is None:
        _put_pattern(call, words, is_regex, found)
        return "regex", len(words[0]) * 1000 + len(words[1])
    asked: dict[str, Plain] = {"service": checked(service, GRPC_SERVICE)}
    if method is not None:
        asked["method"] = checked(method, GRPC_METHOD)
    found["grpc"] = asked
    for one in (kind_field, service, method):
        if one is not None:
            one.kept("match.grpc")
    return "prefix" if method is None else "exact", len(words[0]) * 1000 + len(words[1])


def _put_pattern(call: Field, words: list[str], is_regex: bool, found: dict[str, Plain]) -> None:
    parts = [word if is_regex else re.escape(word) for word in words]
    pattern = f"/{parts[0] or '[^/]+'}/{parts[1] or '[^/]+'}"
    found["path"] = {"regex": checked(call, REGEX, pattern)}
    spell_out(found)
    for one in (call.get("type"), call.get("service"), call.get("method")):
        if one is not None:
            one.changed("match.path: a gRPC method is a path")


def _put_values(tests: list[Field], where: str, found: dict[str, Plain]) -> int:
    """Put headers or query parameters; of one name the first counts."""
    values: dict[str, Plain] = {}
    for test in tests:
        name = test.need("name")
        word = checked(name, HEADER if where == "headers" else PARAMETER)
        if word in values:
            test.dropped("of several for one name the first counts, says the specification")
            continue
        kind, value = test.get("type"), test.need("value")
        is_regex = kind is not None and kind.text() == "RegularExpression"
        if kind is not None and kind.text() not in ("Exact", "RegularExpression"):
            raise WrongError(kind, f"expected Exact or RegularExpression, found `{kind.text()}`")
        values[word] = {"regex": checked(value, REGEX)} if is_regex else value.text()
        test.kept(f"match.{where}.{word}")
    if values:
        own = found.get(where)
        found[where] = {**values, **own} if isinstance(own, dict) else values
    return len(values)
