"""
Rewritten paths and the places that redirects point to. *Hot path; pure.*

Whatever comes out is a path in normal form: it begins with `/` and holds only octets that a request target may.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import re2

from sidecar.http1.grammar import TARGET, GrammarError, authority
from sidecar.http1.target import normalise
from sidecar.message import Kind, RequestHead
from sidecar.routing.match import Match
from sidecar.routing.matchers import PathMatcher, compile_regex, path_octets

REDIRECT_STATUSES: Final = (301, 302, 303, 307, 308)
_DEFAULT_PORTS: Final = {b"http": 80, b"https": 443}


class PathChange(Protocol):
    """Makes a path of a request's path."""

    def apply(self, head: RequestHead) -> bytes:
        """The new path; raises ValueError if it cannot be sent."""


@dataclass(frozen=True, slots=True)
class WholePath:
    """Puts one path in the place of every other."""

    path: bytes

    def apply(self, head: RequestHead) -> bytes:
        """The configured path."""
        return self.path


@dataclass(frozen=True, slots=True)
class PrefixSwap:
    """
    Puts `replacement` in the place of what the route's path matcher matched.

    Of `path.prefix`, whole segments, by the table that the Gateway API gives for ReplacePrefixMatch: slashes at the
    seam are neither doubled nor lost. Of `path.starts_with`, exactly that text. Of an exact path, all of it.

    Attributes:
        replacement: A path in normal form.
        matches: The route's; where they name different prefixes, the first that matches the request decides.
        only: The path matcher, if all matches share one.
    """

    replacement: bytes
    matches: tuple[Match, ...]
    only: PathMatcher | None

    def apply(self, head: RequestHead) -> bytes:
        """The path with its prefix replaced."""
        path = head.path
        matcher = self.only or self._matched(head)
        if matcher is None or not matcher.test(path):
            raise ValueError(f"no prefix of the route is in {path!r}")
        rest = path[len(matcher.value) :]
        if matcher.kind == "prefix" and rest:
            return valid_path(self.replacement.removesuffix(b"/") + rest)
        return valid_path(self.replacement + rest)

    def _matched(self, head: RequestHead) -> PathMatcher | None:
        for match in self.matches:
            if match.matches(head):
                return match.path
        return None


@dataclass(frozen=True, slots=True)
class RegexChange:
    """
    Replaces every part of the path that a pattern matches, as Envoy's `regex_rewrite` does.

    Attributes:
        pattern: The regular expression as text.
        parts: The substitution: literals and numbers of groups (0 is the whole match).
        regex: The compiled pattern.
    """

    pattern: str
    parts: tuple[bytes | int, ...]
    regex: re2._Regexp = field(compare=False, repr=False)

    def apply(self, head: RequestHead) -> bytes:
        """The path with every match replaced."""
        return valid_path(self.regex.sub(self._expand, head.path))

    def _expand(self, match: re2._Match) -> bytes:
        return b"".join(part if isinstance(part, bytes) else match.group(part) or b"" for part in self.parts)


@dataclass(frozen=True, slots=True)
class Rewrite:
    """
    What the upstream sees in place of the request's host and path. Built by `make_rewrite`.

    Attributes:
        host: Value of `Host`, or None to keep it.
        change: What becomes of the path, or None to keep it. The query is always kept.
    """

    host: bytes | None = None
    change: PathChange | None = None

    def apply(self, head: RequestHead) -> tuple[bytes | None, bytes]:
        """
        The new host (None: unchanged) and the path to send.

        CONNECT and `OPTIONS *` have no path that could be rewritten; theirs stays.

        Raises:
            ValueError: The result is no path; the exchange ends with `REWRITE_INVALID`.
        """
        path = head.path
        if self.change is not None and path[:1] == b"/":
            path = self.change.apply(head)
        return self.host, path


@dataclass(frozen=True, slots=True)
class Redirect:
    """
    Sends the client elsewhere. Built by `make_redirect`; what is None stays as in the request.

    Attributes:
        status: One of `REDIRECT_STATUSES`.
        query: Replaces the request's query, which is kept otherwise.
    """

    status: int = 301
    scheme: bytes | None = None
    host: bytes | None = None
    port: int | None = None
    change: PathChange | None = None
    query: bytes | None = None

    def location(self, head: RequestHead) -> bytes:
        """
        Value of `Location`: absolute when scheme, host or port are configured, else path and query only.

        A relative reference leaves the scheme and authority to the client, which alone knows them where TLS ends
        before us (RFC 9110, 10.2.2 permits it).

        Raises:
            ValueError: The path made from the request's is none; the exchange ends with `REWRITE_INVALID`.
        """
        path = self.change.apply(head) if self.change is not None else head.path
        if path[:1] != b"/":
            path = b"/"  # CONNECT and OPTIONS *
        query = head.query if self.query is None else self.query
        target = path if query is None else b"%b?%b" % (path, query)
        origin = self._origin(head)
        if not origin and path[1:2] in (b"/", b"\\"):
            # `//evil.example` (to browsers also `/\evil.example`) would name another host (RFC 3986, 4.2).
            target = b"/." + target
        location = origin + target
        if location.translate(None, TARGET):
            raise ValueError("a redirect to what is no reference")
        return location

    def _origin(self, head: RequestHead) -> bytes:
        host = self.host or head.host
        if not host or (self.scheme is None and self.host is None and self.port is None):
            return b""
        scheme = self.scheme or _scheme_of(head)
        port = self.port
        if port is None and self.host is None:
            port = head.port
            if port in _DEFAULT_PORTS.values():
                port = None  # 80 does not go along to https, nor 443 to http; where they belong they need no mention
        if port is None or port == _DEFAULT_PORTS[scheme]:
            return b"%b://%b" % (scheme, host)
        return b"%b://%b:%d" % (scheme, host, port)


def make_rewrite(
    matches: Sequence[Match],
    *,
    host: str | None = None,
    path: str | None = None,
    prefix: str | None = None,
    regex: tuple[str, str] | None = None,
) -> Rewrite:
    """
    Compile a rewrite.

    Args:
        matches: The route's, whose prefixes `prefix` replaces.
        regex: `(pattern, substitution)`; the substitution refers to groups as `\\1`, to the match as `\\0`.

    Raises:
        ValueError: More than one of path, prefix and regex, or one of them invalid.
    """
    if sum(option is not None for option in (path, prefix, regex)) > 1:
        raise ValueError("expected at most one of path, prefix and regex")
    authority_octets = None
    if host is not None:
        name, port = _authority(host)
        if not name:
            raise ValueError(f"host: expected a host, found {host!r}")
        authority_octets = name if port is None else b"%b:%d" % (name, port)
    change: PathChange | None = None
    if path is not None:
        change = WholePath(configured_path(path))
    elif prefix is not None:
        change = _prefix_swap(matches, prefix)
    elif regex is not None:
        change = _regex_change(*regex)
    return Rewrite(authority_octets, change)


def make_redirect(
    matches: Sequence[Match],
    *,
    status: int = 301,
    scheme: str | None = None,
    host: str | None = None,
    port: int | None = None,
    path: str | None = None,
    prefix: str | None = None,
) -> Redirect:
    """
    Compile a redirect.

    Args:
        matches: The route's, whose prefixes `prefix` replaces.
        path: May hold a query, which then replaces the request's.

    Raises:
        ValueError: One of them is invalid, path and prefix are both given, or nothing at all that would change the URL
            and a status other than 303, which changes the method.
    """
    if status not in REDIRECT_STATUSES:
        raise ValueError(f"status: expected one of {', '.join(map(str, REDIRECT_STATUSES))}, found {status}")
    if scheme not in (None, "http", "https"):
        raise ValueError(f"scheme: expected http or https, found {scheme!r}")
    if port is not None and not 1 <= port <= 65535:
        raise ValueError(f"port: expected 1 to 65535, found {port}")
    if path is not None and prefix is not None:
        raise ValueError("expected at most one of path and prefix")
    if status != 303 and all(option is None for option in (scheme, host, port, path, prefix)):
        raise ValueError("a redirect that changes nothing would loop; give scheme, host, port, path or prefix")
    name = None
    if host is not None:
        name, own_port = _authority(host)
        if not name or own_port is not None:
            raise ValueError(f"host: expected a host without a port, found {host!r}; give the port as `port`")
    query = None
    change: PathChange | None = None
    if path is not None:
        path, mark, after = path.partition("?")
        query = path_octets_of_query(after) if mark else None
        change = WholePath(configured_path(path))
    elif prefix is not None:
        change = _prefix_swap(matches, prefix)
    return Redirect(status, scheme.encode() if scheme else None, name, port, change, query)


def configured_path(text: str) -> bytes:
    """
    A path of the configuration in normal form.

    Raises:
        ValueError: It does not begin with `/`, or holds a query, a fragment or an invalid percent-encoding.
    """
    if not text.startswith("/"):
        raise ValueError(f"expected a path that begins with /, found {text!r}")
    return normalise(path_octets(text))


def path_octets_of_query(text: str) -> bytes:
    """Text of the configuration as a query may hold it; a fragment is refused with ValueError."""
    return b"?".join(path_octets(part) for part in text.split("?"))


def valid_path(path: bytes) -> bytes:
    """
    The normal form of a path that was put together from parts of a request.

    Raises:
        ValueError: It does not begin with `/`, holds an octet that no path may, or an invalid percent-encoding.
    """
    if path[:1] != b"/" or path.translate(None, TARGET) or b"?" in path:
        raise ValueError(f"no path: {path[:200]!r}")
    return normalise(path)


def _prefix_swap(matches: Sequence[Match], replacement: str) -> PrefixSwap:
    paths = [match.path for match in matches]
    if not paths or any(path is None or path.replaceable is None for path in paths):
        raise ValueError("prefix: expected that every match of the route names a path by prefix, starts_with or exact")
    first = paths[0]
    same = all(path is not None and first is not None and path.text == first.text for path in paths)
    return PrefixSwap(configured_path(replacement), tuple(matches), first if same else None)


def _regex_change(pattern: str, substitution: str) -> RegexChange:
    regex = compile_regex(pattern, captures=True)
    parts: list[bytes | int] = []
    for literal, reference in re.findall(r"([^\\]+)|\\(.?)", substitution, re.DOTALL):
        if literal:
            parts.append(path_octets(literal))
        elif reference == "\\":
            parts.append(b"%5C")
        elif reference in tuple("0123456789"):
            if int(reference) > regex.groups:
                raise ValueError(f"substitution: \\{reference} refers to a group that {pattern!r} does not have")
            parts.append(int(reference))
        else:
            raise ValueError(f"substitution: expected \\0 to \\9 or \\\\, found \\{reference}")
    return RegexChange(pattern, tuple(parts), regex)


def _authority(text: str) -> tuple[bytes, int | None]:
    try:
        return authority(text.encode())
    except GrammarError as error:
        raise ValueError(f"host: expected a host, found {text!r}: {error}") from None


def _scheme_of(head: RequestHead) -> bytes:
    """The scheme that the client used, as far as a proxy before us told."""
    if head.kinds & Kind.FORWARDED_PROTO:
        scheme = (head.first(b"x-forwarded-proto") or b"").lower()
        if scheme in _DEFAULT_PORTS:
            return scheme
    return b"http"
