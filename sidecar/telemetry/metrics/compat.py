"""
Metrics by the names of other meshes, for dashboards that ask for them. *Hot path, if there are any: `Bound.observe`.*

Counters and histograms are bound with each outcome, as our own are, and live as long as their scopes; what upstreams
and connections count is read at the scrape. All of this is off unless `telemetry.metrics.compat` names a family, for
each about doubles the series.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from sidecar import __version__, grpc
from sidecar.errors import Reason
from sidecar.exchange import Direction, Exchange
from sidecar.telemetry.metrics import compat_catalogue as rows
from sidecar.telemetry.metrics.catalogue import Metric
from sidecar.telemetry.metrics.exposition import Numbers, Section, histograms_of, labelled, numbers_of
from sidecar.telemetry.metrics.instruments import Counter, CounterFamily, Histogram, HistogramFamily
from sidecar.telemetry.metrics.upstreams import ClusterLike
from sidecar.telemetry.scope import Scope

_TLS = "disabled"


@dataclass(frozen=True, slots=True)
class Ending:
    """How an exchange ended, as labels say it."""

    method: bytes | None
    code: str
    status: int
    reason: Reason | None
    grpc_status: int = -1

    @property
    def is_failure(self) -> bool:
        """Whether the server failed: 5xx, or what stands for it of gRPC; also a status that is none."""
        return grpc.counts_as(self.status, self.grpc_status) >= 500 or self.status < 100

    @property
    def grpc_text(self) -> str:
        """The number of a call's status; empty for what is no gRPC."""
        return str(self.grpc_status) if self.grpc_status >= 0 else ""

    @property
    def flag(self) -> str:
        """Envoy's response flag, or `-`."""
        return self.reason.flag if self.reason is not None else "-"

    @property
    def code_class(self) -> str:
        """The first digit of the status; 5 for what is none."""
        return self.code[0] if self.code[0].isdigit() else "5"

    @property
    def is_tunnel(self) -> bool:
        """Whether it was a CONNECT or an upgrade that succeeded."""
        return self.status == 101 or (self.method == b"CONNECT" and 200 <= self.status < 300)


class Bound:
    """The series of one outcome, by what is observed in them."""

    __slots__ = ("counters", "durations", "received", "received_sizes", "sent", "sent_sizes", "waits")

    def __init__(self) -> None:
        self.counters: list[Counter] = []
        self.received: list[Counter] = []
        self.sent: list[Counter] = []
        self.durations: list[Histogram] = []
        self.waits: list[Histogram] = []
        self.received_sizes: list[Histogram] = []
        self.sent_sizes: list[Histogram] = []

    def observe(self, exchange: Exchange, duration_ns: int) -> None:
        """One exchange."""
        received, sent = exchange.bytes_received, exchange.bytes_sent
        for counter in self.counters:
            counter.value += 1
        for counter in self.received:
            counter.value += received
        for counter in self.sent:
            counter.value += sent
        for histogram in self.durations:
            histogram.observe(duration_ns)
        if exchange.first_byte_ns:
            for histogram in self.waits:
                histogram.observe(exchange.first_byte_ns - (exchange.awaited_ns or exchange.sent_ns))
        for histogram in self.received_sizes:
            histogram.observe(received)
        for histogram in self.sent_sizes:
            histogram.observe(sent)


class View:
    """What is read at a scrape: upstreams and client connections."""

    def __init__(
        self, clusters: list[ClusterLike], opened: list[int], closed: list[int], *, is_config_good: bool
    ) -> None:
        self.clusters = clusters
        self.opened = opened
        self.closed = closed
        self.is_config_good = is_config_good


def _stat(cluster: ClusterLike, *names: str) -> int:
    total: int = sum(getattr(cluster.stats, name) for name in names)
    return total


class Names(Protocol):
    """One mesh's way to say it."""

    def bind(self, scope: Scope, ending: Ending, bound: Bound) -> None:
        """Add the series of an outcome."""

    def families(self) -> Iterable[CounterFamily | HistogramFamily]:
        """What was bound."""

    def read(self, view: View) -> Iterator[tuple[Metric, list[tuple[tuple[str, ...], float]]]]:
        """What is counted elsewhere."""

    def connection_closed(self, direction: Direction, lasted_ns: int) -> None:
        """A client's connection is gone."""


class _Families:
    """Families by row, with a mesh's further labels."""

    def __init__(self, tags: Mapping[str, str] | None = None) -> None:
        self._tags = dict(tags or {})
        self._families: dict[str, CounterFamily | HistogramFamily] = {}

    def row(self, row: Metric) -> Metric:
        """The row with the further labels."""
        return replace(row, labels=(*row.labels, *self._tags)) if self._tags else row

    def counter(self, scope: Scope, row: Metric, *labels: str) -> Counter:
        """A counter's series, owned by the scope."""
        family = self._families.get(row.name)
        if family is None:
            family = self._families[row.name] = CounterFamily(self.row(row))
        assert isinstance(family, CounterFamily)
        return scope.own(family, *labels, *self._tags.values())

    def histogram_family(self, row: Metric) -> HistogramFamily:
        """A histogram."""
        family = self._families.get(row.name)
        if family is None:
            family = self._families[row.name] = HistogramFamily(self.row(row))
        assert isinstance(family, HistogramFamily)
        return family

    def histogram(self, scope: Scope, row: Metric, *labels: str) -> Histogram:
        """A histogram's series, owned by the scope."""
        return scope.own(self.histogram_family(row), *labels, *self._tags.values())

    def families(self) -> Iterable[CounterFamily | HistogramFamily]:
        """All that was bound."""
        return self._families.values()

    def read_row(
        self, row: Metric, series: Iterable[tuple[tuple[str, ...], float]]
    ) -> tuple[Metric, list[tuple[tuple[str, ...], float]]]:
        """Series that are read, with the further labels."""
        tags = tuple(self._tags.values())
        return self.row(row), [((*labels, *tags), value) for labels, value in series]

    def connection_closed(self, direction: Direction, lasted_ns: int) -> None:
        """Most do not care."""


class Envoy(_Families):
    """Envoy's names: `envoy_cluster_*`, `envoy_http_*`."""

    def bind(self, scope: Scope, ending: Ending, bound: Bound) -> None:
        """By upstream, and by direction."""
        prefix = "ingress" if scope.direction is Direction.INBOUND else "egress"
        bound.counters.append(self.counter(scope, rows.ENVOY_DOWNSTREAM_XX, prefix, ending.code_class))
        bound.durations.append(self.histogram(scope, rows.ENVOY_DOWNSTREAM_TIME, prefix))
        if not scope.upstream:
            return
        bound.counters.append(self.counter(scope, rows.ENVOY_RQ_XX, scope.upstream, ending.code_class))
        bound.waits.append(self.histogram(scope, rows.ENVOY_RQ_TIME, scope.upstream))
        if ending.grpc_status >= 0:
            row = rows.ENVOY_GRPC_FAILURE if ending.grpc_status else rows.ENVOY_GRPC_SUCCESS
            bound.counters.append(self.counter(scope, row, scope.upstream))
            bound.counters.append(self.counter(scope, rows.ENVOY_GRPC_TOTAL, scope.upstream))
        timeouts = self.counter(scope, rows.ENVOY_RQ_TIMEOUT, scope.upstream)
        if ending.flag == "UT":
            bound.counters.append(timeouts)

    def read(self, view: View) -> Iterator[tuple[Metric, list[tuple[tuple[str, ...], float]]]]:
        """By upstream."""
        for row, names in (
            (rows.ENVOY_RQ_TOTAL, ("requests",)),
            (rows.ENVOY_RETRY, ("retries",)),
            (rows.ENVOY_RETRY_SUCCESS, ("retries_successful",)),
            (rows.ENVOY_RETRY_LIMIT, ("retries_exhausted",)),
            (rows.ENVOY_RETRY_OVERFLOW, ("overflow_retries", "retry_skipped_budget")),
            (rows.ENVOY_PENDING_OVERFLOW, ("overflow_pending", "overflow_requests")),
            (rows.ENVOY_CX_TOTAL, ("connections_opened",)),
            (rows.ENVOY_CX_FAIL, ("connect_failures", "connect_timeouts")),
            (rows.ENVOY_CX_TIMEOUT, ("connect_timeouts",)),
            (rows.ENVOY_CX_OVERFLOW, ("overflow_connections",)),
            (rows.ENVOY_EJECTED, ("ejected",)),
            (rows.ENVOY_CHECKS_FAILED, ("health_check_failures",)),
        ):
            yield self.read_row(row, [((cluster.name,), _stat(cluster, *names)) for cluster in view.clusters])
        clusters = view.clusters
        open_now = [((one.name,), one.stats.connections_opened - one.stats.connections_closed) for one in clusters]
        yield self.read_row(rows.ENVOY_CX_ACTIVE, open_now)
        idle = [((one.name,), one.stats.connections_closed_by.get("idle_timeout", 0)) for one in clusters]
        yield self.read_row(rows.ENVOY_CX_IDLE, idle)
        yield self.read_row(rows.ENVOY_MEMBERS, [((one.name,), len(one.endpoints)) for one in clusters])
        yield self.read_row(rows.ENVOY_HEALTHY, [((one.name,), _ready(one)) for one in clusters])
        yield self.read_row(rows.ENVOY_LIVE, [((), 1)])
        yield self.read_row(rows.ENVOY_CONNECTED, [((), int(view.is_config_good))])


def _ready(cluster: ClusterLike) -> int:
    # One may be both.
    return max(0, len(cluster.endpoints) - _stat(cluster, "ejected", "unhealthy"))


class AppMesh(_Families):
    """The names of App Mesh's metrics extension: `envoy_appmesh_*`."""

    def __init__(self, mesh: str, node: str) -> None:
        super().__init__()
        self._node = (mesh, node)

    def bind(self, scope: Scope, ending: Ending, bound: Bound) -> None:
        """To the app as a whole, from the app by target."""
        if scope.direction is Direction.INBOUND:
            bound.counters.append(self.counter(scope, rows.APPMESH_REQUESTS, *self._node))
            if ending.grpc_status >= 0:
                bound.counters.append(self.counter(scope, rows.APPMESH_GRPC, *self._node))
            octets = self.counter(scope, rows.APPMESH_BYTES, *self._node)
        elif scope.upstream:
            target = (*self._node, scope.server_address or scope.upstream, scope.upstream)
            bound.counters.append(self.counter(scope, rows.APPMESH_TARGET_REQUESTS, *target))
            row = rows.APPMESH_TARGET_XX.get(ending.code_class)
            if row is not None:
                bound.counters.append(self.counter(scope, row, *target))
            bound.waits.append(self.histogram(scope, rows.APPMESH_TARGET_TIME, *target))
            octets = self.counter(scope, rows.APPMESH_TARGET_BYTES, *target)
        else:
            return
        bound.received.append(octets)
        bound.sent.append(octets)

    def read(self, view: View) -> Iterator[tuple[Metric, list[tuple[tuple[str, ...], float]]]]:
        """Connections to the app."""
        yield rows.APPMESH_ACTIVE, [(self._node, view.opened[0] - view.closed[0])]
        yield rows.APPMESH_NEW, [(self._node, view.opened[0])]


class Istio(_Families):
    """
    Istio's names. We know who we are, not who calls us: of inbound requests the source is `unknown`, of outbound ones
    the destination is the upstream.
    """

    def __init__(self, service: str, namespace: str, version: str) -> None:
        super().__init__()
        unknown = "unknown"
        revision = version or "latest"
        self._self = (service, namespace or unknown, unknown, service, version or unknown, unknown, service, revision)
        self._nobody = (unknown, unknown, unknown, unknown, unknown, unknown, unknown, "latest")

    def _peers(self, scope: Scope, ending: Ending) -> tuple[str, ...]:
        """The values of `ISTIO_PEERS`."""
        protocol = "grpc" if ending.grpc_status >= 0 else "http"
        if scope.direction is Direction.INBOUND:
            own = self._self
            workload, namespace, principal, app, version, cluster, canonical, revision = own
            service = (workload, workload, namespace)
            destination = (workload, namespace, principal, app, version, *service, cluster, canonical, revision)
            return ("destination", *self._nobody, *destination, protocol, "none", ending.flag)
        name = scope.upstream or "unknown"
        destination = (
            name, "unknown", "unknown", name, "unknown", scope.server_address or name, name, "unknown", "unknown", name,
            "latest",
        )  # fmt: skip
        return ("source", *self._self, *destination, protocol, "unknown", ending.flag)

    def bind(self, scope: Scope, ending: Ending, bound: Bound) -> None:
        """By reporter, peer, code and flag; tunnels as TCP, at their end."""
        peers = self._peers(scope, ending)
        if ending.is_tunnel:
            for row in (rows.ISTIO_TCP_OPENED, rows.ISTIO_TCP_CLOSED):
                bound.counters.append(self.counter(scope, row, *peers))
            bound.sent.append(self.counter(scope, rows.ISTIO_TCP_SENT, *peers))
            bound.received.append(self.counter(scope, rows.ISTIO_TCP_RECEIVED, *peers))
            return
        labels = (*peers, ending.code, ending.grpc_text)
        bound.counters.append(self.counter(scope, rows.ISTIO_REQUESTS, *labels))
        bound.durations.append(self.histogram(scope, rows.ISTIO_DURATION, *labels))
        bound.received_sizes.append(self.histogram(scope, rows.ISTIO_REQUEST_BYTES, *labels))
        bound.sent_sizes.append(self.histogram(scope, rows.ISTIO_RESPONSE_BYTES, *labels))

    def read(self, view: View) -> Iterator[tuple[Metric, list[tuple[tuple[str, ...], float]]]]:
        """What is running."""
        yield rows.ISTIO_BUILD, [(("sidecar", __version__), 1)]


class Linkerd(_Families):
    """Linkerd's names. `authority` is left out of inbound series, as Linkerd does by default."""

    def bind(self, scope: Scope, ending: Ending, bound: Bound) -> None:
        """By authority, by route, and by backend."""
        direction, route, upstream = scope.direction.label, scope.route, scope.upstream
        is_outbound = scope.direction is Direction.OUTBOUND
        link = (direction, scope.server_address if is_outbound else "", _TLS, upstream if is_outbound else "")
        how = (ending.code, "failure" if ending.is_failure else "success", ending.grpc_text)
        add = bound.counters.append
        add(self.counter(scope, rows.LINKERD_REQUESTS, *link))
        add(self.counter(scope, rows.LINKERD_RESPONSES, *link, *how))
        bound.durations.append(self.histogram(scope, rows.LINKERD_LATENCY, *link, ending.code))
        add(self.counter(scope, rows.LINKERD_ROUTE_REQUESTS, *link, route))
        add(self.counter(scope, rows.LINKERD_ROUTE_RESPONSES, *link, route, *how))
        bound.durations.append(self.histogram(scope, rows.LINKERD_ROUTE_LATENCY, *link, route, ending.code))
        client = (direction, "src", _TLS, "")
        bound.received.append(self.counter(scope, rows.LINKERD_TCP_READ, *client))
        bound.sent.append(self.counter(scope, rows.LINKERD_TCP_WRITE, *client))
        if is_outbound:
            parent = ("Service", scope.server_address or upstream, "HTTPRoute", route)
            backend = (*parent, "Service", upstream)
            bound.durations.append(self.histogram(scope, rows.LINKERD_OUTBOUND_TIME, *parent))
            if upstream:
                add(self.counter(scope, rows.LINKERD_BACKEND, *backend))
                error = ending.reason.name if ending.reason is not None else ""
                add(self.counter(scope, rows.LINKERD_BACKEND_STATUS, *backend, ending.code, error))
            return
        port = upstream if upstream.startswith("app.") else "app"
        add(self.counter(scope, rows.LINKERD_INBOUND, "Server", port, "HTTPRoute", route))
        add(self.counter(scope, rows.LINKERD_DENIED if ending.flag == "UAEX" else rows.LINKERD_ALLOWED, route))
        if ending.flag == "NR":
            add(self.counter(scope, rows.LINKERD_NO_ROUTE))

    def connection_closed(self, direction: Direction, lasted_ns: int) -> None:
        """How long it lasted."""
        family = self.histogram_family(rows.LINKERD_TCP_DURATION)
        family.child(direction.label, "src", _TLS).observe(lasted_ns)

    def read(self, view: View) -> Iterator[tuple[Metric, list[tuple[tuple[str, ...], float]]]]:
        """Connections of clients and to upstreams, and endpoints."""
        clients = [(direction.label, "src", _TLS, "") for direction in Direction]
        servers = [("outbound", "dst", _TLS, one.name) for one in view.clusters]
        opened = [*view.opened, *(one.stats.connections_opened for one in view.clusters)]
        closed = [*view.closed, *(one.stats.connections_closed for one in view.clusters)]
        labels = [*clients, *servers]
        yield rows.LINKERD_TCP_OPEN, list(zip(labels, map(float, opened), strict=True))
        yield rows.LINKERD_TCP_CLOSE, list(zip(labels, map(float, closed), strict=True))
        open_now = [float(came - went) for came, went in zip(opened, closed, strict=True)]
        yield rows.LINKERD_TCP_CONNECTIONS, list(zip(labels, open_now, strict=True))
        endpoints: list[tuple[tuple[str, ...], float]] = []
        for one in view.clusters:
            ready = _ready(one)
            endpoints.append(((one.name, "ready"), ready))
            endpoints.append(((one.name, "pending"), len(one.endpoints) - ready))
        yield rows.LINKERD_ENDPOINTS, endpoints


class Compat:
    """
    The families that are shown.

    Args:
        names: Of `compat_catalogue.ROWS`.
        resource: Who we are, by OpenTelemetry's attributes.
        environment: `APPMESH_RESOURCE_ARN` or `APPMESH_VIRTUAL_NODE_NAME` (`mesh/{mesh}/virtualNode/{node}`) names mesh
            and node, as it did for App Mesh's Envoy; else they are the namespace and the service.
    """

    def __init__(self, names: Iterable[str], resource: Mapping[str, str], environment: Mapping[str, str]) -> None:
        self.names = tuple(names)
        self.resource = dict(resource)
        service = resource.get("service.name", "")
        namespace, version = resource.get("service.namespace", ""), resource.get("service.version", "")
        mesh, node = _mesh_and_node(environment, namespace or "default", service)
        self._meshes: list[Names] = []
        if "appmesh" in self.names:
            self._meshes.append(Envoy(dict(zip(rows.APPMESH_TAGS, (mesh, node), strict=True))))
            self._meshes.append(AppMesh(mesh, node))
        elif "envoy" in self.names:
            self._meshes.append(Envoy())
        if "istio" in self.names:
            self._meshes.append(Istio(service, namespace, version))
        if "linkerd" in self.names:
            self._meshes.append(Linkerd())

    def __repr__(self) -> str:
        return f"<Compat {' '.join(self.names)}>"

    def bind(
        self, scope: Scope, method: bytes | None, code: str, status: int, reason: Reason | None, grpc_status: int
    ) -> Bound:
        """All series of one outcome."""
        ending, bound = Ending(method, code, status, reason, grpc_status), Bound()
        for mesh in self._meshes:
            mesh.bind(scope, ending, bound)
        return bound

    def connection_closed(self, direction: Direction, lasted_ns: int) -> None:
        """A client's connection is gone."""
        for mesh in self._meshes:
            mesh.connection_closed(direction, lasted_ns)

    def sections(self, view: View) -> Iterator[Section]:
        """All their series."""
        for mesh in self._meshes:
            for family in list(mesh.families()):
                yield numbers_of(family) if isinstance(family, CounterFamily) else histograms_of(family)
            for row, series in mesh.read(view):
                yield Numbers(row, labelled(row, series))


def _mesh_and_node(environment: Mapping[str, str], mesh: str, node: str) -> tuple[str, str]:
    name = environment.get("APPMESH_RESOURCE_ARN") or environment.get("APPMESH_VIRTUAL_NODE_NAME", "")
    parts = name.rpartition(":")[2].split("/")
    if len(parts) >= 4 and parts[0] == "mesh":
        return parts[1], parts[3]
    return mesh, node
