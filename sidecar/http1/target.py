"""
The request target: its four forms, and the normal form in which paths are matched and sent. *Hot path; pure.*

What was matched is what is sent, so that no two hops read one path differently.
"""

from __future__ import annotations

from typing import Final

from sidecar.http1.grammar import ALPHANUMERIC, TARGET, GrammarError, authority

_UNRESERVED: Final = {octet: bytes([octet]) for octet in ALPHANUMERIC + b"-._~"}
_HEX: Final = {
    bytes([a, b]): int(bytes([a, b]), 16) for a in b"0123456789abcdefABCDEF" for b in b"0123456789abcdefABCDEF"
}


_NEVER_ENCODED: Final = b"\0\r\n"


# Octets that mean nothing by themselves: neither to us, but for `/` and `?`, nor to JSON.
_PLAIN: Final = bytes(set(TARGET) - set(b'%."\\'))


def is_plain(target: bytes) -> bool:
    """
    Whether a target is in origin form, its path in normal form as it is, and all of it JSON without being escaped.

    One pass over it, for most targets, instead of one for each question.
    """
    return target[:1] == b"/" and not target.translate(None, _PLAIN)


def split_query(target: bytes) -> tuple[bytes, bytes | None]:
    """Path and query of a target in origin form, as they are; no query is not an empty one."""
    path, mark, query = target.partition(b"?")
    return path, query if mark else None


def split_target(method: bytes, target: bytes) -> tuple[tuple[bytes, int | None] | None, bytes, bytes | None]:
    """
    The authority, path and query of a request target (RFC 9112, 3.2).

    Origin form `/path?query`, absolute form `http://host/path`, authority form `host:port` with CONNECT only, and
    asterisk form with OPTIONS only.

    Returns:
        The authority if the target holds one, else None; the normalised path (empty for CONNECT); the query or None.

    Raises:
        GrammarError: None of the four forms.
    """
    if target.translate(None, TARGET):
        raise GrammarError("an octet in the request target that may not be there")
    if method == b"CONNECT":
        host, port = authority(target)
        if not host or port is None:
            raise GrammarError("CONNECT needs host:port")
        return (host, port), b"", None
    if target[:1] == b"/":
        path, query = split_query(target)
        return None, normalise(path), query
    if target == b"*":
        if method != b"OPTIONS":
            raise GrammarError("the target * with a method that is not OPTIONS")
        return None, b"*", None
    return _absolute(target, method)


def _absolute(target: bytes, method: bytes) -> tuple[tuple[bytes, int | None], bytes, bytes | None]:
    scheme, separator, rest = target.partition(b"://")
    if not separator or scheme.lower() != b"http":
        raise GrammarError("a request target of no known form, or of a scheme that is not http")
    rest, mark, query = rest.partition(b"?")
    named, slash, path = rest.partition(b"/")
    host, port = authority(named)
    if not host:
        raise GrammarError("an absolute target without a host")
    if not slash and not mark and method == b"OPTIONS":
        path = b"*"  # RFC 9112, 3.2.4: OPTIONS without a path, for the last proxy on the way
    else:
        path = normalise(b"/" + path)
    return (host, port), path, query if mark else None


def normalise(path: bytes) -> bytes:
    """
    The normal form of a path that begins with `/` (RFC 3986, 6.2.2).

    Percent-encoded unreserved characters are decoded, other hexadecimal digits become upper case, and dot segments
    are resolved; `..` above the root stays at the root. Slashes are not merged and `%2F` stays encoded, because both
    distinguish resources.

    Raises:
        GrammarError: `%` without two hexadecimal digits, an encoded NUL, CR or LF, which end a string or a line for who
            decodes them, or a backslash, which is a slash to some and was no segment's end to us.
    """
    if path.find(b"\\") >= 0:
        raise GrammarError("a backslash in the path")
    # `find`, because `in` tries the needle as a number first, and raises and catches an error on the way: 0.2 us.
    if path.find(b"%") >= 0:
        path = _decode_unreserved(path)
    if path.find(b"/.") >= 0:
        path = remove_dot_segments(path)
    return path


def _decode_unreserved(path: bytes) -> bytes:
    first, *parts = path.split(b"%")
    out = [first]
    for part in parts:
        octet = _HEX.get(part[:2])
        if octet is None:
            raise GrammarError("an invalid percent-encoding in the path")
        if octet in _NEVER_ENCODED:
            raise GrammarError("an encoded NUL, CR or LF in the path")
        out.append((_UNRESERVED.get(octet) or b"%%%02X" % octet) + part[2:])
    return b"".join(out)


def remove_dot_segments(path: bytes) -> bytes:
    """RFC 3986, 5.2.4, for a path that begins with `/`."""
    out: list[bytes] = []
    segments = path.split(b"/")[1:]
    for segment in segments:
        if segment == b"..":
            if out:
                out.pop()
        elif segment != b".":
            out.append(segment)
    if segments[-1] in (b".", b".."):
        out.append(b"")  # "/a/b/.." is the directory "/a/"
    return b"/" + b"/".join(out)
