"""What is to be installed. *Pure.*"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from sidecar.inject.wanted import Wanted

CONTROL: Final = "sidecar-control"
WEBHOOK: Final = "sidecar-webhook"
CONTROL_PORT: Final = 15010
ENABLED: Final = "enabled"
"""Value of the label `sidecar.mesh/inject` of a namespace whose pods are injected."""
ROOTS: Final = "mesh-roots"
"""ConfigMap with `roots.pem` that each namespace with injected pods has."""
OPERATOR_SECRET: Final = "operator-token"


@dataclass(frozen=True, slots=True)
class Settings:
    """
    Attributes:
        mesh: Its name, which is the trust domain.
        namespace: Of control plane and webhook.
        image: Of both, and of every sidecar.
        wanted: What is injected; where it names no control plane, it gets ours.
        replicas: Of each of the two.
        engine: `kubernetes`, or the address of etcd.
        etcd_secret: Secret with `ca.crt`, and `tls.crt` and `tls.key` to show; empty: etcd is spoken to in clear.
        has_webhook: Whether pods are injected as they are made.
        fails_closed: Without an answer of the webhook no pod of its namespaces is made; else it is made without.
        publishes_roots: The control plane keeps the mesh's roots in each namespace whose pods are injected.
        endpoints_of: Namespaces besides ours whose Services the mesh's files name.
        has_prometheus_operator: Scraped by its objects, and not by annotations.
        files: The mesh's own, by name relative to its directory.
    """

    mesh: str
    namespace: str = "sidecar-mesh"
    image: str = "sidecar:latest"
    wanted: Wanted = field(default_factory=Wanted)
    replicas: int = 2
    engine: str = "kubernetes"
    etcd_secret: str = ""
    has_webhook: bool = True
    fails_closed: bool = True
    publishes_roots: bool = True
    endpoints_of: tuple[str, ...] = ()
    has_prometheus_operator: bool = False
    files: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def is_on_kubernetes(self) -> bool:
        """Whether the API keeps what the control plane keeps."""
        return self.engine == "kubernetes"

    @property
    def control_url(self) -> str:
        """At which sidecars of every namespace find the control plane."""
        return f"https://{CONTROL}.{self.namespace}.svc:{CONTROL_PORT}"

    @property
    def injected(self) -> Wanted:
        """What is injected: with our control plane, where no other and no file is named."""
        wanted = replace(self.wanted, image=self.image)
        if wanted.control or (wanted.config and not wanted.mesh):
            return wanted
        mesh = "" if wanted.token else self.mesh
        return replace(wanted, control=(self.control_url,), mesh=mesh, roots=wanted.roots or ROOTS)

    @property
    def published(self) -> str:
        """Name of the ConfigMap in which namespaces find the roots; empty: somebody else sees to it."""
        is_ours = self.injected.control == (self.control_url,)
        return self.injected.roots if self.publishes_roots and self.is_on_kubernetes and is_ours else ""

    @property
    def configuration(self) -> str:
        """Name of the MutatingWebhookConfiguration: one of the cluster, so with the namespace."""
        return f"{WEBHOOK}-{self.namespace}"
