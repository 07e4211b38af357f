"""
An upstream: its settings, its endpoints, its counters, and the choice among them. *Hot path: `Cluster.choose`.*

A cluster is found by its name and keeps its identity across reloads; a plan holds it. What a reload changes in it
(settings, addresses) is changed in place and at once by `registry`, so that an exchange that began under an older plan
finds the addresses that are right now.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isfinite
from random import random as system_random

from sidecar.net.address import Address, TcpAddress, UnixAddress, parse_address
from sidecar.upstream.balance import Choose, HashKey, Policy, Random, bind
from sidecar.upstream.endpoint import Endpoint

__all__ = ["Change", "Cluster", "ClusterSpec", "ClusterStats", "HashKey", "Policy", "resolved_addresses"]


class ClusterStats:
    """
    What happened in a cluster; counts only go up, but for the two gauges. Written by `pool`, `proxy` and `registry`.

    Attributes:
        connections_opened: Connects that succeeded.
        connections_closed: Of those, the ones that are closed again.
        connections_reused: Exchanges that found an idle connection.
        connect_failures: Connects that were refused or failed otherwise.
        connect_timeouts: Connects that took longer than `connect_timeout_s`.
        requests: Exchanges that were given an endpoint.
        requests_active: Of those, the ones in flight (gauge).
        pending: Exchanges that wait for a connection (gauge).
        resets: Exchanges that the upstream cut off.
        dns_successes: Lookups that gave at least one address.
        dns_failures: Lookups that failed, timed out or gave none.
        dns_last_success: When the last one succeeded, in seconds since the Unix epoch; 0 for never.
    """

    __slots__ = (
        "connect_failures",
        "connect_timeouts",
        "connections_closed",
        "connections_opened",
        "connections_reused",
        "dns_failures",
        "dns_last_success",
        "dns_successes",
        "pending",
        "requests",
        "requests_active",
        "resets",
    )

    def __init__(self) -> None:
        self.connections_opened = 0
        self.connections_closed = 0
        self.connections_reused = 0
        self.connect_failures = 0
        self.connect_timeouts = 0
        self.requests = 0
        self.requests_active = 0
        self.pending = 0
        self.resets = 0
        self.dns_successes = 0
        self.dns_failures = 0
        self.dns_last_success = 0


@dataclass(frozen=True, slots=True)
class ClusterSpec:
    """
    What the configuration says about one upstream; two equal specs need nothing done at a reload.

    Attributes:
        name: The upstream's name.
        endpoints: `(address, weight)` pairs, the address as `net.address.parse_address` reads it. Weights are relative
            and not negative; 0 gets no traffic. An address that comes twice counts with the sum of its weights.
        dns: `(name, port)` whose every A and AAAA record is an endpoint, or None; excludes `endpoints`.
        policy: How one is chosen.
        hash_key: What `hash` hashes; None for the other policies.
        connect_timeout_s: Seconds to open a connection, resolving a static endpoint's name included.
        idle_timeout_s: Seconds that a connection without an exchange is kept.

    Raises:
        ValueError: A part contradicts the above.
    """

    name: str
    endpoints: tuple[tuple[str, float], ...] = ()
    dns: tuple[str, int] | None = None
    policy: Policy = "least_request"
    hash_key: HashKey | None = None
    connect_timeout_s: float = 1.0
    idle_timeout_s: float = 4.0

    def __post_init__(self) -> None:
        if self.dns is not None and self.endpoints:
            raise ValueError(f"{self.name}: expected endpoints or dns, found both")
        if (self.policy == "hash") != (self.hash_key is not None):
            raise ValueError(f"{self.name}: expected a hash key with the policy hash and only there")
        if self.dns is not None and not 0 < self.dns[1] < 65536:
            raise ValueError(f"{self.name}: expected a port from 1 to 65535, found {self.dns[1]}")
        self.static_addresses()

    def static_addresses(self) -> dict[Address, float]:
        """Weight by address of `endpoints`, in their order."""
        weights: dict[Address, float] = {}
        for text, weight in self.endpoints:
            address = parse_address(text)
            if isinstance(address, TcpAddress) and address.port == 0:
                raise ValueError(f"{self.name}: expected a port from 1 to 65535, found 0 in {text!r}")
            if not isfinite(weight) or weight < 0:
                raise ValueError(f"{self.name}: expected a weight of 0 or more, found {weight} for {text!r}")
            weights[address] = weights.get(address, 0) + weight
        return weights

    @property
    def server_address(self) -> str:
        """
        Whom the app talks to, for telemetry's `server.address`, bounded and known before anything is resolved: the name
        in DNS, else the host or socket of a single endpoint, else the upstream's name.
        """
        if self.dns is not None:
            return self.dns[0]
        addresses = list(self.static_addresses())
        if len(addresses) != 1:
            return self.name
        only = addresses[0]
        return only.path if isinstance(only, UnixAddress) else only.host


@dataclass(frozen=True, slots=True)
class Change:
    """
    What became of a cluster's endpoints.

    Attributes:
        added: Labels of addresses that are new.
        removed: Labels of addresses that are gone.
    """

    added: tuple[str, ...]
    removed: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.added or self.removed)


class Cluster:
    """
    One upstream, live. Static endpoints are there from the start, those of DNS when `set_addresses` brings them.

    Attributes:
        name: The upstream's name.
        spec: Settings in force.
        stats: Counters, for the life of the cluster.
        endpoints: All endpoints, in the file's order or, from DNS, in the order of addresses.
        connect_timeout_s: As in the spec.
        idle_timeout_s: As in the spec.
        server_address: As in the spec.
        choose: `choose(head, peer_ip) -> Endpoint | None`, None when there is no endpoint. It is bound anew when the
            endpoints change, so call it through the cluster and do not keep it.
    """

    __slots__ = (
        "_random",
        "choose",
        "connect_timeout_s",
        "endpoints",
        "idle_timeout_s",
        "name",
        "server_address",
        "spec",
        "stats",
    )

    def __init__(self, spec: ClusterSpec, random: Random = system_random) -> None:
        self.name = spec.name
        self.stats = ClusterStats()
        self.endpoints: tuple[Endpoint, ...] = ()
        self._random = random
        self.choose: Choose
        self.apply(spec, spec.static_addresses())

    def apply(self, spec: ClusterSpec, addresses: Mapping[Address, float]) -> Change:
        """
        Change settings and addresses at once; see `set_addresses`.

        Args:
            spec: New settings, of the same name.
            addresses: Weight by address, in order; from the spec or from DNS.
        """
        self._adopt(spec)
        change = self._replace_endpoints(addresses)
        self._rebalance()
        return change

    def set_addresses(self, addresses: Mapping[Address, float]) -> Change:
        """
        Make these the endpoints. An address that stays keeps its endpoint, connections and counts; one that leaves has
        its idle connections closed, and what is in flight there ends in its own time.

        Args:
            addresses: Weight by address, in order.
        """
        if [(str(address), weight) for address, weight in addresses.items()] == [
            (endpoint.label, endpoint.weight) for endpoint in self.endpoints
        ]:
            return Change((), ())  # The turn of round robin goes on undisturbed.
        change = self._replace_endpoints(addresses)
        self._rebalance()
        return change

    def retire(self, reason: str) -> None:
        """
        The upstream left the configuration: keep no connection. Exchanges of older plans may still choose and connect.
        """
        for endpoint in self.endpoints:
            endpoint.remove(reason)

    def close_idle(self, reason: str) -> None:
        """Close the idle connections of every endpoint."""
        for endpoint in self.endpoints:
            endpoint.close_idle(reason)

    def _adopt(self, spec: ClusterSpec) -> None:
        if spec.name != self.name:
            raise ValueError(f"expected settings of {self.name}, found those of {spec.name}")
        self.spec = spec
        self.connect_timeout_s = spec.connect_timeout_s
        self.idle_timeout_s = spec.idle_timeout_s
        self.server_address = spec.server_address

    def _replace_endpoints(self, addresses: Mapping[Address, float]) -> Change:
        before = {endpoint.label: endpoint for endpoint in self.endpoints}
        after: list[Endpoint] = []
        added: list[str] = []
        for address, weight in addresses.items():
            endpoint = before.pop(str(address), None)
            if endpoint is None:
                endpoint = Endpoint(self, address, weight)
                added.append(endpoint.label)
            endpoint.weight = weight
            after.append(endpoint)
        self.endpoints = tuple(after)
        for endpoint in before.values():
            endpoint.remove("endpoint_removed")
        return Change(tuple(added), tuple(before))

    def _rebalance(self) -> None:
        """Bind the policy to the endpoints that may be chosen; health and ejection are to narrow them here."""
        usable = [endpoint for endpoint in self.endpoints if endpoint.weight > 0]
        self.choose = bind(self.spec.policy, usable, self.spec.hash_key, self._random)

    def __repr__(self) -> str:
        active = sum(endpoint.active for endpoint in self.endpoints)
        idle = sum(len(endpoint.idle) for endpoint in self.endpoints)
        return (
            f"<Cluster {self.name!r} [{self.spec.policy} | Endpoints: {len(self.endpoints)}"
            f" | Exchanges: {active} active | Connections: {idle} idle]>"
        )


def resolved_addresses(hosts: Iterable[str], port: int) -> dict[Address, float]:
    """The addresses of a DNS answer, each with weight 1."""
    return {TcpAddress(host, port): 1.0 for host in hosts}
