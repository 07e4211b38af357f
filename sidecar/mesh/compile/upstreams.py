"""Upstreams of a caller's file. *Cold, pure.*"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sidecar.mesh.compile.origins import EndpointsOrigin, origin_of
from sidecar.mesh.compile.tree import Items, Table, Text, Value, copied
from sidecar.mesh.compile.values import put_policy, sources
from sidecar.mesh.hosts import hosts_by_port
from sidecar.mesh.mesh import Mark, Mesh, Placed


@dataclass(frozen=True, slots=True)
class Upstream:
    """
    One upstream of a file.

    Attributes:
        service: Whose instances it has.
        table: What the file says of it.
        origin: Where its endpoints come from, if it is discovered.
    """

    service: str
    table: Table
    origin: EndpointsOrigin | None


def upstream_of(mesh: Mesh, caller: str, name: str, callee: str, instance: str, port: str) -> Upstream:
    """
    Make one upstream.

    Args:
        name: Of the upstream.
        callee: The service that it is for.
        instance: Which of its instances; empty: all.
        port: Which of its ports.
    """
    placed = mesh.placed[callee]
    mark = placed.mark("instances", instance, at_key=True) if instance else placed.mark()
    upstream = Table(mark)
    upstream.note = f"from {mark}"
    hosts = [] if instance else hosts_by_port(callee, placed.service)[port]
    if hosts != [name]:
        upstream.put("hosts", _hosts(placed, hosts, mark))
    origin = _put_source(upstream, placed, name, instance, port)
    if placed.service.speaks_tcp(port):
        upstream.say("protocol", "tcp", _said_protocol(placed, port, mark))
    elif placed.service.is_outside and placed.service.protocol in ("http1", "http2"):
        # Sidecars of the mesh take both, and agree on one; which of them the app speaks concerns only its own.
        upstream.say("protocol", placed.service.protocol, placed.mark("protocol"))
    _put_tls(upstream, mesh, placed)
    put_policy(upstream, sources(mesh, caller, callee), mark)
    return Upstream(callee, upstream, origin)


def _said_protocol(placed: Placed, port: str, mark: Mark) -> Mark:
    return placed.mark("ports", port, "protocol") if port in placed.service.ports else placed.mark("protocol")


def _hosts(placed: Placed, hosts: Sequence[str], mark: Mark) -> Value:
    declared = placed.service.hosts or []
    marks = {host: placed.mark("hosts", index) for index, host in enumerate(declared)}
    return Items(mark, [Text(host, marks.get(host, mark)) for host in hosts])


def _put_source(upstream: Table, placed: Placed, name: str, instance: str, port: str) -> EndpointsOrigin | None:
    """
    Say where the endpoints are; returns where they come from if they are discovered.

    What is outside of the mesh, and instances by DNS or addresses of it, need nobody to tell them: they are found
    without the control plane.
    """
    service = placed.service
    at: tuple[str, ...] = ()
    if service.is_outside and not instance:
        at = ("dns",) if service.dns is not None else ("endpoints",)
    elif service.is_outside:
        source = service.instances[instance]
        at = ("instances", instance, "dns") if source.dns is not None else at
        at = ("instances", instance, "endpoints") if source.endpoints is not None else at
    if at:
        node = placed.place(*at).node
        upstream.put(at[-1], copied(node, placed.document.name), placed.mark(*at, at_key=True))
        return None
    mark = placed.mark(*(("instances", instance) if instance else ()), at_key=True)
    upstream.say("discover", name, mark)
    return _origin(placed, instance, port)


def _put_tls(upstream: Table, mesh: Mesh, placed: Placed) -> None:
    """To sidecars by their identities, to servers outside as their service says."""
    if placed.service.is_outside:
        if placed.service.tls is not None:
            node = placed.place("tls").node
            upstream.put("tls", copied(node, placed.document.name), placed.mark("tls", at_key=True))
    elif mesh.speaks_tls(placed.name):
        upstream.put("tls", _identities(mesh, placed))


def _identities(mesh: Mesh, placed: Placed) -> Table:
    """Callers share it, as they do where endpoints come from."""
    key = ("tls", placed.name, mesh.name)
    found: Table | None = placed.document.shared.get(key)
    if found is None:
        has_own = placed.service.identities is not None
        mark = placed.mark("identities", at_key=True) if has_own else placed.mark()
        found = placed.document.shared[key] = Table(mark)
        found.put("identities", Items(mark, [Text(one, mark) for one in sorted(mesh.identities(placed.name))]))
    return found


def _origin(placed: Placed, instance: str, port: str) -> EndpointsOrigin:
    """Callers share it: where a service lists its endpoints, they would be in memory once for each of them."""
    key = ("origin", placed.name, instance, port)
    found: EndpointsOrigin | None = placed.document.shared.get(key)
    if found is None:
        found = placed.document.shared[key] = origin_of(placed.name, placed.service, instance, port)
    return found
