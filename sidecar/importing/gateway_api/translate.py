"""The door of this room: documents in; a draft of the mesh, and the account of every field, out. *Cold, pure.*"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sidecar.config.problems import did_you_mean
from sidecar.config.yaml.document import Mapping, Node, describe
from sidecar.importing.account import Account, Mark
from sidecar.importing.draft import Front, MeshDraft, RouteDraft, ServiceDraft
from sidecar.importing.field import Field, WrongError
from sidecar.importing.gateway_api.routes import GROUP, Cluster, Grant, Rule, put_routes, rules_of
from sidecar.importing.gateway_api.services import Kept, read_service
from sidecar.importing.kubernetes import Object, is_object, mark_metadata, objects_of
from sidecar.importing.names import service_name, word_of

_ROUTES: Final = ("HTTPRoute", "GRPCRoute")
_OF_GATEWAYS: Final = ("Gateway", "GatewayClass", "ListenerSet")
"""What a mesh can do without."""
_TCP: Final = "say `ports: {NAME: {app: ADDRESS, protocol: tcp}}` of the service, and share connections out by `routes`"
_INSTEAD: Final = {
    "TCPRoute": _TCP,
    "TLSRoute": f"{_TCP}: TLS of the apps' own is passed through",
    "UDPRoute": "sidecars carry no UDP: it goes past them",
    "BackendTLSPolicy": "say what TLS a service takes: `inbound.tls` of one with sidecars, `tls` of one outside",
}
_KNOWN: Final = (*_ROUTES, "ReferenceGrant", *_OF_GATEWAYS, *_INSTEAD)
_VERSIONS: Final = ("v1", "v1beta1", "v1alpha2")


class _AsWritten:
    """Fields as the API spells them; null says nothing."""

    def key(self, node: Mapping, name: str) -> str | None:
        """By which key the mapping has the field of this name, or None."""
        return name if name in node.entries else None

    def opened(self, field: Field) -> Field | None:
        """The field, unless it is null."""
        return None if getattr(field.node, "value", field.node) is None else field


def translate(documents: Sequence[Node], mesh_name: str = "") -> tuple[MeshDraft | None, list[Account]]:
    """
    Translate all Services and the routes that are attached to them.

    Args:
        mesh_name: What the mesh is called; default: `mesh`.
    """
    accounts: list[Account] = []
    objects: list[Object] = []
    for document in documents:
        if isinstance(document, Mapping) and is_object(document):
            objects += objects_of(document, _AsWritten(), accounts)
        else:
            account = Account("document", document, ())
            why = f"expected an object with `apiVersion` and `kind`, found {describe(document)}"
            account.mark((), Mark("dropped", why, "remove it", is_lost=True))
            accounts.append(account)
    seen: dict[tuple[str, str, str, str], Object] = {}
    kept: list[Object] = []
    for one in objects:
        accounts.append(one.root.account)
        first = seen.setdefault((one.group, one.kind, *one.key), one)
        if first is one:
            kept.append(one)
        else:
            where = f"{first.root.node.file}:{first.root.node.line}"
            one.root.dropped(f"the same object is in {where}", "remove one of the two", is_lost=True)
    return _mesh(kept, mesh_name), accounts


def _mesh(objects: list[Object], mesh_name: str) -> MeshDraft | None:
    cluster = Cluster({})
    routes: list[Object] = []
    for one in objects:
        if one.api_version == "v1" and one.kind == "Service":
            service = read_service(one)
            if service is not None:
                cluster.services[one.key] = service
        elif one.group == GROUP and one.kind in _ROUTES and one.version in _VERSIONS:
            routes.append(one)
        elif one.group == GROUP and one.kind == "ReferenceGrant":
            try:
                cluster.grants.append(_grant(one))
            except WrongError as error:
                error.give_up()
        elif one.group == GROUP:
            hint = _INSTEAD.get(one.kind, "") if one.kind in _KNOWN else did_you_mean(one.kind, _KNOWN)
            one.root.dropped(
                f"a {one.kind} of {one.version} is not imported", hint, is_lost=one.kind not in _OF_GATEWAYS
            )
        else:
            one.root.dropped(f"a {one.kind} ({one.api_version}) is no route and no Service")
    _put_names(cluster)
    rules: dict[tuple[str, str], list[Rule]] = {}
    for route in routes:
        try:
            _take(route, cluster, rules)
        except WrongError as error:
            error.give_up()
    if not cluster.services:
        return None
    mesh = MeshDraft(word_of(mesh_name or "mesh"), "the Gateway API")
    for key in sorted(cluster.services):
        mesh.services.append(_service(cluster.services[key], rules.get(key, [])))
    return mesh


def _put_names(cluster: Cluster) -> None:
    """Names of services, and their hosts: the short one only where no other namespace has it."""
    names = [name for _, name in cluster.services]
    taken: set[str] = set()
    for key in sorted(cluster.services):
        kept = cluster.services[key]
        short = [key[1]] if names.count(key[1]) == 1 else []
        kept.draft.name = service_name(f"{key[1]}.{key[0]}", taken)
        taken.add(kept.draft.name)
        assert kept.object is not None
        where = kept.object.root.node
        kept.draft.origin = f"Service {key[0]}/{key[1]} ({where.file}:{where.line})"
        kept.draft.fronts.append(Front([*short, *kept.hosts], [], kept.draft.origin))


def _service(kept: Kept, rules: list[Rule]) -> ServiceDraft:
    draft, front = kept.draft, kept.draft.fronts[0]
    for port in kept.ports if not kept.external else ():
        address = f"127.0.0.1:{port.target}"
        draft.ports[port.name] = {"app": address, "protocol": "http2"} if port.is_http2 else address
    if kept.external:
        draft.values["dns"] = f"{kept.external}:{kept.ports[0].number if kept.ports else 80}"
    if rules:
        front.routes = put_routes(kept, rules)
    elif not kept.external:
        front.routes = [RouteDraft("endpoints", draft.origin, [], {kept.instance(kept, None, draft.origin): 1})]
    if draft.ports and draft.instances:
        draft.values["inbound"] = {"tls": "off"}
        assert kept.object is not None
        kept.object.root.account.assume(
            kept.object.root.path,
            "inbound.tls: off, for not every pod of a Service needs to have a sidecar",
            "remove it when all of them have: then calls are by mutual TLS",
        )
    return draft


def _grant(one: Object) -> Grant:
    mark_metadata(one)
    spec = one.root.need("spec")
    sources: list[tuple[str, str]] = []
    services: list[str] = []
    for source in spec.each("from"):
        group, kind, namespace = source.need("group"), source.need("kind"), source.need("namespace")
        if group.text() == GROUP and kind.text() in _ROUTES:
            sources.append((kind.text(), namespace.text()))
            source.kept("asked where a route refers to another namespace")
        else:
            source.dropped("not for routes of a mesh")
    for target in spec.each("to"):
        kind, name = target.need("kind"), target.get("name")
        if kind.text() == "Service":
            services.append("" if name is None else name.text())
            target.kept("asked where a route refers to another namespace")
        else:
            target.dropped("not for Services")
    return Grant(one.namespace, tuple(sources), tuple(services))


def _take(route: Object, cluster: Cluster, rules: dict[tuple[str, str], list[Rule]]) -> None:
    mark_metadata(route)
    spec = route.root.need("spec")
    spec.drop("hostnames", "for a mesh the hosts are those of the Service, says the specification")
    attached: dict[tuple[str, str], list[int]] = {}
    parents = spec.each("parentRefs")
    gateways: list[Field] = []
    for parent in parents:
        kind = parent.get("kind")
        if kind is None or kind.text() != "Service":
            gateways.append(parent)
            continue
        _attach(parent, route, cluster, attached)
    for parent in gateways:
        hint = "add a parentRef of kind Service for what holds between services"
        kind = parent.get("kind")
        why = "a mesh has no gateways of the Gateway API: keep it there"
        if kind is not None and kind.text() != "Gateway":
            why = f"a {kind.text()} is no Service of the cluster"
        parent.dropped(why, hint, is_lost=not attached)
    if not attached:
        raise WrongError(parents[0] if parents else spec, "it is attached to no Service that is imported")
    for key, ports in attached.items():
        rules.setdefault(key, []).extend(rules_of(route, cluster.services[key], sorted(set(ports)), cluster))


def _attach(parent: Field, route: Object, cluster: Cluster, attached: dict[tuple[str, str], list[int]]) -> None:
    name, namespace, port = parent.need("name"), parent.get("namespace"), parent.get("port")
    key = (route.namespace if namespace is None else namespace.text(), name.text())
    if key[0] != route.namespace:
        hint = "write it under `calls` of the services that it is for"
        parent.dropped(
            "a route of another namespace holds only for callers there, who are not known", hint, is_lost=True
        )
        return
    service = cluster.services.get(key)
    if service is None:
        message = f"there is no Service `{key[0]}/{key[1]}` that is imported"
        parent.dropped(message, "give the file that has it, too", is_lost=True)
        return
    if service.external:
        parent.dropped("a Service that stands for a host outside has no routes here", is_lost=True)
        return
    parent.keep("sectionName", "a Service has none")
    ports = attached.setdefault(key, [])
    if port is not None and len(service.ports) > 1:
        if service.port(port.integer()) is None:
            raise WrongError(port, f"the Service `{key[0]}/{key[1]}` has no port {port.integer()} that is imported")
        ports.append(port.integer())
    parent.kept("whose routes they are")
