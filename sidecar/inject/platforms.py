"""Whose manifest a document is, and what there is to do with it. *Pure.*"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sidecar.inject.compose import decide as compose
from sidecar.inject.ecs import decide as ecs
from sidecar.inject.edits import Value, at
from sidecar.inject.kubernetes.decide import decide
from sidecar.inject.kubernetes.services import Service
from sidecar.inject.kubernetes.workloads import is_kubernetes, workloads_of
from sidecar.inject.wanted import INJECTED, UNDO, Decision, Mark, Wanted


def decisions(document: Value, wanted: Wanted, services: Sequence[Service] = ()) -> Iterator[Decision]:
    """
    What is to be done with each workload of a document; nothing of other documents.

    Args:
        services: Of Kubernetes, in the same file.
    """
    if is_kubernetes(document):
        for workload in workloads_of(document):
            yield decide(document, workload, wanted, services)
    elif compose.is_compose(document):
        yield from compose.decisions(document, wanted)
    else:
        yield from ecs.decisions(document, wanted)


def marks(document: Value) -> Iterator[Mark]:
    """What earlier injections left in a document."""
    if is_kubernetes(document):
        for workload in workloads_of(document):
            path = (*workload.template, "metadata", "annotations")
            found = at(document, path)
            if isinstance(found, dict) and (INJECTED in found or UNDO in found):
                undo = found.get(UNDO)
                name = f"{workload.kind} {workload.name}".rstrip()
                yield Mark(name, workload.template, path, undo if isinstance(undo, str) else None)
    elif compose.is_compose(document):
        yield from compose.marks(document)
    else:
        yield from ecs.marks(document)
