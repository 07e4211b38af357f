"""
Endpoints that are names: followed as those of `dns` are, but each stays one endpoint. *Cold.*

New connections go to what the name means now (`net.names`), and old ones end by their greatest age. A name whose new
answer has no address in common with the last has moved: its idle connections are closed, and those in use are not
given back. As long as one address stays, nothing is closed, for there are names whose answers are a new part of many
addresses each time.
"""

from __future__ import annotations

import asyncio
import logging
from math import inf

from sidecar import clock
from sidecar.net.names import Names
from sidecar.upstream.cluster import Cluster

logger = logging.getLogger("sidecar.upstream")


class NamedEndpoints:
    """
    All of the process; owned by the registry, which calls `update` when endpoints change.

    Args:
        names: Asks for them.
    """

    __slots__ = ("_followed", "_names")

    def __init__(self, names: Names) -> None:
        self._names = names
        self._followed: dict[str, dict[str, _Follower]] = {}

    def __repr__(self) -> str:
        return f"<NamedEndpoints {sum(map(len, self._followed.values()))}>"

    def update(self, cluster: Cluster, *, is_gone: bool = False) -> None:
        """Follow exactly the names of this cluster's endpoints; none if it is gone."""
        before = self._followed.pop(cluster.name, {})
        wanted = () if is_gone else (endpoint.host for endpoint in cluster.endpoints if endpoint.is_named)
        after: dict[str, _Follower] = {}
        for name in wanted:
            if name in after:
                continue
            follower = before.pop(name, None)
            if follower is None:
                follower = _Follower(cluster, name)
                self._names.keep(name, follower)
            after[name] = follower
        if after:
            self._followed[cluster.name] = after
        for name, follower in before.items():
            self._names.drop(name, follower)


class _Follower:
    """Keeps the endpoints of a cluster that have one name in step with it."""

    __slots__ = ("_cluster", "_hosts", "_is_failing", "_moved_at", "_name")

    def __init__(self, cluster: Cluster, name: str) -> None:
        self._cluster = cluster
        self._name = name
        self._hosts: tuple[str, ...] = ()
        self._is_failing = False
        self._moved_at = inf

    def on_answer(self, hosts: tuple[str, ...]) -> None:
        """Note where the name leads."""
        cluster = self._cluster
        stats = cluster.stats
        stats.dns_successes += 1
        stats.dns_last_success = clock.wall_ns(clock.monotonic_ns()) // 1_000_000_000
        if self._is_failing:
            self._is_failing = False
            logger.info("dns_recovered upstream=%s name=%s", cluster.name, self._name)
        now = asyncio.get_running_loop().time()
        before, self._hosts = self._hosts, hosts
        if before and not set(before) & set(hosts):
            self._moved_at = now
            message = "endpoint_moved upstream=%s name=%s from=%s to=%s"
            logger.info(message, cluster.name, self._name, ",".join(before), ",".join(hosts))
            for endpoint in cluster.endpoints:
                if endpoint.host == self._name:
                    endpoint.move()
        elif now > self._moved_at + cluster.max_age_s:
            self._moved_at = inf
            for endpoint in cluster.endpoints:
                if endpoint.host == self._name:
                    endpoint.settle()

    def on_failure(self, error: str) -> None:
        """Keep the last good answer."""
        self._cluster.stats.dns_failures += 1
        level = logging.DEBUG if self._is_failing else logging.WARNING  # Once per outage.
        self._is_failing = True
        message = "dns_failed upstream=%s name=%s kept=%d error=%r"
        logger.log(level, message, self._cluster.name, self._name, len(self._hosts), error)
