"""
The case file of one request, carried through the rooms in the order of its walk. *Hot path.*

Rooms read what earlier rooms wrote and write their own part; `telemetry` reads all of it, once, at the end.
The protocols below say what this file needs of rooms that stand above it.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Protocol

from sidecar.errors import Reason
from sidecar.message import RequestHead
from sidecar.peer import Peer, Token


class Direction(IntEnum):
    """To the app or from the app."""

    INBOUND = 0
    OUTBOUND = 1

    @property
    def label(self) -> str:
        """`inbound` or `outbound`, as metrics, logs and the configuration write it."""
        return "inbound" if self is Direction.INBOUND else "outbound"


class ScopeLike(Protocol):
    """What telemetry bound in advance for one (direction, route, upstream); `telemetry` owns the class."""

    route: str
    upstream: str


class EndpointLike(Protocol):
    """An address that was chosen; `upstream` owns the class."""

    label: str
    """`host:port` or `unix:path`, as logs and spans show it."""


class KeptLike(Protocol):
    """What is kept of a side's requests; `proxy` owns the class."""

    def take(self, exchange: Exchange) -> None:
        """The exchange is over: keep of it what is kept."""
        ...


class Try:
    """
    One attempt that did not become the answer: another followed it.

    Attributes:
        endpoint: Where it went, or None if none was chosen.
        sent_ns: When it began.
        end_ns: When it was given up.
        status: Status of the response that was discarded, or 0.
        reason: Why it was given up; None if a status was the reason.
        span_id: 16 hexadecimal digits, the span that the upstream was told.
        grpc_status: Of the response that was discarded, if it was one to gRPC that said it, else -1.
    """

    __slots__ = ("end_ns", "endpoint", "grpc_status", "reason", "sent_ns", "span_id", "status")

    def __init__(
        self,
        endpoint: EndpointLike | None,
        sent_ns: int,
        end_ns: int,
        status: int,
        reason: Reason | None,
        span_id: bytes,
        grpc_status: int = -1,
    ) -> None:
        self.endpoint = endpoint
        self.sent_ns = sent_ns
        self.end_ns = end_ns
        self.status = status
        self.reason = reason
        self.span_id = span_id
        self.grpc_status = grpc_status


class Decision:
    """
    What the rules of authorization say of a request: one for each way in which a rule can decide, made with the plan
    and shared by all requests of which it is true.

    Attributes:
        is_allowed: Whether the request goes on.
        outcome: `allowed`; `denied`; or `audit_denied`: it goes on, because what would refuse it is in audit.
        rule: Name of the rule; `default` where none matched.
        position: `file:line` of that rule, or empty.
        is_unidentified: It goes on only because who has no identity is let in while the listener is permissive.
        scope: What telemetry counts it in.
        counters: By the client's identity, what telemetry bound for it; filled at first use.
        members: Members of a log line, likewise.
    """

    __slots__ = ("counters", "is_allowed", "is_unidentified", "members", "outcome", "position", "rule", "scope")

    def __init__(
        self,
        outcome: str,
        rule: str,
        position: str = "",
        scope: ScopeLike | None = None,
        *,
        is_unidentified: bool = False,
    ) -> None:
        self.is_allowed = outcome != "denied"
        self.outcome = outcome
        self.rule = rule
        self.position = position
        self.is_unidentified = is_unidentified
        self.scope = scope
        self.counters: dict[str, Any] = {}
        self.members = b""

    def __repr__(self) -> str:
        return f"<Decision {self.outcome} by {self.rule!r}>"


class Exchange:
    """
    One request and what became of it. Times are readings of `clock.monotonic_ns`, 0 while not reached.

    Attributes:
        direction: Which side of the app.
        start_ns: When the head was complete.
        sent_ns: When the first byte of the last attempt was written to the upstream.
        awaited_ns: When the last byte of the request was, if that was later: from here the upstream was waited for.
        first_byte_ns: When the head of the final response was complete.
        received_ns: When the last byte of the upstream's response was read.
        end_ns: When the exchange was over.
        protocol: What it carries instead of a request, where it is no HTTP's: `tcp` or `tls`; else empty. Its
            head then says only where it is meant to go.
        head: The request; None if no head could be parsed.
        raw_line: First bytes of what was received when `head` is None, for the log.
        peer: `(address, port)` of the client; `("unix", 0)` on a Unix socket. Of a request that trusted proxies passed
            on, the client that they name, with port 0 if they do not say it.
        direct_peer: `(address, port)` of the proxy that connected, where that is not the client; else None.
        client: Who connected by TLS, or None.
        server: With whom the last attempt spoke by TLS, or None.
        token: What its bearer token came to, if it has one and a rule of authorization asks for such; else None.
        decision: What the rules of authorization said of it; None where there are none, or it did not come to them.
        scope: What telemetry bound for the route and upstream that were chosen.
        endpoint: Where the last attempt went, or None.
        attempts: How often the request was sent or a connection for it was tried.
        tries: The attempts before the last, in order, or None if there was but one.
        retry_after_s: Seconds after which the client may try again, if the proxy says so; else 0.
        retry_skipped: Why another attempt, though the policy names its occasion, was not made; else empty.
        status: Status that the client was sent, or that the reason stands for if none was.
        grpc_status: How the call ended, if the request is gRPC (`grpc.NAMES`): as the response says, in its head or its
            trailers; else as its status of HTTP or the reason stands for. -1 for what is no gRPC, or not over.
        bytes_received: Bytes of the request body read from the client.
        bytes_sent: Bytes of the response body written to the client.
        reason: Row of the table when it ended badly or by the proxy, else None.
        detail: What exactly was found, for our log only.
        request_id: `x-request-id`, received or made.
        trace_id: 32 lower-case hexadecimal digits; empty if telemetry never saw the request.
        span_id: 16 hexadecimal digits: this exchange's span.
        parent_id: 16 hexadecimal digits: the span named by the request, or empty.
        sampled: Whether the span is exported.
        tracestate: Value to go on with the span, or empty.
        is_captured: Its connection was led here and meant for somebody else.
        kept: Keeps the head when it is over; None: nobody does.
    """

    __slots__ = (
        "attempts",
        "awaited_ns",
        "bytes_received",
        "bytes_sent",
        "client",
        "decision",
        "detail",
        "direct_peer",
        "direction",
        "end_ns",
        "endpoint",
        "first_byte_ns",
        "grpc_status",
        "head",
        "is_captured",
        "kept",
        "parent_id",
        "peer",
        "protocol",
        "raw_line",
        "reason",
        "received_ns",
        "request_id",
        "retry_after_s",
        "retry_skipped",
        "sampled",
        "scope",
        "sent_ns",
        "server",
        "span_id",
        "start_ns",
        "status",
        "token",
        "trace_id",
        "tracestate",
        "tries",
    )

    def __init__(
        self,
        direction: Direction,
        start_ns: int,
        head: RequestHead | None,
        peer: tuple[str, int],
        scope: ScopeLike | None = None,
        client: Peer | None = None,
        kept: KeptLike | None = None,
    ) -> None:
        self.kept = kept
        self.is_captured = False
        self.direction = direction
        self.start_ns = start_ns
        self.sent_ns = 0
        self.awaited_ns = 0
        self.first_byte_ns = 0
        self.received_ns = 0
        self.end_ns = 0
        self.protocol = ""
        self.head = head
        self.raw_line = b""
        self.peer = peer
        self.direct_peer: tuple[str, int] | None = None
        self.client = client
        self.server: Peer | None = None
        self.token: Token | None = None
        self.decision: Decision | None = None
        self.scope = scope
        self.endpoint: EndpointLike | None = None
        self.attempts = 0
        self.tries: list[Try] | None = None
        self.retry_after_s = 0.0
        self.retry_skipped = ""
        self.status = 0
        self.grpc_status = -1
        self.bytes_received = 0
        self.bytes_sent = 0
        self.reason: Reason | None = None
        self.detail = ""
        self.request_id = b""
        self.trace_id = b""
        self.span_id = b""
        self.parent_id = b""
        self.sampled = False
        self.tracestate = b""

    @property
    def authorization(self) -> str:
        """`allowed`, `denied`, `audit_denied`, or empty where no rules were asked."""
        return self.decision.outcome if self.decision is not None else ""

    @property
    def rule(self) -> str:
        """Name of the rule of authorization that decided, or empty."""
        return self.decision.rule if self.decision is not None else ""

    def __repr__(self) -> str:
        what = f"{self.head.method.decode()} {self.head.path!r}" if self.head else repr(self.raw_line[:40])
        end = self.reason.name if self.reason else self.status or "running"
        return f"<Exchange {self.direction.label} {what} {end}>"
