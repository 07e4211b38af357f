"""What a request must be for a route of App Mesh, in our words. *Cold, pure.*"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from sidecar.importing.account import Mark
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

_KINDS: Final = ("exact", "prefix", "suffix", "regex")
_COOKIES: Final = "`match: {cookies: {NAME: VALUE}}` asks for one cookie, in whatever order they come"
NORMAL: Final = "characters, as Envoy compares them; App Mesh also merges slashes (`//a`), a sidecar does not"


def http_match(match: Field, hosts: Sequence[str]) -> dict[str, Plain]:
    """
    The match of an HTTP route.

    Args:
        hosts: By which its service is called, for a match that asks for a port.
    """
    found: dict[str, Plain] = {}
    _put_port(match, hosts, found)
    _put_path(match, found)
    method = match.get("method")
    if method is not None:
        found["methods"] = [checked(method, METHOD)]
        method.kept("match.methods")
    _put_scheme(match)
    _put_values(match.each("headers"), "headers", found)
    _put_values(match.each("queryParameters"), "query", found)
    return found


def grpc_match(match: Field | None, hosts: Sequence[str]) -> dict[str, Plain]:
    """The match of a gRPC route: it takes no other requests, and metadata are headers."""
    call: dict[str, Plain] = {}
    found: dict[str, Plain] = {"grpc": call}
    if match is None:
        return found
    _put_port(match, hosts, found)
    service, method = match.get("serviceName"), match.get("methodName")
    if method is not None and service is None:
        raise WrongError(method, "expected `serviceName` beside `methodName`, found none", "App Mesh requires it")
    if service is not None:
        call["service"] = checked(service, GRPC_SERVICE)
        service.kept("match.grpc.service")
    if method is not None:
        call["method"] = checked(method, GRPC_METHOD)
        method.kept("match.grpc.method")
    _put_values(match.each("metadata"), "headers", found)
    refuse_content_type(match, match.each("metadata"))
    return found


def asked_path(match: Mapping[str, Plain]) -> Plain | None:
    """The question about the path, that of a call of gRPC included; None for any path."""
    call = match.get("grpc")
    if not isinstance(call, dict):
        return match.get("path")
    if "service" not in call:
        return None
    path = f"/{call['service']}/"
    return f"{path}{call['method']}" if "method" in call else {"starts_with": path}


def hostname_of(match: Field) -> str | None:
    """
    What the `Host` of a gateway route must be, as a regular expression; None for any.

    The listener of a gateway stands for one service, so hosts are told apart by the header.
    """
    block = match.get("hostname")
    if block is None:
        return None
    exact, suffix = block.get("exact"), block.get("suffix")
    one = exact or suffix
    if one is None:
        raise WrongError(block, "expected `exact` or `suffix`, found none")
    one.changed("match.headers.host, with or without a port")
    escaped = re.escape(one.text().removeprefix("*" if exact is None else ""))
    return f"(?i){'' if exact is not None else '.*'}{escaped}(:[0-9]+)?"


def port_of(match: Field) -> int | None:
    """The port that a match asks for, if it does."""
    port = match.get("port")
    if port is None:
        return None
    number = port.integer()
    if not 1 <= number <= 65535:
        raise WrongError(port, f"expected a port from 1 to 65535, found {number}")
    return number


def _put_port(match: Field, hosts: Sequence[str], found: dict[str, Plain]) -> None:
    number = port_of(match)
    if number is not None:
        found["host"] = [f"{host.partition(':')[0]}:{number}" for host in hosts]
        match.keep("port", "match.host, with the port")


def _put_path(match: Field, found: dict[str, Plain]) -> None:
    prefix, block = match.get("prefix"), match.get("path")
    if prefix is not None:
        word = checked(prefix, PATH)
        if word != "/":
            found["path"] = {"starts_with": word}
        prefix.kept(f"match.path.starts_with: {NORMAL}" if word != "/" else "every path")
        if block is not None:
            raise WrongError(block, "expected one of `path` and `prefix`, found both")
    if block is None:
        return
    exact, regex = block.get("exact"), block.get("regex")
    if exact is not None:
        found["path"] = checked(exact, PATH)
        exact.kept("match.path")
    elif regex is not None:
        found["path"] = {"regex": checked(regex, REGEX)}
        regex.kept("match.path.regex: the whole path, RE2")


def _put_scheme(match: Field) -> None:
    scheme = match.get("scheme")
    if scheme is None:
        return
    if scheme.text().lower() != "http":
        hint = "apps call their sidecars by `http`, which also Envoy's saw: this route can have taken nothing"
        raise WrongError(scheme, f"there is no match by scheme, and none for `{scheme.text()}`", hint)
    scheme.dropped("apps call their sidecars by http: all requests have this scheme")


def _put_values(tests: Sequence[Field], where: str, found: dict[str, Plain]) -> None:
    """Put headers, metadata or query parameters; each name once, for ours stand by name."""
    values: dict[str, Plain] = {}
    for test in tests:
        name = test.need("name")
        word = checked(name, HEADER if where == "headers" else PARAMETER)
        if word in values:
            raise WrongError(name, f"found `{word}` twice: one match asks each name once", "make one test of the two")
        values[word] = _value_test(test, f"match.{where}.{word}")
        name.kept(f"match.{where}")
    if values:
        found[where] = values


def _value_test(test: Field, where: str) -> Plain:
    invert = test.get("invert")
    is_inverted = invert is not None and invert.boolean()
    if invert is not None:
        invert.kept(f"{where}.invert")
    block = test.get("match")
    if block is None:
        return {"present": not is_inverted}
    value: dict[str, Plain] = {}
    for kind in _KINDS:
        one = block.get(kind)
        if one is not None and kind == "regex" and where == "match.headers.cookie":
            one.account.mark(one.path, Mark("kept", f"{where}.regex: the whole header, all cookies in it", _COOKIES))
        if one is not None:
            value[kind] = checked(one, REGEX) if kind == "regex" else one.text()
            one.kept(f"{where}.{kind}" + (": the whole value, RE2" if kind == "regex" else ""))
    span = block.get("range")
    if span is not None:
        start, end = span.need("start"), span.need("end")
        if start.integer() >= end.integer():
            raise WrongError(span, f"expected a start below the end, found {start.integer()} and {end.integer()}")
        value["range"] = [start.integer(), end.integer()]
        span.kept(f"{where}.range: the end is excluded")
    if len(value) != 1:
        raise WrongError(block, f"expected one of {', '.join(_KINDS)} and range, found {len(value)}")
    if is_inverted:
        return {**value, "invert": True}
    (kind, plain), *_ = value.items()
    return plain if kind == "exact" else value
