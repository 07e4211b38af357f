"""The resources of the App Mesh controller for Kubernetes, `appmesh.k8s.aws/v1beta2`. *Cold, pure.*"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, get_args

from sidecar.config.problems import did_you_mean
from sidecar.importing.account import Account
from sidecar.importing.appmesh.sources.resource import AsWritten, Kind, Resource
from sidecar.importing.field import Field
from sidecar.importing.kubernetes import Object, mark_metadata

GROUP: Final = "appmesh.k8s.aws"
_READ: Final = ("v1beta2",)
_SELECTORS: Final = ("podSelector", "namespaceSelector", "gatewayRouteSelector")
SHAPE: Final = AsWritten()


@dataclass(frozen=True, slots=True)
class BackendGroup:
    """Virtual services that nodes name by one name."""

    name: str
    namespace: str
    root: Field


def resources_of(one: Object, accounts: list[Account], groups: list[BackendGroup]) -> Iterator[Resource]:
    """
    The resource that an object is, and the routes that a virtual router has in it.

    Args:
        accounts: Gets one for the object.
        groups: Gets the object, if it is a group of backends.
    """
    account = one.root.account
    accounts.append(account)
    if one.group != GROUP:
        one.root.dropped(f"a {one.kind} ({one.api_version}) is no resource of App Mesh")
        return
    known = (*get_args(Kind), "BackendGroup")
    if one.kind not in known or one.kind == "Route" or one.version not in _READ:
        hint = did_you_mean(one.kind, known) if one.version in _READ else "convert it to v1beta2"
        one.root.dropped(f"a {one.kind} of {one.api_version} is not known", hint, is_lost=True)
        return
    mark_metadata(one)
    spec = one.root.get("spec")
    if one.kind == "BackendGroup":
        groups.append(BackendGroup(one.name, one.namespace, one.root))
        return
    kind: Kind = next(kind for kind in get_args(Kind) if kind == one.kind)
    name, mesh = _aws_name(one, spec), ""
    if spec is not None:
        for selector in _SELECTORS:
            hint = "say who a workload is by `service` and `version` of its sidecar"
            spec.drop(selector, "a sidecar says itself of which service it is", hint)
        reference = spec.get("meshRef")
        if reference is not None:
            reference.kept("says which mesh it belongs to")
            mesh_name = reference.get("name")
            mesh = "" if mesh_name is None else mesh_name.text()
    yield Resource(
        kind, name, account.label, one.root, spec, namespace=one.namespace, short_name=one.name,
        mesh=name if kind == "Mesh" else mesh,
    )  # fmt: skip


def _aws_name(one: Object, spec: Field | None) -> str:
    """What the resource is called in App Mesh: the controller's rule, where `awsName` does not say it."""
    said = spec.get("awsName") if spec is not None else None
    if said is not None:
        said.kept("its name in App Mesh")
        return said.text()
    if one.kind == "Mesh":
        return one.name
    return f"{one.name}.{one.namespace}" if one.kind == "VirtualService" else f"{one.name}_{one.namespace}"
