"""
What is added to a pod: the sidecar, what leads connections to it, and their volumes. *Pure.*

Why each thing is as it is, is in docs/inject.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from sidecar.inject.edits import Value
from sidecar.inject.wanted import HEALTH, INBOUND, NAMES, USER, Wanted

_SLEEPS_SINCE: Final = (1, 30)
_LINGER_S: Final = 5
"""A plain sidecar goes on for so long beside an app that ends, before it begins to drain."""
GRACE_S: Final = 60
"""The app's own end, then the sidecar's goodbye (10 s) and `drain.timeout` (20 s), must fit."""

_TOKEN: Final = "/var/run/mesh"
_ROOTS: Final = "/etc/mesh"
VOLUMES: Final = ("sidecar-config", "sidecar-roots", "sidecar-token", "sidecar-state")


@dataclass(frozen=True, slots=True)
class Pod:
    """
    What is known of a pod when its sidecar is made.

    Attributes:
        wanted: For this pod.
        service, version: Who it is; the version may be empty.
        app_port: Where the app listens; empty: unknown, or nowhere.
        probed: Ports about which the kubelet asks the sidecar.
        port_names: That the app's containers have given away.
    """

    wanted: Wanted
    service: str
    version: str
    app_port: str
    probed: Sequence[int]
    port_names: frozenset[str]


def sidecar(pod: Pod) -> dict[str, Value]:
    """The sidecar's container."""
    wanted = pod.wanted
    is_plain = wanted.is_plain
    limits = {key: value for key, value in (("cpu", wanted.cpu_limit), ("memory", wanted.memory_limit)) if value}
    metrics = _port_name("metrics", pod)
    found: dict[str, Value] = {"name": NAMES[0], "image": wanted.image, "imagePullPolicy": "IfNotPresent"}
    if not is_plain:
        found["restartPolicy"] = "Always"
    found |= {
        "args": ["run"],
        "env": list(_environment(pod)),
        "ports": [
            {"name": _port_name("inbound", pod), "containerPort": INBOUND},
            {"name": metrics, "containerPort": HEALTH},
        ],
        "startupProbe": {"httpGet": {"path": "/ready", "port": metrics}, "periodSeconds": 1, "failureThreshold": 60},
        "readinessProbe": {"httpGet": {"path": "/ready", "port": metrics}, "periodSeconds": 5},
        "livenessProbe": {"httpGet": {"path": "/live", "port": metrics}, "periodSeconds": 10, "failureThreshold": 6},
    }
    if is_plain:
        # Containers are started one after the other, each when the hook of the one before has ended.
        found["lifecycle"] = {"postStart": {"exec": {"command": ["sidecar", "wait"]}}, "preStop": _pause(wanted)}
    return found | {
        "resources": {
            "requests": {"cpu": wanted.cpu, "memory": wanted.memory},
            **({"limits": limits} if limits else {}),
        },
        "securityContext": {"runAsUser": USER, "runAsGroup": USER, "runAsNonRoot": True, **_confined()},
        "volumeMounts": [mount for mount, _ in _volumes(wanted)],
    }


def capture(wanted: Wanted) -> dict[str, Value]:
    """
    The init container that leads the app's connections to the sidecar.

    Root, for Kubernetes gives no other user a capability that takes effect; it has this one and no other.
    """
    args: list[Value] = ["capture", "install"]
    for option, value in (("inbound", wanted.exclude_inbound), ("outbound", wanted.exclude_outbound)):
        if value:
            args += [f"--exclude-{option}", value]
    return {
        "name": NAMES[1],
        "image": wanted.image,
        "imagePullPolicy": "IfNotPresent",
        "args": args,
        "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
        "securityContext": {"runAsUser": 0, "runAsGroup": 0, "runAsNonRoot": False, **_confined(["NET_ADMIN"])},
    }


def volumes(wanted: Wanted) -> list[Value]:
    """What the sidecar mounts."""
    return [volume for _, volume in _volumes(wanted)]


def _environment(pod: Pod) -> Iterator[Value]:
    wanted = pod.wanted
    named = {
        "SIDECAR_SERVICE": pod.service,
        "SIDECAR_VERSION": pod.version,
        "SIDECAR_APP_PORT": pod.app_port,
        "SIDECAR_PROBED_PORTS": ",".join(map(str, sorted(pod.probed))),
        "SIDECAR_CONTROL": " ".join(wanted.control),
        "SIDECAR_CAPTURE": wanted.capture_option,
        "SIDECAR_CONTROL_TOKEN_FILE": f"{_TOKEN}/token" if _has_token(wanted) else "",
        "SIDECAR_CONTROL_TRUST": f"{_ROOTS}/roots.pem" if wanted.control and wanted.roots else "",
    }
    yield from ({"name": name, "value": value} for name, value in named.items() if value)
    if wanted.control:
        yield {"name": "SIDECAR_INSTANCE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    yield {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}


def _has_token(wanted: Wanted) -> bool:
    return bool(wanted.control and (wanted.token or wanted.mesh))


def _volumes(wanted: Wanted) -> Iterator[tuple[dict[str, Value], dict[str, Value]]]:
    """Each mount with its volume; directories, for a file that is mounted alone is never updated."""
    config, roots, token, state = VOLUMES
    if wanted.config:
        yield _mount(config, "/etc/sidecar"), {"name": config, "configMap": {"name": wanted.config}}
    if wanted.control and wanted.roots:
        yield _mount(roots, _ROOTS), {"name": roots, "configMap": {"name": wanted.roots}}
    if wanted.control and wanted.token:
        yield _mount(token, _TOKEN), {"name": token, "secret": {"secretName": wanted.token}}
    elif _has_token(wanted):
        # For the control plane alone: at any other service, the API included, it is worth nothing.
        made_out = {"path": "token", "audience": f"spiffe://{wanted.mesh}/control", "expirationSeconds": 3600}
        yield _mount(token, _TOKEN), {"name": token, "projected": {"sources": [{"serviceAccountToken": made_out}]}}
    if wanted.control:
        # What it knew last, its key included, so in memory.
        memory = {"medium": "Memory", "sizeLimit": "64Mi"}
        yield {"name": state, "mountPath": "/var/lib/sidecar"}, {"name": state, "emptyDir": memory}


def _mount(name: str, path: str) -> dict[str, Value]:
    return {"name": name, "mountPath": path, "readOnly": True}


def _confined(capabilities: Sequence[str] = ()) -> dict[str, Value]:
    added = {"add": list(capabilities)} if capabilities else {}
    return {
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"], **added},
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def _pause(wanted: Wanted) -> dict[str, Value]:
    if wanted.kubernetes >= _SLEEPS_SINCE:
        return {"sleep": {"seconds": _LINGER_S}}
    return {"exec": {"command": ["python3", "-c", f"import time; time.sleep({_LINGER_S})"]}}


def _port_name(name: str, pod: Pod) -> str:
    """Services find a port by its name, in whichever container comes first: it must not be one of the app's."""
    return f"sidecar-{name}" if name in pod.port_names else name
