"""`terraform show -json`: of a plan, or of a state. *Cold, pure.*"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from sidecar.config.yaml.document import Mapping, Node, Scalar, Sequence
from sidecar.importing.account import Account
from sidecar.importing.appmesh.sources.resource import Kind, Resource, find_key, is_null, read
from sidecar.importing.field import Field, WrongError

_TYPES: Final[dict[str, Kind]] = {
    "aws_appmesh_mesh": "Mesh",
    "aws_appmesh_virtual_node": "VirtualNode",
    "aws_appmesh_virtual_router": "VirtualRouter",
    "aws_appmesh_route": "Route",
    "aws_appmesh_virtual_service": "VirtualService",
    "aws_appmesh_virtual_gateway": "VirtualGateway",
    "aws_appmesh_gateway_route": "GatewayRoute",
}
# Blocks that may come several times have their name in the singular.
_SINGULAR: Final = {
    "listeners": "listener",
    "headers": "header",
    "weightedTargets": "weighted_target",
    "backends": "backend",
    "queryParameters": "query_parameter",
}
_OF_TERRAFORM: Final = ("id", "arn", "created_date", "last_updated_date", "resource_owner", "mesh_owner", "region")


class Blocks:
    """Fields in snake case; a block is a list, of which those that may come once have one item or none."""

    def key(self, node: Mapping, name: str) -> str | None:
        """By which key the mapping has the field of this name, or None."""
        if _SINGULAR.get(name) in node.entries:
            return _SINGULAR[name]
        return find_key(node, name)

    def opened(self, field: Field) -> Field | None:
        """The one block of a list; an empty string is what the provider has where nothing is said."""
        node = field.node
        if is_null(field) or (isinstance(node, Scalar) and not node.text):
            return None
        if isinstance(node, Sequence):
            if not node.items:
                return None
            if len(node.items) == 1:
                return self.opened(field.at(0))
            raise WrongError(field, f"expected one block, found {len(node.items)}")
        return field


BLOCKS: Final = Blocks()


def is_terraform(root: Mapping) -> bool:
    """Whether a document is what `terraform show -json` prints."""
    return "format_version" in root.entries or "planned_values" in root.entries or "terraform_version" in root.entries


def resources_of(root: Mapping, accounts: list[Account]) -> Iterator[Resource]:
    """
    The resources of App Mesh in a document.

    Args:
        accounts: Gets one for each of them, and one for all that stands around them.
    """
    around = Account("terraform show", root, ())
    accounts.append(around)
    document = Field(root, (), around, BLOCKS)
    values = document.raw("planned_values") or document.raw("values")
    for key in document.names():
        document.at(key).dropped("not a resource: what Terraform tells besides", "")
    if values is None or not values.is_mapping:
        hint = "give the output of `terraform show -json PLAN_FILE`"
        raise WrongError(document, "expected `planned_values` or `values`, found none", hint)
    waiting = [module for module in (_member(values, "root_module"),) if module is not None]
    while waiting:
        module = waiting.pop(0)
        for one in _listed(module, "resources"):
            yield from read(_resource(one, accounts))
        waiting += _listed(module, "child_modules")


def _member(field: Field, key: str) -> Field | None:
    node = field.node
    return field.at(key) if isinstance(node, Mapping) and key in node.entries else None


def _listed(field: Field, key: str) -> list[Field]:
    found = _member(field, key)
    if found is None or not isinstance(found.node, Sequence):
        return []
    return [found.at(index) for index in range(len(found.node.items))]


def _word(node: Node, key: str) -> str:
    value = node.entries[key][1] if isinstance(node, Mapping) and key in node.entries else None
    return value.text if isinstance(value, Scalar) and value.value is not None else ""


def _resource(around: Field, accounts: list[Account]) -> Iterator[Resource]:
    type_, address = _word(around.node, "type"), _word(around.node, "address")
    if _word(around.node, "mode") == "data" or type_ not in _TYPES:
        around.dropped(f"a `{type_ or 'resource'}` is no resource of App Mesh that is managed here")
        return
    around.put_apart()
    account = Account(f"{address or type_}", around.node, around.path)
    accounts.append(account)
    root = Field(around.node, around.path, account, BLOCKS)
    for key in root.names():
        if key != "values":
            root.at(key).kept("says which resource it is" if key in ("address", "type", "name") else "of Terraform")
    values = root.need("values")
    name, spec = values.need("name"), values.get("spec")
    for key in _OF_TERRAFORM:
        values.drop(key, "told by AWS")
    owner = values.get("virtual_router_name") or values.get("virtual_gateway_name")
    mesh = values.get("mesh_name")
    for one in (name, owner, mesh):
        if one is not None:
            one.kept("says which resource it is, and whose")
    for key in ("tags", "tags_all"):
        values.drop(key, "services have no tags", "put what matters into a comment")
    kind = _TYPES[type_]
    yield Resource(
        kind, name.text(), account.label, values, spec, "" if owner is None else owner.text(),
        mesh="" if mesh is None else mesh.text(),
    )  # fmt: skip
