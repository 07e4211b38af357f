"""The door of this room: documents in; a draft of the mesh, and the account of every field, out. *Cold, pure.*"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sidecar.config.problems import Problem
from sidecar.config.yaml.document import Node as TreeNode
from sidecar.config.yaml.document import describe
from sidecar.importing.account import Account, Mark
from sidecar.importing.appmesh.calls import put_calls
from sidecar.importing.appmesh.gateways import belongs, gateway_service
from sidecar.importing.appmesh.group import Group
from sidecar.importing.appmesh.index import Index
from sidecar.importing.appmesh.logs import log_of
from sidecar.importing.appmesh.nodes import read_node
from sidecar.importing.appmesh.services import fill, groups_of
from sidecar.importing.appmesh.sources.find import Found, find
from sidecar.importing.appmesh.sources.resource import Resource
from sidecar.importing.appmesh.values import DEFAULT_RETRY, DEFAULT_TIMEOUT_S
from sidecar.importing.draft import MeshDraft, Plain
from sidecar.importing.field import Field, WrongError
from sidecar.importing.names import word_of
from sidecar.importing.spelling import duration


@dataclass(frozen=True, slots=True)
class Translated:
    """
    What came of the input.

    Attributes:
        mesh: To be written; None if there is nothing to write.
        accounts: Of every leaf.
        problems: What is wrong besides.
    """

    mesh: MeshDraft | None
    accounts: list[Account]
    problems: list[Problem]


def translate(documents: Sequence[TreeNode], given: Mapping[str, str], mesh_name: str = "") -> Translated:
    """
    Translate all resources of one mesh.

    Args:
        given: Parameters of CloudFormation templates, by name.
        mesh_name: Which mesh is meant, where the documents have several.
    """
    found = find(documents, given)
    resources = [one for one in _of_one_mesh(found, mesh_name) if _has_mapping(one)]
    if not resources:
        return Translated(None, found.accounts, found.problems)
    mesh = _mesh(resources, mesh_name)
    index = Index(resources)
    nodes = {one.name: read_node(one) for one in index.all("VirtualNode")}
    groups = groups_of(index, nodes)
    for group in groups:
        fill(group)
        put_calls(group, groups, index, found.groups)
        mesh.services.append(group.draft)
    for gateway in index.all("VirtualGateway"):
        draft = gateway_service(gateway, index, groups, {one.name for one in mesh.services})
        if draft is not None:
            mesh.services.append(draft)
        else:
            _tell_gateway_routes(index, gateway, f"{gateway.label} ({gateway.where}) is not imported")
    _tell_gateway_routes(index, None, "there is no virtual gateway whose route it is")
    _tell_routers(index, groups)
    mesh.services.sort(key=lambda one: one.name)
    telemetry: dict[str, Plain] = {"access_log": log_of([*index.all("VirtualNode"), *index.all("VirtualGateway")])}
    mesh.values["telemetry"] = telemetry
    if not mesh.services:
        return Translated(None, found.accounts, found.problems)
    return Translated(mesh, found.accounts, found.problems)


def _of_one_mesh(found: Found, wanted: str) -> list[Resource]:
    """Resources of the mesh that is meant; those of others are told."""
    names = sorted({one.mesh or (one.name if one.kind == "Mesh" else "") for one in found.resources} - {""})
    chosen = wanted if wanted in names else (names[0] if names else "")
    kept: list[Resource] = []
    for one in found.resources:
        own = one.mesh or (one.name if one.kind == "Mesh" else "")
        if not own or own == chosen:
            kept.append(one)
        else:
            hint = f"import it by itself: --mesh {own}"
            one.root.dropped(f"it is of the mesh `{own}`, and `{chosen}` is imported", hint, is_lost=not wanted)
    return kept


def _has_mapping(one: Resource) -> bool:
    if one.spec is None or one.spec.is_mapping:
        return True
    WrongError(one.spec, f"expected a mapping, found {describe(one.spec.node)}").give_up()
    return False


def _mesh(resources: list[Resource], wanted: str) -> MeshDraft:
    own = [one for one in resources if one.kind == "Mesh"]
    name = next((one.mesh or one.name for one in own), next((one.mesh for one in resources if one.mesh), "mesh"))
    origin = f"{own[0].label} ({own[0].where})" if own else "App Mesh"
    mesh = MeshDraft(word_of(wanted or name), origin)
    mesh.values["defaults"] = {"timeout": duration(DEFAULT_TIMEOUT_S), "retry": DEFAULT_RETRY}
    mesh.values["unmatched"] = _unmatched(own[0] if own else None)
    first = own[0].root if own else resources[0].root
    first.account.assume(first.path, "defaults.timeout: 15s, and two retries: what App Mesh does unasked")
    for one in own[1:]:
        one.root.dropped(f"{own[0].label} ({own[0].where}) is the same mesh", "remove one of the two", is_lost=True)
    return mesh


def _unmatched(mesh: Resource | None) -> str:
    hint = "App Mesh lets *.amazonaws.com pass: name each such host as a service (`dns: HOST:443`)"
    if mesh is None:
        return "deny"
    if mesh.spec is not None:
        mesh.spec.drop("serviceDiscovery", "addresses of both families are used")
    try:
        kind, word = _egress(mesh)
    except WrongError as error:
        error.give_up(error.field)
        return "deny"
    if kind is None:
        mesh.root.account.assume(mesh.root.path, "unmatched: deny, for App Mesh's default is DROP_ALL", hint)
        return "deny"
    if word == "ALLOW_ALL":
        kind.kept("unmatched: passthrough")
        return "passthrough"
    if word == "DROP_ALL":
        kind.changed("unmatched: deny", hint)
    else:
        why = f"expected ALLOW_ALL or DROP_ALL, found `{word}`: unmatched: deny"
        kind.changed(why, "see whether it is spelled right", is_lost=True)
    return "deny"


def _egress(mesh: Resource) -> tuple[Field | None, str]:
    block = mesh.spec.get("egressFilter") if mesh.spec is not None else None
    kind = block.get("type") if block is not None else None
    return kind, "" if kind is None else kind.text().upper()


def _tell_gateway_routes(index: Index, gateway: Resource | None, why: str) -> None:
    """Routes of a gateway that is not imported, or (None) of none that was given."""
    gateways = index.all("VirtualGateway") if gateway is None else [gateway]
    for one in index.gateway_routes:
        if any(belongs(one, other, index) for other in gateways) is (gateway is not None):
            mark = Mark("dropped", why, "give the file that has it, too", is_lost=gateway is None)
            one.root.account.mark(one.root.account.at, mark)


def _tell_routers(index: Index, groups: list[Group]) -> None:
    """Routers that no virtual service names lead nowhere, nor do their routes."""
    used = {virtual.router for group in groups for virtual in group.virtuals}
    for router in index.all("VirtualRouter"):
        if router.spec is not None:
            router.spec.keep("listeners", "a service is called by the ports of its nodes; by TCP, at these")
        if router.name in used:
            continue
        for one in (router, *index.routes.get(router.name, ())):
            why = "no virtual service that is imported leads here"
            one.root.account.mark(one.root.account.at, Mark("dropped", why))
    for owner, routes in index.routes.items():
        if index.get("VirtualRouter", owner) is None:
            for one in routes:
                message = f"there is no virtual router `{owner}`"
                one.root.dropped(message, "give the file that has it, too", is_lost=True)
