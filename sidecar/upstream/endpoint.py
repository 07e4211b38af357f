"""
One address of an upstream and what is under way there. *Hot path.*

An endpoint is shared by everything that knows the address: it survives reloads and DNS answers for as long as the
address stays in its cluster. The fields that count are plain integers, kept by `proxy` and `upstream.pool`; this file
makes an endpoint and ends it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import IntEnum
from math import inf
from random import random as system_random
from typing import Final, Protocol

from sidecar.errors import Reason
from sidecar.net.address import Address, UnixAddress, is_ip_address
from sidecar.net.tls.sides import ClientSide
from sidecar.upstream.limits.breaker import Breaker
from sidecar.upstream.limits.retry_budget import RetryBudget
from sidecar.upstream.stats import ClusterStats

UNKNOWN_LATENCY_S: Final = -1.0
"""Of an attempt that was answered while its client was still sending: whom was waited for is not known."""

NO_STATUS: Final = 1000
"""No answer has such a one, or a greater."""

AGE_JITTER: Final = 0.1
"""Part of `max_age_s` by which the life of a connection is shortened at random."""


class IdleConnection(Protocol):
    """A connection that waits in `Endpoint.idle` for its next exchange; `proxy` owns the class."""

    __slots__ = ()

    endpoint: Endpoint
    epoch: int
    """`Endpoint.epoch` when it was opened."""

    def is_usable(self) -> bool:
        """Whether the peer has neither closed it nor sent anything; asked at the moment of use."""

    def close_idle(self, reason: str) -> None:
        """Close; `reason` is for the log. May take itself out of `Endpoint.idle`, need not."""


class SharedConnections(Protocol):
    """Connections that many requests share, and who waits for them; `shared.Shared` is one."""

    __slots__ = ()

    pending: deque[object]

    def is_short(self, endpoint: Endpoint) -> bool:
        """Whether more requests wait than the dials under way can carry."""

    def dial_if_needed(self, endpoint: Endpoint) -> None:
        """There may be room for another."""

    def make_room(self) -> bool:
        """Close a connection that carries nothing, if there is one."""

    def retire(self, reason: str) -> None:
        """None that there is takes a further exchange."""

    def counts(self) -> tuple[int, int, int]:
        """Connections that take exchanges, exchanges that these carry, and connects under way; for people."""


class Objection:
    """What speaks against keeping a connection that is given back to an endpoint, as bits; `pool` asks further."""

    REMOVED: Final = 1
    """The endpoint is gone."""
    MOVED: Final = 2
    """Its name leads elsewhere, and connections to where it led may still be in use."""
    CONTESTED: Final = 4
    """A request for another endpoint waits for room."""


class Health(IntEnum):
    """What the active checks say."""

    UNKNOWN = 0
    """Not checked, or not yet."""
    HEALTHY = 1
    UNHEALTHY = 2


class Shares:
    """Which requests share connections, which is by HTTP/2."""

    NEVER: Final = 0
    GRPC: Final = 1
    """Those of gRPC, which is spoken by nothing else."""
    ALWAYS: Final = 2
    AS_CAME: Final = 3
    """Those of gRPC, and those that came by HTTP/2: nothing else is known of whom they are for."""
    TO_SIDECARS: Final = 4
    """Those of gRPC, and all for an endpoint that is spoken to by TLS: a sidecar, which says then what it speaks."""


class ClusterState:
    """
    What an exchange asks of the cluster whose endpoint it has: settings, limits and counters. `cluster.Cluster` is one.

    A base class and no protocol, because a compiled attribute of a class is read at its offset.

    Attributes:
        name: The upstream's name.
        stats: Counters, for the life of the cluster.
        endpoints: All endpoints, in the file's order or, from DNS, in the order of addresses.
        connect_timeout_s: As in the spec.
        idle_timeout_s, mesh_idle_timeout_s: As in the spec.
        max_age_s: As in the spec, but inf for none.
        server_address: As in the spec.
        shares: Of `Shares`: which requests share connections.
        is_http2: Its servers are known to speak HTTP/2, though nothing be agreed on.
        max_streams, ping_interval_s, ping_timeout_s: As in the spec, of such connections.
        breaker: Limits, or None.
        budget: Of retries, or None for any number; `retry.decide` charges it.
        tls: How those of its endpoints that are spoken to by TLS are, or None; `security` keeps it up to date.
        observer: `Cluster.report`, if anything wants to know how attempts end, else None.
        observes_from: Statuses of answers that it must be told of: from this on. 0 for all, `failing.TELLING_STATUS`
            for those out of the ordinary, which spares a request the time of telling, `NO_STATUS` for none.
    """

    __slots__ = (
        "breaker",
        "budget",
        "connect_timeout_s",
        "endpoints",
        "idle_timeout_s",
        "is_http2",
        "max_age_s",
        "max_streams",
        "mesh_idle_timeout_s",
        "name",
        "observer",
        "observes_from",
        "ping_interval_s",
        "ping_timeout_s",
        "server_address",
        "shares",
        "stats",
        "tls",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.stats = ClusterStats()
        self.endpoints: tuple[Endpoint, ...] = ()
        self.connect_timeout_s = 0.0
        self.idle_timeout_s = self.mesh_idle_timeout_s = 0.0
        self.max_age_s = inf
        self.server_address = ""
        self.shares: int = Shares.NEVER
        self.is_http2 = False
        self.max_streams = 100
        self.ping_interval_s = inf
        self.ping_timeout_s = 10.0
        self.tls: ClientSide | None = None
        self.breaker: Breaker | None = None
        self.budget: RetryBudget | None = None
        self.observer: Callable[[Endpoint, int, Reason | None, float, float], None] | None = None
        self.observes_from = NO_STATUS

    def retires_at(self, now: float, chance: Callable[[], float] = system_random) -> float:
        """
        Loop time from which a connection that is opened now serves no further request; inf for never.

        Up to a tenth sooner at random, so that those of a start or a burst do not end together.
        """
        return now + self.max_age_s * (1 - AGE_JITTER * chance())


class Endpoint:
    """
    One address of a cluster.

    Attributes:
        cluster: Whose endpoint it is, for settings and counters; the same object for as long as the endpoint lives.
        host: IP address or name as in the file, without brackets; empty for a Unix socket.
        is_named: The host is a name, which must be resolved to connect.
        port: 1 to 65535; 0 for a Unix socket.
        unix_path: Path of the socket, or None for TCP.
        label: `host:port`, `[v6]:port` or `unix:/path`, as logs, spans and metrics show it; unique in its cluster.
        weight: Share of the traffic relative to the other endpoints; 0 gets none.
        is_tls: It is spoken to by TLS, and then never in clear, whatever becomes of `cluster.tls`. It never changes, so
            that its pool has connections of one kind.
        active: Exchanges in flight, kept by the proxy.
        idle: Connections without an exchange; a stack, newest last.
        connecting: Connects under way, kept by the pool.
        pending: Exchanges that wait for a connection, oldest first, kept by the pool.
        connections: Open or being opened, kept by the pool and the proxy.
        objections: Bits of `Objection`; 0 if a connection that is given back may become idle without a question. One
            number for every reason, because it is asked for each request.
        epoch: Times that its name has moved.
        is_removed: The address left the cluster: what is in flight ends, no connection is kept afterwards.
        share: Weight with which it is chosen now: less than `weight` in a slow start or in another zone.
        shared: Connections that many requests share, or None: there has been none.
        zone: Where it is, as in the file; empty if nowhere in particular.
        joined_at: Loop time at which it came (back) while others were in service; -inf for from the start.
        health: What the active checks say; `health_streak` the same results in a row that speak against it.
        ejected_until: Loop time at which its ejection ends and its probation begins; 0 while not ejected. It stays set
            during probation.
        ejections: Ejections that count for the length of the next.
        is_on_probation: The ejection is over, and one request is to show whether it has recovered.
        is_probed: That request is under way.
        consecutive_5xx, consecutive_gateway_errors, consecutive_connect_failures: Failures in a row, by `outlier`.
        results, successes, broken_answers, latency_sum_s: Of the interval under way, by `outlier`.
        failing: Part of its latest results that were failures, 0 to 1, by `failing`.
        latency_s: Peak EWMA of its latency, by `ewma`; `latency_at` when it was brought up to date, -inf for never.
    """

    __slots__ = (
        "active",
        "broken_answers",
        "cluster",
        "connecting",
        "connections",
        "consecutive_5xx",
        "consecutive_connect_failures",
        "consecutive_gateway_errors",
        "ejected_until",
        "ejections",
        "epoch",
        "failing",
        "health",
        "health_streak",
        "host",
        "idle",
        "is_named",
        "is_on_probation",
        "is_probed",
        "is_removed",
        "is_tls",
        "joined_at",
        "label",
        "latency_at",
        "latency_s",
        "latency_sum_s",
        "objections",
        "pending",
        "port",
        "results",
        "share",
        "shared",
        "successes",
        "unix_path",
        "weight",
        "zone",
    )

    def __init__(self, cluster: ClusterState, address: Address, weight: float = 1.0, is_tls: bool = False) -> None:
        self.cluster = cluster
        self.is_tls = is_tls
        if isinstance(address, UnixAddress):
            self.host, self.port = "", 0
            self.is_named = False
            self.unix_path: str | None = address.path
        else:
            self.host, self.port = address.host, address.port
            self.is_named = not is_ip_address(address.host)
            self.unix_path = None
        self.label = str(address)
        self.weight = weight
        self.active = 0
        self.idle: list[IdleConnection] = []
        self.connecting = 0
        self.pending: deque[object] = deque()
        self.connections = 0
        self.objections = 0
        self.epoch = 0
        self.is_removed = False
        self.share = weight
        self.shared: SharedConnections | None = None
        self.zone = ""
        self.joined_at = -inf
        self.health = Health.UNKNOWN
        self.health_streak = 0
        self.ejected_until = 0.0
        self.ejections = 0
        self.is_on_probation = False
        self.is_probed = False
        self.consecutive_5xx = 0
        self.consecutive_gateway_errors = 0
        self.consecutive_connect_failures = 0
        self.results = 0
        self.successes = 0
        self.broken_answers = 0
        self.latency_sum_s = 0.0
        self.failing = 0.0
        self.latency_s = 0.0
        self.latency_at = -inf

    @property
    def standing(self) -> str:
        """`healthy`, `unhealthy`, `ejected` or `probation`, for people; `unchecked` if nothing is known."""
        if self.is_on_probation:
            return "probation"
        if self.ejected_until:
            return "ejected"
        return "unchecked" if self.health is Health.UNKNOWN else self.health.name.lower()

    def close_idle(self, reason: str) -> None:
        """Close every idle connection; `reason` is for the log."""
        # Over a copy, because a connection may take itself out; the rest is dropped below.
        for connection in self.idle[:]:
            connection.close_idle(reason)
        self.idle.clear()
        if self.shared is not None:
            self.shared.retire(reason)

    def remove(self, reason: str) -> None:
        """End the endpoint: mark it and close its idle connections. Exchanges in flight or pending are not touched."""
        self.is_removed = True
        self.objections |= Objection.REMOVED
        self.close_idle(reason)

    def succeed(self, before: Endpoint) -> None:
        """
        Take the place of an endpoint of the same address that is spoken to in another way. It is the same server, so
        what is known of that holds; connections and what runs on them stay with the other, which ends.
        """
        self.objections |= before.objections & Objection.CONTESTED
        self.joined_at = before.joined_at
        self.health, self.health_streak = before.health, before.health_streak
        self.ejected_until, self.ejections = before.ejected_until, before.ejections
        self.is_on_probation = before.is_on_probation
        self.failing = before.failing
        self.latency_s, self.latency_at = before.latency_s, before.latency_at
        before.remove("endpoint_switched")

    def move(self) -> None:
        """The host is a name that leads elsewhere now: keep no connection to where it led."""
        self.epoch += 1
        self.objections |= Objection.MOVED
        self.close_idle("endpoint_moved")

    def settle(self) -> None:
        """No connection is left that was opened before the last `move`."""
        self.objections &= ~Objection.MOVED

    def __repr__(self) -> str:
        state = "REMOVED" if self.is_removed else "LIVE"
        return (
            f"<Endpoint {self.label!r} [{state} | Exchanges: {self.active} active, {len(self.pending)} pending"
            f" | Connections: {len(self.idle)} idle, {self.connecting} connecting]>"
        )
