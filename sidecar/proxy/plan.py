"""
The compiled configuration that the data path reads: immutable, swapped whole, kept by each exchange. *Hot path.*

YAML becomes a `Plan` in `compile.plan`; a reload is one assignment to `Live.plan`. Nothing here knows a
setting's name in the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sidecar.exchange import Direction, ScopeLike
from sidecar.net.tls.settings import IdentitySource, ListenerTls
from sidecar.proxy.recent import Kept
from sidecar.proxy.told import Askers
from sidecar.routing.actions import Route
from sidecar.routing.client_address import ClientAddress
from sidecar.routing.match import split_pattern
from sidecar.routing.table import Table
from sidecar.security.authorization.authorization import Authorization
from sidecar.upstream.captured import CapturedApp
from sidecar.upstream.cluster import Cluster
from sidecar.upstream.owners import Owners
from sidecar.upstream.passthrough import Passthrough


@dataclass(frozen=True, slots=True)
class Limits:
    """
    What a peer may make grow.

    Attributes:
        max_header_bytes: Of a head, start line included, in bytes.
        max_headers: Fields of a head.
        max_connections: Downstream connections of the process, all listeners together.
        header_timeout_s: From a connection's first byte, or the first byte of a later request, to a whole head.
        idle_timeout_s: Without a byte in either direction: what the three that follow are unless the file says.
        client_idle_timeout_s: Of a client's connection, before its first request and between two.
        stream_idle_timeout_s: Of an exchange, without a byte in either direction.
        tunnel_idle_timeout_s: Of a tunnel, without a byte in either direction.
        max_loop_lag_s: Above this delay of the event loop, twice in a row, new connections and requests are refused.
        finishes_without_client: Whether an exchange whose client has reset its connection is carried to its end at
            the upstream, instead of being given up there, too.
        h2_max_streams: Exchanges under way on one connection of HTTP/2 of a client (RFC 9113, 5.1.2).
        h2_window_bytes: Of a request's body that a client may send before it is let send more (RFC 9113, 6.9.2);
            65,535 to 16 MiB.
        h2_max_resets: Streams that a client may have reset within a short time, by itself or by making us do so,
            before its connection is closed (CVE-2023-44487, CVE-2025-8671).
    """

    max_header_bytes: int
    max_headers: int
    max_connections: int
    header_timeout_s: float
    idle_timeout_s: float
    client_idle_timeout_s: float
    stream_idle_timeout_s: float
    tunnel_idle_timeout_s: float
    max_loop_lag_s: float = 1.0
    finishes_without_client: bool = False
    h2_max_streams: int = 100
    h2_window_bytes: int = 256 * 1024
    h2_max_resets: int = 200


@dataclass(frozen=True, slots=True)
class Listener:
    """
    One address that is listened on.

    Attributes:
        direction: Which side of the app it serves.
        address: As in the file, `host:port`, `[v6]:port` or `unix:/path`; with the direction, its identity across
            reloads.
        side: Whose routes its requests take: a key of `Plan.side_of`.
        host: Name that every request here is for, whatever its `Host` says (one port per dependency), or None.
        port: That goes with it, or None.
        authority: Both, as they are sent; None as `host` is.
        tls: How its clients speak TLS, or None for not at all.
        captures: Whether the kernel leads connections here that were meant for others (docs/capture.md).
        protocol: What is spoken here by who was not led here: `http`, `tcp`, or `auto` for what the first octets say.
    """

    direction: Direction
    address: str
    side: str
    host: bytes | None = None
    port: int | None = None
    authority: bytes | None = None
    tls: ListenerTls | None = None
    captures: bool = False
    protocol: str = "http"


def make_listener(
    direction: Direction,
    address: str,
    side: str,
    authority: bytes | None = None,
    tls: ListenerTls | None = None,
    *,
    captures: bool = False,
    protocol: str = "http",
) -> Listener:
    """
    A listener for one host, with or without a port, or for all.

    Args:
        authority: As `routing.match.host_pattern` makes it, without wildcards.
        tls: As the listener has it; likewise `captures` and `protocol`.
    """
    host, port = (None, None) if authority is None else split_pattern(authority)
    return Listener(direction, address, side, host, port, authority, tls, captures, protocol)


@dataclass(frozen=True, slots=True)
class Captured:
    """
    What becomes of connections of a side that were meant for others.

    Attributes:
        route: Of what goes where it was meant to go because nothing else is said of it; None: nothing does.
        passthrough: Where that is: endpoints of those addresses.
        app: The app at the addresses at which it was called; of the inbound side.
        owners: Upstreams that take what is no HTTP by their endpoints' addresses; of the outbound side.
        declared: Of these, those that take nothing else; None: none does.
    """

    route: Route | None = None
    passthrough: Passthrough | None = None
    app: CapturedApp | None = None
    owners: Owners | None = None
    declared: Owners | None = None


@dataclass(frozen=True, slots=True)
class Streams:
    """
    Where connections go that are no HTTP's; of the outbound side.

    Attributes:
        names: Routes by hosts.
        route_to: Routes by names of upstreams.
    """

    names: Table[Route]
    route_to: Mapping[str, Route]


@dataclass(frozen=True, slots=True)
class Side:
    """
    One direction's part of a plan, or that of a port of the app that has an app of its own.

    Attributes:
        table: All routes in order, implicit ones last.
        fallback: Route of what matches none (inbound: the app), or None.
        passthrough: Where unmatched requests go by their own authority, or None when they are denied.
        passthrough_route: Route whose settings apply to those, or None.
        unrouted: Telemetry of requests that reached no route.
        client_address: Finds the client behind proxies that are trusted; None where who connects is the client.
        drops_underscored: Whether request fields with `_` in their name are dropped before anything looks at them.
        owns_client_cert: Whether clients may not say themselves what certificate they have shown: who ends TLS says it.
        authorization: Which requests may pass; None: all.
        captured: What becomes of connections that are led here; None where none are.
        streams: Where connections go that are no HTTP's; None where all are.
        is_gone: Nothing is left of it: its listener was removed by a reload, and serves who is still connected.
        kept: Keeps the heads of its requests; None: nobody does.
    """

    direction: Direction
    table: Table[Route]
    fallback: Route | None
    passthrough: Passthrough | None
    passthrough_route: Route | None
    unrouted: ScopeLike
    client_address: ClientAddress | None = None
    drops_underscored: bool = False
    owns_client_cert: bool = False
    is_gone: bool = False
    authorization: Authorization | None = None
    captured: Captured | None = None
    streams: Streams | None = None
    kept: Kept | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """
    Everything that a request needs to know.

    Attributes:
        generation: 1 for the first plan of the process, then counting up.
        config_hash: First 12 hexadecimal digits of the SHA-256 of the file as read.
        sides: Indexed by `Direction`; one that the file does not configure has an empty table and no fallback.
            That of the app's ports is what holds for a listener without an `app` of its own.
        side_of: By what a listener says: `inbound`, `outbound`, and of each listener with an app of its own the name
            of that app's upstream. It has those of earlier plans, too, whose listeners may still have connections.
        listeners: What is to be bound.
        clusters: Upstreams by name.
        drain_timeout_s: Seconds from SIGTERM to the end, at most.
        drain_delay_s: Seconds of these in which readiness fails already while inbound still accepts.
        awaiting: Routes with a split some of whose upstreams had never had an endpoint when the plan was made.
        identity: Where our own certificate comes from, or None: we are nobody in particular.
        side_of_port: By the port at which an app listens, whose routes the connections take that were meant for it: a
            key of `side_of`.
        own_ports: At which this process itself listens.
        requires_capture: Whether nothing may come before outgoing connections are proved to be captured.
        protocol_of_port: What captured connections carry, where that is not asked of their first octets: `http` or
            `tcp`; of those to the app by `protocol_of_app` first.
        protocol_of_app: The same by ports of the app, as its listeners say.
        askers: Who may ask to be told decisions in responses, or None: nobody.
    """

    generation: int
    config_hash: str
    sides: tuple[Side, Side]
    side_of: Mapping[str, Side]
    listeners: tuple[Listener, ...]
    clusters: Mapping[str, Cluster]
    limits: Limits
    drain_timeout_s: float
    drain_delay_s: float = 0.0
    awaiting: tuple[Route, ...] = ()
    identity: IdentitySource | None = None
    side_of_port: Mapping[int, str] = field(default_factory=dict)
    own_ports: frozenset[int] = frozenset()
    requires_capture: bool = False
    protocol_of_port: Mapping[int, str] = field(default_factory=dict)
    protocol_of_app: Mapping[int, str] = field(default_factory=dict)
    askers: Askers | None = None

    @property
    def drops_underscored(self) -> bool:
        """As both of its sides."""
        return self.sides[0].drops_underscored
