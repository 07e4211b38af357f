"""The log line and the span of a connection that is no HTTP's. *Once a connection.*"""

from __future__ import annotations

from sidecar.exchange import Exchange
from sidecar.telemetry.access_log import json_line
from sidecar.telemetry.access_log.json_line import LineValues
from sidecar.telemetry.form_cache import FormCache
from sidecar.telemetry.scope import Scope, StreamOutcome
from sidecar.telemetry.traces import spans


def log_line(
    exchange: Exchange, outcome: StreamOutcome, known: FormCache, start_ns: int, duration_ns: int, members: bytes
) -> bytes:
    """
    Its line. What a request would have said (a path, a method, an agent) is `null`.

    Args:
        start_ns: Since the Unix epoch.
        members: Of whom it was spoken with by TLS, and of what rules said.
    """
    direction, head = exchange.direction, exchange.head
    assert head is not None
    peer = known.peers[direction].get(exchange.peer[0]) or known.new_peer(exchange.peer[0], direction)
    port = known.ports.get(exchange.peer[1]) or known.new_port(exchange.peer[1])
    destination = spans.NO_DESTINATION
    if exchange.endpoint is not None:
        label = exchange.endpoint.label
        destination = known.destinations[direction].get(label) or known.new_destination(label, direction)
    authority = known.authorities.get((head.host, head.port)) or known.new_authority(head)
    second, rest = start_ns // 1_000_000_000, start_ns % 1_000_000_000
    if exchange.detail:
        members += json_line.rare_members(exchange.detail, None, "")
    values: LineValues = (
        known.seconds.get(second) or known.new_second(second), rest // 1_000_000, b"null", destination.json,
        exchange.bytes_received, exchange.bytes_sent, duration_ns, b"null", exchange.request_id, exchange.trace_id,
        authority.json, b"null", peer.json, port.text, exchange.attempts, members,
    )  # fmt: skip
    return outcome.line.line(*values) if outcome.text is None else outcome.text.line(values, exchange)


def span(
    exchange: Exchange, scope: Scope, outcome: StreamOutcome, known: FormCache, start_ns: int, end_ns: int
) -> bytes:
    """Its span; times are since the Unix epoch."""
    direction, head = exchange.direction, exchange.head
    assert head is not None
    peer = known.peers[direction].get(exchange.peer[0]) or known.new_peer(exchange.peer[0], direction)
    authority = known.authorities.get((head.host, head.port)) or known.new_authority(head)
    own = peer.attributes + authority.attributes
    if exchange.endpoint is not None:
        label = exchange.endpoint.label
        own += (known.destinations[direction].get(label) or known.new_destination(label, direction)).attributes
    own += spans.octets(exchange.bytes_received, exchange.bytes_sent)
    secured = exchange.server if direction == 1 else exchange.client
    if secured is not None:
        own += spans.tls_attributes(secured, is_client=direction == 0)
    return outcome.span.encode(
        exchange.trace_id, exchange.span_id, exchange.parent_id, exchange.tracestate, start_ns, end_ns, own
    )
