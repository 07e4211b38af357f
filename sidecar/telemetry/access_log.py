"""
One JSON line a request, made from a pattern that is bound for each outcome. *Hot path; pure.*

Keys are those that Envoy's and Istio's users know, plus `direction` and `trace_id`; `docs/telemetry.md` lists them.
A line is ASCII and holds no control octet but its own line feed, whatever a header or a path says: octets that are
not plain are escaped as JSON, so nothing can forge a line, break the JSON or reach a terminal. Text that is UTF-8 is
escaped by its characters; anything else octet by octet, as Latin-1.
"""

from __future__ import annotations

from json.encoder import encode_basestring_ascii as _quoted  # the C function, without json's options around it

_PLAIN = bytes(set(range(0x20, 0x7F)) - set(b'"\\'))
_MAX_RAW_LINE_BYTES = 256


def text(octets: bytes) -> str:
    """The characters of octets from the wire: UTF-8 if they are, else Latin-1, which every octet is in."""
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        return octets.decode("latin-1")


def escape(octets: bytes) -> bytes:
    """What stands for the octets between the quotes of a JSON string; ASCII, without control octets."""
    if not octets.translate(None, _PLAIN):
        return octets
    return escape_text(text(octets))


def escape_text(value: str) -> bytes:
    """As `escape`, of text."""
    # JSON does not ask for DEL to be escaped; a terminal would obey it.
    return _quoted(value)[1:-1].replace("\x7f", "\\u007f").encode("ascii")


def quote(octets: bytes | None) -> bytes:
    """A JSON string, or `null`."""
    return b"null" if octets is None else b'"%b"' % escape(octets)


def quote_text(value: str) -> bytes:
    """A JSON string; `null` for an empty one."""
    return b'"%b"' % escape_text(value) if value else b"null"


def line_pattern(
    *,
    direction: str,
    method: bytes | None,
    minor: int,
    status: int,
    flag: str,
    details: str,
    route: str,
    upstream: str,
) -> bytes:
    """
    The line of one outcome with places for what differs from request to request.

    Use it as `pattern % (second, millisecond, path, upstream_host, bytes_received, bytes_sent, duration_ms,
    upstream_service_time, request_id, trace_id, authority, user_agent, peer, port, attempts, rest)`:

    * `second`: of the start, in UTC, as `2026-01-31T12:00:00`; `millisecond`: int;
    * `path`, `upstream_host`, `upstream_service_time`, `user_agent`: JSON values, that is, quoted or `null`;
    * `bytes_received`, `bytes_sent`, `port`, `attempts`: int; `duration_ms`: float;
    * `request_id`, `trace_id`, `authority`, `peer`: escaped, without quotes;
    * `rest`: nothing, or further members that begin with a comma (`rare_members`).
    """
    fixed = {
        "method": quote(method),
        "protocol": b'"HTTP/1.%d"' % minor if method is not None else b"null",
        "details": quote_text(details),
        "flag": quote_text(flag),
        "route": quote_text(route),
        "upstream": quote_text(upstream),
        "direction": quote_text(direction),
    }
    fixed = {key: value.replace(b"%", b"%%") for key, value in fixed.items()}
    return (
        b'{"start_time":"%%b.%%03dZ","direction":%b,"method":%b,"path":%%b,"protocol":%b,"response_code":%d,'
        b'"response_flags":%b,"response_code_details":%b,"route_name":%b,"upstream_cluster":%b,"upstream_host":%%b,'
        b'"bytes_received":%%d,"bytes_sent":%%d,"duration":%%.3f,"upstream_service_time":%%b,"request_id":"%%b",'
        b'"trace_id":"%%b","authority":"%%b","user_agent":%%b,"downstream_remote_address":"%%b:%%d",'
        b'"attempts":%%d%%b}\n'
    ) % (
        fixed["direction"],
        fixed["method"],
        fixed["protocol"],
        status,
        fixed["flag"],
        fixed["details"],
        fixed["route"],
        fixed["upstream"],
    )


def rare_members(detail: str, raw_line: bytes | None) -> bytes:
    """
    Members for exchanges that went wrong.

    Args:
        detail: What exactly was found; left out if empty.
        raw_line: What came instead of a request; its first 256 octets are shown.
    """
    members = b""
    if detail:
        members += b',"detail":"%b"' % escape_text(detail)
    if raw_line:
        members += b',"raw_line":"%b"' % escape(raw_line[:_MAX_RAW_LINE_BYTES])
    return members
