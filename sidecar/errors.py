"""
Every way in which an exchange can end badly, one row each. *Pure.*

From this one closed table come the reply (status, `Proxy-Status` by RFC 9209, JSON body), the flag in the
access log, the metric label, the span status, the retry decision and the documentation page. Flags are
Envoy's, because operators know them. Nothing else in the tree invents a reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Source(Enum):
    """Who caused the end: the client, this process, or the server behind it."""

    DOWNSTREAM = "downstream"
    PROXY = "proxy"
    UPSTREAM = "upstream"


class Phase(Enum):
    """How far the exchange had come."""

    HEAD = "head"
    ROUTE = "route"
    CHOOSE = "choose"
    ACQUIRE = "acquire"
    RESOLVE = "resolve"
    CONNECT = "connect"
    TLS = "tls"
    REQUEST = "request"
    RESPONSE_HEAD = "response_head"
    RESPONSE_BODY = "response_body"
    TUNNEL = "tunnel"


@dataclass(frozen=True, slots=True, eq=False)
class Reason:
    """
    One row of the table; rows are compared by identity.

    Attributes:
        name: Metric label and `error.type`; lower snake case, stable.
        source: Who caused it.
        phase: Where in the walk it happened.
        retryable: Whether another attempt could succeed and be safe if no byte was processed.
        status: HTTP status of the reply when one can still be sent; also what the log shows if none was.
        flag: Envoy's response flag.
        proxy_error: Token of RFC 9209, section 2.3.
        text: What failed, one plain sentence without a full stop.
        hint: What an operator should look at.
    """

    name: str
    source: Source
    phase: Phase
    retryable: bool
    status: int
    flag: str
    proxy_error: str
    text: str
    hint: str


class ProtocolError(Exception):
    """
    A peer broke HTTP; the connection must be closed and never reused.

    Attributes:
        reason: The row of the table that says what was wrong.
        detail: What was found, for our log only; never sent to a peer.
    """

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{reason.name}: {detail}" if detail else reason.name)
        self.reason = reason
        self.detail = detail


_D, _P, _U = Source.DOWNSTREAM, Source.PROXY, Source.UPSTREAM

# --- what the client did -------------------------------------------------------------------------------------
BAD_REQUEST = Reason(
    "bad_request", _D, Phase.HEAD, False, 400, "DPE", "http_request_error",
    "the request is not valid HTTP", "the client's HTTP library, or something that rewrites requests before us",
)  # fmt: skip
BAD_REQUEST_BODY = Reason(
    "bad_request_body", _D, Phase.REQUEST, False, 400, "DPE", "http_request_error",
    "the request body is not framed correctly", "the client's chunked encoding",
)  # fmt: skip
BAD_FRAMES = Reason(
    "bad_frames", _D, Phase.HEAD, False, 400, "DPE", "http_protocol_error",
    "the client has broken the rules of HTTP/2 for a connection", "the client's HTTP library",
)  # fmt: skip
CLIENT_TOO_MUCH = Reason(
    "client_too_much", _D, Phase.HEAD, False, 429, "DPE", "http_request_denied",
    "the client has sent too much that costs it nothing: resets, or frames that carry nothing",
    "limits.http2, and whether the client means harm",
)  # fmt: skip
TARGET_TOO_LONG = Reason(
    "target_too_long", _D, Phase.HEAD, False, 414, "DPE", "http_request_error",
    "the request target is too long", "limits.max_header_bytes",
)  # fmt: skip
HEAD_TOO_LARGE = Reason(
    "head_too_large", _D, Phase.HEAD, False, 431, "DPE", "http_request_error",
    "the request head has too many fields or bytes", "limits.max_header_bytes and limits.max_headers",
)  # fmt: skip
HEAD_TIMEOUT = Reason(
    "head_timeout", _D, Phase.HEAD, False, 408, "DT", "http_request_error",
    "the request head did not arrive in time", "limits.header_timeout, and what keeps the client slow",
)  # fmt: skip
BODY_TIMEOUT = Reason(
    "body_timeout", _D, Phase.REQUEST, False, 408, "DT", "http_request_error",
    "the client stopped sending its request body", "limits.stream_idle_timeout, and what keeps the client slow",
)  # fmt: skip
UNSUPPORTED_VERSION = Reason(
    "unsupported_version", _D, Phase.HEAD, False, 505, "DPE", "http_request_error",
    "this HTTP version is not spoken here", "the client: HTTP/2, HTTP/1.1 and HTTP/1.0 are understood",
)  # fmt: skip
UNSUPPORTED_CODING = Reason(
    "unsupported_coding", _D, Phase.HEAD, False, 501, "DPE", "http_request_error",
    "the request uses a transfer coding other than chunked", "the client: compress with content-encoding instead",
)  # fmt: skip
CLIENT_LEFT = Reason(
    "client_left", _D, Phase.RESPONSE_BODY, False, 499, "DC", "connection_terminated",
    "the client closed its connection before the response was complete", "the client's own timeout",
)  # fmt: skip
CLIENT_STALLED = Reason(
    "client_stalled", _D, Phase.RESPONSE_BODY, False, 499, "DT", "connection_write_timeout",
    "the client stopped reading the response", "limits.stream_idle_timeout, and what keeps the client slow",
)  # fmt: skip
LOOP = Reason(
    "loop", _D, Phase.ROUTE, False, 508, "DPE", "proxy_loop_detected",
    "the request has passed through this sidecar too often", "an upstream or a passthrough that points back at us",
)  # fmt: skip
METHOD_NOT_ALLOWED = Reason(
    "connect_not_allowed", _D, Phase.ROUTE, False, 405, "DPE", "http_request_denied",
    "CONNECT is not served here", "the client: outbound listeners open tunnels, to upstreams that a route names",
)  # fmt: skip


# --- TLS with a client: before there is a request, so nobody can be answered ---------------------------------
def _client_tls(name: str, proxy_error: str, text: str, hint: str, source: Source = Source.DOWNSTREAM) -> Reason:
    return Reason(name, source, Phase.TLS, False, 400, "DPE", proxy_error, text, hint)


CLIENT_CERTIFICATE_EXPIRED = _client_tls(
    "client_certificate_expired", "tls_certificate_error", "the client's certificate has ended",
    "what renews the client's certificate, and both clocks",
)  # fmt: skip
CLIENT_CERTIFICATE_NOT_YET_VALID = _client_tls(
    "client_certificate_not_yet_valid", "tls_certificate_error", "the client's certificate is not valid yet",
    "both clocks",
)  # fmt: skip
CLIENT_CERTIFICATE_UNTRUSTED = _client_tls(
    "client_certificate_untrusted", "tls_certificate_error",
    "the client's certificate leads to no authority that is trusted here",
    "the roots that are trusted here, and who signed the client's certificate",
)  # fmt: skip
CLIENT_CERTIFICATE_MISSING = _client_tls(
    "client_certificate_missing", "tls_certificate_error", "the client has shown no certificate",
    "whether the client is in the mesh; inbound.tls and client_trust",
)  # fmt: skip
CLIENT_IDENTITY_MISMATCH = _client_tls(
    "client_identity_mismatch", "tls_certificate_error", "the client's certificate names nobody of this mesh",
    "the SPIFFE ID in the client's certificate, and the trust domain",
)  # fmt: skip
CLIENT_REFUSED_CERTIFICATE = _client_tls(
    "client_refused_certificate", "tls_alert_received", "the client does not accept the certificate that it was shown",
    "the roots that the client trusts, the name that it calls, and both clocks",
)  # fmt: skip
CLIENT_TLS_ALPN = _client_tls(
    "client_tls_alpn", "tls_protocol_error", "the client speaks no protocol by TLS that is spoken here",
    "whether the client is meant to speak TLS with the app itself",
)  # fmt: skip
CLIENT_TLS_FAILED = _client_tls(
    "client_tls_failed", "tls_protocol_error", "the handshake with the client failed",
    "the versions and ciphers that the client offers, and min_version",
)  # fmt: skip
CLIENT_TLS_TIMEOUT = _client_tls(
    "client_tls_timeout", "connection_read_timeout", "the client did not finish the handshake in time",
    "limits.header_timeout, and what keeps the client slow",
)  # fmt: skip
CLEAR_REFUSED = Reason(
    "clear_refused", _D, Phase.HEAD, False, 403, "DPE", "http_request_denied",
    "requests in clear are not taken here", "whether the client is in the mesh; inbound.tls and its `clear`",
)  # fmt: skip
HANDSHAKES_OVERLOADED = _client_tls(
    "handshakes_overloaded", "connection_limit_reached", "too many handshakes with clients are under way",
    "how many clients connect at once", Source.PROXY,
)  # fmt: skip
NO_CERTIFICATE = _client_tls(
    "no_certificate", "proxy_configuration_error", "the sidecar has no certificate that it could show to the client",
    "/certs of the admin interface, and where the certificate comes from", Source.PROXY,
)  # fmt: skip


# --- TLS with a server: nothing of the request was sent ------------------------------------------------------
def _server_tls(
    name: str, proxy_error: str, text: str, hint: str, source: Source = Source.UPSTREAM, *, retryable: bool = True
) -> Reason:
    return Reason(name, source, Phase.TLS, retryable, 503, "UF", proxy_error, text, hint)


UPSTREAM_CERTIFICATE_EXPIRED = _server_tls(
    "upstream_certificate_expired", "tls_certificate_error", "the server's certificate has ended",
    "what renews the server's certificate, and both clocks",
)  # fmt: skip
UPSTREAM_CERTIFICATE_NOT_YET_VALID = _server_tls(
    "upstream_certificate_not_yet_valid", "tls_certificate_error", "the server's certificate is not valid yet",
    "both clocks",
)  # fmt: skip
UPSTREAM_CERTIFICATE_UNTRUSTED = _server_tls(
    "upstream_certificate_untrusted", "tls_certificate_error",
    "the server's certificate leads to no authority that is trusted here",
    "the upstream's tls.trust, and who signed the server's certificate",
)  # fmt: skip
UPSTREAM_IDENTITY_MISMATCH = _server_tls(
    "upstream_identity_mismatch", "tls_certificate_error", "the server's certificate is somebody else's",
    "the upstream's tls.server_name or tls.identities, and whether the endpoint is the service's",
)  # fmt: skip
UPSTREAM_REFUSED_CERTIFICATE = _server_tls(
    "upstream_refused_certificate", "tls_alert_received", "the server does not accept the sidecar's certificate",
    "/certs of the admin interface, the roots that the server trusts, and both clocks",
)  # fmt: skip
UPSTREAM_TLS_ALPN = _server_tls(
    "upstream_tls_alpn", "tls_protocol_error", "the server speaks no protocol by TLS that is spoken here",
    "whether the endpoint is the port of a sidecar",
)  # fmt: skip
UPSTREAM_TLS_FAILED = _server_tls(
    "upstream_tls_failed", "tls_protocol_error", "the handshake with the server failed",
    "whether the server speaks TLS on this port, and the upstream's tls.min_version",
)  # fmt: skip
UPSTREAM_TLS_TIMEOUT = _server_tls(
    "upstream_tls_timeout", "connection_timeout", "the server did not finish the handshake in time",
    "the upstream's connect_timeout, and the server's load",
)  # fmt: skip
IDENTITY_MISSING = _server_tls(
    "identity_missing", "proxy_configuration_error", "the sidecar has no certificate, or no roots, for this upstream",
    "/certs of the admin interface, and where the certificate comes from", Source.PROXY, retryable=False,
)  # fmt: skip

# --- what the proxy decided ----------------------------------------------------------------------------------
NO_ROUTE = Reason(
    "no_route", _P, Phase.ROUTE, False, 404, "NR", "destination_not_found",
    "no route matches and unmatched requests are denied", "outbound.routes, upstreams.*.hosts and outbound.unmatched",
)  # fmt: skip
NO_APP = Reason(
    "no_app", _P, Phase.ROUTE, False, 404, "NR", "destination_not_found",
    "no inbound route matches and inbound.app is not set", "inbound.app and inbound.routes",
)  # fmt: skip
LOCAL_EXHAUSTION = Reason(
    "local_exhaustion", _P, Phase.CONNECT, False, 503, "UO", "connection_limit_reached",
    "the sidecar has no descriptor, port or memory left for another connection",
    "the process's limit of open files (nofile), against limits.max_connections",
)  # fmt: skip
NO_ENDPOINT = Reason(
    "no_endpoint", _P, Phase.CHOOSE, False, 503, "UH", "destination_unavailable",
    "the upstream has no usable endpoint", "the upstream's endpoints or its DNS name",
)  # fmt: skip
OVERLOADED = Reason(
    "overloaded", _P, Phase.ACQUIRE, False, 503, "UO", "connection_limit_reached",
    "the sidecar is at its limit", "limits.max_connections and limits.max_loop_lag",
)  # fmt: skip
UPSTREAM_OVERLOADED = Reason(
    "upstream_overloaded", _P, Phase.ACQUIRE, False, 503, "UO", "connection_limit_reached",
    "as much is under way at the upstream as its circuit breaker allows",
    "the upstream's circuit_breaker, and its load",
)  # fmt: skip
PENDING_TIMEOUT = Reason(
    "pending_timeout", _P, Phase.ACQUIRE, True, 503, "UO", "connection_limit_reached",
    "no connection to the upstream became free in time",
    "the upstream's circuit_breaker.max_connections and pending_timeout",
)  # fmt: skip
RESOLVE_TIMEOUT = Reason(
    "resolve_timeout", _P, Phase.RESOLVE, True, 503, "DF", "dns_timeout",
    "no name server answered for the endpoint's name in time",
    "the name servers of /etc/resolv.conf, and the upstream's connect_timeout",
)  # fmt: skip
RESOLVE_OVERLOADED = Reason(
    "resolve_overloaded", _P, Phase.RESOLVE, False, 503, "DF", "dns_error",
    "as many names are being looked up as may be at once",
    "the name servers of /etc/resolv.conf, and who asks for so many names",
)  # fmt: skip
RATE_LIMITED = Reason(
    "rate_limited", _P, Phase.ROUTE, False, 429, "RL", "http_request_denied",
    "the client sends more requests than the rate limit allows", "the route's rate_limit",
)  # fmt: skip
AUTHORIZATION_DENIED = Reason(
    "authorization_denied", _P, Phase.ROUTE, False, 403, "UAEX", "http_request_denied",
    "the rules of this service do not allow the request",
    "inbound.authorization; the log line says which rule, who asked, and what differed",
)  # fmt: skip
FAULT_INJECTED = Reason(
    "fault_injected", _P, Phase.ROUTE, False, 503, "FI", "proxy_internal_response",
    "the route's fault.abort answered this request on purpose", "the route's fault",
)  # fmt: skip
DRAINING = Reason(
    "draining", _P, Phase.ROUTE, False, 503, "DR", "destination_unavailable",
    "the sidecar is shutting down", "nothing: another instance should take over",
)  # fmt: skip
INTERNAL = Reason(
    "internal", _P, Phase.ROUTE, False, 500, "PI", "proxy_internal_error",
    "the sidecar failed while handling this request", "the sidecar's log; please report it",
)  # fmt: skip
REWRITE_INVALID = Reason(
    "rewrite_invalid", _P, Phase.ROUTE, False, 500, "PI", "proxy_configuration_error",
    "the route's rewrite made a path that cannot be sent", "the route's rewrite.regex.substitution",
)  # fmt: skip

# --- what the server did -------------------------------------------------------------------------------------
RESOLVE_FAILED = Reason(
    "resolve_failed", _U, Phase.RESOLVE, True, 503, "DF", "dns_error",
    "the endpoint's name has no address", "how the name is spelled, and what the name server says of it",
)  # fmt: skip
CONNECT_FAILED = Reason(
    "connect_failed", _U, Phase.CONNECT, True, 503, "UF", "connection_refused",
    "connecting to the upstream failed", "whether the endpoint listens and is reachable",
)  # fmt: skip
CONNECT_TIMEOUT = Reason(
    "connect_timeout", _U, Phase.CONNECT, True, 503, "UF", "connection_timeout",
    "connecting to the upstream took too long",
    "the upstream's connect_timeout, and whether packets reach the endpoint",
)  # fmt: skip
UPSTREAM_CLOSED = Reason(
    "upstream_closed", _U, Phase.RESPONSE_HEAD, True, 503, "UC", "connection_terminated",
    "the upstream closed the connection before the response",
    "the upstream's log; its keep-alive timeout against idle_timeout",
)  # fmt: skip
UPSTREAM_RESET = Reason(
    "upstream_reset", _U, Phase.RESPONSE_HEAD, True, 503, "UR", "connection_terminated",
    "the upstream reset the connection before the response", "the upstream's log: it crashed or refused the request",
)  # fmt: skip
STREAM_REFUSED = Reason(
    "stream_refused", _U, Phase.RESPONSE_HEAD, True, 503, "UR", "connection_terminated",
    "the upstream refused the request before it had looked at it", "how many requests at once the upstream takes",
)  # fmt: skip
RESPONSE_CUT = Reason(
    "response_cut", _U, Phase.RESPONSE_BODY, False, 502, "UC", "http_response_incomplete",
    "the upstream closed the connection in the middle of the response", "the upstream's log: it crashed or was stopped",
)  # fmt: skip
RESPONSE_TIMEOUT = Reason(
    "response_timeout", _U, Phase.RESPONSE_HEAD, False, 504, "UT", "http_response_timeout",
    "the upstream did not answer within the route's timeout", "the route's timeout, and what keeps the upstream slow",
)  # fmt: skip
TRY_TIMEOUT = Reason(
    "try_timeout", _U, Phase.RESPONSE_HEAD, True, 504, "UT", "http_response_timeout",
    "the upstream did not answer within the policy's time for one try", "the route's retry.per_try_timeout",
)  # fmt: skip
RESPONSE_STALLED = Reason(
    "response_stalled", _U, Phase.RESPONSE_BODY, False, 504, "UT", "connection_read_timeout",
    "the upstream stopped sending", "limits.stream_idle_timeout, and what keeps the upstream slow",
)  # fmt: skip
BAD_RESPONSE = Reason(
    "bad_response", _U, Phase.RESPONSE_HEAD, False, 502, "UPE", "http_protocol_error",
    "the upstream's response is not valid HTTP", "the upstream's HTTP server",
)  # fmt: skip
RESPONSE_HEAD_TOO_LARGE = Reason(
    "response_head_too_large", _U, Phase.RESPONSE_HEAD, False, 502, "UPE", "http_response_header_section_size",
    "the upstream's response head has too many fields or bytes", "limits.max_header_bytes and limits.max_headers",
)  # fmt: skip
BAD_RESPONSE_BODY = Reason(
    "bad_response_body", _U, Phase.RESPONSE_BODY, False, 502, "UPE", "http_protocol_error",
    "the upstream's response body is not framed correctly", "the upstream's HTTP server",
)  # fmt: skip

REASONS: tuple[Reason, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Reason))
"""Every row, in the order of this file."""
