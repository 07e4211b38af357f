"""
Decisions that a response tells, for who may ask: `x-sidecar-explain` in a request. *Cold: asked by people, seldom.*

The field of the response has the same name and the form of a list of structured fields (RFC 9651), as `Proxy-Status`
has: each sidecar on the way adds a member, the nearest to the client last.

    x-sidecar-explain: sidecar; direction=outbound; route="canary"; line=8; upstream="shop"; endpoint="10.0.0.1:80"
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address, ip_network
from typing import Final
from urllib.parse import quote

from sidecar.exchange import Exchange
from sidecar.http1.grammar import make_field
from sidecar.message import Field, Kind, RequestHead, ResponseHead
from sidecar.routing.actions import HeaderEdits, Route

NAME: Final = b"x-sidecar-explain"

_UNIX: Final = "unix"
_ASKED: Final = Kind.EXPLAIN


class Askers:
    """
    Who may ask.

    Args:
        sources: Networks or addresses of clients; `unix` for who comes by a Unix socket.

    Raises:
        ValueError: One is none.
    """

    __slots__ = ("_networks", "_takes_unix")

    def __init__(self, sources: Sequence[str]) -> None:
        self._takes_unix = _UNIX in sources
        self._networks = tuple(ip_network(one) for one in sources if one != _UNIX)

    def __repr__(self) -> str:
        return f"<Askers {len(self._networks)}>"

    def admit(self, client_ip: str) -> bool:
        """Whether this client may ask."""
        if client_ip == _UNIX:
            return self._takes_unix
        address = ip_address(client_ip.partition("%")[0])
        return any(address in network for network in self._networks)


def hear(askers: Askers | None, exchange: Exchange, head: RequestHead) -> None:
    """
    A request asks. Of who may not, the field is dropped, so that no sidecar behind this one takes it for ours.

    Args:
        askers: Who may; None: nobody.
        exchange: Knows the client.
        head: Of the request.
    """
    if askers is None or not askers.admit(exchange.peer[0]):
        head.fields = [field for field in head.fields if not field.kind & _ASKED]
        head.kinds &= ~_ASKED


class Telling(HeaderEdits):
    """
    Edits of a response that also tell how its request was decided, once it is known who answers.

    Args:
        edits: Of the target; None for none.
        exchange: The request's record.
        routes: Among which its own is.
    """

    __slots__ = ("_exchange", "_routes")

    def __init__(self, edits: HeaderEdits | None, exchange: Exchange, routes: Sequence[Route]) -> None:
        if edits is None:
            super().__init__({}, (), frozenset())
        else:
            super().__init__(edits.sets, edits.adds, edits.removes, has_via=edits.has_via)
        self._exchange = exchange
        self._routes = routes

    def apply_to_response(self, head: ResponseHead) -> list[Field]:
        """As `HeaderEdits.apply_to_response`, and what is told; of an interim response nothing is."""
        fields = super().apply_to_response(head)
        if head.status < 200 and head.status != 101:
            return fields
        return [*fields, told(self._exchange, self._routes)]


def told(exchange: Exchange, routes: Sequence[Route]) -> Field:
    """
    What was decided so far.

    Args:
        routes: Of its direction; they know in which line of the file they stand.
    """
    members = [f"sidecar; direction={exchange.direction.label}"]
    scope, endpoint, decision = exchange.scope, exchange.endpoint, exchange.decision
    if decision is not None:
        members.append(f"rule={_text(decision.rule)}")
    if scope is not None and scope.route:
        members.append(f"route={_text(scope.route)}")
        line = next((route.line for route in routes if route.name == scope.route), 0)
        members += [f"line={line}"] if line else []
    if scope is not None and scope.upstream:
        members.append(f"upstream={_text(scope.upstream)}")
    if endpoint is not None:
        members.append(f"endpoint={_text(endpoint.label)}")
    if exchange.attempts:
        members.append(f"attempts={exchange.attempts}")
    return make_field(NAME, "; ".join(members).encode("ascii"))


def _text(value: str) -> str:
    """As a string of a structured field; what is not visible ASCII is percent-encoded."""
    plain = quote(value, safe=" !#$&'()*+,-./:;<=>?@[]^_`{|}~\"\\")
    escaped = plain.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
