"""The webhook's objects. *Pure.*"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Final

from sidecar.inject.wanted import WISH, Wanted
from sidecar.install import parts, rights
from sidecar.install.parts import OPS, OPS_PORT, Manifest, Object, Process
from sidecar.install.settings import ENABLED, WEBHOOK, Settings
from sidecar.webhook.known import EXEMPT, PATH, PORT, TIMEOUT_S

_NAMESPACE_NAME: Final = "kubernetes.io/metadata.name"
"""A label that the API gives every namespace."""
_HTTPS: Final = 443

_FLAGS: Final = {"is_plain": "--plain"}
_SWITCHES: Final = {"is_captured": "capture", "has_proxy_env": "proxy-env"}
_NOT_HERE: Final = frozenset({"kubernetes", "services", "replaces_app_mesh"})
"""The version is asked for; the others are of other platforms."""


def manifests(settings: Settings) -> Iterator[Manifest]:
    """In the order in which they are needed: the API is told of it last."""
    yield Manifest("", parts.account(settings, WEBHOOK))
    yield from rights.of_webhook(settings)
    yield Manifest(
        "What `sidecar inject` would do with a file, for every pod.", parts.deployment(settings, _process(settings))
    )
    yield Manifest("Without any of these no pod gets its sidecar: one at a time.", parts.budget(settings, WEBHOOK))
    yield Manifest("", parts.service(settings, WEBHOOK, "https", _HTTPS))
    yield Manifest(
        "The API server's address is no pod's, so no selector knows it. It asks by HTTPS, and nothing else is there.",
        parts.network_policy(settings, WEBHOOK, [{"ports": [{"port": "https"}]}, {"ports": [{"port": OPS}]}]),
    )
    if settings.has_prometheus_operator:
        yield Manifest("", parts.pod_monitor(settings, WEBHOOK))
        yield Manifest("Every sidecar, in whichever namespace.", _of_sidecars(settings))
    yield Manifest(_why(settings), _configuration(settings))


def _process(settings: Settings) -> Process:
    args = [
        "inject", "serve", f"--listen=0.0.0.0:{PORT}", f"--ops-listen=0.0.0.0:{OPS_PORT}",
        f"--webhook-service={WEBHOOK}", f"--webhook-configuration={settings.configuration}",
        f"--kubernetes-mesh={settings.mesh}", *_decisions(settings),
    ]  # fmt: skip
    liveness = {"httpGet": {"path": "/live", "port": OPS}}
    return Process(WEBHOOK, args, (), {"https": PORT, OPS: OPS_PORT}, liveness)


def _decisions(settings: Settings) -> Iterator[str]:
    """The options of `sidecar inject` that say the same; those that are as they are anyway are left out."""
    wanted, usual = settings.injected, Wanted()
    for one in fields(Wanted):
        value = getattr(wanted, one.name)
        if value == getattr(usual, one.name) or one.name in _NOT_HERE:
            continue
        if one.name in _FLAGS:
            yield _FLAGS[one.name]
        elif one.name in _SWITCHES:
            yield f"--{'' if value else 'no-'}{_SWITCHES[one.name]}"
        else:
            for word in value if isinstance(value, tuple) else (value,):
                yield f"--{one.name.replace('_', '-')}={word}"


def _why(settings: Settings) -> str:
    if settings.fails_closed:
        policy = (
            "failurePolicy Fail: while no webhook answers, no pod of these namespaces is made; one without a sidecar\n"
            "would be outside of the mesh unnoticed. The webhook's own namespace and the cluster's are left out."
        )
    else:
        policy = "failurePolicy Ignore: while no webhook answers, pods are made without a sidecar, and stay so."
    return f"{policy}\nWhom the API is to believe (caBundle) the webhook writes here itself."


def _configuration(settings: Settings) -> Object:
    names = [*EXEMPT, settings.namespace]
    webhook = {
        "name": "inject.sidecar.mesh",
        "admissionReviewVersions": ["v1"],
        "clientConfig": {
            "service": {"namespace": settings.namespace, "name": WEBHOOK, "path": PATH, "port": _HTTPS},
        },
        "rules": [
            {
                "operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"],
                "scope": "Namespaced",
            },
        ],
        "namespaceSelector": {
            "matchLabels": {WISH: ENABLED},
            "matchExpressions": [{"key": _NAMESPACE_NAME, "operator": "NotIn", "values": names}],
        },
        "objectSelector": {"matchExpressions": [{"key": WISH, "operator": "NotIn", "values": ["false"]}]},
        "failurePolicy": "Fail" if settings.fails_closed else "Ignore",
        "matchPolicy": "Equivalent",
        # Another webhook may add a container behind us, whose probes and ports count.
        "reinvocationPolicy": "IfNeeded",
        "sideEffects": "None",
        "timeoutSeconds": TIMEOUT_S,
    }  # fmt: skip
    metadata = parts.named(settings, WEBHOOK, of_cluster=True) | {"name": settings.configuration}
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": metadata,
        "webhooks": [webhook],
    }


def _of_sidecars(settings: Settings) -> Object:
    name = "sidecars"
    # By the container, for the app may have a port of this name, too.
    kept = {"action": "keep", "sourceLabels": ["__meta_kubernetes_pod_container_name"], "regex": "sidecar"}
    ports = ["metrics", "sidecar-metrics"]
    spec = {
        "namespaceSelector": {"any": True},
        "selector": {},
        "podMetricsEndpoints": [{"port": port, "path": "/metrics", "relabelings": [kept]} for port in ports],
    }
    metadata = parts.named(settings, name)
    return {"apiVersion": "monitoring.coreos.com/v1", "kind": "PodMonitor", "metadata": metadata, "spec": spec}
