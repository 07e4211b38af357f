"""
An upstream: its settings, its endpoints, its counters, and the choice among them. *Hot path: `Cluster.choose`.*

A cluster is found by its name and keeps its identity across reloads; a plan holds it. What a reload changes in it
(settings, addresses) is changed in place and at once by `registry`, so that an exchange that began under an older plan
finds the addresses that are right now.
"""

from __future__ import annotations

import logging
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from math import inf
from random import random as system_random

from sidecar.errors import Phase, Reason
from sidecar.message import RequestHead
from sidecar.net.address import Address, TcpAddress, parse_address
from sidecar.upstream.balance import ewma, failing, usable
from sidecar.upstream.balance.algorithms import Choose, HashKey, Policy, Random, bind
from sidecar.upstream.endpoint import NO_STATUS, ClusterState, Endpoint, Health, Objection
from sidecar.upstream.health import outlier
from sidecar.upstream.health.outlier import Outlier
from sidecar.upstream.limits.breaker import Breaker
from sidecar.upstream.limits.retry_budget import RetryBudget
from sidecar.upstream.spec import ClusterSpec
from sidecar.upstream.stats import ClusterStats

logger = logging.getLogger("sidecar.upstream")

__all__ = ["Change", "Cluster", "ClusterSpec", "ClusterStats", "HashKey", "Policy", "resolved_addresses"]


@dataclass(frozen=True, slots=True)
class Change:
    """
    What became of a cluster's endpoints.

    Attributes:
        added: Labels of addresses that are new.
        removed: Labels of addresses that are gone.
        switched: Labels of addresses that stay and are spoken to in another way: by TLS or in clear, or by TLS with
            another idea of who answers.
    """

    added: tuple[str, ...]
    removed: tuple[str, ...]
    switched: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.switched)


class Cluster(ClusterState):
    """
    One upstream, live. Static endpoints are there from the start, those of DNS when `set_addresses` brings them.

    Attributes:
        spec: Settings in force.
        choose: `choose(head, peer_ip) -> Endpoint | None`, None when no endpoint is usable. It is bound anew when the
            usable endpoints change, so call it through the cluster and do not keep it.
        has_had_endpoints: Whether there has been an endpoint, ever.
        called: IP addresses and ports by which it is called (`upstream.called`).
        outlier: Detector of failing endpoints, or None.
        is_panicking: Too few endpoints are usable, so all are used.
    """

    __slots__ = (
        "_choose_plainly",
        "_choose_usable",
        "_choose_warily",
        "_failing",
        "_is_warming",
        "_now",
        "_observes_detectors",
        "_random",
        "_usable",
        "called",
        "choose",
        "has_had_endpoints",
        "is_panicking",
        "outlier",
        "spec",
    )

    def __init__(self, spec: ClusterSpec, random: Random = system_random) -> None:
        super().__init__(spec.name)
        self.outlier: Outlier | None = None
        self.is_panicking = False
        self.has_had_endpoints = False
        self.called: tuple[tuple[str, int], ...] = ()
        self._is_warming = False
        self._now = 0.0
        self._random = random
        self._failing = 0
        self._usable: list[Endpoint] = []
        self._choose_plainly: Choose
        self._choose_warily: Choose | None = None
        self._choose_usable: Choose
        self.choose: Choose
        self.apply(spec, spec.static_addresses())

    # --- the hot path ----------------------------------------------------------------------------------------

    def choose_other(self, head: RequestHead, peer_ip: str, tried: Container[Endpoint]) -> Endpoint | None:
        """
        An endpoint for another attempt: one that was not tried, if there is any, else as `choose` would.

        O(1) unless several draws in a row name endpoints that were tried, then O(endpoints). In turn it is at random:
        were a turn taken, of two endpoints the one that fails would get every first attempt.
        """
        choose = self._choose_usable
        if self.spec.policy != "round_robin":
            endpoint = choose(head, peer_ip)
            if endpoint is None or endpoint not in tried:
                return endpoint
            for _ in range(2):
                other = choose(head, peer_ip)
                if other not in tried:
                    return other
        usable_ones = [one for one in self.endpoints if one.weight > 0 and (self.is_panicking or usable.is_usable(one))]
        left = [one for one in usable_ones if one not in tried]
        if not left:
            return choose(head, peer_ip)
        draw = self._random() * sum(one.share for one in left)
        for one in left:
            draw -= one.share
            if draw < 0:
                return one
        return left[-1]

    def candidates(self) -> tuple[Endpoint, ...]:
        """Those among which a request is shared out now, each with its `share`; for people."""
        return tuple(self._usable)

    def drawn(self, head: RequestHead, peer_ip: str, draws: int, random: Random) -> dict[Endpoint, int]:
        """
        Whom so many choices would name, and how often: by the policy in force, with chance of its own, and without
        taking anybody's turn. Cold, for people.
        """
        choose = bind(self.spec.policy, self._usable, self.spec.hash_key, random)
        if self._choose_warily is not None and self._choose_usable is self._choose_warily:
            choose = failing.FailureAware(self._usable, random, self.spec.policy == "peak_ewma").choose
        found: dict[Endpoint, int] = {}
        for _ in range(draws):
            endpoint = choose(head, peer_ip)
            if endpoint is not None:
                found[endpoint] = found.get(endpoint, 0) + 1
        return found

    def report(self, endpoint: Endpoint, status: int, failure: Reason | None, latency_s: float, now: float) -> None:
        """
        Say what became of an attempt; call it through `observer`.

        Once for each attempt: when the head of its response came, when it failed without one, or when it was given up.
        A second time only if the answer breaks off after its head.

        Args:
            endpoint: Which was given the attempt.
            status: Of the response's head; 0 if none came.
            failure: Why there is no head, or no end; None if all is well. With status 0 and no failure, or one that is
                not the upstream's, the attempt was given up and says nothing about the endpoint.
            latency_s: Seconds from the last byte sent to the response's head, else to the end; or `UNKNOWN_LATENCY_S`,
                which is no sample of anything.
            now: Seconds of loop time.
        """
        is_sample = latency_s >= 0.0 and (failure is None or failure.phase is not Phase.RESPONSE_BODY)
        latency_s = max(latency_s, 0.0)
        if self.breaker is not None and is_sample:
            self.breaker.on_result(status, failure, latency_s, now)
        if self.spec.policy == "peak_ewma" and is_sample:
            ewma.observe(endpoint, latency_s, failure is None and 0 < status < 500, now)
        if not endpoint.is_removed:
            if self.spec.policy in failing.POLICIES:
                self._learn(endpoint, failing.is_failure(status, failure))
            if self.outlier is not None:
                self.outlier.on_result(endpoint, status, failure, latency_s, now)

    def _learn(self, endpoint: Endpoint, is_bad: bool | None) -> None:
        """Let the policy know who fails; the first to fail, and the last to recover, changes the way of choosing."""
        before = endpoint.failing
        if is_bad is None or not (is_bad or before):
            return
        failing.learn(endpoint, is_bad)
        if not before or not endpoint.failing:
            self._failing += 1 if endpoint.failing else -1
            self._set_wariness()

    def _set_wariness(self) -> None:
        """Choose with or without regard to failures, from now on; O(1) but for the first time in a set of endpoints."""
        is_wary = self._failing > 0
        if is_wary or self._observes_detectors:
            self.observes_from = 0
        else:
            self.observes_from = NO_STATUS if self.observer is None else failing.TELLING_STATUS
        before, after = self._choose_usable, self._choose_plainly
        if is_wary and len(self._usable) > 1 and self.spec.policy in failing.POLICIES:
            if self._choose_warily is None:
                is_by_latency = self.spec.policy == "peak_ewma"
                self._choose_warily = failing.FailureAware(self._usable, self._random, is_by_latency).choose
            after = self._choose_warily
        self._choose_usable = after
        if self.choose is before:  # Else an endpoint on probation is to be named first.
            self.choose = after

    # --- changes ---------------------------------------------------------------------------------------------

    def apply(
        self,
        spec: ClusterSpec,
        addresses: Mapping[Address, float],
        now: float | None = None,
        zones: Mapping[Address, str] | None = None,
        tls: Mapping[Address, bool] | None = None,
    ) -> Change:
        """
        Change settings and addresses at once; see `set_addresses`.

        Args:
            spec: New settings, of the same name.
            addresses: Weight by address, in order; from the spec, from DNS, or discovered.
            now: Seconds of loop time; None for when it was last told.
            zones: Of these addresses; default: what the spec says.
            tls: What is said of these addresses (`EndpointSet.tls`).
        """
        is_other_tls = bool(self.endpoints) and spec.tls != self.spec.tls
        self._adopt(spec)
        change = self._replace_endpoints(addresses, now, zones, tls or {}, is_other_tls)
        self.rebalance(now)
        return change

    def set_addresses(
        self,
        addresses: Mapping[Address, float],
        now: float | None = None,
        zones: Mapping[Address, str] | None = None,
        tls: Mapping[Address, bool] | None = None,
    ) -> Change:
        """
        Make these the endpoints. An address that stays keeps its endpoint, connections and counts; one that leaves has
        its idle connections closed, and what is in flight there ends in its own time. So has one that is to be spoken
        to in another way: a new endpoint takes its place, for no pool has connections of two kinds.

        Args:
            addresses: Weight by address, in order.
            now: Seconds of loop time; None for when it was last told.
            zones: Of these addresses; default: what the spec says.
            tls: What is said of these addresses (`EndpointSet.tls`).
        """
        zones = self._zones() if zones is None else zones
        said = tls or {}
        is_tls = self.spec.is_tls
        if [
            (str(address), weight, zones.get(address, ""), is_tls(said.get(address)))
            for address, weight in addresses.items()
        ] == [(endpoint.label, endpoint.weight, endpoint.zone, endpoint.is_tls) for endpoint in self.endpoints]:
            return Change((), ())  # The turn of round robin goes on undisturbed.
        change = self._replace_endpoints(addresses, now, zones, said)
        self.rebalance(now)
        return change

    def set_health(self, endpoint: Endpoint, health: Health, now: float) -> None:
        """What the active checks say of an endpoint from now on."""
        if endpoint.health is Health.UNHEALTHY and health is Health.HEALTHY:
            endpoint.joined_at = now
        endpoint.health = health
        if not endpoint.is_removed:
            self.rebalance(now)

    def tick(self, now: float) -> None:
        """Let time do its part: ejections end, shares grow, latencies age. About once a second; O(endpoints)."""
        self._now = now
        if self.outlier is not None:
            self.outlier.sweep(now)
        if self.breaker is not None:
            self.breaker.on_tick(now)
        if self._is_warming:
            self.rebalance(now)
        if self.spec.policy == "peak_ewma":
            ewma.age(self.endpoints, now)

    def retire(self, reason: str) -> None:
        """
        The upstream left the configuration: keep no connection. Exchanges of older plans may still choose and connect.
        """
        for endpoint in self.endpoints:
            endpoint.remove(reason)

    def dissolve(self) -> None:
        """
        No plan has it any more: let go of the endpoints, which point back at it. What a load leaves is exempt from
        collection, so that a cycle would stay for ever.
        """
        self.set_addresses({})
        self._usable = []
        self.observer = self.outlier = None
        self.observes_from = NO_STATUS

    def close_idle(self, reason: str) -> None:
        """Close the idle connections of every endpoint."""
        for endpoint in self.endpoints:
            endpoint.close_idle(reason)

    def rebalance(self, now: float | None = None) -> None:
        """Choose among the endpoints that are usable now. O(endpoints log endpoints) at most."""
        if now is not None:
            self._now = now
        spec = self.spec
        # A share that changes must not move a key to another endpoint.
        slow_start_s, zone = (0.0, "") if spec.policy == "hash" else (spec.slow_start_s, spec.zone)
        selection = usable.select(self.endpoints, self._now, spec.panic_threshold, slow_start_s, zone)
        self._is_warming = selection.is_warming
        self._set_panic(selection)
        stats = self.stats
        stats.ejected = sum(endpoint.ejected_until != 0 for endpoint in self.endpoints)
        stats.unhealthy = sum(endpoint.health is Health.UNHEALTHY for endpoint in self.endpoints)
        if spec.policy == "peak_ewma":
            ewma.expect(selection.endpoints)
        self._usable = selection.endpoints
        self._choose_plainly = bind(spec.policy, selection.endpoints, spec.hash_key, self._random)
        self._choose_warily = None
        self._choose_usable = self.choose = self._choose_plainly
        self._failing = sum(endpoint.failing > 0 for endpoint in self.endpoints)
        is_contest = spec.policy in failing.POLICIES and len(self.endpoints) > 1
        self.observer = self.report if self._observes_detectors or is_contest else None
        self._set_wariness()
        if stats.ejected:
            self._offer_probation()

    def _offer_probation(self) -> None:
        waiting = [
            endpoint
            for endpoint in self.endpoints
            if endpoint.is_on_probation
            and not endpoint.is_probed
            and endpoint.weight > 0
            and endpoint.health is not Health.UNHEALTHY
        ]
        if waiting:
            self.choose = usable.Probation(self._choose_usable, waiting, self._end_probation).choose

    def _end_probation(self) -> None:
        self.choose = self._choose_usable

    def _set_panic(self, selection: usable.Selection) -> None:
        if selection.is_panic == self.is_panicking:
            return
        self.is_panicking = selection.is_panic
        self.stats.panic = int(selection.is_panic)
        if selection.is_panic:
            self.stats.panics += 1
            total, good = len(selection.endpoints), sum(map(usable.is_usable, selection.endpoints))
            logger.warning("upstream_panic upstream=%s usable=%d total=%d", self.name, good, total)
        else:
            logger.info("upstream_panic_over upstream=%s usable=%d", self.name, len(selection.endpoints))

    def _adopt(self, spec: ClusterSpec) -> None:
        if spec.name != self.name:
            raise ValueError(f"expected settings of {self.name}, found those of {spec.name}")
        self.spec = spec
        self.connect_timeout_s = spec.connect_timeout_s
        self.idle_timeout_s = spec.idle_timeout_s
        self.mesh_idle_timeout_s = spec.mesh_idle_timeout_s
        self.max_age_s = spec.max_age_s or inf
        self.shares = spec.shares
        self.is_http2 = spec.protocol == "http2"
        self.max_streams = spec.max_streams
        self.ping_interval_s = spec.ping_interval_s
        self.ping_timeout_s = spec.ping_timeout_s
        self.server_address = spec.server_address
        self._adopt_limits(spec)
        if spec.outlier is None:
            if self.outlier is not None:
                outlier.clear(self.endpoints)
            self.outlier = None
        elif self.outlier is None:
            self.outlier = Outlier(spec.outlier, self)
        else:
            self.outlier.spec = spec.outlier
        if spec.health is None:
            for endpoint in self.endpoints:
                endpoint.health = Health.UNKNOWN
        is_adaptive = self.breaker is not None and self.breaker.adaptive is not None
        self._observes_detectors = self.outlier is not None or is_adaptive or spec.policy == "peak_ewma"

    def _adopt_limits(self, spec: ClusterSpec) -> None:
        if spec.breaker is None:
            self.breaker = None
            self.stats.concurrency_limit = 0
        elif self.breaker is None:
            self.breaker = Breaker(spec.breaker, self.stats, self._random)
        elif self.breaker.spec != spec.breaker:
            self.breaker.configure(spec.breaker)
        if spec.retry_budget is None:
            self.budget = None
        elif self.budget is None:
            self.budget = RetryBudget(spec.retry_budget)
        else:
            self.budget.configure(spec.retry_budget)

    def _zones(self) -> dict[Address, str]:
        return {parse_address(text): zone for text, zone in self.spec.zones}

    def _replace_endpoints(
        self,
        addresses: Mapping[Address, float],
        now: float | None,
        zones: Mapping[Address, str] | None,
        tls: Mapping[Address, bool],
        is_other_tls: bool = False,
    ) -> Change:
        before = {endpoint.label: endpoint for endpoint in self.endpoints}
        if zones is None:
            zones = self._zones()
        is_first = not before
        after: list[Endpoint] = []
        added: list[str] = []
        switched: list[str] = []
        for address, weight in addresses.items():
            endpoint = before.pop(str(address), None)
            is_tls = self.spec.is_tls(tls.get(address))
            if endpoint is None:
                endpoint = Endpoint(self, address, weight, is_tls)
                if now is not None and not is_first:
                    endpoint.joined_at = now
                added.append(endpoint.label)
            elif endpoint.is_tls is not is_tls or (is_tls and is_other_tls):
                predecessor = endpoint
                endpoint = Endpoint(self, address, weight, is_tls)
                endpoint.succeed(predecessor)
                switched.append(endpoint.label)
            endpoint.weight = weight
            endpoint.zone = zones.get(address, "")
            after.append(endpoint)
        self.endpoints = tuple(after)
        self.has_had_endpoints = self.has_had_endpoints or bool(after)
        if any(endpoint.objections & Objection.CONTESTED for endpoint in after):
            for endpoint in after:  # A request waits for room, which a connection to any of them may make.
                endpoint.objections |= Objection.CONTESTED
        for endpoint in before.values():
            endpoint.remove("endpoint_removed")
        return Change(tuple(added), tuple(before), tuple(switched))

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
