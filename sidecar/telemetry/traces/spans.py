"""
Spans as OTLP protobuf, from a template that is bound for each outcome. *Hot path: `SpanTemplate.encode`; pure.*

An SDK span that is started and ended costs 17 us before it is encoded, one from a template 3 with its encoding
(`benchmarks/micro/spans.py`): what is the same for all requests of an outcome is encoded once.

Attributes are those of OpenTelemetry's stable HTTP conventions, and for gRPC of those of RPC too; `docs/telemetry.md`
lists them. Every string that
comes from the wire is valid UTF-8 by the time it is here.
"""

from __future__ import annotations

import re
from binascii import unhexlify
from struct import Struct
from typing import Final

from sidecar import grpc
from sidecar.errors import Reason, Source
from sidecar.exchange import Direction
from sidecar.message import Version
from sidecar.peer import Peer as SecuredPeer
from sidecar.telemetry.json_text import escape, text
from sidecar.telemetry.metrics.instruments import KNOWN_METHODS, code_label
from sidecar.telemetry.traces.protobuf import StringAttribute, delimited, int_attribute, length, string_attribute

_KIND_SERVER: Final = 2  # Span.SpanKind
_KIND_CLIENT: Final = 3
_STATUS_ERROR: Final = 2  # Status.StatusCode

# Span.flags = 16, fixed32: the lower eight bits are W3C's trace flags, here "sampled"; bit 8 says that bit 9 is
# known, and bit 9 that the parent is in another process (trace.proto, SpanFlags).
_FLAGS_ROOT: Final = b"\x85\x01" + (0x101).to_bytes(4, "little")
_FLAGS_CHILD: Final = b"\x85\x01" + (0x301).to_bytes(4, "little")
_TIMES: Final = Struct("<BQBQ")  # start_time_unix_nano = 7, end_time_unix_nano = 8, both fixed64
_FIXED_BYTES: Final = 2 + 16 + 2 + 8 + _TIMES.size  # ids and times, with their tags
_pack_times: Final = _TIMES.pack
_START: Final = 0x39
_END: Final = 0x41

_URL_FULL: Final = StringAttribute("url.full")
_URL_PATH: Final = StringAttribute("url.path")
_URL_QUERY: Final = StringAttribute("url.query")

# "Query string values for the following keys SHOULD be redacted by default" (url.query, url.full), and those that
# AWS signs requests with today. Case-sensitive, as there.
_SECRET: Final = re.compile(
    rb"(?<![^&])(AWSAccessKeyId|Signature|sig|X-Goog-Signature|X-Amz-Signature|X-Amz-Credential|X-Amz-Security-Token)"
    rb"=[^&]*"
)


def redacted(query: bytes) -> bytes:
    """The query with the values of signatures replaced by `REDACTED`; everything else is as received."""
    # Every key of the pattern holds "ig" or "A": 0.8 us less for the queries that hold neither.
    if query.find(b"ig") < 0 and query.find(b"A") < 0:
        return query
    return _SECRET.sub(rb"\1=REDACTED", query)


class Agent:
    """A `User-Agent` as the log and the span write it; kept in `Field.note`, so made once for each agent."""

    __slots__ = ("attribute", "json")

    def __init__(self, value: bytes) -> None:
        self.json = b'"%b"' % escape(value)
        self.attribute = string_attribute("user_agent.original", text(value))


class Peer:
    """A client's address as the log and the span write it."""

    __slots__ = ("attributes", "json")

    def __init__(self, address: str, direction: Direction) -> None:
        shown = f"[{address}]" if ":" in address else address
        self.json = escape(shown.encode("utf-8", "replace"))
        self.attributes = b""
        if direction is Direction.INBOUND:
            # The peer of a SERVER span is whom it was called by. X-Forwarded-For could say anything, so it decides
            # about client.address only where the file says whom to believe: `behind_proxy`.
            self.attributes = string_attribute("client.address", address)
            self.attributes += string_attribute("network.peer.address", address)


def behind_proxy(client: str, proxy: tuple[str, int]) -> bytes:
    """What a SERVER span says of a client and of the trusted proxy that passed its request on, port included."""
    address, port = proxy
    return (
        string_attribute("client.address", client)
        + string_attribute("network.peer.address", address)
        + int_attribute("network.peer.port", port)
    )


class Port:
    """A client's port as the log and the span write it: digits, and `network.peer.port` of a SERVER span."""

    __slots__ = ("attribute", "text")

    def __init__(self, number: int) -> None:
        self.text = b"%d" % number
        self.attribute = int_attribute("network.peer.port", number)


class Authority:
    """Host and port that a request names, as the log and the span write them."""

    __slots__ = ("attributes", "json", "octets")

    def __init__(self, host: bytes, port: int | None) -> None:
        self.octets = host if port is None else b"%b:%d" % (host, port)
        self.json = escape(self.octets)
        self.attributes = b""
        if host:
            self.attributes = string_attribute("server.address", text(host).strip("[]"))
            # The default port of the scheme, which is http for all that the sidecar can read.
            self.attributes += int_attribute("server.port", 80 if port is None else port)


NO_AUTHORITY: Final = Authority(b"", None)


class Call:
    """
    What a call of gRPC calls, by its path `/{service}/{method}`, as the span writes it.

    Attributes:
        name: The span's name, `{service}/{method}`; `grpc` for a path of another form.
        attributes: `rpc.service` and `rpc.method`, if it has that form.
    """

    __slots__ = ("attributes", "name")

    def __init__(self, path: bytes) -> None:
        service, slash, method = text(path[1:]).rpartition("/")
        is_call = bool(service and slash and method)
        self.name = delimited(b"\x2a", f"{service}/{method}".encode("utf-8", "replace") if is_call else b"grpc")
        self.attributes = b""
        if is_call:
            self.attributes = string_attribute("rpc.service", service) + string_attribute("rpc.method", method)


class Destination:
    """An endpoint as the log and the span write it."""

    __slots__ = ("attributes", "json")

    def __init__(self, label: str, direction: Direction) -> None:
        self.json = b'"%b"' % escape(label.encode("utf-8", "replace"))
        self.attributes = string_attribute("sidecar.endpoint", label)
        if direction is Direction.OUTBOUND:
            # The peer of a CLIENT span is whom it called. A Unix socket's path is its address; it has no port.
            host, colon, port = label.rpartition(":")
            if not label.startswith("unix:") and colon and port.isdigit():
                self.attributes += string_attribute("network.peer.address", host.strip("[]"))
                self.attributes += int_attribute("network.peer.port", int(port))
            else:
                self.attributes += string_attribute("network.peer.address", label.removeprefix("unix:"))


NO_DESTINATION: Final = Destination("", Direction.INBOUND)
NO_DESTINATION.json = b"null"
NO_DESTINATION.attributes = b""


def error_type(direction: Direction, status: int, reason: Reason | None, grpc_status: int = -1) -> str:
    """
    `error.type`: the reason's name; else the status (as `code_label`, or of gRPC by its name) of a response that is an
    error; else empty.
    """
    if reason is not None:
        return reason.name
    if not _is_error(direction, status, grpc_status):
        return ""
    return grpc.NAMES[grpc_status] if grpc_status > grpc.OK else code_label(status)


def _is_error(direction: Direction, status: int, grpc_status: int) -> bool:
    """
    Whether a response is an error by the conventions.

    "Span Status MUST be left unset if HTTP status code was in the 1xx, 2xx or 3xx ranges, unless there was another
    error"; for 4xx "MUST be left unset in case of SpanKind.SERVER and SHOULD be set to Error in case of CLIENT". Of
    gRPC any status but OK is an error of CLIENT, and UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE
    and DATA_LOSS are of SERVER: those that stand for 500 and above.
    """
    status = grpc.counts_as(status, grpc_status)
    return status >= 500 or (status >= 400 and direction is Direction.OUTBOUND)


def _status(direction: Direction, status: int, reason: Reason | None, grpc_status: int) -> bytes:
    failed = _is_error(direction, status, grpc_status)
    is_told = status >= 400 or grpc_status > grpc.OK
    if not failed and (reason is None or reason.source is Source.DOWNSTREAM or is_told):
        return b""
    # "Don't set a status description if the reason can be inferred from http.response.status_code": ours cannot.
    message = delimited(b"\x12", reason.text.encode()) if reason is not None else b""
    return delimited(b"\x7a", message + bytes((0x18, _STATUS_ERROR)))


def request_span(
    direction: Direction, method: bytes | None, version: int, route: str, upstream: str, status: int,
    reason: Reason | None, http_route: str = "", grpc_status: int = -1,
) -> bytes:  # fmt: skip
    """
    What all spans of one outcome of requests have in common.

    Args:
        method: As sent, or None if no request could be read; one that is not known becomes `_OTHER`.
        version: Of `Version`, in which the request came.
        route: Empty if none was reached.
        upstream: Empty if none was chosen.
        status: Of the response, or what the reason stands for; 0 for an attempt that got none.
        http_route: The template of the route's paths; empty: the route's name takes its place.
        grpc_status: Of a call of gRPC, else -1. The span of a call whose route has no template (`is_named_by_call`) has
            no name yet: add that of its `Call`.
    """
    is_unnamed = is_named_by_call(route, http_route, grpc_status)
    http_route = http_route or route
    is_client = direction is Direction.OUTBOUND
    known = method in KNOWN_METHODS
    # "If the HTTP method is not known, {method} MUST be HTTP" in the name, and the attribute `_OTHER`.
    name = method.decode("ascii") if known and method is not None else "HTTP"
    named = delimited(b"\x2a", (f"{name} {http_route}" if route else name).encode("utf-8", "replace"))
    parts = [
        b"" if is_unnamed else named,
        bytes((0x30, _KIND_CLIENT if is_client else _KIND_SERVER)),
        string_attribute("http.request.method", name if known else "_OTHER"),
    ]
    if not known and method is not None:
        parts.append(string_attribute("http.request.method_original", text(method)))
    if method is not None:
        if not is_client:
            parts.append(string_attribute("url.scheme", "http"))
        parts.append(string_attribute("network.protocol.version", Version.NAMES[version].removeprefix("HTTP/")))
    if status:
        parts.append(int_attribute("http.response.status_code", status))
    if route:
        parts.append(string_attribute("http.route", http_route))
        parts.append(string_attribute("sidecar.route", route))
    if grpc_status >= 0:
        parts.append(string_attribute("rpc.system", "grpc"))
        parts.append(int_attribute("rpc.grpc.status_code", grpc_status))
    return b"".join(parts) + _end_of(direction, upstream, status, reason, grpc_status)


def is_named_by_call(route: str, http_route: str, grpc_status: int) -> bool:
    """Whether a span is one of gRPC that has its name of what is called: the route has no template that would do."""
    return grpc_status >= 0 and (not http_route or http_route == route)


def stream_span(direction: Direction, protocol: str, upstream: str, reason: Reason | None) -> bytes:
    """What all spans of connections that are no HTTP's have in common, that carried this and ended so."""
    parts = [
        delimited(b"\x2a", (f"{protocol} {upstream}" if upstream else protocol).encode("utf-8", "replace")),
        bytes((0x30, _KIND_CLIENT if direction is Direction.OUTBOUND else _KIND_SERVER)),
        string_attribute("network.transport", "tcp"),
    ]
    if protocol != "tcp":
        parts.append(string_attribute("network.protocol.name", protocol))
    return b"".join(parts) + _end_of(direction, upstream, 0, reason)


def _end_of(direction: Direction, upstream: str, status: int, reason: Reason | None, grpc_status: int = -1) -> bytes:
    parts = []
    if upstream:
        parts.append(string_attribute("sidecar.upstream", upstream))
    if reason is not None:
        parts.append(string_attribute("sidecar.response_flag", reason.flag))
    error = error_type(direction, status, reason, grpc_status)
    if error:
        parts.append(string_attribute("error.type", error))
    return b"".join(parts) + _status(direction, status, reason, grpc_status)


class SpanTemplate:
    """
    Spans of one outcome.

    Args:
        fixed: What all of them have in common: of `request_span` or `stream_span`.
    """

    __slots__ = ("_fixed",)

    def __init__(self, fixed: bytes) -> None:
        self._fixed = fixed

    def encode(
        self,
        trace_id: bytes,
        span_id: bytes,
        parent_id: bytes,
        tracestate: bytes,
        start_ns: int,
        end_ns: int,
        own: bytes,
    ) -> bytes:
        """
        One `ScopeSpans.spans` entry, tag and length included, ready to be joined with others.

        Args:
            trace_id, span_id, parent_id: Hexadecimal digits; the last may be empty.
            tracestate: May be empty.
            start_ns, end_ns: Since the Unix epoch.
            own: Encoded attributes of this request alone.
        """
        ids = unhexlify(trace_id + span_id)
        times = _pack_times(_START, start_ns, _END, end_ns)
        parent = _FLAGS_ROOT
        if parent_id:
            parent = b"\x22\x08%b%b" % (unhexlify(parent_id), _FLAGS_CHILD)
            if tracestate:
                own += delimited(b"\x1a", tracestate)
        # The length is added up rather than taken of the joined body, which would be copied again behind it.
        size = _FIXED_BYTES + len(parent) + len(self._fixed) + len(own)
        return b"\x12%b\x0a\x10%b\x12\x08%b%b%b%b%b" % (
            length(size), ids[:16], ids[16:], parent, times, self._fixed, own,
        )  # fmt: skip


def tls_attributes(peer: SecuredPeer, *, is_client: bool) -> bytes:
    """
    `tls.*` of OpenTelemetry's conventions, and the peer's SPIFFE ID, for which there is none.

    Args:
        is_client: Whether the peer is the client; else it is the server.
    """
    side = "client" if is_client else "server"
    parts = [
        string_attribute("tls.protocol.name", "tls"),
        string_attribute("tls.protocol.version", peer.version),
        string_attribute("tls.cipher", peer.cipher),
    ]
    named = {
        "tls.next_protocol": peer.protocol,
        f"tls.{side}.subject": peer.subject,
        f"tls.{side}.issuer": peer.issuer,
        f"tls.{side}.hash.sha256": peer.fingerprint.upper(),
        "tls.client.server_name": peer.server_name,
        "sidecar.peer.identity": peer.identity,
    }
    return b"".join(parts + [string_attribute(name, value) for name, value in named.items() if value])


def octets(received: int, sent: int) -> bytes:
    """How many came from a client that said no request, and went to it."""
    return int_attribute("sidecar.bytes_received", received) + int_attribute("sidecar.bytes_sent", sent)


def resend_count(attempts: int) -> bytes:
    """`http.request.resend_count`: how often the request was sent again."""
    return int_attribute("http.request.resend_count", attempts - 1)


def retry_skipped(why: str) -> bytes:
    """`sidecar.retry_skipped`: why no further attempt was made, though the policy named its occasion."""
    return string_attribute("sidecar.retry_skipped", why)


def server_of(server_address: str, endpoint: str) -> bytes:
    """`server.address` and `server.port`, which a CLIENT span must have, of a request that names no host."""
    if not server_address:
        return b""
    _, colon, port = endpoint.rpartition(":")
    is_tcp = bool(colon) and port.isdigit() and not endpoint.startswith("unix:")
    encoded = string_attribute("server.address", server_address.strip("[]"))
    return encoded + int_attribute("server.port", int(port)) if is_tcp else encoded


def url_attributes(is_client: bool, authority: bytes, path: bytes, query: bytes | None) -> bytes:
    """
    Where the request went: `url.full` of a CLIENT span, `url.path` and `url.query` of a SERVER span.

    Args:
        authority: Host and port as requested; may be empty.
        path: Normalised.
        query: Without `?`, or None.
    """
    if query is not None:
        query = redacted(query)
    if is_client:
        if query is None:
            return _URL_FULL.encode(b"http://%b%b" % (authority, path))
        return _URL_FULL.encode(b"http://%b%b?%b" % (authority, path, query))
    return _URL_PATH.encode(path) if query is None else _URL_PATH.encode(path) + _URL_QUERY.encode(query)
