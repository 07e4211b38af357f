"""
A configuration becomes a plan: the only place where the file's models turn into what the data path reads. *Cold.*

Compiling runs on the event loop in slices of about a millisecond, between which traffic goes on; a thread would hold
the interpreter for longer at a stretch. Reading and judging the file, which no slice could divide, is done before, in
a thread (`reload`). `Draft` is the seam for a process of its own: everything up to it is pure and may run elsewhere.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass

from sidecar.config import model
from sidecar.config.document import parse
from sidecar.config.load import Loaded
from sidecar.config.places import Location, locate
from sidecar.config.problems import ConfigError, Problem
from sidecar.config.source import decode
from sidecar.exchange import Direction
from sidecar.proxy.plan import Limits, Listener, Plan, Side
from sidecar.routing.actions import Route
from sidecar.routing.match import host_pattern
from sidecar.routing.split import key_reader
from sidecar.routing.table import Table
from sidecar.runtime.compile_matches import key_of
from sidecar.runtime.compile_policies import RateLimiters, breaker_spec, budget_spec, health_spec, outlier_spec
from sidecar.runtime.compile_routes import APP, PASSTHROUGH, CompileError, RouteCompiler, ScopeFactory
from sidecar.runtime.listeners import ListenerSpec, Role
from sidecar.runtime.routing_tests import failure
from sidecar.telemetry.recorder import LogFilter, TelemetrySettings
from sidecar.upstream.balance import HashKey, Policy
from sidecar.upstream.cluster import Cluster, ClusterSpec
from sidecar.upstream.passthrough import Passthrough

SLICE_S = 0.001
"""What compiling may hold the loop for at a stretch (design, section 9)."""

THREAD_ABOVE_ROUTES = 500
"""Tables of more routes are indexed in a thread: some 2 us a route that no slice could divide."""


@dataclass(frozen=True, slots=True)
class Draft:
    """
    A configuration on its way to a plan.

    Attributes:
        loaded: The file.
        path: Its name, for problems.
        env: For `${NAME}`, when the file is read again to find a place in it.
        clusters: Upstreams that it wants, the app included.
        listeners: Addresses that it wants open.
    """

    loaded: Loaded
    path: str
    env: Mapping[str, str]
    clusters: tuple[ClusterSpec, ...]
    listeners: tuple[ListenerSpec, ...]

    def problem_at(self, location: Location, message: str, hint: str = "") -> Problem:
        """A problem at its line and column; the file is read again, because positions are not kept."""
        root, _ = parse(decode(self.loaded.raw, self.path), self.path, self.env)
        if root is None:
            return Problem(self.path, 1, 1, "", message, hint)
        place = locate(root, location)
        return Problem(self.path, place.mark.line, place.mark.column, place.path, message, hint)


@dataclass(frozen=True, slots=True)
class Compiled:
    """
    What takes the place of the last configuration.

    Attributes:
        plan: For the data path.
        telemetry: For telemetry.
    """

    plan: Plan
    telemetry: TelemetrySettings


class Compiler:
    """
    Makes plans; lives as long as the process, because the passthrough cluster does.

    Args:
        scope: Binds telemetry (`Telemetry.scope`).
    """

    def __init__(self, scope: ScopeFactory) -> None:
        self._scope = scope
        self._passthrough: Passthrough | None = None
        self._limiters = RateLimiters()

    @property
    def passthrough(self) -> Passthrough | None:
        """Endpoints that requests have named; None as long as no configuration has let them."""
        return self._passthrough

    async def compile(self, draft: Draft, clusters: Mapping[str, Cluster], generation: int) -> Compiled:
        """
        Compile a configuration and try its own tests.

        Args:
            clusters: What the registry prepared for `draft.clusters`.
            generation: Of the plan.

        Raises:
            ConfigError: With every test that fails and every value that cannot be compiled.
        """
        config = draft.loaded.config
        addresses = {spec.name: spec.server_address for spec in draft.clusters}
        problems: list[Problem] = []
        sides: list[Side] = []
        for direction in Direction:
            limit = config.inbound.rate_limit if direction is Direction.INBOUND and config.inbound is not None else None
            routes = RouteCompiler(direction, clusters, addresses, self._scope, self._limiters, limit)
            sides.append(await self._side(direction, draft, routes, problems))
        if problems:
            raise ConfigError(problems)
        limits = config.limits
        plan = Plan(
            generation=generation,
            config_hash=draft.loaded.digest_hex[:12],
            sides=(sides[Direction.INBOUND], sides[Direction.OUTBOUND]),
            listeners=tuple(spec.listener for spec in draft.listeners if spec.listener is not None),
            clusters=clusters,
            limits=Limits(
                max_header_bytes=limits.max_header_bytes,
                max_headers=limits.max_headers,
                max_connections=limits.max_connections,
                header_timeout_s=limits.header_timeout,
                idle_timeout_s=limits.idle_timeout,
                max_loop_lag_s=limits.max_loop_lag,
            ),
            drain_timeout_s=config.drain.timeout,
            drain_delay_s=config.drain.delay,
        )
        await _try(plan, draft)
        return Compiled(plan, telemetry_settings(config))

    async def _side(self, direction: Direction, draft: Draft, routes: RouteCompiler, problems: list[Problem]) -> Side:
        config = draft.loaded.config
        side = config.inbound if direction is Direction.INBOUND else config.outbound
        compiled: list[Route] = []
        pace = _Pace()
        for index, route in enumerate(side.routes if side is not None else ()):
            try:
                compiled.append(routes.explicit(route, index))
            except CompileError as error:
                problems.append(draft.problem_at(error.location, str(error)))
            await pace()
        fallback: Route | None = None
        passthrough: Passthrough | None = None
        passthrough_route: Route | None = None
        if isinstance(side, model.Inbound):
            fallback = routes.to_upstream(APP, ()) if side.app is not None else None
        elif side is not None:
            for name, upstream in config.upstreams.items():
                hosts = [name] if upstream.hosts is None else upstream.hosts
                if hosts:
                    compiled.append(routes.to_upstream(name, hosts))
                await pace()
            if side.unmatched == "passthrough":
                passthrough = self._passthrough = self._passthrough or Passthrough()
                passthrough_route = routes.to_cluster(PASSTHROUGH, passthrough.cluster)
        is_large = len(compiled) > THREAD_ABOVE_ROUTES
        table = await asyncio.to_thread(Table, compiled) if is_large else Table(compiled)
        unrouted = self._scope(direction, "", "", "")
        return Side(direction, table, fallback, passthrough, passthrough_route, unrouted)


def make_draft(loaded: Loaded, path: str, env: Mapping[str, str]) -> Draft:
    """
    What a configuration wants of upstreams and listeners. *Pure.*

    Raises:
        ConfigError: A value cannot be compiled.
    """
    config = loaded.config
    draft = Draft(loaded, path, env, (), ())
    problems: list[Problem] = []
    clusters: list[ClusterSpec] = []
    for name, upstream in config.upstreams.items():
        try:
            clusters.append(_cluster(name, upstream, config.zone or ""))
        except ValueError as error:
            problems.append(draft.problem_at(("upstreams", name), str(error)))
    if config.inbound is not None and config.inbound.app is not None:
        breaker = breaker_spec(config.inbound.circuit_breaker)
        clusters.append(ClusterSpec(APP, ((config.inbound.app, 1.0),), breaker=breaker))
    listeners: list[ListenerSpec] = []
    for direction, role in ((Direction.INBOUND, Role.INBOUND), (Direction.OUTBOUND, Role.OUTBOUND)):
        side = config.inbound if direction is Direction.INBOUND else config.outbound
        for index, spec in enumerate(side.listen if side is not None else ()):
            location = (direction.label, "listen", index)
            try:
                host = host_pattern(spec.host) if spec.host is not None else None
                if host is not None and host.startswith(b"*"):
                    raise ValueError(f"expected one host, found the pattern {spec.host!r}")
            except ValueError as error:
                problems.append(draft.problem_at((*location, "host"), str(error)))
                continue
            listener = Listener(direction, spec.address, host)
            listeners.append(ListenerSpec(role, spec.address, (*location, "address"), listener))
    metrics = config.telemetry.metrics.listen
    listeners.append(ListenerSpec(Role.METRICS, metrics, ("telemetry", "metrics", "listen")))
    listeners.append(ListenerSpec(Role.ADMIN, config.admin.listen, ("admin", "listen")))
    if problems:
        raise ConfigError(problems)
    return Draft(loaded, path, env, tuple(clusters), tuple(listeners))


def _cluster(name: str, upstream: model.Upstream, zone: str) -> ClusterSpec:
    policy: Policy
    hash_key: HashKey | None = None
    if isinstance(upstream.load_balancing, model.Hash):
        policy = "hash"
        source, key = key_of(upstream.load_balancing.hash)
        assert source in ("header", "cookie", "query", "source_ip")
        hash_key = HashKey(source, key.encode(), key_reader(source, key))  # type: ignore[arg-type]
    else:
        policy = upstream.load_balancing
    dns: tuple[str, int] | None = None
    if upstream.dns is not None:
        host, _, port = upstream.dns.rpartition(":")
        dns = (host, int(port))
    return ClusterSpec(
        name=name,
        endpoints=tuple((endpoint.address, endpoint.weight) for endpoint in upstream.endpoints or ()),
        dns=dns,
        policy=policy,
        hash_key=hash_key,
        connect_timeout_s=upstream.connect_timeout,
        idle_timeout_s=upstream.idle_timeout,
        breaker=breaker_spec(upstream.circuit_breaker),
        retry_budget=budget_spec(upstream.retry_budget),
        outlier=outlier_spec(upstream.outlier_detection),
        health=health_spec(upstream.health_check),
        panic_threshold=upstream.panic_threshold,
        slow_start_s=upstream.slow_start or 0.0,
        zone=zone,
        zones=tuple((one.address, one.zone) for one in upstream.endpoints or () if one.zone is not None),
    )


def telemetry_settings(config: model.Config) -> TelemetrySettings:
    """What the file says about telemetry; what it does not say, the environment decides."""
    service, telemetry = config.service, config.telemetry
    log = telemetry.access_log
    return TelemetrySettings(
        service_name=service.name,
        service_version=service.version or "",
        service_namespace=service.namespace or "",
        otlp_endpoint=telemetry.traces.otlp_endpoint,
        sample=telemetry.traces.sample,
        access_log_path=log.path if log.format != "off" else None,
        access_log_template=log.format if log.format not in ("json", "off") else None,
        access_log_when=_log_filter(log.when) if log.when is not None else None,
        propagators=tuple(telemetry.traces.propagators) if telemetry.traces.propagators is not None else None,
        compat=tuple(telemetry.metrics.compat),
    )


def _log_filter(when: model.LogWhen) -> LogFilter:
    slower_than_ns = round(when.slower_than * 1e9) if when.slower_than is not None else None
    return LogFilter(tuple(when.status), slower_than_ns, when.sample)


async def _try(plan: Plan, draft: Draft) -> None:
    """Run the file's tests; raises ConfigError with all that fail."""
    config = draft.loaded.config
    problems: list[Problem] = []
    pace = _Pace()
    for index, test in enumerate(config.tests):
        why = failure(test, config, plan)
        if why is not None:
            hint = "the test is wrong, or a route is"
            problems.append(draft.problem_at(("tests", index), f"the test `{test.name}` fails: {why}", hint))
        await pace()
    if problems:
        raise ConfigError(problems)


class _Pace:
    """`await pace()` in a loop gives way to others whenever a slice is used up."""

    __slots__ = ("_end",)

    def __init__(self) -> None:
        self._end = time.perf_counter() + SLICE_S

    async def __call__(self) -> None:
        if time.perf_counter() >= self._end:
            await asyncio.sleep(0)
            self._end = time.perf_counter() + SLICE_S
