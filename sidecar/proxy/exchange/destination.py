"""
Where a captured connection was meant to go, and what that makes of its requests. *Hot path where connections are
captured; nothing of it elsewhere.*
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

from sidecar import errors
from sidecar.errors import Reason
from sidecar.exchange import Direction
from sidecar.message import RequestHead
from sidecar.net.address import is_ip_address
from sidecar.net.original_destination import Connected, is_proof, original_destination
from sidecar.proxy.exchange.interfaces import Chooser
from sidecar.proxy.plan import Captured, Listener, Plan, Side
from sidecar.routing.actions import Route
from sidecar.upstream.captured import CapturedApp
from sidecar.upstream.cluster import Cluster
from sidecar.upstream.endpoint import Endpoint
from sidecar.upstream.passthrough import Passthrough


@dataclass(frozen=True, slots=True)
class Destination:
    """
    Attributes:
        host: The address that the client has dialled, as `RequestHead.host`: IPv6 in brackets.
        port: The port.
        is_loop: It is one of our own listeners, to which nobody is passed through.
        is_proof: It is where somebody asks whether he is captured.
    """

    host: bytes
    port: int
    is_loop: bool = False
    is_proof: bool = False

    def __str__(self) -> str:
        return f"{self.host.decode('ascii')}:{self.port}"

    @property
    def ip(self) -> str:
        """The address, without brackets."""
        return self.host.decode("ascii").strip("[]")


def destination_of(
    listener: Listener, plan: Plan, connected: Connected, peer_ip: str, *, is_led_back: bool = False
) -> Destination | None:
    """
    Where a connection was meant to go that came to this listener, which captures; None if that is this listener, as a
    client's that was told its address (`HTTP_PROXY`).

    Nobody is meant to call a listener by its address that takes what was meant for the app: what came there so would
    be passed to where it was meant to go, which is here.

    Args:
        is_led_back: Connections of our own come back: who is passed on would come again, and again.
    """
    found = original_destination(connected)
    if found is None:
        if listener.direction is Direction.OUTBOUND:
            return None
        host, port = connected.getsockname()[:2]
        return Destination(_bracketed(host), port, True)
    host, port = found
    # What an app sends to its own machine comes by the loopback interface, and is never captured; were it, because
    # of others' rules, it would go in a circle.
    is_own = listener.direction is Direction.INBOUND or host == peer_ip
    return Destination(_bracketed(host), port, (is_own and port in plan.own_ports) or is_led_back, is_proof(host, port))


def _bracketed(host: str) -> bytes:
    return b"[%b]" % host.encode("ascii") if ":" in host and is_ip_address(host) else host.encode("ascii")


def side_of(plan: Plan, listener: Listener, destination: Destination) -> Side:
    """Whose routes the requests of a captured connection take: those of the app's port, where it has some."""
    if listener.direction is Direction.INBOUND:
        label = plan.side_of_port.get(destination.port)
        if label is not None:
            return plan.side_of[label]
    return plan.side_of[listener.side]


def chooser_for(captured: Captured | None, destination: Destination, route: Route, upstream: Cluster) -> Chooser:
    """What chooses the endpoints of a captured request that takes this route to this upstream."""
    if captured is not None:
        if route is captured.route and captured.passthrough is not None:
            return ToDestination(captured.passthrough, destination)
        if captured.app is not None and captured.app.cluster is upstream:
            return ToApp(captured.app, destination)
    return upstream


def stream_route(side: Side, head: RequestHead, destination: Destination | None) -> Route | Reason:
    """
    Where a connection goes that is no HTTP's: to the app; or to the upstream that has the name which it asks for, or
    the address, or else where it was meant to go.

    Args:
        head: Its host is the name, or the address where it says none.
    """
    captured, streams = side.captured, side.streams
    if side.direction is Direction.INBOUND:
        return side.fallback or errors.NO_APP
    if streams is not None:
        route = streams.names.find(head, "")
        if route is not None:
            return route
    if captured is None or destination is None:
        return errors.NO_ROUTE
    if captured.owners is not None and streams is not None:
        owner = captured.owners.find(destination.ip, destination.port)
        if owner is not None:
            return streams.route_to[owner.name]
    return captured.route or errors.NO_ROUTE


def declared_protocol(plan: Plan, listener: Listener, destination: Destination) -> str | None:
    """What a captured connection is known to carry without looking at it: `http` or `tcp`."""
    if listener.direction is Direction.INBOUND:
        return plan.protocol_of_app.get(destination.port) or plan.protocol_of_port.get(destination.port)
    captured = plan.side_of[listener.side].captured
    declared = captured.declared if captured is not None else None
    if declared is not None and declared.find(destination.ip, destination.port) is not None:
        return "tcp"
    return plan.protocol_of_port.get(destination.port)


@dataclass(frozen=True, slots=True)
class ToDestination:
    """Chooses where the client has dialled, whatever the request names."""

    passthrough: Passthrough
    destination: Destination

    def choose(self, head: RequestHead, peer_ip: str) -> Endpoint | None:
        """That address."""
        return self.passthrough.endpoint_for(self.destination.host, self.destination.port)

    def choose_other(self, head: RequestHead, peer_ip: str, tried: Container[Endpoint]) -> Endpoint | None:
        """There is no other: the same."""
        return self.choose(head, peer_ip)


@dataclass(frozen=True, slots=True)
class ToApp:
    """Chooses the app where the client has dialled it."""

    app: CapturedApp
    destination: Destination

    def choose(self, head: RequestHead, peer_ip: str) -> Endpoint | None:
        """That address, or where the app is if it is not there."""
        return self.app.choose(self.destination.host, self.destination.port)

    def choose_other(self, head: RequestHead, peer_ip: str, tried: Container[Endpoint]) -> Endpoint | None:
        """The other of these."""
        return self.app.choose_other(self.destination.host, self.destination.port, tried)
