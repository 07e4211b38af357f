"""
All clusters of the process, through reloads, DNS answers and discovered endpoints. *Cold: on the event loop, never on
a request's way.*

A reload comes in two steps. `prepare` does what takes time and may be given up, the first answers for new names and
sources; it changes nothing that is live. `commit` changes everything at once, without awaiting, so that no request sees
half of a reload:

    preparation = await registry.prepare(specs, timeout_s)
    plan = compile_plan(config, preparation.clusters)      # may fail: then preparation.abandon()
    clusters = preparation.commit()
    live.plan = plan

A cluster keeps its object and counters as long as its name is in the file, an endpoint keeps its object and connections
as long as its address is in the cluster. Each cluster with a DNS name has one task that refreshes it, each endpoint
with health checks one that checks it, each name in `endpoints` one that follows it, and one task lets time pass for
all; the registry owns the tasks.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from random import random as system_random
from types import MappingProxyType

from sidecar import clock
from sidecar.net.names import Names
from sidecar.net.resolve import ResolveError, Resolver, refresh_forever
from sidecar.net.tls.handshakes import Handshakes
from sidecar.upstream.balance.algorithms import Random
from sidecar.upstream.called import CalledNames
from sidecar.upstream.cluster import Change, Cluster, ClusterSpec, resolved_addresses
from sidecar.upstream.discovery.discovery import Discovery
from sidecar.upstream.discovery.endpoint_set import NO_ENDPOINTS, EndpointSet, Source
from sidecar.upstream.health.checks import Checks, HttpProbe
from sidecar.upstream.named import NamedEndpoints

logger = logging.getLogger("sidecar.upstream")

TICK_S = 1.0
"""Seconds between two calls of `Cluster.tick`, and so what an ejection or a slow start may be late."""

_AT_A_STRETCH = 16
"""Clusters that are made or compared before the loop goes on: less than a millisecond."""


class _Refresh:
    """Keeps one cluster in step with its DNS name."""

    __slots__ = ("_is_failing", "_on_change", "cluster", "dns", "hosts", "task")

    def __init__(self, cluster: Cluster, dns: tuple[str, int], on_change: Callable[[Cluster, Change], None]) -> None:
        self._on_change = on_change
        self.cluster = cluster
        self.dns = dns
        self.hosts: tuple[str, ...] = ()
        self.task: asyncio.Task[None] | None = None
        self._is_failing = False

    def on_answer(self, hosts: tuple[str, ...]) -> None:
        """Take the addresses over."""
        stats = self.cluster.stats
        stats.dns_successes += 1
        stats.dns_last_success = clock.wall_ns(clock.monotonic_ns()) // 1_000_000_000
        if self._is_failing:
            self._is_failing = False
            logger.info("dns_recovered upstream=%s name=%s", self.cluster.name, self.dns[0])
        self.hosts = hosts
        now = asyncio.get_running_loop().time()
        self._on_change(self.cluster, self.cluster.set_addresses(resolved_addresses(hosts, self.dns[1]), now))

    def on_failure(self, error: str) -> None:
        """Keep the last good answer."""
        self.cluster.stats.dns_failures += 1
        # Once per outage, not every few seconds: the counter shows the rest.
        level = logging.DEBUG if self._is_failing else logging.WARNING
        self._is_failing = True
        message = "dns_failed upstream=%s name=%s kept=%d error=%r"
        logger.log(level, message, self.cluster.name, self.dns[0], len(self.hosts), error)


class _Following:
    """Keeps one cluster in step with what is discovered for it."""

    __slots__ = ("_is_failing", "_on_change", "cluster", "endpoints", "source")

    def __init__(self, cluster: Cluster, source: Source, on_change: Callable[[Cluster, Change], None]) -> None:
        self._on_change = on_change
        self._is_failing = False
        self.cluster = cluster
        self.source = source
        self.endpoints = NO_ENDPOINTS

    def on_endpoints(self, found: EndpointSet) -> None:
        """Take them over."""
        self.note(found)
        now = asyncio.get_running_loop().time()
        self._on_change(self.cluster, self.cluster.set_addresses(found.weights, now, found.zones, found.tls))

    def note(self, found: EndpointSet) -> None:
        """They are what is known from now on."""
        stats = self.cluster.stats
        stats.discovery_updates += 1
        stats.discovery_last_success = clock.wall_ns(clock.monotonic_ns()) // 1_000_000_000
        self.endpoints = found
        if self._is_failing:
            self._is_failing = False
            logger.info("discovery_recovered upstream=%s source=%r", self.cluster.name, str(self.source))

    def on_failure(self, error: str) -> None:
        """Keep what was said last."""
        self.cluster.stats.discovery_failures += 1
        level = logging.DEBUG if self._is_failing else logging.WARNING  # Once per outage.
        self._is_failing = True
        message = "discovery_failed upstream=%s source=%r kept=%d error=%r"
        logger.log(level, message, self.cluster.name, str(self.source), len(self.endpoints), error)


class Preparation:
    """
    A reload that is ready; ends with `commit` or `abandon`, neither of which awaits.

    Attributes:
        clusters: By name, what `commit` will return. Live ones still have their old settings; take what a plan needs
            of settings (`server_address`) from the specs.
    """

    __slots__ = (
        "_answers", "_called", "_changed", "_found", "_generation", "_is_over", "_must_tick", "_registry", "clusters",
    )  # fmt: skip

    def __init__(
        self,
        registry: Registry,
        generation: int,
        changed: Sequence[ClusterSpec],
        clusters: dict[str, Cluster],
        answers: dict[str, tuple[str, ...] | str],
        found: dict[str, EndpointSet | None],
        called: dict[str, tuple[str, ...]],
        must_tick: bool,
    ) -> None:
        self.clusters = clusters
        self._registry = registry
        self._generation = generation
        self._changed = changed
        self._answers = answers
        self._found = found
        self._called = called
        self._must_tick = must_tick
        self._is_over = False

    def commit(self) -> dict[str, Cluster]:
        """
        Make the prepared clusters the live ones, at once.

        Raises:
            RuntimeError: It is over already, or another reload was committed since it was prepared, or the registry has
                stopped. Nothing was changed.
        """
        if self._is_over:
            raise RuntimeError("expected a preparation that is open, found one that is over")
        self._registry._commit(
            self._generation, self._changed, self.clusters, self._answers, self._found, self._called, self._must_tick
        )
        self._is_over = True
        return self.clusters

    def abandon(self) -> None:
        """Give it up; nothing was changed and nothing is left behind. Harmless after `commit`."""
        self._is_over = True


class Registry:
    """
    Clusters by name.

    Args:
        resolver: For DNS names; the registry closes it.
        random: Source of chance for balancing and for the jitter of refreshes and checks.
        checks: Health checks; the registry stops them.
        handshakes: Lets those of checks by TLS do their steps; default: some of their own.

    Attributes:
        discovery: For endpoints that come while the sidecar runs; the registry closes it.
        names: For endpoints that are names, whoever connects to them; the registry closes it.
        handshakes: As given: all handshakes of a loop take turns.
    """

    def __init__(
        self,
        resolver: Resolver | None = None,
        random: Random = system_random,
        checks: Checks | None = None,
        handshakes: Handshakes | None = None,
    ) -> None:
        self.names = Names(chance=random) if resolver is None else Names(resolver, resolver, random)
        self.handshakes = handshakes
        self.discovery = Discovery()
        self._named = NamedEndpoints(self.names)
        self._called = CalledNames(self.names)
        self._resolver = resolver if resolver is not None else Resolver()
        self._random = random
        self._clusters: dict[str, Cluster] = {}
        self._refreshes: dict[str, _Refresh] = {}
        self._followings: dict[str, _Following] = {}
        self._checks = checks if checks is not None else Checks(random, HttpProbe(self.names, handshakes))
        self._ticking: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._generation = 0
        self._has_stopped = False

    @property
    def clusters(self) -> Mapping[str, Cluster]:
        """The live clusters by name, read-only and always current."""
        return MappingProxyType(self._clusters)

    async def prepare(self, specs: Iterable[ClusterSpec], timeout_s: float) -> Preparation:
        """
        Get ready for these clusters to be all there are.

        A name in DNS that the cluster did not have before is looked up, all names at once, and what it is to discover
        is waited for. One without an answer within the time is no failure: its cluster begins without endpoints, and
        gets them when they come.

        Args:
            specs: All clusters, each name once.
            timeout_s: Seconds that this may take, all together.

        Raises:
            ValueError: A name comes twice.
        """
        by_name: dict[str, ClusterSpec] = {}
        for spec in specs:
            if spec.name in by_name:
                raise ValueError(f"expected each cluster once, found {spec.name!r} twice")
            by_name[spec.name] = spec
        generation = self._generation
        clusters: dict[str, Cluster] = {}
        changed: list[ClusterSpec] = []
        for name, spec in by_name.items():
            cluster = self._clusters.get(name)
            if cluster is None or cluster.spec != spec:
                changed.append(spec)
            clusters[name] = cluster or Cluster(spec, self._random)
            if len(clusters) % _AT_A_STRETCH == 0:
                await asyncio.sleep(0)
        asked = [spec for spec in by_name.values() if self._must_look_up(spec)]
        sought = {spec.name: spec.discover for spec in by_name.values() if spec.discover and self._must_discover(spec)}
        replies, sets, called = await asyncio.gather(
            asyncio.gather(*(self._first_answer(spec, timeout_s) for spec in asked)),
            asyncio.gather(*(self.discovery.first(source, timeout_s) for source in sought.values())),
            self._called.first(changed, timeout_s),
        )
        answers = {spec.name: answer for spec, answer in zip(asked, replies, strict=True)}
        found = dict(zip(sought, sets, strict=True))
        must_tick = any(spec.needs_ticks for spec in by_name.values())
        return Preparation(self, generation, changed, clusters, answers, found, called, must_tick)

    async def stop(self) -> None:
        """
        End all refreshing and checking and close all idle connections; no lookup that hangs is waited for. May come
        twice.
        """
        self._has_stopped = True
        self._let_tick(False)
        for refresh in self._refreshes.values():
            self._end(refresh.task)
        self._refreshes.clear()
        self._followings.clear()
        self.discovery.close()
        for cluster in self._clusters.values():
            cluster.close_idle("shutdown")
        await self._checks.stop()
        await asyncio.gather(*self._ending, return_exceptions=True)
        self._resolver.close()
        self.names.close()
        await self.names.wait_closed()
        await self.discovery.wait_closed()

    def _must_look_up(self, spec: ClusterSpec) -> bool:
        if spec.dns is None:
            return False
        refresh = self._refreshes.get(spec.name)
        return refresh is None or refresh.dns[0] != spec.dns[0]

    def _must_discover(self, spec: ClusterSpec) -> bool:
        following = self._followings.get(spec.name)
        return following is None or following.source != spec.discover

    async def _first_answer(self, spec: ClusterSpec, timeout_s: float) -> tuple[str, ...] | str:
        """Addresses, or why there are none."""
        assert spec.dns is not None
        try:
            async with asyncio.timeout(timeout_s):
                return await self._resolver.resolve(spec.dns[0])
        except TimeoutError:
            return f"no answer within {timeout_s:g} s"
        except ResolveError as error:
            return str(error)

    def _commit(
        self,
        generation: int,
        changed: Sequence[ClusterSpec],
        clusters: dict[str, Cluster],
        answers: dict[str, tuple[str, ...] | str],
        found: dict[str, EndpointSet | None],
        called: dict[str, tuple[str, ...]],
        must_tick: bool,
    ) -> None:
        if self._has_stopped:
            raise RuntimeError("expected a running registry, found it stopped")
        if generation != self._generation:
            raise RuntimeError("expected no other reload since this one was prepared, found one")
        self._generation += 1
        before = self._clusters
        self._clusters = clusters.copy()
        for name, cluster in before.items():
            if name not in clusters:
                self._retire(cluster)
        for spec in changed:
            cluster = clusters[spec.name]
            if spec.name not in before:
                logger.info("upstream_added upstream=%s endpoints=%d", spec.name, len(cluster.endpoints))
            if spec.discover is not None:
                self._end_refresh(spec.name)
                self._apply_discovered(cluster, spec, spec.discover, found.get(spec.name))
            else:
                self._end_following(spec.name)
                self._apply(cluster, spec, answers.get(spec.name))
            self._called.update(cluster, called)
        self._let_tick(must_tick)

    def _apply(self, cluster: Cluster, spec: ClusterSpec, answer: tuple[str, ...] | str | None) -> None:
        """Give a new or changed cluster its settings, addresses and refreshing; `answer` is None if nobody asked."""
        now = asyncio.get_running_loop().time()
        refresh = self._refreshes.get(spec.name)
        if spec.dns is None:
            self._end_refresh(spec.name)
            self._on_change(cluster, cluster.apply(spec, spec.static_addresses(), now))
            return
        if answer is None and refresh is not None:
            # The same name, perhaps another port: what is known of it stays good.
            refresh.dns = spec.dns
            self._on_change(cluster, cluster.apply(spec, resolved_addresses(refresh.hosts, spec.dns[1]), now))
            return
        if refresh is not None:
            self._end(refresh.task)
        refresh = self._refreshes[spec.name] = _Refresh(cluster, spec.dns, self._on_change)
        if isinstance(answer, tuple):
            self._on_change(cluster, cluster.apply(spec, resolved_addresses(answer, spec.dns[1]), now))
            refresh.on_answer(answer)
        else:
            # Not the addresses of another name: a request that fails is better than one that a stranger answers.
            self._on_change(cluster, cluster.apply(spec, {}, now))
            refresh.on_failure(str(answer))
        refresh.task = asyncio.create_task(
            refresh_forever(self._resolver, spec.dns[0], refresh, has_answer=bool(refresh.hosts), chance=self._random),
            name=f"dns {spec.name}",
        )

    def _apply_discovered(self, cluster: Cluster, spec: ClusterSpec, source: Source, found: EndpointSet | None) -> None:
        """The same where the endpoints are discovered; `found` is None if nothing came yet, or nobody asked."""
        now = asyncio.get_running_loop().time()
        following = self._followings.get(spec.name)
        if following is None or following.source != source:
            self._end_following(spec.name)
            following = self._followings[spec.name] = _Following(cluster, source, self._on_change)
            self.discovery.follow(source, following)
            # Between the preparation's look and now nobody followed it: what was said meanwhile is what it says.
            latest = self.discovery.known(source)
            found = found if latest is None else latest
            if found is not None:
                following.note(found)
            else:
                logger.warning("discovery_waits upstream=%s source=%r", spec.name, str(source))
        known = following.endpoints
        self._on_change(cluster, cluster.apply(spec, known.weights, now, known.zones, known.tls))

    def _end_following(self, name: str) -> None:
        following = self._followings.pop(name, None)
        if following is not None:
            self.discovery.drop(following.source, following)

    def _end_refresh(self, name: str) -> None:
        refresh = self._refreshes.pop(name, None)
        if refresh is not None:
            self._end(refresh.task)

    def _retire(self, cluster: Cluster) -> None:
        self._end_refresh(cluster.name)
        self._end_following(cluster.name)
        self._checks.update(cluster, None, ())
        self._named.update(cluster, is_gone=True)
        self._called.drop(cluster)
        cluster.retire("upstream_removed")
        logger.info("upstream_removed upstream=%s", cluster.name)

    def _on_change(self, cluster: Cluster, change: Change) -> None:
        """Endpoints or settings of a cluster are others now."""
        log_change(cluster, change)
        self._checks.update(cluster, cluster.spec.health, cluster.endpoints)
        self._named.update(cluster)

    def _let_tick(self, must_tick: bool) -> None:
        if must_tick and self._ticking is None:
            self._ticking = asyncio.create_task(self._tick_forever(), name="upstream ticks")
        elif not must_tick and self._ticking is not None:
            self._end(self._ticking)
            self._ticking = None

    async def _tick_forever(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(TICK_S)
            for cluster in list(self._clusters.values()):
                try:
                    if cluster.spec.needs_ticks:
                        cluster.tick(loop.time())
                except Exception:  # One cluster's trouble must not end the ejections of all others.
                    logger.exception("tick_failed upstream=%s", cluster.name)

    def _end(self, task: asyncio.Task[None] | None) -> None:
        """Cancel a task, and keep it in sight until it is over."""
        if task is not None and not task.done():
            task.cancel()
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    def __repr__(self) -> str:
        state = "STOPPED" if self._has_stopped else "RUNNING"
        return f"<Registry [{state} | Clusters: {len(self._clusters)} | Refreshing: {len(self._refreshes)}]>"


def log_change(cluster: Cluster, change: Change) -> None:
    """Write one line if addresses came or went."""
    if change.added or change.removed:
        message = "endpoints_changed upstream=%s added=%s removed=%s total=%d"
        added, removed = ",".join(change.added), ",".join(change.removed)
        logger.info(message, cluster.name, added or "-", removed or "-", len(cluster.endpoints))
    if change.switched:
        # Each is a new endpoint at an old address: what is on its way there ends on the old one.
        by_tls = sum(endpoint.is_tls for endpoint in cluster.endpoints)
        message = "endpoints_switched upstream=%s endpoints=%s by_tls=%d total=%d"
        logger.info(message, cluster.name, ",".join(change.switched), by_tls, len(cluster.endpoints))
