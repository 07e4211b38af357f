"""
What gRPC says in fields of HTTP, and which of its statuses our own failures are. *Hot path; pure.*

The fields are those of "gRPC over HTTP2" (grpc/doc/PROTOCOL-HTTP2.md). A call is over with the status in `grpc-status`,
in the trailers, or in the head of a response that has no body ("Trailers-Only"); the status of HTTP is then 200
whatever became of the call.
"""

from __future__ import annotations

from typing import Final

from sidecar import errors
from sidecar.errors import Reason

OK: Final = 0
CANCELLED: Final = 1
UNKNOWN: Final = 2
INVALID_ARGUMENT: Final = 3
DEADLINE_EXCEEDED: Final = 4
NOT_FOUND: Final = 5
ALREADY_EXISTS: Final = 6
PERMISSION_DENIED: Final = 7
RESOURCE_EXHAUSTED: Final = 8
FAILED_PRECONDITION: Final = 9
ABORTED: Final = 10
OUT_OF_RANGE: Final = 11
UNIMPLEMENTED: Final = 12
INTERNAL: Final = 13
UNAVAILABLE: Final = 14
DATA_LOSS: Final = 15
UNAUTHENTICATED: Final = 16

NAMES: Final[tuple[str, ...]] = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
    "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
    "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip
"""The statuses by number (grpc/doc/statuscodes.md)."""

CONTENT_TYPE: Final = b"application/grpc"

_MAX_TIMEOUT_DIGITS: Final = 8
_MAX_TIMEOUT: Final = 99_999_999
# Units of `grpc-timeout`, the finest first: those of which a second has many, and those that have many seconds.
_PARTS: Final[dict[bytes, float]] = {b"n": 1e9, b"u": 1e6, b"m": 1e3}
_SECONDS: Final[dict[bytes, float]] = {b"S": 1.0, b"M": 60.0, b"H": 3600.0}

# "Percent-Byte-Unencoded -> 1*( %x20-%x24 / %x26-%x7E ) ; space and VCHAR, except %"
_UNENCODED: Final = frozenset(range(0x20, 0x7F)) - frozenset(b"%")

# grpc/doc/http-grpc-status-mapping.md; what is not in it is UNKNOWN.
_OF_HTTP: Final[dict[int, int]] = {
    400: INTERNAL,
    401: UNAUTHENTICATED,
    403: PERMISSION_DENIED,
    404: UNIMPLEMENTED,
    429: UNAVAILABLE,
    502: UNAVAILABLE,
    503: UNAVAILABLE,
    504: UNAVAILABLE,
}

# google/rpc/code.proto has them beside each code; Envoy's `Grpc::Utility::grpcToHttpStatus` is the same.
_TO_HTTP: Final[tuple[int, ...]] = (
    200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401,
)  # fmt: skip

# Where we know better than a client that sees but the status of HTTP: what we refuse for too much of something, what
# we did not wait for, and who did not wait for us.
_OF_REASON_STATUS: Final[dict[int, int]] = {
    400: INTERNAL,
    401: UNAUTHENTICATED,
    403: PERMISSION_DENIED,
    404: UNIMPLEMENTED,
    405: UNIMPLEMENTED,
    408: DEADLINE_EXCEEDED,
    413: RESOURCE_EXHAUSTED,
    414: RESOURCE_EXHAUSTED,
    429: RESOURCE_EXHAUSTED,
    431: RESOURCE_EXHAUSTED,
    499: CANCELLED,
    500: INTERNAL,
    501: UNIMPLEMENTED,
    502: INTERNAL,
    503: UNAVAILABLE,
    504: DEADLINE_EXCEEDED,
    505: INTERNAL,
    508: INTERNAL,
}
# Their status of HTTP is shared with reasons of another kind.
_OF_REASON: Final[dict[Reason, int]] = {
    errors.RESPONSE_CUT: UNAVAILABLE,
    errors.RESPONSE_HEAD_TOO_LARGE: RESOURCE_EXHAUSTED,
}


def is_grpc(content_type: bytes) -> bool:
    """
    Whether a `content-type` is gRPC's: `"application/grpc" [("+proto" / "+json" / {custom})]`, parameters aside.

    gRPC-Web (`application/grpc-web`) is not: its status is in the body.
    """
    size = len(CONTENT_TYPE)
    if len(content_type) < size or content_type[:size].lower() != CONTENT_TYPE:
        return False
    return len(content_type) == size or content_type[size : size + 1] in (b"+", b";")


def status_of(value: bytes) -> int:
    """The number that a field `grpc-status` says, 0 to 16; UNKNOWN for anything else, as clients take it."""
    if len(value) > 2 or not value.isdigit():
        return UNKNOWN
    number = int(value)
    return number if number <= UNAUTHENTICATED else UNKNOWN


def parse_timeout(value: bytes) -> float | None:
    """
    Seconds of a field `grpc-timeout`: `TimeoutValue TimeoutUnit`, "positive integer as ASCII string of at most 8
    digits", and one of `H`, `M`, `S`, `m`, `u`, `n`. None if it is none; 0.0 is an ended time.
    """
    digits, unit = value[:-1], value[-1:]
    if not digits.isdigit() or len(digits) > _MAX_TIMEOUT_DIGITS:
        return None
    seconds = _SECONDS.get(unit)
    if seconds is not None:
        return int(digits) * seconds
    parts = _PARTS.get(unit)
    # Divided, for so the number read is the nearest to what was written.
    return None if parts is None else int(digits) / parts


def format_timeout(seconds: float) -> bytes:
    """
    A field `grpc-timeout` for so many seconds, in the finest unit that eight digits allow and rounded down: whoever is
    told should not wait longer than we. Never 0, which would say that the time is over: at least `1n`.
    """
    for unit, parts in _PARTS.items():
        number = seconds * parts
        if number < _MAX_TIMEOUT + 1:
            return b"%d%b" % (max(1, int(number)), unit)
    for unit, size in _SECONDS.items():
        number = seconds / size
        if number < _MAX_TIMEOUT + 1:
            return b"%d%b" % (int(number), unit)
    return b"%dH" % _MAX_TIMEOUT


def encode_message(text: str) -> bytes:
    """A field `grpc-message`: UTF-8, of which all but printable ASCII, and `%` itself, is percent-encoded."""
    return b"".join([b"%c" % octet if octet in _UNENCODED else b"%%%02X" % octet for octet in text.encode("utf-8")])


def status_for_http(status: int) -> int:
    """The status of a call whose response says none but HTTP's, as clients make one up."""
    return _OF_HTTP.get(status, UNKNOWN)


def http_status(status: int) -> int:
    """
    The status of HTTP that says about the same, for whatever judges by that: 500 and above for UNKNOWN,
    DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE and DATA_LOSS.

    Args:
        status: 0 to 16.
    """
    return _TO_HTTP[status]


def counts_as(status: int, grpc_status: int) -> int:
    """
    The status of HTTP as which an exchange counts to whoever judges it by that, for a call that failed has 200: 500 and
    above is a failure of the server, wherever failures are counted.

    Args:
        status: Of the response; one that is an error speaks for itself.
        grpc_status: The call's, 0 to 16; -1 for what is no gRPC, or not over.
    """
    return _TO_HTTP[grpc_status] if grpc_status > OK and status < 400 else status


def status_for(reason: Reason, status: int) -> int:
    """
    The status of a call that ended for a reason of ours: one closed table, docs/grpc.md.

    Args:
        status: HTTP's, of the answer that would have been sent; it decides where the reason leaves that to the file.
    """
    if reason is errors.FAULT_INJECTED:
        return status_for_http(status)
    special = _OF_REASON.get(reason)
    return special if special is not None else _OF_REASON_STATUS.get(reason.status, UNKNOWN)
