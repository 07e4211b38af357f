"""Where in a document of Kubernetes there are pod templates. *Pure.*"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from sidecar.inject.edits import Path, Value, at

_TEMPLATES: Final[dict[str, Path]] = {
    "Pod": (),
    "PodTemplate": ("template",),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
    **dict.fromkeys(
        ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController", "Job"), ("spec", "template")
    ),
}
_GROUPS: Final = frozenset({"v1", "apps", "batch", "extensions"})
"""Of these the kinds above are Kubernetes' own; others have kinds of the same names."""
_FORBIDDEN: Final = ("serving.knative.dev",)
"""Allow no init containers."""
ENDING: Final = frozenset({"Job", "CronJob"})
"""Kinds whose pods are to end."""


@dataclass(frozen=True, slots=True)
class Workload:
    """
    Attributes:
        kind, name: For people, the name with its namespace where it is written.
        own_name: Without it.
        path: Of the object, from the document's root.
        template: Of its pod template, from there, too; of a Pod its own.
    """

    kind: str
    name: str
    own_name: str
    path: Path
    template: Path


def is_kubernetes(document: Value) -> bool:
    """Whether a document is an object of Kubernetes."""
    return isinstance(document, dict) and all(isinstance(document.get(key), str) for key in ("apiVersion", "kind"))


def workloads_of(document: Value, path: Path = ()) -> Iterator[Workload]:
    """Every object in a document that makes pods, those in lists of objects included."""
    found = at(document, path)
    if not is_kubernetes(found):
        return
    assert isinstance(found, dict)
    kind, group = found["kind"], found["apiVersion"].partition("/")[0]
    items = found.get("items")
    if kind.endswith("List") and isinstance(items, list):
        for index in range(len(items)):
            yield from workloads_of(document, (*path, "items", index))
        return
    template = _TEMPLATES.get(kind) if group in _GROUPS else None
    if template is None:
        if group in _FORBIDDEN or not isinstance(at(found, ("spec", "template", "spec", "containers")), list):
            return
        template = ("spec", "template")
    metadata = found.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    name = str(metadata.get("name") or metadata.get("generateName") or "")
    namespace = metadata.get("namespace")
    yield Workload(kind, f"{namespace}/{name}" if namespace else name, name.rstrip("-"), path, (*path, *template))
