"""
The decisions of an exchange, in the order of its walk: which route, which target, what is sent. *Hot path; pure.*
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import Final

from sidecar import errors
from sidecar.errors import ProtocolError, Reason
from sidecar.exchange import Decision, Direction, Exchange
from sidecar.http1.date import DATE
from sidecar.http1.forward import VIA
from sidecar.http1.framing import without_underscored
from sidecar.http1.grammar import GrammarError, field_of, make_field
from sidecar.http1.max_forwards import answer_here, hops_left, one_hop_fewer
from sidecar.http1.upgrade import is_extended_connect
from sidecar.message import Field, Kind, RequestHead
from sidecar.net.tls.settings import MeshTls
from sidecar.proxy.exchange.request import UpstreamRequest
from sidecar.proxy.plan import Listener, Side
from sidecar.routing.actions import HeaderEdits, Redirect, Respond, Route, Target
from sidecar.routing.client_address import ClientAddress
from sidecar.routing.match import DEFAULT_PORT
from sidecar.security.authorization.authorization import Authorization
from sidecar.upstream.endpoint import Endpoint
from sidecar.upstream.passthrough import Passthrough

# A chain of calls through this many sidecars is a request that runs in a circle.
_MAX_HOPS: Final = 64
_HOST: Final = Kind.HOST
_UNUSUAL: Final = Kind.VIA | Kind.MAX_FORWARDS | Kind.UNDERSCORE | Kind.CLIENT_CERT
_DISOWNED: Final = Kind.UNDERSCORE | Kind.CLIENT_CERT
_REWRITTEN: Final = Kind.FORWARDED_FOR | Kind.FORWARDED_PROTO | Kind.MAX_FORWARDS


@dataclass(frozen=True, slots=True)
class ByAuthority:
    """Chooses the endpoint that the request itself names."""

    passthrough: Passthrough

    def choose(self, head: RequestHead, peer_ip: str) -> Endpoint | None:
        """The authority's endpoint; port 80 unless the request names one."""
        return self.passthrough.endpoint_for(head.host, head.port or DEFAULT_PORT)

    def choose_other(self, head: RequestHead, peer_ip: str, tried: Container[Endpoint]) -> Endpoint | None:
        """There is no other: the same."""
        return self.choose(head, peer_ip)


def name_client(trusted: ClientAddress, exchange: Exchange, head: RequestHead) -> None:
    """Let the exchange be of the client that trusted proxies name, if they do."""
    client = trusted.of(exchange.peer, head)
    if client != exchange.peer:
        exchange.direct_peer, exchange.peer = exchange.peer, client


def judge(
    authorization: Authorization, side: Side, listener: Listener | None, exchange: Exchange, head: RequestHead
) -> Decision:
    """
    Whether the rules let a request pass, which the exchange then has, and what is to be told of a refusal.

    What they see is what routes see: fields that are dropped before a route is chosen are gone before.
    """
    if head.kinds & _DISOWNED:
        _drop(side, head)
    if authorization.tokens is not None and exchange.token is None:  # whoever asks what would be may suppose one
        exchange.token = authorization.tokens.of(head)
    client, ip, token = exchange.client, exchange.peer[0], exchange.token
    decision = authorization.decide(client, ip, head, is_permissive(listener), token)
    exchange.decision = decision
    if decision.outcome != "allowed":
        exchange.detail = authorization.explain(decision, client, ip, head, token)
    return decision


def is_permissive(listener: Listener | None) -> bool:
    """Whether a listener takes who has no identity for the time being, beside who has one."""
    tls = listener.tls if listener is not None else None
    return isinstance(tls, MeshTls) and tls.mode == "permissive"


def find_route(side: Side, head: RequestHead, peer_ip: str, *, is_captured: bool = False) -> Route | Reason:
    """
    The first route that matches, or what becomes of a request that none matches or that goes no further.

    Args:
        is_captured: It is known where its connection was meant to go.
    """
    if head.kinds & _UNUSUAL:
        end = _before_routing(side, head)
        if end is not None:
            return end
    if head.method == b"CONNECT" and side.direction is Direction.INBOUND:
        return errors.METHOD_NOT_ALLOWED
    route = side.table.find(head, peer_ip)
    if route is not None:
        return route
    if side.fallback is not None:
        return side.fallback
    if is_captured:
        if side.captured is not None and side.captured.route is not None:
            return side.captured.route
    elif side.passthrough_route is not None and head.host:
        return side.passthrough_route
    if side.is_gone:
        return errors.DRAINING
    return errors.NO_APP if side.direction is Direction.INBOUND else errors.NO_ROUTE


def _before_routing(side: Side, head: RequestHead) -> Route | Reason | None:
    """What the fields that few requests have make of one: an answer that needs no route, or fewer fields."""
    kinds = head.kinds
    if kinds & Kind.VIA and _hops(head) > _MAX_HOPS:
        return errors.LOOP
    if kinds & _DISOWNED:
        _drop(side, head)
    if kinds & Kind.MAX_FORWARDS:
        try:
            left = hops_left(head)
        except GrammarError:
            return errors.BAD_REQUEST
        if left == 0:
            fields, body = answer_here(head)
            return Route("", (), Respond(200, tuple(fields), body), side.unrouted)
    return None


def _drop(side: Side, head: RequestHead) -> None:
    """Leave out the fields that nobody is to see."""
    if side.drops_underscored:
        head.fields = without_underscored(head.fields)
    if side.owns_client_cert:
        head.fields = [field for field in head.fields if not field.kind & Kind.CLIENT_CERT]


def _hops(head: RequestHead) -> int:
    return sum(field.value.count(b"sidecar") for field in head.fields if field.kind & Kind.VIA)


def request_to_send(
    head: RequestHead,
    target: Target,
    listener: Listener,
    forwarded: bytes,
    added: bytes,
    upgrade: bytes,
) -> UpstreamRequest:
    """
    The request as the target receives it.

    Args:
        forwarded: Lines that say who the client is, for requests that do not say so themselves.
        added: Lines of telemetry.
        upgrade: What is offered on of the protocols that it asks to switch to, or nothing.

    Raises:
        ProtocolError: `REWRITE_INVALID`.
    """
    fields, via = head.fields, VIA
    if head.kinds & _REWRITTEN:
        fields, forwarded = _forwarded(one_hop_fewer(head, fields), forwarded)
    edits = target.request_edits
    if edits is not None:
        if edits.edits_forwarded:
            fields = [*fields, *[field_of(line) for line in forwarded.split(b"\r\n")[:-1]]]
            forwarded = b""
        fields = edits.apply(fields)
        via = edits.via
    host: bytes | None = None
    if listener.host is not None:
        host = listener.authority
    elif head.absolute and head.host:
        # "the proxy MUST ignore the received Host header field (if any) and instead replace it with the host
        # information of the request-target" (RFC 9112, 3.2.2).
        host = head.host if head.port is None else b"%b:%d" % (head.host, head.port)
    elif not head.kinds & _HOST:
        host = target.name.encode()  # HTTP/1.0 need not name one, HTTP/1.1 must
    path = head.path
    if target.rewrite is not None:
        try:
            new_host, path = target.rewrite.apply(head)
        except ValueError as error:
            raise ProtocolError(errors.REWRITE_INVALID, str(error)) from None
        host = new_host if new_host is not None else host
    return UpstreamRequest(head, fields, path, host, forwarded + added + via[head.version], upgrade)


def _forwarded(fields: list[Field], forwarded: bytes) -> tuple[list[Field], bytes]:
    """Keep the `x-forwarded-proto` that there is; append the client, if we name it, to `x-forwarded-for`."""
    kept: list[bytes] = []
    present = 0
    for field in fields:
        present |= field.kind
    for line in forwarded.split(b"\r\n")[:-1]:
        if line.startswith(b"x-forwarded-for:") and present & Kind.FORWARDED_FOR:
            received = b", ".join([field.value for field in fields if field.kind & Kind.FORWARDED_FOR])
            fields = [field for field in fields if not field.kind & Kind.FORWARDED_FOR]
            kept.append(b"x-forwarded-for: %b, %b\r\n" % (received, line[17:]))
        elif not (line.startswith(b"x-forwarded-proto:") and present & Kind.FORWARDED_PROTO):
            kept.append(line + b"\r\n")
    return fields, b"".join(kept)


def local_answer(
    action: Redirect | Respond, edits: HeaderEdits | None, head: RequestHead
) -> tuple[int, list[Field], bytes]:
    """
    Status, fields and body with which a route, or a side of one, answers without an upstream.

    Args:
        edits: Of the response.

    Raises:
        ProtocolError: `METHOD_NOT_ALLOWED` or `REWRITE_INVALID`.
    """
    if head.method == b"CONNECT" or is_extended_connect(head):
        # A 2xx would tell the client that its tunnel stands (RFC 9110, 9.3.6).
        raise ProtocolError(errors.METHOD_NOT_ALLOWED, "CONNECT at a route without an upstream")
    if isinstance(action, Redirect):
        try:
            fields, body = [make_field(b"location", action.location(head))], b""
        except ValueError as error:
            raise ProtocolError(errors.REWRITE_INVALID, str(error)) from None
    else:
        fields, body = list(action.fields), action.body
    if all(field.name != b"date" for field in fields):
        fields.append(DATE.now())
    if edits is not None:
        fields = edits.apply(fields)
    return action.status, fields, body
