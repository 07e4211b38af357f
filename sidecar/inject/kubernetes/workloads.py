"""Where in a document of Kubernetes there are pod templates. *Pure.*"""

from __future__ import annotations

import re
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
_HASHES: Final = ("pod-template-hash", "rollouts-pod-template-hash")
"""Labels with what a ReplicaSet's name has behind that of its Deployment, or its Rollout."""
_OF_CRON_JOB: Final = re.compile(r"(.+)-[0-9]{8,10}")
"""Name of a Job that a CronJob has made: behind its own the minute, since the Unix epoch."""
ENDING: Final = frozenset({"Job", "CronJob"})
"""Kinds whose pods are to end."""


@dataclass(frozen=True, slots=True)
class Workload:
    """
    Attributes:
        kind, name: For people, the name with its namespace where it is written.
        own_name: Without it; of a Pod the name of what has made it, as far as that can be told.
        path: Of the object, from the document's root.
        template: Of its pod template, from there, too; of a Pod its own.
        is_ending: Its pods are to end by themselves, as those of Jobs.
        namespace: Empty where it does not say.
    """

    kind: str
    name: str
    own_name: str
    path: Path
    template: Path
    is_ending: bool = False
    namespace: str = ""


def is_kubernetes(document: Value) -> bool:
    """Whether a document is an object of Kubernetes."""
    return isinstance(document, dict) and all(isinstance(document.get(key), str) for key in ("apiVersion", "kind"))


def objects_of(document: Value, path: Path = ()) -> Iterator[tuple[Path, dict[str, Value]]]:
    """Every object in a document with its path, those in lists of objects included, and never a list."""
    found = at(document, path)
    if not is_kubernetes(found):
        return
    assert isinstance(found, dict)
    items = found.get("items")
    if found["kind"].endswith("List") and isinstance(items, list):
        for index in range(len(items)):
            yield from objects_of(document, (*path, "items", index))
        return
    yield path, found


def workloads_of(document: Value) -> Iterator[Workload]:
    """Every object in a document that makes pods."""
    for path, found in objects_of(document):
        kind, group = str(found["kind"]), str(found["apiVersion"]).partition("/")[0]
        template = _TEMPLATES.get(kind) if group in _GROUPS else None
        if template is None:
            if group in _FORBIDDEN or not isinstance(at(found, ("spec", "template", "spec", "containers")), list):
                continue
            template = ("spec", "template")
        yield _workload(kind, found, path, (*path, *template))


def _workload(kind: str, found: dict[str, Value], path: Path, template: Path) -> Workload:
    metadata = found.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    name = str(metadata.get("name") or metadata.get("generateName") or "")
    namespace = metadata.get("namespace")
    own_name = _maker(metadata, name.rstrip("-")) if kind == "Pod" else name.rstrip("-")
    is_ending = kind in ENDING or (kind == "Pod" and _controller(metadata).get("kind") in ENDING)
    return Workload(
        kind, f"{namespace}/{name}" if namespace else name, own_name, path, template, is_ending, str(namespace or "")
    )


def _controller(metadata: dict[Value, Value]) -> dict[Value, Value]:
    """What has made an object, as it says; empty if nothing has."""
    owners = metadata.get("ownerReferences")
    found = (one for one in (owners if isinstance(owners, list) else ()) if isinstance(one, dict))
    return next((one for one in found if one.get("controller") is True), {})


def _maker(metadata: dict[Value, Value], name: str) -> str:
    """
    The name of the workload that a Pod is of: what it is called by itself differs from one to the next.

    Of a ReplicaSet that of its Deployment, without the hash; of a Job of a CronJob that one's, without the minute. Who
    made these two is not said in the Pod.
    """
    owner = _controller(metadata)
    if isinstance(owner.get("name"), str):
        name = str(owner["name"])
        found = _OF_CRON_JOB.fullmatch(name) if owner.get("kind") == "Job" else None
        name = found[1] if found else name
    labels = metadata.get("labels")
    for label in _HASHES:
        value = labels.get(label) if isinstance(labels, dict) else None
        if isinstance(value, str) and value and len(name) > len(value) + 1:
            name = name.removesuffix(f"-{value}")
    return name
