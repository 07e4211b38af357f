"""
What a route asks of a request: host, path, methods, headers, cookies, query; all must hold. *Hot path; pure.*

Each question is a `Condition` with a name, so that what live traffic asks in one loop can be asked one by one when an
operator wants to know which of them said no.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from sidecar.http1.grammar import TOKEN, GrammarError, authority
from sidecar.message import RequestHead
from sidecar.routing.cookies import cookie
from sidecar.routing.matchers import PathMatcher, ValueMatcher
from sidecar.routing.query import param

DEFAULT_PORT: Final = 80
"""That a request is for whose authority names none (RFC 9110, 4.2.1)."""

_STANDARD_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"})


@dataclass(frozen=True, slots=True)
class Condition:
    """
    One named question about a head.

    Attributes:
        part: What is asked about: `host`, `path`, `methods`, `header x-canary`, `cookie uid`, `query debug`.
        text: What is expected, as a person reads it.
        test: Whether the head meets it.
        matcher: What is asked of the value of a header, cookie or parameter; None of all else.
    """

    part: str
    text: str
    test: Callable[[RequestHead], bool] = field(compare=False, repr=False)
    matcher: ValueMatcher | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Match:
    """
    One way in which a request can match a route: everything below must hold. Built by `make_match`.

    Attributes:
        hosts: Normalised patterns (`host_pattern`), any of which must match; empty for every host.
        path: Question about the path, or None.
        conditions: Questions about methods, headers, cookies and query, cheapest first.
    """

    hosts: tuple[bytes, ...] = ()
    path: PathMatcher | None = None
    conditions: tuple[Condition, ...] = ()

    def matches(self, head: RequestHead) -> bool:
        """Whether all of it holds for this head."""
        return self.missed(head) is None

    def missed(self, head: RequestHead) -> str | None:
        """Part of the first question, in the order of `parts`, to which this head says no; None: it matches."""
        hosts, path = self.hosts, self.path
        if hosts and not any(host_matches(host, head) for host in hosts):
            return "host"
        if path is not None and not path.test(head.path):
            return "path"
        for condition in self.conditions:
            if not condition.test(head):
                return condition.part
        return None

    def parts(self) -> tuple[Condition, ...]:
        """Every question of this match in the order host, path, methods, headers, cookies, query."""
        return (*self._host_part(), *self._path_part(), *self.conditions)

    def _host_part(self) -> tuple[Condition, ...]:
        hosts = self.hosts
        if not hosts:
            return ()
        text = " or ".join(host.decode() for host in hosts)
        return (Condition("host", text, lambda head: any(host_matches(host, head) for host in hosts)),)

    def _path_part(self) -> tuple[Condition, ...]:
        return () if self.path is None else (path_condition(self.path),)


def make_match(
    *,
    hosts: Sequence[str] = (),
    path: PathMatcher | None = None,
    methods: Sequence[str] = (),
    headers: Mapping[str, ValueMatcher] | None = None,
    cookies: Mapping[str, ValueMatcher] | None = None,
    query: Mapping[str, ValueMatcher] | None = None,
) -> Match:
    """
    Compile one match; what is left out is not asked.

    Raises:
        ValueError: A host pattern, method or name is invalid.
    """
    conditions = [_methods_condition(methods)] if methods else []
    conditions += [_header_condition(name, matcher) for name, matcher in (headers or {}).items()]
    conditions += [_cookie_condition(name, matcher) for name, matcher in (cookies or {}).items()]
    conditions += [_query_condition(name, matcher) for name, matcher in (query or {}).items()]
    patterns = tuple(dict.fromkeys(host_pattern(host) for host in hosts))
    return Match(() if b"*" in patterns else patterns, path, tuple(conditions))


def host_pattern(text: str) -> bytes:
    """
    A host as the configuration writes it, in the form in which hosts are compared: lower case, no trailing dot.

    `*` is every host, `*.example.com` every name below `example.com` at any depth, but not that name itself. Each of
    them may carry a port, as in `shop:9090`, without which the request's port does not matter.

    Raises:
        ValueError: Neither a host nor one of the two patterns, or a port that there is not.
    """
    if text == "*":
        return b"*"
    if text.startswith("*:"):
        return b"*" + host_pattern(f"x{text[1:]}")[1:]
    if not text.isascii():
        raise ValueError(f"expected a host, found {text!r}: write internationalised names in their xn-- form")
    name = text[2:] if text.startswith("*.") else text
    if "*" in name:
        raise ValueError(
            f"expected a host, found {text!r}: `*` stands alone or as the first label, as in *.example.com"
        )
    try:
        host, port = authority(name.encode())
    except GrammarError:
        raise ValueError(f"expected a host, found {text!r}") from None
    if not host or name.endswith(":") or (name is not text and host.startswith((b"[", b"."))):
        raise ValueError(f"expected a host, found {text!r}")
    pattern = b"*." + host if name is not text else host
    return pattern if port is None else b"%b:%d" % (pattern, port)


def split_pattern(pattern: bytes) -> tuple[bytes, int | None]:
    """What `host_pattern` made as a pattern without its port, and that port, if there is one."""
    host, _, port = pattern.rpartition(b":")
    return (host, int(port)) if host and not pattern.endswith(b"]") else (pattern, None)


def host_matches(pattern: bytes, head: RequestHead) -> bool:
    """Whether a request is for a pattern that `host_pattern` made."""
    pattern, port = split_pattern(pattern)
    if port is not None and port != (head.port or DEFAULT_PORT):
        return False
    host = head.host
    if pattern[:1] != b"*":
        return host == pattern
    # `*.example.com` wants at least one character before the dot.
    return pattern == b"*" or (host.endswith(pattern[1:]) and len(host) > len(pattern) - 1)


def path_condition(matcher: PathMatcher) -> Condition:
    """The question about the path as a condition."""
    test = matcher.test
    return Condition("path", matcher.text, lambda head: test(head.path))


def _methods_condition(methods: Sequence[str]) -> Condition:
    for method in methods:
        if not method or not method.isascii() or method.encode().translate(None, TOKEN):
            raise ValueError(f"expected a method, found {method!r}")
        if method not in _STANDARD_METHODS and method.upper() in _STANDARD_METHODS:
            raise ValueError(f"expected a method, found {method!r}: methods are case-sensitive, write {method.upper()}")
    wanted = frozenset(method.encode() for method in methods)
    return Condition("methods", " or ".join(methods), lambda head: head.method in wanted)


def _header_condition(name: str, matcher: ValueMatcher) -> Condition:
    key = name.lower().encode()
    if not key or key.translate(None, TOKEN):
        raise ValueError(f"expected the name of a header, found {name!r}")
    test = matcher.test
    return Condition(f"header {key.decode()}", matcher.text, lambda head: test(head.joined(key)), matcher)


def _cookie_condition(name: str, matcher: ValueMatcher) -> Condition:
    key = name.encode()
    if not key or key != key.strip() or b"=" in key or b";" in key:
        raise ValueError(f"expected the name of a cookie, found {name!r}")
    test = matcher.test
    return Condition(f"cookie {name}", matcher.text, lambda head: test(cookie(head, key)), matcher)


def _query_condition(name: str, matcher: ValueMatcher) -> Condition:
    key, test = name.encode(), matcher.test
    return Condition(f"query {name}", matcher.text, lambda head: test(param(head, key)), matcher)
