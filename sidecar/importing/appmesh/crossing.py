"""
One route after another made one route: what a gateway's route lets through, and then a service's. *Cold, pure.*

The second sees what the first has rewritten, so its question about the path is turned back into one about the path as
it came: behind a gateway that makes `/` of `/shop/`, a service's `/cart` is `/shop/cart`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import re2

from sidecar.config.values.words import regex_options
from sidecar.importing.appmesh.matches import asked_path
from sidecar.importing.draft import Plain, RouteDraft

_NEVER: Final = "never"


@dataclass(slots=True)
class Outer:
    """
    A gateway's route.

    Attributes:
        match: What a request must be, without its port.
        port: Of which listener; None: of any.
        target_port: By which port the service is called then; None: its own.
        host: What `Host` becomes; empty: it stays.
        prefix: What becomes of the prefix that was matched; None: it stays.
        prefix_of_all: What is put before a path, where every path matches; empty: nothing.
        path: What the path becomes; None: see above.
    """

    match: dict[str, Plain]
    port: int | None
    target_port: int | None
    host: str
    prefix: str | None = None
    prefix_of_all: str = ""
    path: str | None = None

    @property
    def breadth(self) -> tuple[int, int]:
        """App Mesh: without a priority the longest prefix comes first; exact paths before."""
        path = asked_path(self.match)
        if isinstance(path, str):
            return 0, -len(path)
        if isinstance(path, dict):
            (kind, word), *_ = path.items()
            return (1 if kind == "regex" else 2), -len(str(word))
        return 3, 0


@dataclass(slots=True)
class Crossed:
    """
    Both in one.

    Attributes:
        lost: Why they cannot be written as one; empty if they can.
    """

    name: str
    match: dict[str, Plain] = field(default_factory=dict)
    to: dict[str, float] = field(default_factory=dict)
    rest: dict[str, Plain] = field(default_factory=dict)
    lost: str = ""


class _LostError(Exception):
    """Why two routes cannot be one."""


def cross(outer: Outer, inner: Sequence[RouteDraft], service: str, further: Sequence[int] = ()) -> list[Crossed]:
    """
    A gateway's route with each of the routes behind it, without those that it never lets anything through to.

    Args:
        inner: Routes of the service, in their order.
        service: Its name.
        further: Numbers of its ports but for the first, to which alone a caller's route leads.
    """
    found: list[Crossed] = []
    for route in inner:
        try:
            one = _crossed(outer, route, service)
            if one is not None and one.to and outer.target_port in further and not route.has_ports:
                raise _LostError(f"a gateway's route leads to the service's first port, not to {outer.target_port}")
        except _LostError as error:
            one = Crossed(route.name, lost=str(error))
        if one is not None:
            found.append(one)
    return found


def _crossed(outer: Outer, route: RouteDraft, service: str) -> Crossed | None:
    inner = dict(route.matches[0]) if route.matches else {}
    host = inner.pop("host", None)
    if isinstance(host, list) and any(":" not in str(one) for one in host):
        # It is asked for because others share the service, or its port: a gateway calls by this host alone.
        pass
    elif isinstance(host, list) and outer.target_port is not None:
        if not any(str(one).endswith(f":{outer.target_port}") for one in host):
            return None
    elif isinstance(host, list):
        raise _LostError("it asks for a port, which the gateway's route does not say")
    match: dict[str, Plain] = {}
    rewrite: dict[str, Plain] = {}
    if "grpc" in outer.match or "grpc" in inner:
        call = _call(outer, inner)
        if call is None:
            return None
        match["grpc"] = call
    else:
        path = _path(outer, inner.get("path"), rewrite)
        if path == _NEVER:
            return None
        if path:
            match["path"] = path
        methods = _methods(outer.match.get("methods"), inner.get("methods"))
        if methods is not None:
            if not methods:
                return None
            match["methods"] = methods
    for key in ("headers", "query"):
        tests = _tests(outer.match.get(key), inner.get(key))
        if tests:
            match[key] = tests
    rest = dict(route.rest)
    if "respond" in rest:
        return Crossed(route.name, match, {}, rest)
    if outer.host:
        rewrite["host"] = outer.host
    if rewrite:
        rest["rewrite"] = rewrite
    to = {f"{service}.{name}": weight for name, weight in route.to.items()} or {service: 1.0}
    return Crossed(route.name, match, to, rest)


def _call(outer: Outer, inner: Mapping[str, Plain]) -> dict[str, Plain] | None:
    """Which calls of gRPC pass both; None for none. What asks for paths by itself, or changes them, is not combined."""
    if (
        outer.path is not None
        or outer.prefix_of_all
        or any(key in match for match in (outer.match, inner) for key in ("path", "methods"))
    ):
        raise _LostError("of the gateway's route and it one asks for a call of gRPC, and one for a path")
    one, other = outer.match.get("grpc", {}), inner.get("grpc", {})
    assert isinstance(one, dict)
    assert isinstance(other, dict)
    if any(one[key] != other[key] for key in one.keys() & other.keys()):
        return None
    return {**one, **other}


def _path(outer: Outer, inner: Plain | None, rewrite: dict[str, Plain]) -> Plain:
    """The question about the path as it came; empty for any path, `_NEVER` for none. Puts what is rewritten."""
    asked = outer.match.get("path")
    if outer.path is not None:
        rewrite["path"] = outer.path
        return (asked or "") if _holds(inner, outer.path) else _NEVER
    if isinstance(asked, str):
        return asked if _holds(inner, asked) else _NEVER
    if isinstance(asked, dict) and "regex" in asked:
        if inner is not None:
            raise _LostError("the gateway's route and it both ask for the path, and one of them by a regex")
        return asked
    if asked is None:
        return _after_all(outer, inner, rewrite)
    assert isinstance(asked, dict)
    came = str(asked["starts_with"])
    sent = came if outer.prefix is None else outer.prefix
    return _after_prefix(came, sent, inner, rewrite)


def _after_prefix(came: str, sent: str, inner: Plain | None, rewrite: dict[str, Plain]) -> Plain:
    """Behind a route by prefix, which `sent` replaces: of `/shop` and `/`, `/shop/cart` is `/cart`."""
    seam = "/" if sent.endswith("/") and not came.endswith("/") else ""
    if isinstance(inner, str):
        if not inner.startswith(sent):
            return _NEVER
        if came != sent:
            rewrite["path"] = inner
        if seam and inner == sent:
            # With the slash at the seam, and without it, what is sent is the same.
            return {"regex": f"{re.escape(came)}/?"}
        return came + seam + inner[len(sent) :]
    if isinstance(inner, dict) and "regex" in inner:
        raise _LostError("the gateway's route and it both ask for the path, and one of them by a regex")
    begins = str(inner["starts_with"]) if isinstance(inner, dict) else ""
    if sent.startswith(begins):
        tail = ""
    elif begins.startswith(sent):
        tail = begins[len(sent) :]
        came += seam
    else:
        return _NEVER
    if came != sent:
        rewrite["prefix"] = sent + tail
    return {"starts_with": came + tail}


def _after_all(outer: Outer, inner: Plain | None, rewrite: dict[str, Plain]) -> Plain:
    """Behind a route for every path."""
    if not outer.prefix_of_all:
        return inner if inner is not None else ""
    if inner is not None:
        raise _LostError("the gateway's route puts a prefix before every path, and it asks for the path")
    before = outer.prefix_of_all.rstrip("/").replace("\\", "\\\\")
    rewrite["regex"] = {"pattern": "^/", "substitution": f"{before}/"}
    return ""


def _holds(asked: Plain | None, path: str) -> bool:
    """Whether a path passes a question about paths."""
    if asked is None:
        return True
    if isinstance(asked, str):
        return asked == path
    assert isinstance(asked, dict)
    if "starts_with" in asked:
        return path.startswith(str(asked["starts_with"]))
    pattern = str(asked["regex"])
    return re2.compile(pattern.encode(), regex_options(pattern)).fullmatch(path.encode()) is not None


def _methods(one: Plain | None, other: Plain | None) -> list[Plain] | None:
    if not isinstance(one, list) or not isinstance(other, list):
        return one if isinstance(one, list) else other if isinstance(other, list) else None
    return [method for method in one if method in other]


def _tests(one: Plain | None, other: Plain | None) -> dict[str, Plain]:
    first = one if isinstance(one, dict) else {}
    second = other if isinstance(other, dict) else {}
    for name in first.keys() & second.keys():
        if first[name] != second[name]:
            raise _LostError(f"the gateway's route and it both ask for `{name}`, which one match asks once")
    return {**first, **second}
