"""The door of this room: documents in, the resources of App Mesh in them out, whoever wrote them. *Cold, pure.*"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sidecar.config.problems import Problem
from sidecar.config.yaml.document import Mapping as MappingNode
from sidecar.config.yaml.document import Node, describe
from sidecar.config.yaml.document import Sequence as SequenceNode
from sidecar.importing.account import Account, Mark, Path
from sidecar.importing.appmesh.sources import cloudformation, described, kubernetes, terraform
from sidecar.importing.appmesh.sources.kubernetes import BackendGroup
from sidecar.importing.appmesh.sources.resource import Resource, read
from sidecar.importing.kubernetes import is_object, objects_of

_WHAT = "a CloudFormation template, `terraform show -json`, Kubernetes objects, or what `aws appmesh describe-*` prints"


@dataclass(slots=True)
class Found:
    """
    What documents hold.

    Attributes:
        resources: In the order of the documents.
        groups: Groups of backends, which only Kubernetes has.
        accounts: One for each resource and for what stands around them: together they have every leaf.
        problems: What no reference resolves. It grows while fields are read.
    """

    resources: list[Resource] = field(default_factory=list)
    groups: list[BackendGroup] = field(default_factory=list)
    accounts: list[Account] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def find(documents: Sequence[Node], given: Mapping[str, str]) -> Found:
    """
    Find the resources.

    Args:
        given: Parameters of templates by name.
    """
    found = Found()
    for document in documents:
        _take(document, (), given, found)
    return found


def _take(root: Node, path: Path, given: Mapping[str, str], found: Found) -> None:
    if isinstance(root, SequenceNode) and not path:
        account = Account("list", root, ())
        found.accounts.append(account)
        for index, item in enumerate(root.items):
            account.apart.add((index,))
            _take(item, (index,), given, found)
        return
    if isinstance(root, MappingNode):
        if is_object(root):
            for one in objects_of(root, kubernetes.SHAPE, found.accounts, path):
                found.resources += read(kubernetes.resources_of(one, found.accounts, found.groups))
            return
        if not path and terraform.is_terraform(root):
            found.resources += read(terraform.resources_of(root, found.accounts))
            return
        if not path and cloudformation.is_template(root):
            found.resources += read(cloudformation.resources_of(root, given, found.accounts, found.problems))
            return
        if described.is_described(root):
            found.resources += read(described.resources_of(root, path, found.accounts))
            return
    hint = "remove it"
    if isinstance(root, MappingNode) and "spec" in root.entries:
        hint = "add the names that the API's answers have, such as `meshName` and `virtualNodeName`"
    account = Account("document", root, path)
    account.mark(path, Mark("dropped", f"expected {_WHAT}, found {describe(root)}", hint, is_lost=True))
    found.accounts.append(account)
