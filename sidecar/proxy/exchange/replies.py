"""
Answers that the proxy makes itself: what failed, where, and what to look at. *Pure.*

Every such answer carries a `Proxy-Status` field (RFC 9209) and one line of JSON, both from the table of reasons; one to
gRPC has the status and the message that its clients read in the place of the JSON. A peer never sees the text of an
exception or what another client sent.
"""

from __future__ import annotations

import json

from sidecar import errors, grpc
from sidecar.errors import Reason
from sidecar.exchange import Exchange
from sidecar.http1.date import DATE
from sidecar.http1.grammar import make_field
from sidecar.http1.max_forwards import ALLOWED
from sidecar.message import NO_TRAILERS, Field, Kind, Version
from sidecar.proxy.exchange.policies import retry_after


def end_call(reason: Reason, exchange: Exchange) -> None:
    """If the request is gRPC, say in the record how the call ended, by this reason; a fault said so itself."""
    head = exchange.head
    if head is not None and head.kinds & Kind.GRPC and reason is not errors.FAULT_INJECTED:
        exchange.grpc_status = grpc.status_for(reason, exchange.status)


def end_for(reason: Reason, detail: str, exchange: Exchange) -> None:
    """Say in the record why the exchange ended, and of what was not answered, as what it counts."""
    exchange.reason = reason
    exchange.detail = detail
    end_call(reason, exchange)
    if not exchange.status:
        exchange.status = reason.status


def abort_call(exchange: Exchange, status: int, grpc_status: int | None) -> None:
    """Say in the record with what a fault ends it: a status of HTTP, and to gRPC this one or what stands for that."""
    exchange.status = status
    if exchange.head is not None and exchange.head.kinds & Kind.GRPC:
        exchange.grpc_status = grpc.status_for_http(status) if grpc_status is None else grpc_status


def parting(reason: Reason, exchange: Exchange) -> list[Field]:
    """
    The trailers with which a response to gRPC ends that was broken off for this reason; none to whom they say nothing.

    A call's status is what its trailers say, however much came before them; of a stream that is reset a client makes
    one up by the code, and of most codes INTERNAL.
    """
    head = exchange.head
    if head is None or not head.kinds & Kind.GRPC or head.version != Version.HTTP2 or exchange.status != 200:
        return NO_TRAILERS
    end_call(reason, exchange)
    return _grpc_status(reason, exchange)


def explain(reason: Reason, exchange: Exchange) -> tuple[int, list[Field], bytes]:
    """
    Status, fields and body of the answer to an exchange that ended for this reason.

    The body is one line of JSON; names of routes and upstreams come from the configuration, and the request id, which
    the client may have chosen, is escaped. To gRPC it is a response without a body, whose status is in `grpc-status`.
    """
    end_call(reason, exchange)
    if exchange.grpc_status >= 0:
        # What gRPC calls "Trailers-Only": all that is said is in the head.
        fields = [make_field(b"content-type", grpc.CONTENT_TYPE), *_grpc_status(reason, exchange)]
        return 200, [*fields, *_common(reason, exchange)], b""
    scope, endpoint = exchange.scope, exchange.endpoint
    said: dict[str, object] = {
        "error": reason.name,
        "status": exchange.status or reason.status,
        "flag": reason.flag,
        "message": reason.text,
        "source": reason.source.value,
        "phase": reason.phase.value,
    }
    if scope is not None and scope.route:
        said["route"] = scope.route
    if scope is not None and scope.upstream:
        said["upstream"] = scope.upstream
    if endpoint is not None:
        said["endpoint"] = endpoint.label
    if reason is errors.AUTHORIZATION_DENIED and exchange.client is not None and exchange.client.identity:
        said["rule"] = exchange.rule  # names of rules are told to who is known only
    if exchange.attempts:
        said["attempt"] = exchange.attempts
    said["look_at"] = reason.hint
    if exchange.request_id:
        said["request_id"] = exchange.request_id.decode("latin-1")
    fields = [make_field(b"content-type", b"application/json"), *_common(reason, exchange)]
    if reason.status == 405:
        fields.append(make_field(b"allow", ALLOWED))
    return exchange.status or reason.status, fields, json.dumps(said, ensure_ascii=True).encode() + b"\n"


def _common(reason: Reason, exchange: Exchange) -> list[Field]:
    said = b'sidecar; error=%b; details="%b"' % (reason.proxy_error.encode(), reason.name.encode())
    fields = [make_field(b"proxy-status", said), DATE.now()]
    if exchange.retry_after_s:
        fields.append(make_field(b"retry-after", retry_after(exchange.retry_after_s)))
    return fields


def _grpc_status(reason: Reason, exchange: Exchange) -> list[Field]:
    """
    Status and message of a call.

    The message is for people, who find it in the exception of their client: what failed, by its name in the table, and
    where; what the JSON says beyond that is in the log line of the request id.
    """
    scope, endpoint = exchange.scope, exchange.endpoint
    where = [reason.name]
    if scope is not None and scope.route:
        where.append(f"route {scope.route}")
    if scope is not None and scope.upstream:
        where.append(f"upstream {scope.upstream}")
    if endpoint is not None:
        where.append(f"endpoint {endpoint.label}")
    if exchange.request_id:
        where.append(f"request id {exchange.request_id.decode('latin-1')}")
    message = grpc.encode_message(f"sidecar: {reason.text} ({'; '.join(where)})")
    return [
        make_field(b"grpc-status", b"%d" % exchange.grpc_status),
        make_field(b"grpc-message", message),
    ]
