"""By which hosts a service is called, and which of its ports each of them means. *Cold, pure.*"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from sidecar.config.model.root import RoutingTest
from sidecar.config.values.addresses import split_address
from sidecar.mesh.model.service import Service


def has_port(host: str) -> bool:
    """Whether a host of a service carries a port."""
    return not host.endswith("]") and ":" in host.rpartition("]")[2]


def port_names(service: Service) -> tuple[str, ...]:
    """Names of a service's ports, the first one first; one without a name if it has no app with a sidecar."""
    return tuple(service.listens) or ("",)


def port_number(service: Service, port: str) -> int:
    """By which number callers choose a port: that on which the app listens; -1 for a Unix socket."""
    return split_address(service.listens[port].app)[1] if port in service.listens else -1


def hosts_of(name: str, service: Service) -> dict[str, str]:
    """
    Every host by which a service is called, and the port that it means.

    A host without a port means the first; with a port it means the one of that number, else the first, so that a
    service may be called by a port on which it does not listen. Of the further ports each is also called by every host
    without a port, followed by its number.
    """
    declared = [name] if service.hosts is None else service.hosts
    first, *further = port_names(service)
    by_number = {port_number(service, port): port for port in reversed(further)}
    found: dict[str, str] = {}
    for host in declared:
        number = int(host.rpartition(":")[2]) if has_port(host) else 0
        found.setdefault(host, by_number.get(number, first))
    for port in further:
        number = port_number(service, port)
        for host in declared:
            if number > 0 and not has_port(host):
                found.setdefault(f"{host}:{number}", port)
    return found


def hosts_by_port(name: str, service: Service) -> dict[str, list[str]]:
    """Of each port its hosts; further ports before the first, whose hosts may be theirs without the number."""
    found: dict[str, list[str]] = {port: [] for port in reversed(port_names(service))}
    for host, port in hosts_of(name, service).items():
        found[port].append(host)
    return found


def authority_of(test: RoutingTest) -> str:
    """The host that a test's request is for, as it would be sent; lower case."""
    for name, value in test.request.headers.items():
        if name.lower() == "host":
            return value.strip().lower()
    return urlsplit(test.request.url).netloc.rpartition("@")[2].lower()


def find_host(authority: str, owners: Mapping[str, str]) -> str | None:
    """The entry of `owners` for the authority of a request: with its port, else without; None if there is neither."""
    return next((owners[one] for one in _forms(authority) if one in owners), None)


def _forms(authority: str) -> Iterator[str]:
    yield authority
    if has_port(authority):
        host, _, port = authority.rpartition(":")
        yield f"{host.removesuffix('.')}:{port}"
        authority = host
    yield authority.removesuffix(".")
