"""By which hosts a service is called, and which of its ports each of them means. *Cold, pure.*"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from heapq import heappop, heappush
from urllib.parse import urlsplit

from sidecar.config.model.root import RoutingTest
from sidecar.config.values.addresses import split_address, split_pattern
from sidecar.mesh.model.service import Service

_HTTP = 80
"""The port of a request that names none."""


def has_port(host: str) -> bool:
    """Whether a host of a service carries a port."""
    return split_pattern(host)[1] is not None


def port_names(service: Service) -> tuple[str, ...]:
    """Names of a service's ports, the first one first; one without a name if it has no app with a sidecar."""
    return tuple(service.listens) or ("",)


def port_number(service: Service, port: str) -> int:
    """
    By which number callers choose a port: that on which the app listens; -1 for a Unix socket, and where servers
    outside of the mesh have none, or not all the same.
    """
    if port in service.listens:
        return split_address(service.listens[port].app)[1]
    told = [service.dns] if service.dns is not None else [one.address for one in service.endpoints or []]
    numbers = {split_address(address)[1] for address in told}
    return numbers.pop() if len(numbers) == 1 else -1


def hosts_of(name: str, service: Service) -> dict[str, str]:
    """
    Every host by which a service is called, and the port that it means.

    A host without a port means the first; with a port it means the one of that number, else the first, so that a
    service may be called by a port on which it does not listen. Of the further ports each is also called by every host
    without a port, followed by its number. So is the first if what it speaks is no HTTP: such a connection says no
    name, and is known by address and port.
    """
    declared = [name] if service.hosts is None else service.hosts
    first, *further = port_names(service)
    by_number = {port_number(service, port): port for port in reversed(further)}
    own = port_number(service, first) if service.speaks_tcp(first) else -1
    found: dict[str, str] = {}
    for host in declared:
        number = split_pattern(host)[1]
        if number is None and own > 0:
            found.setdefault(f"{host}:{own}", first)
        else:
            found.setdefault(host, by_number.get(number, first) if number is not None else first)
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


def in_order(groups: Sequence[Sequence[str]]) -> tuple[list[int], set[int]]:
    """
    An order in which no host without a port comes before the same host with one, which it would take requests from.

    Args:
        groups: Hosts that stay together.

    Returns:
        Positions of all groups, in their own order as far as that may be; and of those for which there is none, because
        each would have to come before another of them.
    """
    owner = {host: index for index, hosts in enumerate(groups) for host in hosts if not has_port(host)}
    after: dict[int, set[int]] = {}
    waits_for = [0] * len(groups)
    for index, hosts in enumerate(groups):
        found = {owner.get(split_pattern(host)[0], index) for host in hosts if has_port(host)} - {index}
        after[index] = found
        for other in found:
            waits_for[other] += 1
    ready = [index for index, count in enumerate(waits_for) if not count]
    order: list[int] = []
    while ready:
        order.append(heappop(ready))
        for other in after[order[-1]]:
            waits_for[other] -= 1
            if not waits_for[other]:
                heappush(ready, other)
    left = set(range(len(groups))) - set(order)
    return [*order, *sorted(left)], left


def authority_of(test: RoutingTest) -> str:
    """The host that a test's request is for, as it would be sent; lower case."""
    for name, value in test.request.headers.items():
        if name.lower() == "host":
            return value.strip().lower()
    return urlsplit(test.request.url).netloc.rpartition("@")[2].lower()


def find_host(authority: str, owners: Mapping[str, str]) -> str | None:
    """
    The entry of `owners` for the authority of a request; None if there is none.

    One with the request's port, 80 where it names none, goes before one without.
    """
    host, port = split_pattern(authority.lower())
    host = host.removesuffix(".")
    return owners.get(f"{host}:{port if port is not None else _HTTP}", owners.get(host))
