"""
What a request and a response are once their bytes are understood; knows nothing of HTTP/1.1's syntax. *Hot path.*

A `Field` is immutable and shared: the parser remembers the fields that it has seen, so whatever is a pure
function of one field (the host in `Host`, the cookies in `Cookie`) is computed once and kept in `Field.note`.
"""

from __future__ import annotations

from math import inf
from typing import Any, Final


class Kind:
    """
    What a field means to the proxy, as bits; 0 is a field that only passes through.

    A head keeps the union of its fields' kinds in `kinds`, so that the common case asks one integer once.
    """

    HOP: Final = 1  # hop-by-hop by RFC 9110, 7.6.1: never forwarded
    HOST: Final = 2
    CONTENT_LENGTH: Final = 4
    TRANSFER_ENCODING: Final = 8
    CONNECTION: Final = 16
    UPGRADE: Final = 32
    EXPECT: Final = 64
    COOKIE: Final = 128
    TRACE: Final = 256  # traceparent, tracestate and other propagation formats
    REQUEST_ID: Final = 512
    FORWARDED_FOR: Final = 1024
    FORWARDED_PROTO: Final = 2048
    VIA: Final = 4096
    TE: Final = 8192
    USER_AGENT: Final = 16384
    DATE: Final = 32768
    MAX_FORWARDS: Final = 65536
    UNDERSCORE: Final = 131072  # a name with `_`, which some read as `-`; not beside another kind
    KEEP_ALIVE: Final = 262144
    CLIENT_CERT: Final = 524288  # what a proxy that ends TLS says of the client's certificate
    EXPLAIN: Final = 1048576  # the wish to be told how it was decided
    PSEUDO: Final = (
        2097152  # a pseudo-header field of HTTP/2: its name begins with `:`, and HTTP/1.1 has no line for it
    )
    NEVER_INDEXED: Final = 4194304  # came as a literal that may never be indexed (RFC 7541, 6.2.3), and goes on as one
    MALFORMED: Final = 8388608  # HPACK can carry it, HTTP may not have it; `note` says what is wrong
    GRPC: Final = 16777216  # a content-type of gRPC; one of anything else is of no kind
    GRPC_STATUS: Final = 33554432
    GRPC_TIMEOUT: Final = 67108864


class Field:
    """
    One header field.

    Attributes:
        name: Lower case.
        value: Without surrounding white space; octets as received.
        kind: Bits of `Kind`.
        wire: The field as HTTP/1.1 writes it, without the line end: what is forwarded, byte for byte. Empty if HTTP/1.1
            cannot write it: PSEUDO and MALFORMED.
        note: A parsed form of the value for kinds that have one, else None:
            HOST a `(host, port | None)` pair, CONNECTION a frozenset of lower-case tokens, CONTENT_LENGTH an int,
            KEEP_ALIVE the seconds of its `timeout` or None, TRANSFER_ENCODING the value in lower case,
            COOKIE whatever `routing` keeps there (filled at first use), PSEUDO what `http2.fields` says of each name,
            MALFORMED the fault, a `str`, GRPC_STATUS an int from 0 to 16, GRPC_TIMEOUT the seconds or None if it is
            malformed.
    """

    __slots__ = ("kind", "name", "note", "value", "wire")

    def __init__(self, name: bytes, value: bytes, kind: int, wire: bytes, note: Any = None) -> None:
        self.name = name
        self.value = value
        self.kind = kind
        self.wire = wire
        self.note: Any = note

    def __repr__(self) -> str:
        return f"<Field {self.wire or self.name + b': ' + self.value!r}>"


NO_TRAILERS: Final[list[Field]] = []
"""Of the many bodies that have none; never changed."""


def noted(fields: list[Field], kind: int) -> Any:
    """The note of the first field that has a bit of this kind, or None if there is none."""
    for field in fields:
        if field.kind & kind:
            return field.note
    return None


class Framing:
    """
    How the end of a body is recognised (RFC 9112, 6.3), in the order in which more must be done for it.

    Plain integers, here and in the states of the data path, and not an `IntEnum`: on Python 3.11 each mention of a
    member of an enumeration costs 68 ns instead of 16, and a request mentions some forty of them.
    """

    NONE: Final = 0
    LENGTH: Final = 1
    CHUNKED: Final = 2
    CLOSE: Final = 3


class Version:
    """
    The version of HTTP that a message came in; plain integers, as in `Framing`. Only HTTP/1.0 is false.
    """

    HTTP10: Final = 0
    HTTP11: Final = 1
    HTTP2: Final = 2
    NAMES: Final = ("HTTP/1.0", "HTTP/1.1", "HTTP/2")  # as access logs write them


class RequestHead:
    """
    A request line and its fields, validated and normalised.

    Attributes:
        method: As sent; case-sensitive.
        host: Lower case, without port and without a trailing dot; empty if the request named none. IPv6 keeps
            its brackets.
        port: Port that the authority names, or None.
        path: Normalised path (dot segments resolved, unreserved characters decoded, hex digits upper case);
            `*` for `OPTIONS *`; empty for CONNECT.
        query: What follows `?`, or None when there is no `?`.
        version: Of `Version`.
        fields: All fields in order, `Host` included.
        kinds: Union of the kinds of `fields`.
        framing: How the body ends; NONE or LENGTH or CHUNKED.
        content_length: Bytes of the body if framing is LENGTH, else 0.
        keep_alive: Whether the client's side of the connection may be reused after this exchange.
        absolute: Whether the target was in absolute form, that is, the client speaks to a forward proxy.
        is_plain: Whether path and query hold nothing that JSON would have to escape; may be false all the same.
        params: Query parameters, parsed at first use by `routing`; None until then.
        crumb: The only field of kind COOKIE, if the parser found but one; None: look for them.
    """

    __slots__ = (
        "absolute",
        "content_length",
        "crumb",
        "fields",
        "framing",
        "host",
        "is_plain",
        "keep_alive",
        "kinds",
        "method",
        "params",
        "path",
        "port",
        "query",
        "version",
    )

    def __init__(self, method: bytes, path: bytes, query: bytes | None, version: int) -> None:
        self.method = method
        self.path = path
        self.query = query
        self.version = version
        self.host = b""
        self.port: int | None = None
        self.fields: list[Field] = []
        self.kinds = 0
        self.framing: int = Framing.NONE
        self.content_length = 0
        self.keep_alive = True
        self.absolute = False
        self.is_plain = False
        self.params: dict[bytes, bytes] | None = None
        self.crumb: Field | None = None

    def first(self, name: bytes) -> bytes | None:
        """Value of the first field called `name` (lower case), or None."""
        for field in self.fields:
            if field.name == name:
                return field.value
        return None

    def joined(self, name: bytes) -> bytes | None:
        """Values of all fields called `name` joined by `, ` (RFC 9110, 5.3), or None if there is none."""
        values = [field.value for field in self.fields if field.name == name]
        if not values:
            return None
        return values[0] if len(values) == 1 else b", ".join(values)

    def __repr__(self) -> str:
        return f"<RequestHead {self.method!r} {self.host!r} {self.path!r} {Version.NAMES[self.version]}>"


class ResponseHead:
    """
    A status line and its fields, validated.

    Attributes:
        status: 100 to 999.
        reason: Reason phrase, possibly empty.
        version: Of `Version`.
        fields: All fields in order.
        kinds: Union of the kinds of `fields`.
        framing: How the body ends.
        content_length: Bytes of the body if framing is LENGTH, else 0.
        keep_alive: Whether the upstream connection may be reused after this exchange.
        idle_hint_s: Seconds for which the connection should be kept without a request, by what the upstream says of
            its own patience; inf if it says nothing.
        wire: The head as it is passed on when nothing is edited, added or framed anew; empty until that is first asked,
            and of a head without `Date`, which is another every second, always.
        undated_wire: The same of a head without `Date`, up to where it comes; empty until asked.
    """

    __slots__ = (
        "content_length",
        "fields",
        "framing",
        "idle_hint_s",
        "keep_alive",
        "kinds",
        "reason",
        "status",
        "undated_wire",
        "version",
        "wire",
    )

    def __init__(self, status: int, reason: bytes, version: int) -> None:
        self.status = status
        self.reason = reason
        self.version = version
        self.fields: list[Field] = []
        self.kinds = 0
        self.framing: int = Framing.NONE
        self.content_length = 0
        self.keep_alive = True
        self.idle_hint_s = inf
        self.wire = b""
        self.undated_wire = b""

    def __repr__(self) -> str:
        return f"<ResponseHead {self.status} {Version.NAMES[self.version]}>"
