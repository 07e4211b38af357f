"""AdmissionReviews as the API server sends them, and what comes back."""

from __future__ import annotations

import base64
import json
from typing import Any

import jsonpatch

JSON = "application/json"


def pod(annotations: dict[str, str] | None = None, labels: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    """A Pod that a ReplicaSet makes."""
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-7d9f8b6c5", "controller": True, "uid": "u"}
    metadata: dict[str, Any] = {
        "generateName": "web-7d9f8b6c5-",
        "labels": {"pod-template-hash": "7d9f8b6c5", **(labels or {})},
        "ownerReferences": [owner],
    }
    if annotations:
        metadata["annotations"] = annotations
    container = {"name": "app", "image": "web:1", "ports": [{"containerPort": 8080}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container], **spec}}


def deployment(kind: str = "Deployment") -> dict[str, Any]:
    """Of such Pods."""
    template = pod()
    template["metadata"] = {"labels": {"app": "web"}}
    del template["apiVersion"], template["kind"]
    version = "batch/v1" if kind == "Job" else "apps/v1"
    return {"apiVersion": version, "kind": kind, "metadata": {"name": "web"}, "spec": {"template": template}}


def review(found: Any, operation: str = "CREATE", **fields: Any) -> dict[str, Any]:
    """
    About one object.

    Args:
        fields: Of the request, over what is usual.
    """
    kind = found.get("kind") if isinstance(found, dict) else None
    version = str(found.get("apiVersion") if isinstance(found, dict) else "v1")
    group, _, short = version.rpartition("/")
    request = {
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
        "kind": {"group": group, "version": short, "kind": kind},
        "resource": {"group": group, "version": short, "resource": f"{str(kind).lower()}s"},
        "namespace": "storefront",
        "operation": operation,
        "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller"},
        "object": found,
        "oldObject": None,
        "dryRun": False,
        "options": {"apiVersion": "meta.k8s.io/v1", "kind": "CreateOptions"},
        **fields,
    }
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}


def written(value: Any) -> bytes:
    """As it is sent."""
    return json.dumps(value).encode()


def patched(found: Any, body: Any) -> Any:
    """What the API makes of an object by the answer; the object itself where there is no patch."""
    response = body["response"]
    if "patch" not in response:
        return found
    assert response["patchType"] == "JSONPatch"
    return jsonpatch.JsonPatch(json.loads(base64.b64decode(response["patch"], validate=True))).apply(found)
