"""
A mesh that was read and understood: services by name, and where in its files everything is written. *Cold, pure.*
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sidecar.config.problems import Problem
from sidecar.config.yaml.document import Mapping as MappingNode
from sidecar.config.yaml.document import Node, Scalar, Sequence
from sidecar.config.yaml.places import Location, Place, locate, place_of_key
from sidecar.config.yaml.scalars import Spelled
from sidecar.mesh.access.admission import TlsMode, admits, tls_mode
from sidecar.mesh.access.identities import ids_of
from sidecar.mesh.model.root import MeshFile, RolloutSpec
from sidecar.mesh.model.service import Service, ServiceFile

HASH_CHARS: Final = 32
"""Of the hexadecimal SHA-256: 128 bits."""


@dataclass(frozen=True, slots=True)
class Document:
    """
    One file of the mesh.

    Attributes:
        name: Relative to the mesh's directory.
        raw: Its bytes.
        root: Its tree.
        model: What it says.
        values: Of the tree, in canonical form.
        shared: What was made of this file alone and every compiled file has the same of, by what it is: one of each
            for all callers, for as long as the file stays as it is.
    """

    name: str
    raw: bytes = field(repr=False)
    root: Node = field(repr=False)
    model: MeshFile | ServiceFile = field(repr=False)
    values: Mapping[str, Any] = field(repr=False)
    shared: dict[tuple[str, ...], Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in the mesh's files; line and column from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Placed:
    """
    A service and where it is written.

    Attributes:
        name: Of the service.
        service: What it says.
        document: The file that says it.
        at: Where in that file: nothing, or `services` and its name.
        node: Its tree.
        named: The node that gives its name.
    """

    name: str
    service: Service
    document: Document
    at: tuple[str, ...]
    node: MappingNode
    named: Node

    @property
    def values(self) -> Mapping[str, Any]:
        """What its tree says, in canonical form."""
        found = self.document.values
        for key in self.at:
            found = found[key]
        return found if isinstance(found, dict) else {}

    def place(self, *location: int | str, at_key: bool = False) -> Place:
        """The place of a location of its models, or the nearest to it."""
        here: Location = (*self.at, *location)
        return (place_of_key if at_key else locate)(self.document.root, here)

    def mark(self, *location: int | str, at_key: bool = False) -> Mark:
        """The same as file, line and column; of the service as a whole, its name's."""
        node = self.place(*location, at_key=at_key).mark if location else self.named
        return Mark(self.document.name, node.line, node.column)


@dataclass(frozen=True, slots=True)
class Mesh:
    """
    A mesh without a problem that its files show by themselves; `verify` also judges what is compiled of them.

    Attributes:
        root: What holds for all services.
        document: The file that says it.
        documents: All files, by name.
        placed: Services with their places, by name.
        services: What each service says, by name.
        hash: Of all values, without comments, order of files or what a file is called.
        has_identity: Whether its sidecars have identities; without, they speak in clear, and `callers` are not asked.
        warnings: What is hardly meant.
    """

    root: MeshFile
    document: Document
    documents: Mapping[str, Document] = field(repr=False)
    placed: Mapping[str, Placed] = field(repr=False)
    services: Mapping[str, Service]
    hash: str
    has_identity: bool
    warnings: tuple[Problem, ...] = ()

    @property
    def name(self) -> str:
        """Of the mesh."""
        return self.root.mesh

    @property
    def rollout(self) -> RolloutSpec:
        """How changes reach the instances."""
        return self.root.rollout

    @property
    def access(self) -> str:
        """Who may call a service that names no `callers`: `open` or `closed`."""
        return self.root.access

    @property
    def unmatched(self) -> str:
        """What becomes of calls to unknown hosts: `passthrough` or `deny`."""
        return self.root.unmatched

    def mark(self, key: str) -> Mark:
        """Where the mesh's own file says a key; its first line, if it does not."""
        root = self.document.root
        if not isinstance(root, MappingNode) or key not in root.entries:
            return Mark(self.document.name, 1, 1)
        node = root.entries[key][0]
        return Mark(self.document.name, node.line, node.column)

    def identities(self, service: str) -> list[str]:
        """The SPIFFE IDs that instances of a service may have."""
        return ids_of(self.name, service, self.services[service])

    def tls_of(self, service: str) -> TlsMode:
        """Which TLS the sidecars of a service take."""
        return tls_mode(self.services[service], self.root.defaults.inbound)

    def speaks_tls(self, service: str) -> bool:
        """Whether its callers are told to come by TLS between sidecars."""
        is_inside = self.has_identity and not self.services[service].is_outside
        return is_inside and bool(self.services[service].listens) and self.tls_of(service) != "off"

    def admits(self, callee: str, caller: str) -> bool:
        """Whether one service lets another one call it."""
        return admits(self.services[callee], caller, self.services[caller], self.access)

    def callees(self, caller: str) -> tuple[str, ...]:
        """Services that a service calls, as far as its sidecars are told, by name."""
        return callees(caller, self.services, self.access)


def callees(caller: str, services: Mapping[str, Service], access: str) -> tuple[str, ...]:
    """What `calls` names, or every service that can be called and admits the caller; by name."""
    calls = services[caller].calls
    if calls is not None:
        return tuple(sorted(name for name in calls if name in services and name != caller))
    return tuple(
        sorted(
            name
            for name, one in services.items()
            if name != caller and can_be_called(one) and admits(one, caller, services[caller], access)
        )
    )


def can_be_called(service: Service) -> bool:
    """Whether there is anywhere to call: ports, instances, or addresses outside of the mesh."""
    return service.is_outside or bool(service.listens) or bool(service.instances)


def digest(canonical: object) -> str:
    """The hash of values in their canonical form."""
    return digest_of_octets(octets_of(canonical))


def octets_of(canonical: object) -> bytes:
    """Values in their canonical form, as JSON."""
    return json.dumps(canonical, ensure_ascii=True, separators=(",", ":")).encode()


def digest_of_octets(octets: bytes) -> str:
    """The hash of what `octets_of` gave."""
    return hashlib.sha256(octets).hexdigest()[:HASH_CHARS]


def canonical(node: Node) -> object:
    """A tree's values without places; plain booleans and numbers differ from the same text in quotes."""
    if isinstance(node, MappingNode):
        return {key: canonical(value) for key, (_, value) in node.entries.items()}
    if isinstance(node, Sequence):
        return [canonical(item) for item in node.items]
    assert isinstance(node, Scalar)
    return [None, node.text] if isinstance(node.value, Spelled) else node.text
