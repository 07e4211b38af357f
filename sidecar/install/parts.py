"""What the pods of control plane and webhook have in common, and the objects around them. *Pure.*"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sidecar.inject.wanted import USER
from sidecar.install.settings import Settings

Object = dict[str, Any]

OPS: Final = "ops"
"""Name of the port of probes and scrapers, of both."""
OPS_PORT: Final = 15014


@dataclass(frozen=True, slots=True)
class Manifest:
    """An object, and why it is there."""

    why: str
    value: Object


@dataclass(frozen=True, slots=True)
class Process:
    """
    One of the two.

    Attributes:
        name: Of its objects.
        args, env, ports: Of its container; ports by their names.
        liveness: Its probe's handler.
        mounts: Volumes with the paths at which they are mounted, read-only.
        memory: Requested, and the limit.
    """

    name: str
    args: Sequence[str]
    env: Sequence[Object]
    ports: Mapping[str, int]
    liveness: Object
    mounts: Sequence[tuple[Object, str]] = ()
    memory: tuple[str, str] = ("128Mi", "256Mi")


def named(settings: Settings, name: str, of_cluster: bool = False) -> Object:
    """Metadata of an object."""
    labels = {"app.kubernetes.io/name": name, "app.kubernetes.io/part-of": "sidecar-mesh"}
    return {"name": name, **({} if of_cluster else {"namespace": settings.namespace}), "labels": labels}


def of_pods(name: str) -> Object:
    """By which its pods are selected."""
    return {"matchLabels": {"app.kubernetes.io/name": name}}


def field_variable(name: str, path: str) -> Object:
    """A variable of what Kubernetes knows of the pod."""
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def deployment(settings: Settings, process: Process) -> Object:
    """Its pods, on different nodes where there are some, and one more before one goes."""
    metadata = named(settings, process.name)
    template: Object = {"metadata": {"labels": metadata["labels"]}, "spec": _pod(settings, process)}
    if not settings.has_prometheus_operator:
        template["metadata"]["annotations"] = {
            "prometheus.io/scrape": "true", "prometheus.io/port": str(OPS_PORT), "prometheus.io/path": "/metrics",
        }  # fmt: skip
    spec = {
        "replicas": settings.replicas,
        "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "selector": of_pods(process.name),
        "template": template,
    }
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


def _pod(settings: Settings, process: Process) -> Object:
    apart = {"topologyKey": "kubernetes.io/hostname", "labelSelector": of_pods(process.name)}
    found: Object = {
        "serviceAccountName": process.name,
        "terminationGracePeriodSeconds": 30,
        "securityContext": {"fsGroup": USER},
        "affinity": {
            "podAntiAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": apart}]
            }
        },
        "containers": [_container(settings, process)],
    }
    if process.mounts:
        found["volumes"] = [volume for volume, _ in process.mounts]
    return found


def _container(settings: Settings, process: Process) -> Object:
    found: Object = {
        "name": process.name.removeprefix("sidecar-"),
        "image": settings.image,
        "imagePullPolicy": "IfNotPresent",
        "args": list(process.args),
        **({"env": list(process.env)} if process.env else {}),
        "ports": [{"name": name, "containerPort": port} for name, port in process.ports.items()],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": OPS}, "periodSeconds": 2},
        "livenessProbe": {**process.liveness, "periodSeconds": 10, "failureThreshold": 6},
        # Pod Security's standard `restricted`, and a root that nobody writes.
        "securityContext": {
            "runAsUser": USER,
            "runAsGroup": USER,
            "runAsNonRoot": True,
            "readOnlyRootFilesystem": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "resources": {
            "requests": {"cpu": "100m", "memory": process.memory[0]}, "limits": {"memory": process.memory[1]},
        },
    }  # fmt: skip
    if process.mounts:
        found["volumeMounts"] = [
            {"name": volume["name"], "mountPath": path, "readOnly": True} for volume, path in process.mounts
        ]
    return found


def account(settings: Settings, name: str) -> Object:
    """Who its pods are to the API."""
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": named(settings, name)}


def service(settings: Settings, name: str, port_name: str, port: int) -> Object:
    """By which its pods are found."""
    ports = [{"name": port_name, "port": port, "targetPort": port_name}]
    spec = {"selector": of_pods(name)["matchLabels"], "ports": ports}
    return {"apiVersion": "v1", "kind": "Service", "metadata": named(settings, name), "spec": spec}


def budget(settings: Settings, name: str) -> Object:
    """How many of its pods an upgrade of nodes may take at once."""
    spec = {"maxUnavailable": 1, "selector": of_pods(name)}
    return {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": named(settings, name), "spec": spec}


def network_policy(settings: Settings, name: str, ingress: Sequence[Object]) -> Object:
    """Who may connect to it; everything else that it may, it may as before."""
    spec = {"podSelector": of_pods(name), "policyTypes": ["Ingress"], "ingress": list(ingress)}
    metadata = named(settings, name)
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}


def pod_monitor(settings: Settings, name: str) -> Object:
    """For the operator of Prometheus."""
    spec = {"selector": of_pods(name), "podMetricsEndpoints": [{"port": OPS, "path": "/metrics"}]}
    metadata = named(settings, name)
    return {"apiVersion": "monitoring.coreos.com/v1", "kind": "PodMonitor", "metadata": metadata, "spec": spec}
