"""
Probes of an app whose ports are captured: what they would ask, and what is asked instead. *Pure.*

The kubelet's connection to a captured port ends at the sidecar, which accepts it whether the app listens or not: a
probe that only connects would never fail. So `tcpSocket` becomes a request of `/app-health/PORT`, for which the sidecar
connects to that port of the app. `httpGet` and `grpc` go through the sidecar to the app as any request does, and stay.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from sidecar.capture.exclusions import parse_exclusions
from sidecar.inject.edits import Exchange
from sidecar.inject.kubernetes.pods import Container, mapping, port_number
from sidecar.inject.wanted import HEALTH, OWN_PORTS

_KINDS: Final = ("startupProbe", "readinessProbe", "livenessProbe")


@dataclass(slots=True)
class Probes:
    """
    What is done about the probes of a pod.

    Attributes:
        edits: That ask the sidecar instead.
        ports: About which it is asked.
        requests: `/ready on 8080`, of those that stay, each once.
    """

    edits: list[Exchange] = field(default_factory=list)
    ports: set[int] = field(default_factory=set)
    requests: dict[str, None] = field(default_factory=dict)


def judge(containers: list[Container], excluded: str) -> Probes:
    """
    Look at the probes of a captured pod.

    Args:
        containers: All of the pod.
        excluded: Ports and networks whose connections are not captured.
    """
    found = Probes()
    ranges, _ = parse_exclusions(excluded)
    for container in containers:
        for name in _KINDS:
            probe = mapping(container.value.get(name))
            for handler, port in _handlers(probe, container):
                if port in OWN_PORTS or any(first <= port <= last for first, last in ranges):
                    continue
                _one(found, container, name, handler, port)
    return found


def _handlers(probe: object, container: Container) -> Iterator[tuple[str, int]]:
    for handler in ("tcpSocket", "grpc", "httpGet"):
        asked = mapping(mapping(probe).get(handler))
        port = port_number(asked.get("port"), container)
        if port is not None and not asked.get("host"):  # of another host is not this pod's matter
            yield handler, port


def _one(found: Probes, container: Container, name: str, handler: str, port: int) -> None:
    asked = mapping(mapping(container.value[name])[handler])
    if handler == "grpc":
        found.requests[f"/grpc.health.v1.Health/Check on {port}"] = None
        return
    if handler == "httpGet":
        if asked.get("scheme") != "HTTPS":
            found.requests[f"{asked.get('path') or '/'} on {port}"] = None
        return
    path = (*container.path, name, handler)
    found.edits.append(Exchange(path, "httpGet", {"path": f"/app-health/{port}", "port": HEALTH}))
    found.ports.add(port)
