"""Why a pod cannot have a sidecar: all reasons at once. *Pure.*"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from sidecar.inject.edits import Path, Value, at
from sidecar.inject.kubernetes.containers import VOLUMES
from sidecar.inject.kubernetes.pods import containers_of, listed, mapping, ports_of
from sidecar.inject.kubernetes.workloads import Workload
from sidecar.inject.said import Said, object_name
from sidecar.inject.wanted import NAMES, OWN_PORTS, USER, Finding

NATIVE_SINCE: Final = (1, 29)
_TRUE: Final = (True, "true", "yes", "on", "y", "Yes", "On", "YES", "ON")
"""What Kubernetes, which reads YAML 1.1, takes for true."""
_MIRROR: Final = "kubernetes.io/config.mirror"
"""Annotation of a static pod's image in the API, by its kubelet."""
_LISTS: Final = ("containers", "initContainers", "volumes")


def shape(document: Value, template: Path) -> Iterator[Finding]:
    """Whether the parts of a pod template that are looked at are what Kubernetes says."""
    spec = (*template, "spec")
    if not isinstance(at(document, spec), dict):
        where = template if isinstance(at(document, template), dict) else ()
        yield Finding(where, "expected a pod's `spec`, found none", "give it one, or leave this object out")
        return
    for key in _LISTS:
        value = at(document, (*spec, key))
        if value is not None and not isinstance(value, list):
            yield Finding((*spec, key), f"expected a list, found {_kind(value)}", "write its items with `- `")
    for path in ((*template, "metadata"), (*template, "metadata", "annotations"), (*template, "metadata", "labels")):
        value = at(document, path)
        if value is not None and not isinstance(value, dict):
            yield Finding(path, f"expected a mapping, found {_kind(value)}", "write it as `key: value`")
    containers = at(document, (*spec, "containers"))
    if containers is None or containers == []:
        hint = "of a patch inject what `kubectl kustomize` makes of it; else give it a container"
        yield Finding(spec, "expected containers, found none", hint)
    for container in containers_of(document, spec):
        if not container.value:
            yield Finding(container.path, "expected a container, found something else", "give it a name and an image")
        elif not container.name:  # by which what is done to it is found again
            yield Finding(container.path, "expected a container with a name, found none", "give it one")


def _kind(value: Value) -> str:
    return "a list" if isinstance(value, list) else "a mapping" if isinstance(value, dict) else repr(value)


def place(document: Value, spec: Path) -> Iterator[Finding]:
    """Where a pod's network is not its own, or not Linux'; or all of it is another's."""
    mirror = (*spec[:-1], "metadata", "annotations", _MIRROR)
    if at(document, mirror) is not None:
        hint = "inject the file on the node; what is changed here changes nothing there"
        yield Finding(mirror, "expected a pod of the API, found the mirror of one that its node runs by itself", hint)
    if at(document, (*spec, "hostNetwork")) in _TRUE:
        hint = 'take it out, or say `sidecar.mesh/inject: "false"`: its ports and its rules would be those of the node'
        yield Finding((*spec, "hostNetwork"), "expected a network of the pod's own, found `hostNetwork: true`", hint)
    for path, key in ((("os",), "name"), (("nodeSelector",), "kubernetes.io/os")):
        if mapping(at(document, (*spec, *path))).get(key) == "windows":
            hint = 'say `sidecar.mesh/inject: "false"`'
            yield Finding((*spec, *path, key), "expected a pod of Linux, found `windows`", hint)


def names_and_ports(document: Value, spec: Path) -> Iterator[Finding]:
    """What the pod has already of what is to be added."""
    for container in containers_of(document, spec):
        if container.name in NAMES:
            hint = "take it out, or give it another name; what `sidecar inject` added is known by its annotation"
            yield Finding((*container.path, "name"), f"there is a container `{container.name}` already", hint)
        for port in ports_of(container):
            if port.number in OWN_PORTS:
                hint = "let the app listen on another port"
                yield Finding(port.path, f"port {port.number} is one of the sidecar's own", hint)
    for index, volume in enumerate(listed(at(document, (*spec, "volumes")))):
        name = mapping(volume).get("name")
        if name in VOLUMES:
            path = (*spec, "volumes", index, "name")
            yield Finding(path, f"there is a volume `{name}` already", "give it another name")


def users(document: Value, spec: Path) -> Iterator[Finding]:
    """An app that runs as the sidecar's user is not captured: its connections would pass by."""
    hint = f'let it run as another user, or say `sidecar.mesh/capture: "false"`: who is {USER} is not captured'
    message = f"expected another user than the sidecar's, found {USER}"
    of_pod = (*spec, "securityContext", "runAsUser")
    if at(document, of_pod) == USER:
        yield Finding(of_pod, message, hint)
    for container in containers_of(document, spec):
        path = (*container.path, "securityContext", "runAsUser")
        if (not container.is_init or container.is_native) and at(document, path) == USER:
            yield Finding(path, message, hint)


def how(said: Said, workload: Workload, annotations: Path) -> Iterator[Finding]:
    """Whether this cluster can have what is wanted, and whether it is enough."""
    wanted = said.wanted
    if not wanted.is_plain and wanted.kubernetes < NATIVE_SINCE:
        version = ".".join(map(str, wanted.kubernetes))
        hint = "say --plain, or upgrade: older ones take a native sidecar for an init container that never ends"
        yield Finding(workload.path, f"native sidecars need Kubernetes 1.29, found {version}", hint)
    if wanted.is_plain and workload.is_ending and not said.is_quitting:
        hint = (
            "leave --plain out; or let the app POST to http://127.0.0.1:9901/quitquitquit at its end, and say "
            'so by `sidecar.mesh/quits: "true"`; or start it by `sidecar exec`, in one container with its sidecar'
        )
        yield Finding(workload.path, f"a {workload.kind} with a plain sidecar would never end", hint)
    for option, name in (("config", wanted.config), ("roots", wanted.roots), ("token", wanted.token)):
        try:
            if name:
                object_name(name)
        except ValueError as error:
            yield Finding(workload.path, f"--{option}: {error}", "give a name of this namespace")
    if not (wanted.control or wanted.config):
        hint = "say --control URL, or --config CONFIGMAP (or the annotation `sidecar.mesh/config`)"
        yield Finding(annotations, "nothing says what the sidecar is to do", hint)


def misplaced(document: Value, workload: Workload, prefix: str) -> Iterator[Finding]:
    """Annotations that nobody would read: those of the object, and not of its pods."""
    if workload.template == workload.path:
        return
    path = (*workload.path, "metadata", "annotations")
    where = ".".join((*map(str, workload.template[len(workload.path) :]), "metadata.annotations"))
    for key in mapping(at(document, path)):
        if isinstance(key, str) and key.startswith(prefix):
            yield Finding((*path, key), "this annotation is read of pods only", f"write it to `{where}`")
