"""What nodes may call, by their backends and groups of backends. *Cold, pure.*"""

from __future__ import annotations

from collections.abc import Iterator

from sidecar.importing.appmesh.group import Group
from sidecar.importing.appmesh.index import Index
from sidecar.importing.appmesh.nodes import Node
from sidecar.importing.appmesh.sources.kubernetes import BackendGroup
from sidecar.importing.appmesh.sources.resource import Resource
from sidecar.importing.draft import CallDraft
from sidecar.importing.field import Field, WrongError
from sidecar.importing.kubernetes import reference_of


def put_calls(group: Group, groups: list[Group], index: Index, backend_groups: list[BackendGroup]) -> None:
    """What any node of the service may call, the service may."""
    owners = {virtual.resource.name: other.draft for other in groups for virtual in other.virtuals}
    calls: dict[str, CallDraft] = {}
    for node in group.nodes:
        for called, named in _called(node, index, backend_groups):
            owner = owners.get(called.name)
            if owner is None:
                named.dropped(f"{called.label} ({called.where}) is not imported", is_lost=True)
            elif owner is group.draft:
                named.kept("the service itself, which needs no `calls` for that")
            else:
                calls.setdefault(owner.name, CallDraft(node.label))
                how = f"calls.{owner.name}"
                if len(group.nodes) > 1:
                    named.changed(f"{how}, for all instances of the service")
                else:
                    named.kept(how)
    group.draft.calls = dict(sorted(calls.items()))


def _called(node: Node, index: Index, backend_groups: list[BackendGroup]) -> Iterator[tuple[Resource, Field]]:
    """Virtual services that a node names, each with the field that says so."""
    for backend in node.backends:
        try:
            yield index.named(backend, "VirtualService", node.resource)
        except WrongError as error:
            error.give_up(backend)
    for one in node.groups:
        try:
            found = _group(one, node, backend_groups)
            one.kept("calls, one by one")
            yield from _members(found, index)
        except WrongError as error:
            error.give_up(one)


def _group(one: Field, node: Node, backend_groups: list[BackendGroup]) -> BackendGroup:
    namespace, name = reference_of(one, node.resource.namespace)
    for group in backend_groups:
        if (group.namespace, group.name) == (namespace, name):
            return group
    message = f"there is no backend group `{name}` in the namespace `{namespace}`, which {node.label} names"
    raise WrongError(one, message, "give the file that has it, too")


def _members(group: BackendGroup, index: Index) -> Iterator[tuple[Resource, Field]]:
    """The virtual services of a group; `*` is all of its namespace."""
    spec = group.root.get("spec")
    for member in spec.each("virtualServices") if spec is not None else ():
        try:
            namespace, name = reference_of(member, group.namespace)
            if name == "*":
                for resource in index.in_namespace("VirtualService", namespace):
                    yield resource, member
            else:
                yield index.referred("VirtualService", namespace, name, member, group.root.account.label), member
        except WrongError as error:
            error.give_up(member)
