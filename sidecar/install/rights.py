"""
Who may ask the API of Kubernetes for what: no more than is asked (docs/mesh-engines.md). *Pure.*

That it is enough, and that no resource is named for nothing, is tested against what both really ask. Where RBAC knows
names, they are named: a Secret that is not ours cannot be read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from sidecar.install.parts import Manifest, Object, named
from sidecar.install.settings import CONTROL, WEBHOOK, Settings
from sidecar.webhook.known import SECRET

_RBAC: Final = "rbac.authorization.k8s.io"
_AUTHORITY: Final = ("ca", "tokens", "issued", "revoked")
"""What the mesh's authority keeps."""


def of_control_plane(settings: Settings) -> Iterator[Manifest]:
    """What it keeps in its namespace, whose tokens pods show, and the endpoints of Services."""
    if not settings.is_on_kubernetes:
        return
    names = [f"sidecar-{settings.mesh}.{one}" for one in _AUTHORITY]
    rules = [
        _rule("", "configmaps", "get", "list", "watch", "create", "update", "patch", "delete"),
        # What is made anew cannot be told by its name.
        _rule("", "secrets", "create"),
        _rule("", "secrets", "get", "update") | {"resourceNames": names},
        _rule("coordination.k8s.io", "leases", "get", "list", "create", "update", "patch", "delete"),
        *_endpoints(),
    ]
    why = (
        "The engine `kubernetes` keeps the mesh, registrations and rollouts in ConfigMaps and Leases, keys in Secrets."
    )
    yield from _role(settings, CONTROL, settings.namespace, rules, why)
    for namespace in settings.endpoints_of:
        yield from _role(
            settings, CONTROL, namespace, _endpoints(), "Endpoints of Services that the mesh's files name."
        )
    rules = [_rule("authentication.k8s.io", "tokenreviews", "create")]
    why = "To ask the API whose token it is that a pod joins by."
    if settings.published:
        rules += [
            _rule("", "namespaces", "list"),
            _rule("", "configmaps", "create"),
            _rule("", "configmaps", "get", "patch") | {"resourceNames": [settings.published]},
        ]
        why += "\nAnd to keep the mesh's roots where pods can mount them: in each namespace whose pods are injected."
    yield from _cluster_role(settings, CONTROL, rules, why)


def of_webhook(settings: Settings) -> Iterator[Manifest]:
    """Its authority, and whom the API is to believe."""
    rules = [
        _rule("", "secrets", "create"),
        _rule("", "secrets", "get", "update") | {"resourceNames": [f"sidecar-{settings.mesh}.{SECRET}"]},
    ]
    why = "All replicas show certificates of one authority, which they keep in a Secret and renew."
    yield from _role(settings, WEBHOOK, settings.namespace, rules, why)
    resource = _rule("admissionregistration.k8s.io", "mutatingwebhookconfigurations", "get", "update")
    rules = [resource | {"resourceNames": [settings.configuration]}]
    yield from _cluster_role(
        settings, WEBHOOK, rules, "It writes into its own entry, and no other, whom the API believes."
    )


def _endpoints() -> list[Object]:
    return [
        _rule("discovery.k8s.io", "endpointslices", "list", "watch"),
        # Where a file says a port by its number.
        _rule("", "services", "list", "watch"),
    ]


def _rule(group: str, resource: str, *verbs: str) -> Object:
    return {"apiGroups": [group], "resources": [resource], "verbs": list(verbs)}


def _role(settings: Settings, name: str, namespace: str, rules: list[Object], why: str) -> Iterator[Manifest]:
    metadata = named(settings, name) | {"namespace": namespace}
    yield Manifest(why, {"apiVersion": f"{_RBAC}/v1", "kind": "Role", "metadata": metadata, "rules": rules})
    yield Manifest("", _binding(settings, "Role", name, metadata))


def _cluster_role(settings: Settings, name: str, rules: list[Object], why: str) -> Iterator[Manifest]:
    # Names of the cluster, so with the namespace: a cluster may have several meshes.
    metadata = named(settings, name, of_cluster=True) | {"name": f"{name}-{settings.namespace}"}
    yield Manifest(why, {"apiVersion": f"{_RBAC}/v1", "kind": "ClusterRole", "metadata": metadata, "rules": rules})
    yield Manifest("", _binding(settings, "ClusterRole", name, metadata))


def _binding(settings: Settings, kind: str, name: str, metadata: Object) -> Object:
    subject = {"kind": "ServiceAccount", "name": name, "namespace": settings.namespace}
    role = {"apiGroup": _RBAC, "kind": kind, "name": metadata["name"]}
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": f"{kind}Binding",
        "metadata": metadata,
        "roleRef": role,
        "subjects": [subject],
    }
