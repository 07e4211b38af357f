"""
Virtual services and nodes as services of a mesh. *Cold, pure.*

A service here is who a workload is: one identity, one file, several subsets of its instances. So all virtual nodes to
which one virtual service leads become instances of one service; and virtual services that share a node become one
service with several hosts, whose routes ask for the host. A node to which none leads is a service that only calls.
"""

from __future__ import annotations

from typing import Final

from sidecar.config.values.addresses import is_host
from sidecar.importing.appmesh.fronts import front_of
from sidecar.importing.appmesh.group import Group, Virtual, called_ports, put_ports
from sidecar.importing.appmesh.index import Index
from sidecar.importing.appmesh.nodes import Node, source_of
from sidecar.importing.appmesh.routes import routes_of
from sidecar.importing.appmesh.sources.resource import Resource
from sidecar.importing.draft import InstanceDraft, Plain
from sidecar.importing.field import WrongError
from sidecar.importing.names import instance_name, service_name, word_of
from sidecar.importing.said import Said

_VARIABLES: Final = "replace variables such as `${NAME}` before (`envsubst`)"
_TLS: Final = ("inbound", "tls")
_BY_WIDTH: Final = ("off", "permissive", "strict")


def groups_of(index: Index, nodes: dict[str, Node]) -> list[Group]:
    """Virtual services and nodes that belong together, with what they are called, by name."""
    virtuals = [one for resource in index.all("VirtualService") if (one := _virtual(resource, index, nodes))]
    groups: list[Group] = []
    owners: dict[str, Group] = {}
    for virtual in virtuals:
        merged = Group([virtual], list(virtual.nodes))
        shared = [owners[node.resource.name] for node in virtual.nodes if node.resource.name in owners]
        for group in dict.fromkeys(shared):
            groups.remove(group)
            merged.virtuals += group.virtuals
            merged.nodes += [node for node in group.nodes if node not in merged.nodes]
        groups.append(merged)
        owners |= {node.resource.name: merged for node in merged.nodes}
    called = {node.resource.name for group in groups for node in group.nodes}
    groups += [Group([], [node]) for name, node in nodes.items() if name not in called and not node.lost]
    return _named(groups)


def _virtual(resource: Resource, index: Index, nodes: dict[str, Node]) -> Virtual | None:
    """Read a virtual service; None, and told as lost, if it leads nowhere."""
    try:
        return _read(resource, index, nodes)
    except WrongError as error:
        error.give_up()
        return None


def _read(resource: Resource, index: Index, nodes: dict[str, Node]) -> Virtual:
    host = resource.name.lower().removesuffix(".")
    if not is_host(host):
        raise WrongError(resource.root, f"expected a host as the service's name, found `{resource.name}`", _VARIABLES)
    provider = resource.spec.get("provider") if resource.spec is not None else None
    if provider is None:
        raise WrongError(resource.root, "it has no provider: it leads nowhere", "remove it, or give it a provider")
    by_node, by_router = provider.get("virtualNode"), provider.get("virtualRouter")
    if by_node is not None:
        found, named = index.named(by_node, "VirtualNode", resource)
        node = nodes[found.name]
        if node.lost or not node.ports:
            raise WrongError(named, f"{node.label} is not imported: {node.lost or 'it has no listener'}")
        named.kept("instances of the service")
        return Virtual(resource, host, None, [node])
    if by_router is None:
        raise WrongError(provider, "expected `virtualNode` or `virtualRouter`, found none")
    router, named = index.named(by_router, "VirtualRouter", resource)
    routes = routes_of(router, index, nodes)
    if not routes:
        raise WrongError(named, f"{router.label} ({router.where}) has no route that can be imported")
    named.kept("routes of the service")
    targets = {target.node.resource.name: target.node for route in routes for target in route.targets}
    led_to = [targets[name] for name in sorted(targets)]
    return Virtual(resource, host, routes, led_to, router.name, called_ports(router))


def _named(groups: list[Group]) -> list[Group]:
    hosts = {virtual.host for group in groups for virtual in group.virtuals}
    taken: set[str] = set()
    for group in groups:
        group.virtuals.sort(key=lambda one: (one.routes is None, -len(one.nodes), one.host))
        group.nodes.sort(key=lambda one: one.resource.name)
    for group in sorted(groups, key=lambda one: (not one.virtuals, one.virtuals[0].host if one.virtuals else "")):
        if group.virtuals:
            name = service_name(group.virtuals[0].host, taken)
        else:
            resource = group.nodes[0].resource
            name = service_name(word_of(resource.short_name or resource.name), taken | hosts)
        taken.add(name)
        group.draft.name = name
        group.draft.origin = ", ".join(
            [virtual.resource.label for virtual in group.virtuals] or [group.nodes[0].resource.label]
        )
    return sorted(groups, key=lambda one: one.draft.name)


def fill(group: Group) -> None:
    """Write what the draft of a service says, but for what it calls."""
    put_ports(group)
    _put_instances(group)
    _put_settings(group)
    for virtual in group.virtuals:
        group.draft.fronts.append(front_of(virtual, group))
    if not group.virtuals:
        node = group.nodes[0]
        resource = node.resource
        resource.root.account.assume(
            resource.root.path, f"no virtual service leads here: the service `{group.draft.name}` is there to call"
        )


def _put_instances(group: Group) -> None:
    """One for each node, and for each further port of it to which a route leads; none where there is only all."""
    wanted: list[tuple[Node, int | None]] = [(node, None) for node in group.nodes]
    for virtual in group.virtuals:
        for route in virtual.routes or ():
            for target in route.targets:
                if target.port is not None and (target.node, target.port) not in wanted:
                    wanted.append((target.node, target.port))
    for node in group.nodes:
        _tell_dns(node, group)
    if not group.virtuals or (len(wanted) == 1 and not wanted[0][0].dns):
        return
    for node, port in wanted:
        resource = node.resource
        base = resource.short_name or resource.name
        name = instance_name(base if port is None else f"{base}-{port}", group.draft.name, group.draft.instances)
        group.instances[resource.name, port] = name
        group.draft.instances[name] = InstanceDraft(
            source_of(node, group.first_of(node) if port is None else port), node.label
        )


def _tell_dns(node: Node, group: Group) -> None:
    if node.dns_field is None:
        return
    if group.virtuals and node.ports:
        node.dns_field.kept(f"instances, by dns: {node.dns}:{group.first_of(node)}")
    else:
        node.dns_field.dropped("nobody calls it")


def _put_settings(group: Group) -> None:
    """Settings of all nodes of the service: of two that differ one stands, and the other is told."""
    by_key: dict[tuple[str, ...], list[Said]] = {}
    for node in group.nodes:
        for said in node.said:
            by_key.setdefault(said.key, []).append(said)
    for key, all_said in by_key.items():
        if key == _TLS:
            continue
        first = all_said[0]
        for said in all_said:
            if said.value == first.value:
                said.take()
            else:
                said.leave(f"{said.where}: a service has one for all its instances: that of {first.origin} stands")
        _put(group.draft.values, key, first.value)
    _put_tls(group, by_key.get(_TLS, []))


def _put_tls(group: Group, all_said: list[Said]) -> None:
    """The TLS that all nodes of the service take: what the most permissive of them says."""
    silent = [node for node in group.nodes if node.ports and not any(said.key == _TLS for said in node.said)]
    words = [str(said.value) for said in all_said]
    words += ["off" if node.dns and group.virtuals else "" for node in silent]
    if not any(words):
        return
    word = min((word or "permissive" for word in words), key=_BY_WIDTH.index)
    for said in all_said:
        if said.value == word:
            said.take()
        else:
            said.leave(f"inbound.tls: {word}, for other nodes of the service take no more")
    _put(group.draft.values, _TLS, word)
    node = next((node for node in silent if node.dns), None)
    if word == "off" and node is not None:
        node.resource.root.account.assume(
            node.resource.root.path,
            "inbound.tls: off, for what DNS answers need not be a sidecar",
            "remove it when all that DNS answers have sidecars that take their port: then calls are by mutual TLS",
        )


def _put(values: dict[str, Plain], key: tuple[str, ...], value: Plain) -> None:
    if key == ("inbound", "timeout"):
        key, value = ("inbound", "routes"), [{"name": "requests", "timeout": value}]
    if len(key) == 1:
        values[key[0]] = value
        return
    inner = values.setdefault(key[0], {})
    assert isinstance(inner, dict)
    inner[key[1]] = value
