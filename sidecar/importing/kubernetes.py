"""Objects of Kubernetes: what every one of them says, and lists of them. *Cold, pure.*"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from sidecar.config.yaml.document import Mapping, Node, Scalar, Sequence
from sidecar.importing.account import Account, Path
from sidecar.importing.field import Field, Shape

_OF_THE_SERVER: Final = (
    "uid", "resourceVersion", "generation", "creationTimestamp", "selfLink", "managedFields", "finalizers",
    "ownerReferences", "generateName",
)  # fmt: skip
DEFAULT_NAMESPACE: Final = "default"


@dataclass(frozen=True, slots=True)
class Object:
    """
    An object.

    Attributes:
        kind: Of which kind.
        api_version: As it is written.
        name: Of the object.
        namespace: `default` where it says none, as where `kubectl` is told none.
        created: When, as the server writes it; empty in a file that was never applied.
        root: All of it.
    """

    kind: str
    api_version: str
    name: str
    namespace: str
    created: str
    root: Field

    @property
    def group(self) -> str:
        """Of its API; empty for the core."""
        return self.api_version.rpartition("/")[0]

    @property
    def version(self) -> str:
        """Of its API."""
        return self.api_version.rpartition("/")[2]

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name."""
        return self.namespace, self.name


def is_object(root: Mapping) -> bool:
    """Whether a document is an object of Kubernetes."""
    return "kind" in root.entries and "apiVersion" in root.entries


def objects_of(root: Mapping, shape: Shape, accounts: list[Account], path: Path = ()) -> Iterator[Object]:
    """
    The objects of a document: itself, or the items of a list.

    Args:
        accounts: Gets one for what stands around the items of a list, and one for each item that is no object; those of
            the objects are the caller's to add.
    """
    kind = _word(root, "kind")
    items = root.entries["items"][1] if "items" in root.entries else None
    if kind.endswith("List") and isinstance(items, Sequence):
        around = Account(kind, root, path)
        accounts.append(around)
        for key in root.entries:
            here = Field(root.entries[key][1], (*path, key), around, shape)
            if key != "items":
                here.kept("says that it is a list") if key in ("apiVersion", "kind") else here.dropped("of the list")
        for index, item in enumerate(items.items):
            below: Path = (*path, "items", index)
            field = Field(item, below, around, shape)
            if isinstance(item, Mapping) and is_object(item):
                field.put_apart()
                yield from objects_of(item, shape, accounts, below)
            else:
                field.dropped("expected an object with `apiVersion` and `kind`", "remove it", is_lost=True)
        return
    metadata = root.entries["metadata"][1] if "metadata" in root.entries else None
    name, namespace = _word(metadata, "name"), _word(metadata, "namespace")
    account = Account(f"{kind} {f'{namespace}/' if namespace else ''}{name}", root, path)
    field = Field(root, path, account, shape)
    if not name:
        accounts.append(account)
        field.dropped("expected `metadata.name`, found none", "give it a name", is_lost=True)
        return
    created = _word(metadata, "creationTimestamp")
    yield Object(kind, _word(root, "apiVersion"), name, namespace or DEFAULT_NAMESPACE, created, field)


def mark_metadata(one: Object) -> None:
    """Mark what says which object it is, and what only a cluster needs."""
    root = one.root
    root.keep("apiVersion", "says what it is")
    root.keep("kind", "says what it is")
    root.drop("status", "told by the cluster")
    metadata = root.need("metadata")
    metadata.keep("name", "says which object it is")
    metadata.keep("namespace", "says which object it is")
    for key in _OF_THE_SERVER:
        metadata.drop(key, "told by the cluster")
    for key in ("labels", "annotations"):
        metadata.drop(key, f"services have no {key}", "put what matters into a comment")


def reference_of(field: Field, namespace: str) -> tuple[str, str]:
    """
    Namespace and name that a reference says.

    Raises:
        WrongError: It has no name.
    """
    name, other = field.need("name"), field.get("namespace")
    return (namespace if other is None else other.text(), name.text())


def _word(node: Node | None, key: str) -> str:
    value = node.entries[key][1] if isinstance(node, Mapping) and key in node.entries else None
    return value.text if isinstance(value, Scalar) and value.value is not None else ""
