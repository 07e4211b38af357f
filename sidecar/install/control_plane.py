"""The control plane's objects. *Pure.*"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from sidecar.inject.wanted import WISH
from sidecar.install import parts, rights
from sidecar.install.parts import OPS, OPS_PORT, Manifest, Object, Process
from sidecar.install.settings import CONTROL, CONTROL_PORT, ENABLED, OPERATOR_SECRET, Settings

_TOKEN: Final = "/var/run/mesh"
_ETCD: Final = "/etc/etcd"


def manifests(settings: Settings) -> Iterator[Manifest]:
    """In the order in which they are needed."""
    yield Manifest("", parts.account(settings, CONTROL))
    yield from rights.of_control_plane(settings)
    yield Manifest(
        f"The operator's token is in the Secret {OPERATOR_SECRET}, which is not printed here: pods wait for it.\n"
        "Sidecars go on with what they know while none of these runs.",
        parts.deployment(settings, _process(settings)),
    )
    yield Manifest("An upgrade of nodes takes one at a time.", parts.budget(settings, CONTROL))
    yield Manifest("", parts.service(settings, CONTROL, "control", CONTROL_PORT))
    yield Manifest(
        f"Sidecars come from namespaces with the label {WISH}, replicas ask each other; metrics are numbers alone.",
        parts.network_policy(settings, CONTROL, list(_ingress())),
    )
    if settings.has_prometheus_operator:
        yield Manifest("", parts.pod_monitor(settings, CONTROL))


def _process(settings: Settings) -> Process:
    args = [
        "control", "--create-ca", "--name=$(POD_NAME)", f"--listen=0.0.0.0:{CONTROL_PORT}",
        f"--ops-listen=0.0.0.0:{OPS_PORT}", f"--advertise=https://$(POD_IP):{CONTROL_PORT}",
        f"--operator=operator:write:{_TOKEN}/token",
        *([f"--publish-roots={settings.published}"] if settings.published else []),
    ]  # fmt: skip
    return Process(
        name=CONTROL,
        args=args,
        env=[
            *_engine(settings),
            parts.field_variable("POD_NAME", "metadata.name"),
            parts.field_variable("POD_IP", "status.podIP"),
        ],
        ports={"control": CONTROL_PORT, OPS: OPS_PORT},
        liveness={"tcpSocket": {"port": OPS}},
        mounts=list(_mounts(settings)),
        memory=("192Mi", "512Mi"),
    )


def _engine(settings: Settings) -> Iterator[Object]:
    """By variables, so that the commands of `kubectl exec` find the same."""
    yield {"name": "SIDECAR_CONTROL_ENGINE", "value": settings.engine}
    if settings.is_on_kubernetes:
        yield {"name": "SIDECAR_KUBERNETES_MESH", "value": settings.mesh}
    if settings.etcd_secret:
        for name, file in (("CA", "ca.crt"), ("CERT", "tls.crt"), ("KEY", "tls.key")):
            yield {"name": f"SIDECAR_ETCD_{name}", "value": f"{_ETCD}/{file}"}


def _mounts(settings: Settings) -> Iterator[tuple[Object, str]]:
    yield {"name": "token", "secret": {"secretName": OPERATOR_SECRET}}, _TOKEN
    if settings.etcd_secret:
        yield {"name": "etcd", "secret": {"secretName": settings.etcd_secret}}, _ETCD


def _ingress() -> Iterator[Object]:
    yield {
        "from": [
            {"namespaceSelector": {"matchLabels": {WISH: ENABLED}}},
            {"podSelector": parts.of_pods(CONTROL)},
        ],
        "ports": [{"port": "control"}],
    }
    yield {"ports": [{"port": OPS}]}
