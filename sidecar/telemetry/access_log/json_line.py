"""
One JSON line a request, made from a pattern that is bound for each outcome. *Hot path; pure.*

Keys are those that Envoy's and Istio's users know, plus `direction` and `trace_id`; `docs/telemetry.md` lists them.
A line is ASCII and holds no control octet but its own line feed, whatever a header or a path says: octets that are
not plain are escaped as JSON, so nothing can forge a line, break the JSON or reach a terminal. Text that is UTF-8 is
escaped by its characters; anything else octet by octet, as Latin-1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sidecar.message import Version
from sidecar.peer import Peer, Token
from sidecar.telemetry.json_text import escape, escape_text, quote, quote_text

_MAX_RAW_LINE_BYTES: Final = 256

LineValues = tuple[
    bytes, int, bytes, bytes, int, int, int, bytes, bytes, bytes, bytes, bytes, bytes, bytes, int, bytes
]  # fmt: skip
"""
What differs from request to request, as `JsonLine.line` takes it:

`second` of the start in UTC (`2026-01-31T12:00:00`), `millisecond`; `path`, `upstream_host`: JSON values, that is,
quoted or `null`; `bytes_received`, `bytes_sent`; `duration` in ns; `upstream_service_time`: a JSON value; `request_id`,
`trace_id`, `authority`: escaped, without quotes; `user_agent`: a JSON value; `peer`: escaped, without quotes; `port`,
`attempts`; and nothing, or further members that begin with a comma (`peer_members`, `decision_members`,
`token_members`, `rare_members`).
"""

# Integers are looked up: 0.1 us each less than formatting.
_SMALL: Final = [b"%d" % number for number in range(4096)]
_THREE_DIGITS: Final = [b"%03d" % number for number in range(1000)]


def decimal(number: int) -> bytes:
    """The digits of a number that is not negative."""
    return _SMALL[number] if number < 4096 else b"%d" % number


def milliseconds(ns: int) -> bytes:
    """Nanoseconds as milliseconds with three decimals."""
    us = (ns + 500) // 1000
    if us < 0:
        return b"%.3f" % (ns / 1e6)  # what was never sent was never waited for
    return b"%b.%b" % (decimal(us // 1000), _THREE_DIGITS[us % 1000])


FIXED: Final = (
    "direction", "method", "protocol", "response_code", "response_flags", "response_code_details", "route_name",
    "upstream_cluster", "http_route", "grpc_status",
)  # fmt: skip
"""What is the same for all requests of an outcome."""


def fixed_values(
    *,
    direction: str,
    method: bytes | None,
    version: int,
    status: int,
    flag: str,
    details: str,
    route: str,
    upstream: str,
    protocol: str = "",
    http_route: str = "",
    grpc_status: str = "",
) -> dict[str, bytes]:
    """
    The JSON values of `FIXED` for one outcome.

    Args:
        version: Of `Version`.
        protocol: What was carried that is no HTTP; then there is neither a method nor a status.
        http_route: The template of the route's paths; empty: the route's name takes its place.
        grpc_status: The name of a call's status; empty for what is no gRPC.
    """
    spoken = quote_text(Version.NAMES[version]) if method is not None else b"null"
    values = (
        quote_text(direction),
        quote(method),
        quote_text(protocol) if protocol else spoken,
        b"%d" % status,
        quote_text(flag),
        quote_text(details),
        quote_text(route),
        quote_text(upstream),
        quote_text(http_route or route),
        quote_text(grpc_status) if grpc_status else b"null",
    )
    return dict(zip(FIXED, values, strict=True))


class JsonLine:
    """
    The line of one outcome.

    Args:
        fixed: JSON values of `FIXED`.
    """

    __slots__ = ("_before_host", "_before_path")

    def __init__(self, fixed: Mapping[str, bytes]) -> None:
        self._before_path = b'Z","direction":%b,"method":%b,"path":' % (fixed["direction"], fixed["method"])
        # Only where it says more than the name: the lines of all other routes are as short as they were.
        template = b',"http_route":' + fixed["http_route"] if fixed["http_route"] != fixed["route_name"] else b""
        call = b',"grpc_status":' + fixed["grpc_status"] if fixed["grpc_status"] != b"null" else b""
        self._before_host = (
            b',"protocol":%b,"response_code":%b,"response_flags":%b,"response_code_details":%b,"route_name":%b%b%b,'
            b'"upstream_cluster":%b,"upstream_host":'
        ) % (*(fixed[name] for name in FIXED[2:7]), template, call, fixed["upstream_cluster"])

    def line(
        self,
        second: bytes,
        millisecond: int,
        path: bytes,
        host: bytes,
        bytes_received: int,
        bytes_sent: int,
        duration_ns: int,
        waited: bytes,
        request_id: bytes,
        trace_id: bytes,
        authority: bytes,
        agent: bytes,
        peer: bytes,
        port: bytes,
        attempts: int,
        members: bytes,
    ) -> bytes:
        """One line with its line feed, of what `LineValues` describes."""
        return (
            b'{"start_time":"%b.%b%b%b%b%b,"bytes_received":%b,"bytes_sent":%b,"duration":%b,'
            b'"upstream_service_time":%b,"request_id":"%b","trace_id":"%b","authority":"%b","user_agent":%b,'
            b'"downstream_remote_address":"%b:%b","attempts":%b%b}\n'
        ) % (
            second, _THREE_DIGITS[millisecond], self._before_path, path, self._before_host, host,
            decimal(bytes_received), decimal(bytes_sent), milliseconds(duration_ns),
            waited, request_id, trace_id, authority, agent,
            peer, port, decimal(attempts), members,
        )  # fmt: skip


def decision_members(outcome: str, rule: str, position: str) -> bytes:
    """
    Members for exchanges that rules of authorization were asked about.

    Args:
        outcome: What came of it.
        rule: Which rule decided.
        position: `file:line` of it; left out if empty.
    """
    members = b',"authorization":"%b","rule":"%b"' % (escape_text(outcome), escape_text(rule))
    return members + (b',"rule_at":"%b"' % escape_text(position) if position else b"")


def peer_members(peer: Peer, *, is_client: bool) -> bytes:
    """
    Members for exchanges by TLS: its version and, if the peer has shown a certificate, whose it was.

    Args:
        is_client: Whether the peer is the client; else it is the server.
    """
    side = b"" if is_client else b"upstream_"
    members = b',"%btls_version":"%b"' % (side, escape_text(peer.version))
    shown = peer.identity or peer.subject
    return members + (b',"%bpeer_identity":"%b"' % (side, escape_text(shown)) if shown else b"")


def token_members(token: Token) -> bytes:
    """
    Members for exchanges with a bearer token that a rule asked for: what it came to, and who made it if it is genuine.

    Never for whom it is: that is somebody's name.
    """
    members = b',"jwt":"%b"' % escape_text(token.outcome)
    return members + (b',"jwt_issuer":"%b"' % escape_text(token.issuer) if token.issuer else b"")


def rare_members(detail: str, raw_line: bytes | None, retry_skipped: str) -> bytes:
    """
    Members for exchanges that went wrong.

    Args:
        detail: What exactly was found; left out if empty.
        retry_skipped: Why no further attempt was made; left out if empty.
        raw_line: What came instead of a request; its first 256 octets are shown.
    """
    members = b""
    if detail:
        members += b',"detail":"%b"' % escape_text(detail)
    if retry_skipped:
        members += b',"retry_skipped":"%b"' % escape_text(retry_skipped)
    if raw_line:
        members += b',"raw_line":"%b"' % escape(raw_line[:_MAX_RAW_LINE_BYTES])
    return members
