"""Templates of CloudFormation: `AWS::AppMesh::*`, in YAML or JSON. *Cold, pure.*"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, get_args

from sidecar.config.problems import Problem
from sidecar.config.yaml.document import Mapping as MappingNode
from sidecar.config.yaml.document import Scalar
from sidecar.importing.account import Account, Mark
from sidecar.importing.appmesh.sources.intrinsics import Template
from sidecar.importing.appmesh.sources.resource import Kind, Resource, read
from sidecar.importing.field import Field

_PREFIX: Final = "AWS::AppMesh::"
_USED: Final = {
    "AWSTemplateFormatVersion": "says that it is a template",
    "Parameters": "their defaults stand where they are referred to",
    "Mappings": "their values stand where they are referred to",
    "Conditions": "worked out where they are asked",
}
_NO_PROPERTIES: Final = Mark("dropped", "it has no properties", "", is_lost=True)
_OF_DEPLOYMENT: Final = ("DependsOn", "DeletionPolicy", "UpdateReplacePolicy", "Metadata", "CreationPolicy")


def is_template(root: MappingNode) -> bool:
    """Whether a document is a template."""
    return "Resources" in root.entries


def resources_of(
    root: MappingNode, given: Mapping[str, str], accounts: list[Account], problems: list[Problem]
) -> Iterator[Resource]:
    """
    The resources of App Mesh in a template.

    Args:
        given: Parameters by name.
        accounts: Gets one for each resource, and one for all that stands around them.
        problems: Gets what no reference resolves, as it is read.
    """
    template = Template(root, given, problems)
    around = Account("template", root, ())
    accounts.append(around)
    document = Field(root, (), around, template)
    for key in document.names():
        if key in _USED:
            document.at(key).kept(_USED[key])
        elif key != "Resources":
            document.at(key).dropped("of the deployment")
    resources = document.at("Resources")
    for logical in resources.names():
        one = resources.at(logical)
        type_ = _type_of(one)
        kind = next((kind for kind in get_args(Kind) if type_ == _PREFIX + kind), None)
        if kind is not None:
            one.put_apart()
            yield from read(_resource(kind, logical, one, template, accounts))
        else:
            one.dropped(f"a {type_ or 'resource without a type'} is no resource of App Mesh")


def _type_of(one: Field) -> str:
    node = one.node
    type_ = node.entries["Type"][1] if isinstance(node, MappingNode) and "Type" in node.entries else None
    return type_.text if isinstance(type_, Scalar) else ""


def _resource(
    kind: Kind, logical: str, around: Field, template: Template, accounts: list[Account]
) -> Iterator[Resource]:
    account = Account(f"{kind} {logical}", around.node, around.path)
    accounts.append(account)
    root = Field(around.node, around.path, account, template)
    root.keep("Type", "says what it is")
    for key in _OF_DEPLOYMENT:
        root.drop(key, "of the deployment")
    root.drop("Condition", "not asked: the resource is imported whether it holds or not", "remove what is not deployed")
    properties = root.get("Properties")
    if properties is None:
        account.mark(root.path, _NO_PROPERTIES)
        return
    name, owner, mesh = properties.get(f"{kind}Name"), None, properties.get("MeshName")
    if kind in ("Route", "GatewayRoute"):
        owner = properties.need("VirtualRouterName" if kind == "Route" else "VirtualGatewayName")
    for one in (name, owner, mesh):
        if one is not None:
            one.kept("says which resource it is, and whose")
    properties.drop("MeshOwner", "one mesh has one owner here")
    properties.drop("Tags", "services have no tags", "put what matters into a comment")
    yield Resource(
        kind, logical if name is None else name.text(), account.label, properties, properties.get("Spec"),
        "" if owner is None else owner.text(), mesh="" if mesh is None else mesh.text(),
    )  # fmt: skip
