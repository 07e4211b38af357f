"""
Where connections go that are no HTTP's, by what a configuration says of upstreams and routes. *Cold.*
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from sidecar.compile.frames import Header
from sidecar.compile.listener_spec import Role
from sidecar.compile.routes import RouteCompiler
from sidecar.compile.time_slices import Steps
from sidecar.message import RequestHead, Version
from sidecar.proxy.plan import Streams
from sidecar.routing.actions import Forward, Route
from sidecar.routing.match import host_pattern, split_pattern
from sidecar.routing.table import Table, TableBuilder
from sidecar.upstream.cluster import Cluster, ClusterSpec
from sidecar.upstream.owners import Owners

if TYPE_CHECKING:
    from sidecar.config.model import root as model


def takes_streams(spec: ClusterSpec) -> bool:
    """
    Whether what is no HTTP may be given to an upstream: to servers that speak something else, and to those that are
    spoken to in clear. Others that a control plane tells are listeners of sidecars, which expect HTTP.
    """
    return spec.is_stream or (spec.tls is None and _is_ascalled_by(spec))


def _is_ascalled_by(spec: ClusterSpec) -> bool:
    """Whether its endpoints are where apps call it; what a control plane tells are listeners of sidecars."""
    return spec.discover is None or spec.discover.kind == "file"


def has_streams(header: Header, config: model.Config) -> bool:
    """Whether anything may come that is no HTTP's, of the app."""
    return config.capture is not None or any(
        one.role == Role.OUTBOUND.value and one.protocol != "http" for one in header.listeners
    )


def streams_of(
    clusters: Sequence[ClusterSpec],
    named: Mapping[str, Sequence[str]],
    routes: RouteCompiler,
    explicit: Sequence[Route],
) -> Steps[Streams]:
    """
    Where connections go that are no HTTP's: by the routes that ask for nothing but a host, and lead to servers that
    speak something else; then to upstreams by their hosts.
    """
    raw = {spec.name for spec in clusters if spec.is_stream}
    hosts = {spec.name: named[spec.name] for spec in clusters if takes_streams(spec) and spec.name in named}
    builder: TableBuilder[Route] = TableBuilder()
    for route in explicit:
        if _is_for_streams(route, raw):
            builder.add(route)
        yield
    for name, some in in_order({name: hosts[name] for name in named if name in hosts}):
        builder.add(routes.to_upstream(name, some))
        yield
    table = builder.table()
    route_to: dict[str, Route] = {}
    for name, some in hosts.items():
        found = _found_by(table, some) if name in raw else None
        route_to[name] = found or routes.to_upstream(name, ())
        yield
    return Streams(table, route_to)


def _is_for_streams(route: Route, raw: set[str]) -> bool:
    action = route.action
    if not isinstance(action, Forward) or not route.matches or any(target.name not in raw for target in action.targets):
        return False
    return all(one.hosts and one.path is None and not one.conditions for one in route.matches)


def _found_by(table: Table[Route], hosts: Sequence[str]) -> Route | None:
    """What the table has for the first of these hosts that is no pattern."""
    for host in hosts:
        if "*" not in host:
            head = RequestHead(b"CONNECT", b"", None, Version.HTTP11)
            head.host, head.port = split_pattern(host_pattern(host))
            return table.find(head, "")
    return None


def owners_of(taking: Sequence[ClusterSpec], clusters: Mapping[str, Cluster]) -> Owners:
    return Owners(
        [clusters[spec.name] for spec in taking if _is_ascalled_by(spec)],
        [clusters[spec.name] for spec in taking if spec.called],
    )


def declared_of(taking: Sequence[ClusterSpec], clusters: Mapping[str, Cluster]) -> Owners | None:
    """Of those that speak something else than HTTP; None if there are none."""
    some = [spec for spec in taking if spec.is_stream]
    return owners_of(some, clusters) if some else None


def called_by(hosts: Sequence[str]) -> tuple[tuple[str, int], ...]:
    """Hosts that are no patterns, and have a port; IPv6 without its brackets."""
    found = (split_pattern(host_pattern(host)) for host in hosts if "*" not in host)
    return tuple((name.decode("ascii").strip("[]"), port) for name, port in found if port is not None)


def in_order(hosts: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, Sequence[str]]]:
    """Upstreams with some of their hosts: one with a port comes before the same without, whichever stands first."""
    for is_first in (True, False):
        for name, named in hosts.items():
            some = [host for host in named if _comes_first(host) is is_first]
            if some:
                yield name, some


def _comes_first(host: str) -> bool:
    """Whether it is one host with a port."""
    return "*" not in host and split_pattern(host.encode())[1] is not None
