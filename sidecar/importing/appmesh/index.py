"""Who is meant: resources of App Mesh by every name that others call them. *Cold, pure.*"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sidecar.config.problems import did_you_mean
from sidecar.importing.appmesh.sources.resource import Kind, Resource
from sidecar.importing.field import Field, WrongError
from sidecar.importing.kubernetes import reference_of

_WORDS: Final[dict[Kind, str]] = {
    "VirtualNode": "virtualNode", "VirtualRouter": "virtualRouter", "VirtualService": "virtualService",
    "VirtualGateway": "virtualGateway",
}  # fmt: skip
_SAID: Final[dict[Kind, str]] = {
    "VirtualNode": "virtual node", "VirtualRouter": "virtual router", "VirtualService": "virtual service",
    "VirtualGateway": "virtual gateway",
}  # fmt: skip


class Index:
    """
    Resources by kind and name; of two with one name the first, and the other is told as lost.

    Args:
        resources: All of one mesh.
    """

    def __init__(self, resources: Iterable[Resource]) -> None:
        self._by_name: dict[Kind, dict[str, Resource]] = {kind: {} for kind in _WORDS}
        self._in_namespace: dict[tuple[Kind, str, str], Resource] = {}
        self.routes: dict[str, list[Resource]] = {}
        self.gateway_routes: list[Resource] = []
        seen: dict[tuple[str, str], Resource] = {}
        for one in resources:
            if one.kind == "GatewayRoute":
                first = seen.setdefault((f"{one.kind} {one.owner}", one.name), one)
                if first is one:
                    self.gateway_routes.append(one)
                else:
                    _tell_twice(one, first)
            elif one.kind == "Route":
                first = seen.setdefault((one.owner, one.name), one)
                if first is one:
                    self.routes.setdefault(one.owner, []).append(one)
                else:
                    _tell_twice(one, first)
            elif one.kind in _WORDS:
                first = self._by_name[one.kind].setdefault(one.name, one)
                if first is not one:
                    _tell_twice(one, first)
                elif one.namespace:
                    self._in_namespace[one.kind, one.namespace, one.short_name] = one

    def all(self, kind: Kind) -> list[Resource]:
        """Of one kind, by name."""
        return [self._by_name[kind][name] for name in sorted(self._by_name[kind])]

    def get(self, kind: Kind, name: str) -> Resource | None:
        """By its name in App Mesh."""
        return self._by_name[kind].get(name)

    def in_namespace(self, kind: Kind, namespace: str) -> list[Resource]:
        """Of one kind, those of a namespace."""
        return [one for one in self.all(kind) if one.namespace == namespace]

    def named(self, holder: Field, kind: Kind, user: Resource) -> tuple[Resource, Field]:
        """
        Who is meant by a field that names a resource: by name, by reference or by ARN.

        Args:
            holder: The mapping that has it.
            user: Who says so, for the namespace.

        Returns:
            The resource, and the field that says it.

        Raises:
            WrongError: It names nobody, or nobody who is there.
        """
        word, said = _WORDS[kind], _SAID[kind]
        reference = holder.get(f"{word}Ref")
        if reference is not None:
            namespace, name = reference_of(reference, user.namespace)
            return self.referred(kind, namespace, name, reference, f"{user.label} ({user.where})"), reference
        field = holder.get(f"{word}Name") or holder.get(f"{word}ARN")
        if field is None:
            one = holder.get(word)
            if one is not None and one.is_mapping:
                return self.named(one, kind, user)
            field = one
        if field is None:
            raise WrongError(holder, f"expected the name of a {said}, found none", "it is required")
        name = field.text()
        if name.startswith("arn:"):
            name = name.rpartition(f"/{word}/")[2]
        found = self._by_name[kind].get(name)
        if found is None:
            raise _missing(field, f"{said} `{name}`", name, self._by_name[kind], f"{user.label} ({user.where})")
        return found, field

    def referred(self, kind: Kind, namespace: str, name: str, field: Field, user: str) -> Resource:
        """
        An object of Kubernetes by its name in a namespace.

        Raises:
            WrongError: There is none.
        """
        found = self._in_namespace.get((kind, namespace, name))
        if found is None:
            known = [key[2] for key in self._in_namespace if key[0] == kind]
            raise _missing(field, f"{_SAID[kind]} `{name}` in the namespace `{namespace}`", name, known, user)
        return found


def _missing(field: Field, what: str, name: str, known: Iterable[str], user: str) -> WrongError:
    hint = did_you_mean(name, known) or "give the file that has it, too"
    return WrongError(field, f"there is no {what}, which {user} names", hint)


def _tell_twice(one: Resource, first: Resource) -> None:
    message = f"{first.label} ({first.where}) has the same name"
    one.root.dropped(message, "remove one of the two", is_lost=True)
