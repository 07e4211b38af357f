"""All manifests in order, and as text. *Pure.*"""

from __future__ import annotations

from collections.abc import Iterator

from sidecar.inject.text.render import block_entry
from sidecar.inject.wanted import WISH
from sidecar.install import control_plane, files, webhook
from sidecar.install.parts import Manifest
from sidecar.install.settings import CONTROL, ENABLED, OPERATOR_SECRET, Settings


def manifests(settings: Settings) -> Iterator[Manifest]:
    """What is installed, in the order in which it is needed. Raises FileError, ConfigError."""
    labels = {"app.kubernetes.io/part-of": "sidecar-mesh", "pod-security.kubernetes.io/enforce": "restricted"}
    metadata = {"name": settings.namespace, "labels": labels}
    yield Manifest(
        "Nothing here needs more than Pod Security's strictest standard, so nothing else gets more either.",
        {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata},
    )
    yield from files.manifests(settings)
    yield from control_plane.manifests(settings)
    if settings.has_webhook:
        yield from webhook.manifests(settings)


def printed(settings: Settings) -> str:
    """For `kubectl apply -f -`. Raises FileError, ConfigError."""
    documents = ["\n".join(f"# {line}".rstrip() for line in _head(settings))]
    for one in manifests(settings):
        lines = [f"# {line}" for line in one.why.splitlines()]
        for key, value in one.value.items():
            lines += block_entry(key, value, 0, 2)
        documents.append("\n".join(lines))
    return "\n---\n".join(documents).replace("\n---\n", "\n", 1) + "\n"


def _head(settings: Settings) -> Iterator[str]:
    namespace, mesh = settings.namespace, settings.mesh
    what = "control plane and webhook" if settings.has_webhook else "control plane"
    yield f"The mesh {mesh}: {what}, as `sidecar mesh install` prints it."
    yield ""
    yield f"  kubectl create namespace {namespace}"
    yield (
        f"  kubectl -n {namespace} create secret generic {OPERATOR_SECRET}"
        ' --from-literal=token="$(head -c 24 /dev/urandom | base64)"'
    )
    yield "  sidecar mesh install ... | kubectl apply -f -"
    if not settings.is_on_kubernetes:
        yield f"  kubectl -n {namespace} exec deployment/{CONTROL} -- sidecar mesh ca init --trust-domain {mesh}"
    elif not settings.files:
        yield f"  kubectl -n {namespace} create configmap mesh --from-file=mesh/       # or: install --files mesh/"
        yield f"  kubectl -n {namespace} label configmap mesh sidecar.mesh/mesh={mesh}"
    yield f"  kubectl -n {namespace} rollout status deployment/{CONTROL}"
    roots = settings.injected.roots
    if roots and not settings.published:
        yield f"  kubectl -n {namespace} exec deployment/{CONTROL} -- sidecar mesh ca roots > roots.pem"
    if settings.has_webhook:
        yield ""
        yield "then for each namespace whose pods are to be in the mesh:"
        yield ""
        if roots and not settings.published:
            yield f"  kubectl -n NAMESPACE create configmap {roots} --from-file=roots.pem"
        yield f"  kubectl label namespace NAMESPACE {WISH}={ENABLED}"
    yield ""
    yield "`sidecar mesh install ... | kubectl delete -f -` takes all of it away, the mesh's keys with its namespace."
