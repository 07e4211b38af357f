"""Names of upstreams, and where the endpoints of those that are discovered come from. *Cold, pure.*"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from sidecar.config.model.root import EndpointSpec
from sidecar.mesh.hosts import port_names, port_number
from sidecar.mesh.model.instances import InstanceSource
from sidecar.mesh.model.service import Service
from sidecar.mesh.model.words import PORT_MARK

Kind = Literal["registered", "kubernetes", "etcd", "file", "dns", "endpoints", "union"]


@dataclass(frozen=True, slots=True)
class EndpointsOrigin:
    """
    Where the endpoints of a `discover` come from.

    Attributes:
        service: Whose they are.
        instance: Which of them; empty: all.
        port: Name of the port; empty where the service names none.
        kind: Of the source; `union`: all of `parts` together, an address once.
        values: Of `registered` the labels that must be equal (`version`, `zone`); of `kubernetes` `service`, `port`
            and, if given, `namespace`; of `etcd` `key`; of `file` `path`; of `dns` `address`; of `endpoints`
            `endpoints`: a list of `{address, weight, zone}`.
        parts: Of a union, in the order of the file.
    """

    service: str
    instance: str
    port: str
    kind: Kind
    values: Mapping[str, object] = field(default_factory=dict)
    parts: tuple[EndpointsOrigin, ...] = ()


def upstream_name(service: str, instance: str, port: str, first: str) -> str:
    """
    What an upstream is called: `NAME`, `NAME.INSTANCE`, and for a port that is not the first, `.port-PORT` after it.

    Args:
        instance: Empty: all.
        first: Name of the first port.
    """
    name = f"{service}.{instance}" if instance else service
    return name if port == first else f"{name}.{PORT_MARK}{port}"


def origin_of(name: str, service: Service, instance: str, port: str) -> EndpointsOrigin:
    """
    Where to find the instances of a service of the mesh.

    All of them are those that registered, if there is an app, and those of every instance with another source.
    """
    if instance:
        return _origin(name, instance, service.instances[instance], service, port)
    parts: list[EndpointsOrigin] = []
    if service.listens:
        parts.append(EndpointsOrigin(name, "", port, "registered"))
    for key, source in service.instances.items():
        if source.registered is None:
            one = _origin(name, key, source, service, port)
            if all((one.kind, one.values) != (other.kind, other.values) for other in parts):
                parts.append(one)
    if len(parts) == 1:
        return EndpointsOrigin(name, "", port, parts[0].kind, parts[0].values)
    return EndpointsOrigin(name, "", port, "union", {}, tuple(parts))


def _origin(name: str, instance: str, source: InstanceSource, service: Service, port: str) -> EndpointsOrigin:
    is_first = port == port_names(service)[0]
    number = port_number(service, port)
    kind: Kind
    values: dict[str, object]
    if source.registered is not None:
        labels = {"version": source.registered.version, "zone": source.registered.zone}
        kind, values = "registered", {key: value for key, value in labels.items() if value is not None}
    elif source.kubernetes is not None:
        one = source.kubernetes
        kind, values = "kubernetes", {"service": one.service, "port": one.port if is_first else port}
        if one.namespace is not None:
            values["namespace"] = one.namespace
    elif source.etcd is not None:
        kind, values = "etcd", {"key": source.etcd}
    elif source.file is not None:
        kind, values = "file", {"path": source.file}
    elif source.dns is not None:
        kind, values = "dns", {"address": source.dns if is_first else _at_port(source.dns, number)}
    else:
        listed = source.endpoints or []
        kind, values = "endpoints", {"endpoints": _listed(listed, 0 if is_first else number)}
    return EndpointsOrigin(name, instance, port, kind, values)


def _at_port(address: str, number: int) -> str:
    return address if address.startswith("unix:") or not number else f"{address.rpartition(':')[0]}:{number}"


def _listed(endpoints: Sequence[EndpointSpec], number: int) -> list[dict[str, object]]:
    return [
        {"address": _at_port(one.address, number), "weight": one.weight, "zone": one.zone or ""} for one in endpoints
    ]
