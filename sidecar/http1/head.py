"""
Bytes become heads: start lines, fields, and the rules that hold between fields. *Hot path; pure.*

Strict by choice: what RFC 9112 lets a recipient repair, a proxy must refuse, because the next hop may repair it
differently. All limits are checked by whoever collected the bytes, before they come here, but for the count.
"""

from __future__ import annotations

from typing import Final

from sidecar import errors
from sidecar.errors import ProtocolError
from sidecar.http1.framing import frame_request, frame_response, heed_keep_alive
from sidecar.http1.grammar import TOKEN, VALUE, GrammarError, _remembered, learn
from sidecar.http1.target import is_plain, split_query, split_target
from sidecar.message import Field, Kind, RequestHead, ResponseHead, Version

# What is longer is a body, or many requests.
_MAX_LONE_BYTES: Final = 4096
_METHODS: Final = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH"))
_ONCE: Final = Kind.HOST | Kind.CONTENT_LENGTH | Kind.TRANSFER_ENCODING
_NOTED: Final = _ONCE | Kind.CONNECTION
_COOKIE: Final = Kind.COOKIE
_HTTP11: Final = Version.HTTP11


def find_head_end(data: bytes, start: int = 0) -> int:
    """
    Index of the CRLF CRLF that ends a head, or -1 if it has not come.

    Raises:
        GrammarError: A line of the incomplete head ends with a bare LF, so that waiting for more would be in vain.
    """
    end = data.find(b"\r\n\r\n", start)
    if end < 0 and data.count(b"\n", start) != data.count(b"\r\n", start):
        raise GrammarError("a bare LF")
    return end


def parse_request_head(block: bytes, max_headers: int) -> RequestHead:
    """
    Parse a request head.

    Args:
        block: Everything before the CRLF CRLF, without leading empty lines.
        max_headers: Most fields that are accepted.

    Returns:
        A head whose host, path, framing and persistence are decided.

    Raises:
        ProtocolError: With the reason to answer; the connection must be closed after the answer.
    """
    return parse_request_lines(block.split(b"\r\n"), max_headers)


def lone_head(data: bytes) -> list[bytes] | None:
    """
    The lines of a head that is all there is, which is how requests without a body come; None if it is not so.

    The lines are needed anyway, and whether an empty one is among them is quickly seen: 0.4 us less than to search for
    the head's end and to copy what precedes it.
    """
    if len(data) > _MAX_LONE_BYTES:
        return None
    lines = data.split(b"\r\n")
    if len(lines) < 3 or lines[-1] or lines[-2] or lines.index(b"") != len(lines) - 2:
        return None
    del lines[-2:]
    return lines


def parse_request_lines(lines: list[bytes], max_headers: int) -> RequestHead:
    """As `parse_request_head`, of its lines, a list that is used up."""
    if len(lines) - 1 > max_headers:
        raise ProtocolError(errors.HEAD_TOO_LARGE, f"{len(lines) - 1} fields")
    start_line = lines[0]
    del lines[0]
    try:
        parts = start_line.split(b" ")
        if len(parts) != 3:
            raise GrammarError("a request line that is not three words")
        method, target, spoken = parts
        version = _HTTP11 if spoken == b"HTTP/1.1" else _other_version(spoken)
        if method not in _METHODS and (not method or method.translate(None, TOKEN)):
            raise GrammarError("an invalid method")
        named: tuple[bytes, int | None] | None = None
        plain = is_plain(target) and method != b"CONNECT"
        if plain:
            path, query = split_query(target)
        else:
            named, path, query = split_target(method, target)
        head = RequestHead(method, path, query, version)
        head.is_plain = plain
        head.fields = fields = [_remembered.get(line) or learn(line) for line in lines]
        kinds = 0
        noted: list[Field] = []
        for field in fields:
            kind = field.kind
            if kind:
                if kind & _NOTED:
                    if kinds & kind & _ONCE:
                        raise GrammarError("a repeated host, content-length or transfer-encoding")
                    if kind == Kind.HOST:
                        head.host, head.port = field.note
                    else:
                        noted.append(field)
                elif kind == _COOKIE:
                    head.crumb = None if kinds & _COOKIE else field
                kinds |= kind
        head.kinds = kinds
        if not head.host:
            _check_hostless(head, named is not None)
        if named is not None:
            head.host, head.port = named
            head.absolute = True
    except GrammarError as error:
        raise ProtocolError(errors.BAD_REQUEST, str(error)) from None
    if noted or not version:
        frame_request(head, noted)
    return head


def _check_hostless(head: RequestHead, is_named: bool) -> None:
    """
    Refuse what must say whom it is for and does not; HTTP/1.0 need not.

    "A server MUST respond with a 400 (Bad Request) status code to any HTTP/1.1 request message that lacks a Host header
    field" (RFC 9112, 3.2). An empty one is for targets without an authority, which `http` has none of but `*`: each hop
    would fill in a name of its own. A target's own authority overrides the field (3.2.2).

    Raises:
        GrammarError: No host, or an empty one.
    """
    if not head.kinds & Kind.HOST:
        if head.version:
            raise GrammarError("no host")
    elif not is_named and head.path != b"*":
        raise GrammarError("an empty host")


def _other_version(spoken: bytes) -> int:
    if spoken == b"HTTP/1.0":
        return Version.HTTP10
    if len(spoken) == 8 and spoken[:5] == b"HTTP/" and spoken[5:6].isdigit() and spoken[6:] in (b".0", b".1"):
        raise ProtocolError(errors.UNSUPPORTED_VERSION, repr(spoken))
    raise GrammarError("an invalid HTTP version")


_status_lines: Final[dict[bytes, tuple[int, bytes, int]]] = {}
# An upstream repeats its heads: those of one second and one length are the same to the last octet. Parsing one again
# costs 1.5 us, finding it 0.2.
_MAX_HEADS: Final = 512
_MAX_HEAD_BYTES: Final = 1024
_heads: Final[dict[bytes, ResponseHead]] = {}


def response_head(block: bytes, max_headers: int, request_method: bytes) -> ResponseHead:
    """As `parse_response_head`, but for a head seen lately the same object again: nobody may change it."""
    if request_method == b"HEAD":
        return parse_response_head(block, max_headers, request_method)  # its framing is another
    head = _heads.get(block)
    if head is not None and len(head.fields) <= max_headers:
        return head
    head = parse_response_head(block, max_headers, request_method)
    if len(block) <= _MAX_HEAD_BYTES:
        if len(_heads) >= _MAX_HEADS:
            _heads.clear()
        _heads[block] = head
    return head


def parse_response_head(block: bytes, max_headers: int, request_method: bytes) -> ResponseHead:
    """
    Parse a response head.

    Args:
        block: Everything before the CRLF CRLF.
        max_headers: Most fields that are accepted.
        request_method: Method of the request answered, which decides about the body.

    Raises:
        ProtocolError: `BAD_RESPONSE` or `RESPONSE_HEAD_TOO_LARGE`; the connection must be closed, not reused.
    """
    lines = block.split(b"\r\n")
    if len(lines) - 1 > max_headers:
        raise ProtocolError(errors.RESPONSE_HEAD_TOO_LARGE, f"{len(lines) - 1} fields")
    start_line = lines[0]
    del lines[0]
    try:
        status, reason, version = _status_lines.get(start_line) or _parse_status_line(start_line)
        head = ResponseHead(status, reason, version)
        fields: list[Field] = [_remembered.get(line) or learn(line) for line in lines]
        head.fields = fields
        kinds = 0
        noted: list[Field] = []
        for field in fields:
            kind = field.kind
            if kind:
                if kind & _NOTED:
                    if kinds & kind & _ONCE:
                        raise GrammarError("a repeated content-length or transfer-encoding")
                    noted.append(field)
                kinds |= kind
        head.kinds = kinds
    except GrammarError as error:
        raise ProtocolError(errors.BAD_RESPONSE, str(error)) from None
    frame_response(head, noted, request_method)
    if kinds & Kind.KEEP_ALIVE:
        heed_keep_alive(head)
    return head


def _parse_status_line(line: bytes) -> tuple[int, bytes, int]:
    """
    `HTTP-version SP status-code SP [ reason-phrase ]` (RFC 9112, 4).

    The second space is not insisted on: servers forget it when they send no phrase, and nothing depends on it.
    """
    spoken, _, rest = line.partition(b" ")
    code, _, phrase = rest.partition(b" ")
    if spoken not in (b"HTTP/1.1", b"HTTP/1.0"):
        raise GrammarError("a status line without HTTP/1.1 or HTTP/1.0")
    if len(code) != 3 or not code.isdigit() or code[:1] == b"0":
        raise GrammarError("an invalid status code")
    if phrase.translate(None, VALUE):
        raise GrammarError("a control octet in the reason phrase")
    parsed = int(code), phrase, Version.HTTP11 if spoken == b"HTTP/1.1" else Version.HTTP10
    if len(_status_lines) < 1024 and len(line) < 128:
        _status_lines[line] = parsed
    return parsed
