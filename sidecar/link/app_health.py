"""
Whether the app is well, by checks of its ports: what decides that others send requests to this instance. *Cold.*

The checks are those that upstreams have (`upstream.health.checks`), of a cluster of our own that no request sees. An
app is `starting` until every port gave a good answer. From then on it is `healthy`, or `unhealthy` while one of its
ports is found so, by default after the third bad answer in a row; a port that comes later, by another file, counts from
its first good answer on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from random import random as system_random
from typing import Final

from sidecar.link.report import Health as AppState
from sidecar.net.address import Address
from sidecar.net.names import Names
from sidecar.process_log import event
from sidecar.upstream.endpoint import ClusterState, Endpoint, Health
from sidecar.upstream.health.checks import Checks, ConnectProbe, HealthSpec, HttpProbe, Probe

logger = logging.getLogger("sidecar.link")

CONNECT_SPEC: Final = HealthSpec(interval_s=5.0, timeout_s=2.0, healthy_threshold=1, unhealthy_threshold=3)
"""Of checks that only connect."""


@dataclass(frozen=True, slots=True)
class PortHealth:
    """
    One port, for people.

    Attributes:
        problem: What is wrong with it by the last check; empty if nothing is, or nothing is known.
    """

    address: str
    state: AppState
    problem: str


class AppHealth:
    """
    The checks of one app; the owner of its `Checks`.

    Args:
        on_change: Told when `state` has changed.
        names: Resolves ports whose host is a name.
        probe: Checks once; default: a request if there is a spec, else a connection.
        random: From 0 to below 1.

    Attributes:
        state: Of the app.
    """

    def __init__(
        self,
        on_change: Callable[[AppState], None],
        *,
        names: Names | None = None,
        probe: Probe | None = None,
        random: Callable[[], float] = system_random,
    ) -> None:
        names = names or Names()
        self.state: AppState = "starting"
        self.name = "app"
        self._cluster = ClusterState(self.name)
        self.stats = self._cluster.stats
        self._on_change = on_change
        self._probe = probe
        self._request: Probe = HttpProbe(names)
        self._connect: Probe = ConnectProbe(names)
        self._checks = Checks(random, self._check)
        self._spec: HealthSpec | None = None
        self._endpoints: dict[str, Endpoint] = {}
        self._raw: set[Endpoint] = set()
        self._well: set[Endpoint] = set()
        self._problems: dict[Endpoint, str] = {}
        self._is_stopped = False

    def __repr__(self) -> str:
        return f"<AppHealth [{self.state}] {list(self._endpoints)}>"

    def update(self, ports: Mapping[str, Address], spec: HealthSpec | None, raw: Collection[str] = ()) -> None:
        """
        Check exactly these ports; those that stay are what they were.

        Args:
            ports: Where the app listens, by name.
            spec: Of `inbound.health_check`; None to connect every five seconds.
            raw: Names of ports that speak no HTTP: they are connected to all the same.
        """
        before = self._endpoints
        self._endpoints = {
            name: before[name] if name in before and before[name].label == str(address) else self._new(address)
            for name, address in ports.items()
        }
        gone = set(before.values()) - set(self._endpoints.values())
        self._well -= gone
        for endpoint in gone:
            self._problems.pop(endpoint, None)
        self._spec = spec
        self._raw = {self._endpoints[name] for name in raw if name in self._endpoints}
        self._apply()
        self._judge()

    def ports(self) -> dict[str, PortHealth]:
        """How each port is."""
        return {
            name: PortHealth(endpoint.label, self._state_of(endpoint), self._problems.get(endpoint, ""))
            for name, endpoint in self._endpoints.items()
        }

    async def stop(self) -> None:
        """Check nothing more."""
        self._is_stopped = True
        await self._checks.stop()

    # --- for the checks ----------------------------------------------------------------------------------------

    def set_health(self, endpoint: Endpoint, health: Health, now: float) -> None:
        """As in `checks.Owner`."""
        endpoint.health = health
        if health is Health.HEALTHY and endpoint not in self._well:
            self._well.add(endpoint)
            # Not here: it ends the very check that tells us.
            asyncio.get_running_loop().call_soon(self._apply)
        self._judge()

    async def _check(self, spec: HealthSpec, endpoint: Endpoint) -> str:
        probe = self._probe or (self._connect if self._spec is None or endpoint in self._raw else self._request)
        try:
            problem = await probe(spec, endpoint)
        except asyncio.CancelledError:
            self._note(endpoint, f"no answer within {spec.timeout_s:g} s")
            raise
        except Exception as error:
            self._note(endpoint, str(error) or type(error).__name__)
            raise
        self._note(endpoint, problem)
        return problem

    def _note(self, endpoint: Endpoint, problem: str) -> None:
        if endpoint in self._endpoints.values():
            self._problems[endpoint] = problem

    # --- what it is --------------------------------------------------------------------------------------------

    def _new(self, address: Address) -> Endpoint:
        return Endpoint(self._cluster, address)

    def _apply(self) -> None:
        """The first good answer counts, whatever `healthy_threshold` says of those who were well before."""
        if self._is_stopped:
            return
        spec = self._spec or CONNECT_SPEC
        endpoints = list(self._endpoints.values())
        if not self._well.issuperset(endpoints):
            spec = replace(spec, healthy_threshold=1)
        self._checks.update(self, spec, endpoints)

    def _state_of(self, endpoint: Endpoint) -> AppState:
        if endpoint not in self._well:
            return "starting"
        return "unhealthy" if endpoint.health is Health.UNHEALTHY else "healthy"

    def _judge(self) -> None:
        states = [self._state_of(endpoint) for endpoint in self._endpoints.values()]
        if "unhealthy" in states:
            state: AppState = "unhealthy"
        elif "starting" in states and self.state == "starting":
            state = "starting"
        else:
            state = "healthy"
        if state == self.state:
            return
        self.state = state
        logger.log(logging.INFO if state == "healthy" else logging.WARNING, event("app_health", state=state))
        self._on_change(state)
