"""An identity is that of one service: whoever has two owners could be either. *Cold, pure.*"""

from __future__ import annotations

from collections.abc import Sequence

from sidecar.mesh.access.identities import paths_of
from sidecar.mesh.rules.scope import Scope


def check_identities(scopes: Sequence[Scope]) -> None:
    """Two services that claim one identity are told of each other."""
    names = {scope.name: scope for scope in scopes}
    owners: dict[str, Scope] = {}
    for scope in scopes:
        if scope.service.is_outside:
            continue
        paths = paths_of(scope.name, scope.service)
        for index, path in enumerate(paths):
            if path in paths[:index]:
                scope(("identities", index), f"`{path}` comes twice", "remove one")
                continue
            owner = owners.setdefault(path, scope)
            if owner is not scope:
                for one, other in ((scope, owner), (owner, scope)):
                    _report(one, other, path)
            elif path in names and path != scope.name and paths_of(path, names[path].service) != [path]:
                # Nobody claims it, but what proves who joins is bound to a service's name.
                message = f"`{path}` is the name of another service ({names[path].where()})"
                scope(("identities", index), message, "a service's own name is nobody else's identity: remove it")


def _report(scope: Scope, other: Scope, path: str) -> None:
    message = f"the identity `{path}` is also claimed by `{other.name}` ({_place(other, path)})"
    if scope.service.identities is None:
        scope((), message, "a service without `identities` has its own name; give one of the two another")
    else:
        at = ("identities", scope.service.identities.index(path))
        scope(at, message, "an identity is that of one service: remove it from one of them")


def _place(scope: Scope, path: str) -> str:
    if scope.service.identities is None:
        return scope.where()
    return scope.where("identities", scope.service.identities.index(path), at_key=False)
