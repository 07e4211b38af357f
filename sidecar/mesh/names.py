"""Which names the apps of each service must be able to resolve, for the mesh answers no DNS. *Cold, pure.*"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sidecar.config.values.addresses import split_pattern
from sidecar.mesh.hosts import hosts_of
from sidecar.mesh.mesh import Mesh


@dataclass(frozen=True, slots=True)
class Name:
    """
    A host that a service calls.

    Attributes:
        host: Without a port.
        service: Whose it is.
        listen: The address on which the caller's sidecar takes calls to that service without a name; empty: none.
    """

    host: str
    service: str
    listen: str


def names_of(mesh: Mesh) -> Mapping[str, tuple[Name, ...]]:
    """
    By service, what it calls: every host once, by service and host.

    With capture each must resolve, to anything that is not loopback. An app that sets `HTTP_PROXY` or calls `listen`
    resolves none of them.
    """
    found: dict[str, tuple[Name, ...]] = {}
    for caller, placed in mesh.placed.items():
        if placed.service.is_outside:
            continue
        names: set[tuple[str, str, str]] = set()
        for callee in mesh.callees(caller):
            call = (placed.service.calls or {}).get(callee)
            listen = call.listen or "" if call is not None else ""
            for host in hosts_of(callee, mesh.placed[callee].service):
                names.add((callee, split_pattern(host)[0], listen))
        found[caller] = tuple(Name(host, service, listen) for service, host, listen in sorted(names))
    return found
