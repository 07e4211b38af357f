"""Services as they will be written, before they have a text: what every translation makes. *Cold, pure.*"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

Plain: TypeAlias = "str | int | float | bool | Sequence[Plain] | Mapping[str, Plain]"
"""A value of a file; a string is written as a word, in quotes where it needs them."""


@dataclass(slots=True)
class RouteDraft:
    """
    A route.

    Attributes:
        name: Unique in its service.
        origin: What it comes from, for a comment.
        matches: Any of them; none: every request. One with `host` names hosts of its front itself.
        to: Weights by instance; empty: all instances, or what `rest` says instead.
        rest: Other keys of a route.
        is_stream: It is for connections that are no HTTP's.
        has_ports: Its destinations have a port of their own, whatever it is called by.
    """

    name: str
    origin: str
    matches: list[dict[str, Plain]] = field(default_factory=list)
    to: dict[str, float] = field(default_factory=dict)
    rest: dict[str, Plain] = field(default_factory=dict)
    is_stream: bool = False
    has_ports: bool = False


@dataclass(slots=True)
class Front:
    """
    Names under which apps call a service, and the routes that hold for them.

    Attributes:
        hosts: At least one.
        routes: In the order in which they are tried.
        origin: What it comes from.
    """

    hosts: list[str]
    routes: list[RouteDraft]
    origin: str


@dataclass(slots=True)
class InstanceDraft:
    """
    A subset of a service's instances.

    Attributes:
        source: Where they are found, as the file has it.
        origin: What it comes from.
    """

    source: dict[str, Plain]
    origin: str


@dataclass(slots=True)
class CallDraft:
    """
    What a service calls.

    Attributes:
        origin: What says so.
        values: `listen`, `timeout` and the like.
        routes: The caller's own.
    """

    origin: str
    values: dict[str, Plain] = field(default_factory=dict)
    routes: list[RouteDraft] = field(default_factory=list)


@dataclass(slots=True)
class ServiceDraft:
    """
    A service.

    Attributes:
        name: Unique in the mesh.
        origin: What it comes from.
        fronts: Each with its names and routes. None: it is called by nobody.
        ports: Where the app listens, by the port's name.
        instances: By name.
        calls: By service; None: it says nothing of what it calls.
        values: Other keys of a service, such as `outlier_detection`.
    """

    name: str
    origin: str
    fronts: list[Front] = field(default_factory=list)
    ports: dict[str, Plain] = field(default_factory=dict)
    instances: dict[str, InstanceDraft] = field(default_factory=dict)
    calls: dict[str, CallDraft] | None = None
    values: dict[str, Plain] = field(default_factory=dict)


@dataclass(slots=True)
class MeshDraft:
    """
    A mesh.

    Attributes:
        name: Its name.
        origin: What it comes from.
        values: Keys of its own file.
        services: Without two of one name.
    """

    name: str
    origin: str
    values: dict[str, Plain] = field(default_factory=dict)
    services: list[ServiceDraft] = field(default_factory=list)
