"""
Addresses by which an upstream is called, where connections are captured that say no name. *Cold.*

An app asks its resolver what `db` means and connects to that address, which need be none of the upstream's endpoints:
of a Service in Kubernetes, of a balancer. So the sidecar asks the same resolver, again and again, and knows by the
address whom the app means.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from ipaddress import ip_address

from sidecar.net.address import is_ip_address
from sidecar.net.names import Names
from sidecar.net.resolve import ResolveError
from sidecar.upstream.cluster import Cluster, ClusterSpec

logger = logging.getLogger("sidecar.upstream")


class CalledNames:
    """
    All of the process; owned by the registry, which calls `update` when settings change.

    Args:
        names: Asks for them.
    """

    __slots__ = ("_followed", "_names")

    def __init__(self, names: Names) -> None:
        self._names = names
        self._followed: dict[str, _Follower] = {}

    def __repr__(self) -> str:
        return f"<CalledNames of {len(self._followed)} upstreams>"

    async def first(self, specs: Iterable[ClusterSpec], timeout_s: float) -> dict[str, tuple[str, ...]]:
        """
        What the names of these mean that are not followed yet; one without an answer in that time is left out.

        Args:
            timeout_s: Seconds that this may take, all together.
        """
        new = [spec for spec in specs if not self._follows(spec)]
        asked = list(dict.fromkeys(name for spec in new for name, _ in spec.called if not is_ip_address(name)))
        answers = await asyncio.gather(*(self._first_answer(name, timeout_s) for name in asked))
        return {name: answer for name, answer in zip(asked, answers, strict=True) if answer}

    async def _first_answer(self, name: str, timeout_s: float) -> tuple[str, ...]:
        try:
            async with asyncio.timeout(timeout_s):
                return await self._names.addresses(name, timeout_s)
        except (TimeoutError, ResolveError):
            return ()  # told by who follows it

    def _follows(self, spec: ClusterSpec) -> bool:
        follower = self._followed.get(spec.name)
        return follower is not None and follower.called == spec.called

    def update(self, cluster: Cluster, known: Mapping[str, tuple[str, ...]]) -> None:
        """
        Follow exactly the names by which this upstream is called.

        Args:
            known: What some of them mean (`first`).
        """
        called = cluster.spec.called
        follower = self._followed.get(cluster.name)
        if follower is not None and follower.cluster is cluster and follower.called == called:
            return
        self.drop(cluster)
        cluster.called = ()
        if called:
            follower = self._followed[cluster.name] = _Follower(cluster, called, known)
            for name, watcher in follower.watchers.items():
                self._names.keep(name, watcher)

    def drop(self, cluster: Cluster) -> None:
        """Follow none of its names any more."""
        follower = self._followed.pop(cluster.name, None)
        if follower is not None:
            for name, watcher in follower.watchers.items():
                self._names.drop(name, watcher)


class _Follower:
    """Keeps the addresses by which one upstream is called."""

    __slots__ = ("_hosts", "called", "cluster", "watchers")

    def __init__(
        self, cluster: Cluster, called: tuple[tuple[str, int], ...], known: Mapping[str, tuple[str, ...]]
    ) -> None:
        self.cluster = cluster
        self.called = called
        self._hosts = {name: known.get(name, ()) for name, _ in called}
        # As the kernel has them: of IPv6 the shortest form.
        self._hosts |= {name: (str(ip_address(name)),) for name, _ in called if is_ip_address(name)}
        self.watchers = {name: _Watcher(self, name) for name, _ in called if not is_ip_address(name)}
        self._show()

    def note(self, name: str, hosts: tuple[str, ...]) -> None:
        """This is what the name means from now on."""
        self._hosts[name] = hosts
        self._show()

    def _show(self) -> None:
        found = tuple(dict.fromkeys((host, port) for name, port in self.called for host in self._hosts[name]))
        if found != self.cluster.called:
            self.cluster.called = found


class _Watcher:
    """Told of what one name means."""

    __slots__ = ("_follower", "_is_failing", "_name")

    def __init__(self, follower: _Follower, name: str) -> None:
        self._follower = follower
        self._is_failing = False
        self._name = name

    def on_answer(self, hosts: tuple[str, ...]) -> None:
        """Note it."""
        if self._is_failing:
            self._is_failing = False
            logger.info("called_recovered upstream=%s name=%s", self._follower.cluster.name, self._name)
        self._follower.note(self._name, hosts)

    def on_failure(self, error: str) -> None:
        """What it meant last still holds."""
        level = logging.DEBUG if self._is_failing else logging.WARNING  # Once per outage.
        self._is_failing = True
        message = "called_failed upstream=%s name=%s error=%r"
        logger.log(level, message, self._follower.cluster.name, self._name, error)
