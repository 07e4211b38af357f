"""
One request taken through a plan as far as it is decided without a server: by the functions that decide on live ones.
*Cold; pure but for what a plan's clusters know at this moment.*

The order is the data path's (`proxy.exchange.course`): whom trusted proxies name, the listener's own host, the rules of
authorization, the route, the target.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sidecar import errors
from sidecar.errors import Reason
from sidecar.exchange import Decision, Exchange
from sidecar.message import RequestHead
from sidecar.peer import Peer, Token
from sidecar.proxy.exchange.request import UpstreamRequest
from sidecar.proxy.exchange.steps import find_route, judge, name_client, request_to_send
from sidecar.proxy.origin import forwarded_lines
from sidecar.proxy.plan import Listener, Plan, Side
from sidecar.routing.actions import Forward, Route, Target
from sidecar.routing.split import KeySource, key_reader
from sidecar.security.tokens.rules import supposed


@dataclass(frozen=True, slots=True)
class Visitor:
    """
    Who sends a request, as far as decisions depend on it.

    Attributes:
        ip: Address of whoever connects.
        identity: SPIFFE ID that it proves, or empty.
        claims: Of a token, taken as verified; None: it has none.
        words: What a token that was verified before came to (`peer.Token.words`), or None.
        is_client: `ip` is the client's, whom trusted proxies may have named already: no field says otherwise.
    """

    ip: str
    identity: str = ""
    claims: Mapping[str, object] | None = None
    words: tuple[str, ...] | None = None
    is_client: bool = False


@dataclass(frozen=True, slots=True)
class Walk:
    """
    What became of a request.

    Attributes:
        side: Whose routes it took.
        listener: By which it came; None where that makes no difference.
        head: As routes see it.
        exchange: Its record, which knows the client and the rule that decided.
        decision: Of the rules of authorization; None where there are none.
        found: The route, or why there is none.
    """

    side: Side
    listener: Listener | None
    head: RequestHead
    exchange: Exchange
    decision: Decision | None
    found: Route | Reason

    @property
    def client_ip(self) -> str:
        """Address of the client, whom trusted proxies may have named."""
        return self.exchange.peer[0]


@dataclass(frozen=True, slots=True)
class Share:
    """
    A side of a split, as it is for one request.

    Attributes:
        target: Where it leads.
        weight: As written.
        share: Of requests like this one, 0 to 1; of one whose key sticks, of all keys.
        is_taken: It is this one: its key sticks to it, or there is no other.
        is_missing: Left out, because its upstream has never had an endpoint.
    """

    target: Target
    weight: float
    share: float
    is_taken: bool
    is_missing: bool


def listener_of(plan: Plan, side: Side) -> Listener | None:
    """A listener by which requests come to a side, one that takes them for any host if there is one."""
    found = [one for one in plan.listeners if plan.side_of.get(one.side) is side]
    return next((one for one in found if one.host is None), found[0] if found else None)


def listener_of_any_host(plan: Plan, side: Side) -> Listener | None:
    """The same, None where each of them gives its requests a host of its own."""
    found = listener_of(plan, side)
    return found if found is not None and found.host is None else None


def walk(
    side: Side, listener: Listener | None, head: RequestHead, visitor: Visitor, *, is_captured: bool = False
) -> Walk:
    """
    Decide on a request.

    Args:
        side: Whose routes it takes.
        listener: By which it comes; one that is for one host gives the request that host.
        head: Of the request; it is changed as the data path changes it.
        visitor: Who sends it.
        is_captured: Its connection was led here.
    """
    exchange = Exchange(side.direction, 0, head, (visitor.ip, 0))
    if visitor.identity:
        exchange.client = Peer("1.3", "", identity=visitor.identity)
    if side.client_address is not None and not visitor.is_client:
        name_client(side.client_address, exchange, head)
    if listener is not None and listener.host is not None:
        head.host, head.port = listener.host, listener.port
    decision: Decision | None = None
    rules = side.authorization
    if rules is not None:
        if visitor.claims is not None:
            exchange.token = supposed(rules.token_rules, visitor.claims)
        elif visitor.words is not None:
            exchange.token = Token("accepted", "", visitor.words)
        decision = judge(rules, side, listener, exchange, head)
        if not decision.is_allowed:
            return Walk(side, listener, head, exchange, decision, errors.AUTHORIZATION_DENIED)
    found = find_route(side, head, exchange.peer[0], is_captured=is_captured)
    return Walk(side, listener, head, exchange, decision, found)


def shares_of(action: Forward, head: RequestHead, client_ip: str) -> tuple[Share, ...]:
    """The sides of a route's split for one request, in file order."""
    split = action.split
    if split is None:
        target = action.targets[0]
        return (Share(target, target.weight, 1.0, is_taken=True, is_missing=False),)
    missing = split.missing()
    weights = [0.0 if at in missing else weight for at, weight in enumerate(split.weights)]
    total = sum(weights)
    if not total:  # whichever is chosen, there is nobody
        weights, total = list(split.weights), sum(split.weights)
    taken = split.choose(head, client_ip) if key_of(action, head, client_ip) else None
    return tuple(
        Share(target, target.weight, weight / total, is_taken=at == taken, is_missing=at in missing)
        for at, (target, weight) in enumerate(zip(action.targets, weights, strict=True))
    )


def key_of(action: Forward, head: RequestHead, client_ip: str) -> bytes | None:
    """By what a request sticks to its side; None where nothing does, or it does not have that."""
    split = action.split
    if split is None or not split.sticky:
        return None
    source, _, name = split.sticky.partition(" ")
    kind: KeySource = source  # type: ignore[assignment]
    return key_reader(kind, name)(head, client_ip) or None


def sent_to(walked: Walk, target: Target, listener: Listener) -> UpstreamRequest:
    """
    The request as a target's server would receive it, but for what telemetry adds.

    Raises:
        ProtocolError: `REWRITE_INVALID`.
    """
    exchange = walked.exchange
    direct = exchange.direct_peer or exchange.peer
    forwarded = forwarded_lines(direct, walked.side.direction, exchange.client, "")
    return request_to_send(walked.head, target, listener, forwarded, b"", b"")
