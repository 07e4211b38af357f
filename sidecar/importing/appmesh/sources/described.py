"""What `aws appmesh describe-*` prints and `create-*` is given, one object or a list of them. *Cold, pure.*"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from sidecar.config.yaml.document import Mapping, Sequence
from sidecar.importing.account import Account
from sidecar.importing.appmesh.sources.resource import AsWritten, Kind, Resource, read
from sidecar.importing.field import Field

_KINDS: Final[dict[str, Kind]] = {
    "mesh": "Mesh",
    "virtualNode": "VirtualNode",
    "virtualRouter": "VirtualRouter",
    "route": "Route",
    "virtualService": "VirtualService",
    "virtualGateway": "VirtualGateway",
    "gatewayRoute": "GatewayRoute",
}
_LISTS: Final = {
    "meshes": "mesh", "virtualNodes": "virtualNode", "virtualRouters": "virtualRouter", "routes": "route",
    "virtualServices": "virtualService", "virtualGateways": "virtualGateway", "gatewayRoutes": "gatewayRoute",
}  # fmt: skip
# Most particular first: a route names its router and its mesh, too.
_NAMES: Final = (
    ("gatewayRoute", "gatewayRouteName"), ("route", "routeName"), ("virtualService", "virtualServiceName"),
    ("virtualNode", "virtualNodeName"), ("virtualRouter", "virtualRouterName"),
    ("virtualGateway", "virtualGatewayName"), ("mesh", "meshName"),
)  # fmt: skip
_SHAPE: Final = AsWritten()


def is_described(root: Mapping) -> bool:
    """Whether a document is what the API answers, or what it is given (`aws appmesh create-* --cli-input-json`)."""
    keys = root.entries.keys()
    return bool(keys & (_KINDS.keys() | _LISTS.keys())) or _is_bare(root)


def _is_bare(root: Mapping) -> bool:
    """Whether it is a resource itself; which mesh it is of may be said to the command."""
    keys = root.entries.keys()
    return "meshName" in keys or ("spec" in keys and any(name in keys for _, name in _NAMES))


def resources_of(root: Mapping, path: tuple[int | str, ...], accounts: list[Account]) -> Iterator[Resource]:
    """
    The resources of an answer.

    Args:
        path: Where in the file's document it stands.
        accounts: Gets one for each of them, and one for all that stands around them.
    """
    around = Account("aws appmesh", root, path)
    accounts.append(around)
    answer = Field(root, path, around, _SHAPE)
    if _is_bare(root):
        word = next(word for word, key in _NAMES if key in root.entries)
        answer.put_apart()
        yield from read(_resource(word, answer, accounts))
        return
    for key in answer.names():
        found = answer.at(key)
        if key in _KINDS and found.is_mapping:
            found.put_apart()
            yield from read(_resource(key, found, accounts))
        elif key in _LISTS and isinstance(found.node, Sequence):
            for index in range(len(found.node.items)):
                one = found.at(index)
                if isinstance(one.node, Mapping) and "spec" in one.node.entries:
                    one.put_apart()
                    yield from read(_resource(_LISTS[key], one, accounts))
                else:
                    hint = f"give what `aws appmesh describe-{_dashed(_LISTS[key])}` prints for each"
                    one.dropped("`list` tells names and no more", hint, is_lost=True)
        elif key == "nextToken":
            hint = "list on with `--starting-token`, or give what `describe` prints"
            found.dropped("the list goes on after its last item", hint, is_lost=True)


def _dashed(word: str) -> str:
    return "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in word)


def _resource(word: str, around: Field, accounts: list[Account]) -> Iterator[Resource]:
    kind = _KINDS[word]
    account = Account(kind, around.node, around.path)
    accounts.append(account)
    root = Field(around.node, around.path, account, _SHAPE)
    name, mesh = root.need(f"{word}Name"), root.get("meshName")
    account.label = f"{kind} {name.text()}"
    owner = root.get("virtualRouterName") if kind == "Route" else None
    owner = root.get("virtualGatewayName") if kind == "GatewayRoute" else owner
    for one in (name, owner, mesh):
        if one is not None:
            one.kept("says which resource it is, and whose")
    root.drop("metadata", "told by AWS")
    root.drop("status", "told by AWS")
    root.drop("tags", "services have no tags", "put what matters into a comment")
    yield Resource(
        kind, name.text(), account.label, root, root.get("spec"), "" if owner is None else owner.text(),
        mesh="" if mesh is None else mesh.text(),
    )  # fmt: skip
