"""What printed roles allow: RBAC (rbac.authorization.k8s.io/v1) as far as it is used."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

Request = tuple[str, str, str, str, str]
"""Verb, group, resource, namespace (empty: of the cluster), name (empty: of no one object)."""


class Rights:
    """
    Of one service account.

    Args:
        documents: With roles and bindings.
        namespace, account: Of the account.
    """

    def __init__(self, documents: Iterable[Any], namespace: str, account: str) -> None:
        self._roles: dict[tuple[str, str, str], list[Any]] = {}
        self._bound: list[tuple[str, str, str, str]] = []
        subject = {"kind": "ServiceAccount", "name": account, "namespace": namespace}
        for one in documents:
            kind, metadata = one["kind"], one["metadata"]
            where = metadata.get("namespace", "")
            if kind in ("Role", "ClusterRole"):
                self._roles[kind, where, metadata["name"]] = one["rules"]
            elif kind in ("RoleBinding", "ClusterRoleBinding") and subject in one["subjects"]:
                ref = one["roleRef"]
                self._bound.append((ref["kind"], where, ref["name"], where))

    def rules(self) -> Iterator[tuple[str, Any]]:
        """Each rule that holds, with the namespace in which it does; empty: everywhere."""
        for kind, where, name, bound_in in self._bound:
            for rule in self._roles[kind, where if kind == "Role" else "", name]:
                yield bound_in, rule

    def allow(self, request: Request) -> bool:
        """Whether it may."""
        verb, group, resource, namespace, name = request
        return any(
            where in ("", namespace)
            and group in rule["apiGroups"]
            and resource in rule["resources"]
            and verb in rule["verbs"]
            and ("resourceNames" not in rule or name in rule["resourceNames"])
            for where, rule in self.rules()
        )
