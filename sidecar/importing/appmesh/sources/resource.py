"""A resource of App Mesh, wherever it was written. *Cold, pure.*"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from sidecar.config.yaml.document import Mapping
from sidecar.importing.field import Field, WrongError

Kind = Literal["Mesh", "VirtualNode", "VirtualRouter", "Route", "VirtualService", "VirtualGateway", "GatewayRoute"]
KINDS: Final[tuple[Kind, ...]] = (
    "Mesh", "VirtualNode", "VirtualRouter", "Route", "VirtualService", "VirtualGateway", "GatewayRoute"
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Resource:
    """
    A resource.

    Attributes:
        kind: Of what kind it is.
        name: Its name in App Mesh, by which others refer to it.
        label: For people: kind and name as the source has it.
        root: All of it.
        spec: Its specification; None if it has none.
        owner: Name of the virtual router, or gateway, that a route belongs to.
        namespace: Of Kubernetes; empty elsewhere.
        short_name: Its name in that namespace.
        mesh: Name of its mesh, as far as it says.
    """

    kind: Kind
    name: str
    label: str
    root: Field
    spec: Field | None
    owner: str = ""
    namespace: str = ""
    short_name: str = ""
    mesh: str = ""

    @property
    def where(self) -> str:
        """`file:line`."""
        return f"{self.root.node.file}:{self.root.node.line}"


def folded(name: str) -> str:
    """`portMapping`, `PortMapping` and `port_mapping` are one name; so are `awsCloudMap` and `AWSCloudMap`."""
    return name.replace("_", "").lower()


def find_key(node: Mapping, name: str) -> str | None:
    """By which key a mapping has a field, however its source spells the name."""
    if name in node.entries:
        return name
    wanted = folded(name)
    return next((key for key in node.entries if folded(key) == wanted), None)


class AsWritten:
    """Fields in the API's spelling, or near it, and nothing else about them: of the API and of Kubernetes."""

    def key(self, node: Mapping, name: str) -> str | None:
        """By which key the mapping has the field of this name, or None."""
        return find_key(node, name)

    def opened(self, field: Field) -> Field | None:
        """The field, unless it is null."""
        return None if is_null(field) else field


def is_null(field: Field) -> bool:
    """Whether it is a null."""
    return getattr(field.node, "value", field.node) is None


def read(resources: Iterator[Resource]) -> list[Resource]:
    """What one place holds; none, and told as lost, if it cannot be read."""
    try:
        return list(resources)
    except WrongError as error:
        error.give_up()
        return []
