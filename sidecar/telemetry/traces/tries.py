"""
Attempts that another one followed, as spans and as a label says why they were given up. *Cold: after failures.*
"""

from __future__ import annotations

from collections.abc import Iterator

from sidecar import clock, grpc
from sidecar.exchange import Direction, Exchange, Try
from sidecar.telemetry.form_cache import FormCache
from sidecar.telemetry.metrics.instruments import code_label
from sidecar.telemetry.scope import Scope
from sidecar.telemetry.traces import spans
from sidecar.telemetry.traces.spans import Agent, Authority


def why_given_up(given_up: Try) -> str:
    """The reason's name, `grpc_` and the name of a call's status, or the status code of the response."""
    if given_up.reason is not None:
        return given_up.reason.name
    if given_up.grpc_status >= 0:
        return f"grpc_{grpc.NAMES[given_up.grpc_status].lower()}"
    return code_label(given_up.status)


def spans_of_tries(
    exchange: Exchange, scope: Scope, known: FormCache, authority: Authority, agent: Agent | None
) -> Iterator[bytes]:
    """A CLIENT span for each attempt before the last, by the id that its upstream was told."""
    head = exchange.head
    if head is None:
        return
    # Attempts of the app's call are siblings; those of a call to the app are part of serving it.
    parent_id = exchange.parent_id if exchange.direction is Direction.OUTBOUND else exchange.span_id
    shared = authority.attributes + spans.url_attributes(True, authority.octets, head.path, head.query)
    if agent is not None:
        shared += agent.attribute
    for number, given_up in enumerate(exchange.tries or ()):
        own = shared
        if given_up.endpoint is not None:
            label = given_up.endpoint.label
            own += (known.destinations[1].get(label) or known.new_destination(label, Direction.OUTBOUND)).attributes
            if not authority.octets:
                own += spans.server_of(scope.server_address, label)
        if number:
            own += spans.resend_count(number + 1)
        if given_up.grpc_status >= 0:
            call = known.calls.get(head.path) or known.new_call(head.path)
            is_unnamed = spans.is_named_by_call(scope.route, scope.http_route, given_up.grpc_status)
            own += call.name + call.attributes if is_unnamed else call.attributes
        template = scope.try_template(head.method, head.version, given_up.status, given_up.reason, given_up.grpc_status)
        yield template.encode(
            exchange.trace_id, given_up.span_id, parent_id, exchange.tracestate,
            clock.wall_ns(given_up.sent_ns), clock.wall_ns(given_up.end_ns), own,
        )  # fmt: skip
