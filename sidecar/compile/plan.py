"""
A configuration becomes a plan: the only place where the file's settings turn into what the data path reads. *Cold.*

Input are the frames that a compiler process made of the file (`frames`, `deserialize`). Everything here is work in
steps (`time_slices`): the data path does it in slices between which traffic goes on, the compiler process does the
same work with the same code at one go, before it says that a file is good (`dry_run`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from sidecar.compile.deserialize import Written
from sidecar.compile.frames import Header, Kind, WantedListener, read_header
from sidecar.compile.listener_spec import ListenerSpec, Role
from sidecar.compile.matches import key_of
from sidecar.compile.policies import RateLimiters, breaker_spec, budget_spec, health_spec, outlier_spec
from sidecar.compile.recent.kept import kept_of
from sidecar.compile.routes import APP, CompileError, RouteCompiler, ScopeFactory, app_of
from sidecar.compile.security.authorization import compile_authorization
from sidecar.compile.security.tls import listener_tls, upstream_tls
from sidecar.compile.streams import called_by, declared_of, has_streams, in_order, owners_of, streams_of, takes_streams
from sidecar.compile.time_slices import Steps
from sidecar.exchange import Direction
from sidecar.net.detect import SERVER_FIRST_PORTS
from sidecar.net.tls.settings import ListenerTls
from sidecar.proxy.plan import Captured, Limits, Listener, Plan, Side, Streams, make_listener
from sidecar.proxy.recent import Kept, Recent
from sidecar.proxy.told import Askers
from sidecar.routing.actions import Route
from sidecar.routing.client_address import ClientAddress
from sidecar.routing.split import key_reader
from sidecar.routing.table import Table, TableBuilder
from sidecar.security.authorization.authorization import Authorization
from sidecar.upstream.balance.algorithms import HashKey, Policy
from sidecar.upstream.captured import CapturedApp
from sidecar.upstream.cluster import Cluster, ClusterSpec
from sidecar.upstream.discovery.endpoint_set import Source
from sidecar.upstream.passthrough import PASSTHROUGH, Passthrough
from sidecar.upstream.spec import IDLE_TIMEOUT_S, MESH_IDLE_TIMEOUT_S

if TYPE_CHECKING:
    from sidecar.config.model import root as model


@dataclass(frozen=True, slots=True)
class Draft:
    """
    A configuration on its way to a plan.

    Attributes:
        header: What is known without building it.
        written: The rest.
        clusters: Upstreams that it wants, the app included.
        hosts: By upstream, the hosts that lead there without a route.
        listeners: Addresses that it wants open.
    """

    header: Header
    written: Written
    clusters: tuple[ClusterSpec, ...]
    hosts: Mapping[str, Sequence[str]]
    listeners: tuple[ListenerSpec, ...]


class Compiler:
    """
    Makes plans; lives as long as the process, because the passthrough cluster does.

    Args:
        scope: Binds telemetry (`Telemetry.scope`).
        recent: Where heads of requests are kept; None: nowhere.
    """

    def __init__(self, scope: ScopeFactory, recent: Recent | None = None) -> None:
        self._scope = scope
        self._recent = recent
        self._passthrough: Passthrough | None = None
        self._captured: dict[str, CapturedApp] = {}
        self._limiters = RateLimiters()
        self._known: set[str] = set()

    @property
    def passthrough(self) -> Passthrough | None:
        """Endpoints that requests have named; None as long as no configuration has let them."""
        return self._passthrough

    def compile(self, draft: Draft, clusters: Mapping[str, Cluster], generation: int) -> Steps[Plan]:
        """
        Build the plan.

        Args:
            clusters: What the registry prepared for `draft.clusters`.
            generation: Of the plan.

        Raises:
            RefusedError: With every value that cannot be compiled; not for frames of a file that was found good.
        """
        config = draft.written.settings
        addresses: dict[str, str] = {}
        for spec in draft.clusters:
            addresses[spec.name] = spec.server_address
            yield
        problems: list[CompileError] = []
        has_app = _has_app(config)
        apps = list(_apps_of_listeners(draft.header))
        # Where each listener has an app of its own, the first is what pages and tests show of the direction.
        common = apps[0] if apps and not has_app and len(apps) == _inbound_listeners(draft.header) else APP
        rules = yield from compile_authorization(draft.written, self._scope, problems)
        sides: list[Side] = []
        awaiting: list[Route] = []
        for direction in Direction:
            routes = self._routes(direction, common, draft, clusters, addresses, awaiting)
            label = common if direction is Direction.INBOUND and common != APP else direction.label
            sides.append((yield from self._side(direction, label, draft, routes, clusters, rules, problems)))
        own: dict[str, Side] = {common: sides[Direction.INBOUND]} if common != APP else {}
        for app in apps:
            if app not in own and not problems:
                routes = self._routes(Direction.INBOUND, app, draft, clusters, addresses, awaiting)
                own[app] = yield from self._side(Direction.INBOUND, app, draft, routes, clusters, rules, problems)
        if problems:
            raise RefusedError(problems)
        inbound, outbound = sides
        side_of = {Direction.OUTBOUND.label: outbound, **own}
        if common == APP:
            side_of[Direction.INBOUND.label] = inbound
        self._captured = {name: one for name, one in self._captured.items() if name in clusters}
        return Plan(
            generation=generation,
            config_hash=draft.header.config_hash,
            sides=(inbound, outbound),
            side_of=self._with_those_before(side_of),
            listeners=tuple(spec.listener for spec in draft.listeners if spec.listener is not None),
            clusters=clusters,
            limits=_limits(config.limits),
            drain_timeout_s=config.drain.timeout,
            drain_delay_s=config.drain.delay,
            awaiting=tuple(awaiting),
            identity=draft.header.identity,
            side_of_port=_sides_of_ports(draft.header, config, common),
            own_ports=frozenset(_port(one.address) for one in draft.header.listeners),
            requires_capture=config.capture is not None and config.capture.required,
            protocol_of_port=_protocols(config.capture) if config.capture is not None else {},
            protocol_of_app=_protocols_of_app(draft.header, config),
            askers=Askers(config.explain.sources) if config.explain is not None else None,
        )

    def _with_those_before(self, side_of: dict[str, Side]) -> dict[str, Side]:
        """With something for listeners of earlier plans whose last connections ask for what is not there any more."""
        self._known |= side_of.keys()
        unrouted = self._scope(Direction.INBOUND, "", "", "")
        gone = Side(Direction.INBOUND, Table(), None, None, None, unrouted, is_gone=True)
        return {**dict.fromkeys(self._known, gone), **side_of}

    def _routes(
        self,
        direction: Direction,
        app: str,
        draft: Draft,
        clusters: Mapping[str, Cluster],
        addresses: Mapping[str, str],
        awaiting: list[Route],
    ) -> RouteCompiler:
        """What compiles the routes of a direction, for requests that go to this app unless a route says otherwise."""
        config = draft.written.settings
        inbound = config.inbound if direction is Direction.INBOUND else None
        return RouteCompiler(
            direction,
            clusters,
            addresses,
            self._scope,
            self._limiters,
            inbound.rate_limit if inbound is not None else None,
            has_via=config.via == "on",
            upgrades=inbound.upgrades if inbound is not None else ("websocket",),
            app=app,
            discovering=frozenset(spec.name for spec in draft.clusters if spec.discover is not None),
            awaiting=awaiting,
        )

    def _side(
        self,
        direction: Direction,
        label: str,
        draft: Draft,
        routes: RouteCompiler,
        clusters: Mapping[str, Cluster],
        rules: Authorization | None,
        problems: list[CompileError],
    ) -> Steps[Side]:
        config, written = draft.written.settings, draft.written
        side = config.inbound if direction is Direction.INBOUND else config.outbound
        builder: TableBuilder[Route] = TableBuilder()
        explicit: list[Route] = []
        for frame in written.pieces(Kind.ROUTES):
            whose, first, some, lines = written.shapes.load(frame)
            yield
            for index, route in enumerate(some if whose == direction.label else (), first):
                try:
                    line = lines[index - first].get((), 0)
                    explicit.append(routes.explicit(route, index, line if isinstance(line, int) else 0))
                    builder.add(explicit[-1])
                except CompileError as error:
                    problems.append(error)
                yield
        fallback: Route | None = None
        passthrough: Passthrough | None = None
        passthrough_route: Route | None = None
        if direction is Direction.INBOUND:
            fallback = routes.to_app()
        elif side is not None:
            for name, hosts in in_order(draft.hosts):
                builder.add(routes.to_upstream(name, hosts))
                yield
            if config.outbound is not None and config.outbound.unmatched == "passthrough":
                passthrough = self._passthrough = self._passthrough or Passthrough()
                passthrough_route = routes.to_cluster(PASSTHROUGH, passthrough.cluster)
        captured: Captured | None = None
        if config.capture is not None:
            captured = self._captured_of(direction, draft, routes, clusters)
        streams: Streams | None = None
        if direction is Direction.OUTBOUND and has_streams(draft.header, config):
            streams = yield from streams_of(draft.clusters, draft.hosts, routes, explicit)
        unrouted = self._scope(direction, "", "", "")
        is_inbound = direction is Direction.INBOUND
        rules = rules if is_inbound else None
        table = builder.table()
        kept: Kept | None = None
        if self._recent is not None and config.telemetry.recent_requests.keep:
            settings = config.telemetry.recent_requests
            every = (*table.routes, fallback, passthrough_route)
            kept = yield from kept_of(label, direction.label, every, rules, settings, self._recent)
        return Side(
            direction,
            table,
            fallback,
            passthrough,
            passthrough_route,
            unrouted,
            client_address=_client_address(config.inbound) if is_inbound else None,
            drops_underscored=config.limits.headers_with_underscores == "drop",
            owns_client_cert=direction is Direction.INBOUND and _ends_tls(draft),
            authorization=rules,
            captured=captured,
            streams=streams,
            kept=kept,
        )

    def _captured_of(
        self, direction: Direction, draft: Draft, routes: RouteCompiler, clusters: Mapping[str, Cluster]
    ) -> Captured:
        capture = draft.written.settings.capture
        assert capture is not None
        if direction is Direction.INBOUND:
            cluster = routes.app
            if cluster is None:
                return Captured()
            known = self._captured.get(cluster.name)
            if known is None or known.cluster is not cluster:
                known = self._captured[cluster.name] = CapturedApp(cluster)
            return Captured(app=known)
        route: Route | None = None
        passthrough: Passthrough | None = None
        if capture.unmatched == "passthrough":
            passthrough = self._passthrough = self._passthrough or Passthrough()
            route = routes.to_cluster(PASSTHROUGH, passthrough.cluster)
        taking = [spec for spec in draft.clusters if takes_streams(spec) and spec.name in draft.hosts]
        return Captured(route, passthrough, None, owners_of(taking, clusters), declared_of(taking, clusters))


def make_draft(frames: Sequence[bytes]) -> Steps[Draft]:
    """
    What a configuration wants of upstreams and listeners.

    Args:
        frames: All frames of a good file.

    Raises:
        FrameError: They are not.
        RefusedError: A value cannot be compiled.
    """
    header = read_header(frames[0])
    written = Written(frames)
    yield
    config = written.settings
    problems: list[CompileError] = []
    clusters: list[ClusterSpec] = []
    hosts: dict[str, Sequence[str]] = {}
    for frame in written.pieces(Kind.UPSTREAMS):
        for name, upstream in written.shapes.load(frame):
            try:
                clusters.append(_cluster(name, upstream, config.zone or "", has_capture=config.capture is not None))
            except ValueError as error:
                problems.append(CompileError(("upstreams", name), str(error)))
            hosts[name] = [name] if upstream.hosts is None else upstream.hosts
            yield
    breaker = breaker_spec(config.inbound.circuit_breaker if config.inbound is not None else None)
    if _has_app(config):
        app = config.inbound.app if config.inbound is not None else None
        endpoints = ((app.address, 1.0),) if app is not None else ()
        protocol = app.protocol if app is not None else "auto"
        clusters.append(ClusterSpec(APP, endpoints, breaker=breaker, protocol=protocol))
    for one in header.listeners:
        if one.app is not None:
            spec = ClusterSpec(app_of(one.name), ((one.app, 1.0),), breaker=breaker, protocol=one.app_protocol)
            clusters.append(spec)
    listeners: list[ListenerSpec] = []
    for wanted in header.listeners:
        try:
            listeners.append(_listener(wanted, config))
        except ValueError as error:
            problems.append(CompileError(("inbound", "tls", "clear"), str(error)))
    if problems:
        raise RefusedError(problems)
    return Draft(header, written, tuple(clusters), hosts, tuple(listeners))


class RefusedError(Exception):
    """
    Values that their own checks accepted cannot be compiled.

    Attributes:
        errors: One each.
    """

    def __init__(self, errors: Sequence[CompileError]) -> None:
        super().__init__("; ".join(str(error) for error in errors[:10]))
        self.errors = tuple(errors)


def _apps_of_listeners(header: Header) -> dict[str, str]:
    """The apps that listeners have of their own: addresses by the names of their upstreams."""
    return {app_of(one.name): one.app for one in header.listeners if one.app is not None}


def _has_app(config: model.Config) -> bool:
    """Whether there is an app besides those of single listeners: named, or wherever captured connections say."""
    is_captured = config.capture is not None and bool(config.capture.inbound)
    return is_captured or (config.inbound is not None and config.inbound.app is not None)


def _sides_of_ports(header: Header, config: model.Config, common: str) -> dict[int, str]:
    """Whose routes a port of the app takes that was called itself; what no listener leads to takes those of all."""
    label = Direction.INBOUND.label if common == APP else common
    found = {_port(one.app): app_of(one.name) for one in header.listeners if one.app is not None}
    if config.inbound is not None and config.inbound.app is not None:
        found[_port(config.inbound.app.address)] = label
    return found


def _port(address: str) -> int:
    return int(address.rpartition(":")[2]) if not address.startswith("unix:") else 0


def _protocols(capture: model.Capture) -> dict[int, str]:
    return {**dict.fromkeys(SERVER_FIRST_PORTS, "tcp"), **capture.ports}


def _protocols_of_app(header: Header, config: model.Config) -> dict[int, str]:
    if config.capture is None:
        return {}
    app = config.inbound.app if config.inbound is not None else None
    common = app.address if app is not None else None
    own = ((one.app or common, one.protocol) for one in header.listeners if one.role == Role.INBOUND.value)
    found = {_port(app): protocol for app, protocol in own if app is not None and protocol == "tcp"}
    return {port: protocol for port, protocol in found.items() if port not in config.capture.ports}


def _inbound_listeners(header: Header) -> int:
    return sum(one.role == Role.INBOUND.value and not one.captures for one in header.listeners)


def _client_address(inbound: model.Inbound | None) -> ClientAddress | None:
    if inbound is None or inbound.forwarded is None:
        return None
    forwarded = inbound.forwarded
    return ClientAddress(forwarded.trusted_hops or 0, forwarded.trusted_networks or ())


def _limits(limits: model.Limits) -> Limits:
    return Limits(
        max_header_bytes=limits.max_header_bytes,
        max_headers=limits.max_headers,
        max_connections=limits.max_connections,
        header_timeout_s=limits.header_timeout,
        idle_timeout_s=limits.idle_timeout,
        client_idle_timeout_s=limits.client_idle_timeout or limits.idle_timeout,
        stream_idle_timeout_s=limits.stream_idle_timeout or limits.idle_timeout,
        tunnel_idle_timeout_s=limits.tunnel_idle_timeout or limits.idle_timeout,
        max_loop_lag_s=limits.max_loop_lag,
        finishes_without_client=limits.on_client_reset == "finish",
        h2_max_streams=limits.http2.max_concurrent_streams,
        h2_window_bytes=limits.http2.initial_window,
        h2_max_resets=limits.http2.max_resets,
    )


def _ends_tls(draft: Draft) -> bool:
    """Whether clients of the app are spoken to by TLS here, anywhere."""
    return any(spec.listener is not None and spec.listener.tls is not None for spec in draft.listeners)


def _listener(wanted: WantedListener, config: model.Config) -> ListenerSpec:
    role = Role(wanted.role)
    listener: Listener | None = None
    if role in (Role.INBOUND, Role.OUTBOUND):
        direction = Direction.INBOUND if role is Role.INBOUND else Direction.OUTBOUND
        side = direction.label if wanted.app is None else app_of(wanted.name)
        host = wanted.host.encode() if wanted.host is not None else None
        tls: ListenerTls | None = None
        if role is Role.INBOUND:
            index = int(wanted.location[2]) if wanted.location[0] == "inbound" else None
            tls = listener_tls(config.inbound, index, has_identity=config.identity is not None)
        listener = make_listener(
            direction, wanted.address, side, host, tls, captures=wanted.captures, protocol=wanted.protocol
        )
    return ListenerSpec(role, wanted.address, wanted.location, listener, wanted.name, wanted.hosts, wanted.captures)


def _cluster(name: str, upstream: model.Upstream, zone: str, *, has_capture: bool) -> ClusterSpec:
    policy: Policy
    hash_key: HashKey | None = None
    if not isinstance(upstream.load_balancing, str):
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
    discover: Source | None = None
    if upstream.discover is not None:
        file = upstream.discover.file
        discover = Source("file", file) if file is not None else Source("name", upstream.discover.name or "")
    is_stream = upstream.protocol == "tcp"
    return ClusterSpec(
        name=name,
        endpoints=tuple((endpoint.address, endpoint.weight) for endpoint in upstream.endpoints or ()),
        dns=dns,
        discover=discover,
        policy=policy,
        hash_key=hash_key,
        connect_timeout_s=upstream.connect_timeout,
        idle_timeout_s=upstream.idle_timeout or IDLE_TIMEOUT_S,
        mesh_idle_timeout_s=upstream.idle_timeout or MESH_IDLE_TIMEOUT_S,
        max_age_s=upstream.max_age,
        breaker=breaker_spec(upstream.circuit_breaker),
        retry_budget=budget_spec(upstream.retry_budget),
        outlier=outlier_spec(upstream.outlier_detection),
        health=health_spec(upstream.health_check),
        panic_threshold=upstream.panic_threshold,
        slow_start_s=upstream.slow_start or 0.0,
        zone=zone,
        zones=tuple((one.address, one.zone) for one in upstream.endpoints or () if one.zone is not None),
        tls=upstream_tls(upstream),
        is_stream=is_stream,
        protocol="auto" if is_stream else upstream.protocol,
        max_streams=upstream.http2.max_concurrent_streams,
        ping_interval_s=inf if upstream.http2.ping_interval is None else upstream.http2.ping_interval,
        ping_timeout_s=upstream.http2.ping_timeout,
        called=called_by(upstream.hosts or ()) if has_capture and is_stream else (),
    )
