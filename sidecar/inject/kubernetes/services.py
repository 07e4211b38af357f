"""
Services that stand in the same file as workloads: at which port of the app they aim. *Pure.*

A container need not say its ports, or says several; its Service says which one is called.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from sidecar.inject.edits import Value, at
from sidecar.inject.kubernetes.pods import Container, listed, mapping, port_number
from sidecar.inject.kubernetes.workloads import objects_of
from sidecar.inject.wanted import OWN_PORTS


@dataclass(frozen=True, slots=True)
class Service:
    """
    Attributes:
        namespace: Empty where it does not say.
        selector: Labels of its pods; at least one.
        targets: Its TCP ports' `targetPort`: numbers, or names of ports of containers.
    """

    namespace: str
    selector: Mapping[str, Value]
    targets: tuple[Value, ...]


def services_of(documents: Iterable[Value]) -> list[Service]:
    """Every Service with a selector in some documents, those in lists of objects included."""
    return [service for document in documents for service in _services(document)]


def _services(document: Value) -> Iterator[Service]:
    for path, found in objects_of(document):
        spec = mapping(at(document, (*path, "spec")))
        selector = mapping(spec.get("selector"))
        if (found["apiVersion"], found["kind"]) != ("v1", "Service") or not selector:
            continue
        ports = [mapping(port) for port in listed(spec.get("ports"))]
        # Without a target it is the Service's own number.
        targets = [one.get("targetPort") or one.get("port") for one in ports if one.get("protocol") in (None, "TCP")]
        namespace = mapping(found.get("metadata")).get("namespace")
        yield Service(str(namespace or ""), selector, tuple(targets))


def aimed_at(
    services: Iterable[Service], namespace: str, labels: Mapping[str, Value], containers: Iterable[Container]
) -> list[int]:
    """
    The ports of a pod at which Services aim, each once, in order; none of our own, at which who knows us aims.

    Args:
        namespace: Of the pod; empty where it does not say.
        labels: Of the pod.
        containers: Of the app, by whose port names a target may be called.
    """
    found: set[int] = set()
    known = list(containers)
    for service in services:
        if service.namespace != namespace or any(labels.get(key) != value for key, value in service.selector.items()):
            continue
        for target in service.targets:
            numbers = (port_number(target, container) for container in known)
            number = next((one for one in numbers if one is not None), None)
            if number is not None and number not in OWN_PORTS and 0 < number < 65536:
                found.add(number)
    return sorted(found)
