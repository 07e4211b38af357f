"""
What an API server of Kubernetes keeps, and how it judges what is written: versions, history, conflicts, validation.

Of the real one by its source and documentation (1.29 to 1.33): a write that changes nothing moves no version; a Lease
is never written over without naming its version, a ConfigMap is; an immutable ConfigMap keeps its data.
"""

from __future__ import annotations

import base64
import copy
import itertools
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

GROUPS = {
    ("v1", "configmaps"): "ConfigMap",
    ("v1", "secrets"): "Secret",
    ("v1", "services"): "Service",
    ("v1", "namespaces"): "Namespace",
    ("coordination.k8s.io/v1", "leases"): "Lease",
    ("discovery.k8s.io/v1", "endpointslices"): "EndpointSlice",
    ("admissionregistration.k8s.io/v1", "mutatingwebhookconfigurations"): "MutatingWebhookConfiguration",
}
OF_CLUSTER = frozenset({"mutatingwebhookconfigurations", "namespaces"})
"""Are in no namespace, which is written as an empty one."""
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")
_MAX_DATA_BYTES = 1024 * 1024


class Refusal(Exception):  # noqa: N818
    """A `Status` instead of an answer."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.values = {
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
            "reason": reason, "code": code,
        }  # fmt: skip


@dataclass(frozen=True)
class Key:
    """Where an object is."""

    version: str
    plural: str
    namespace: str
    name: str

    @property
    def said(self) -> str:
        """As refusals name it."""
        group = self.version.partition("/")[0] if "/" in self.version else ""
        return f'{self.plural}{"." + group if group else ""} "{self.name}"'


@dataclass(frozen=True)
class Change:
    """One of the history: what was, and what is since then."""

    version: int
    key: Key
    before: Json | None
    after: Json | None


Selects = Callable[[Json], bool]


class Store:
    """
    Not for several threads.

    Attributes:
        version: The newest.
        compacted: Up to here the history is forgotten.
    """

    def __init__(self) -> None:
        self.version = 1000
        self.compacted = 0
        self.namespaces = {"shop", "default", ""}
        self.objects: dict[Key, Json] = {}
        self.history: list[Change] = []
        self._uids = itertools.count()

    def all_of(self, version: str, plural: str, namespace: str, selects: Selects = lambda one: True) -> list[Json]:
        """Objects by name."""
        found = [
            (key.name, one)
            for key, one in self.objects.items()
            if (key.version, key.plural, key.namespace) == (version, plural, namespace) and selects(one)
        ]
        return [copy.deepcopy(one) for _, one in sorted(found, key=lambda pair: pair[0])]

    def create(self, key: Key, values: Json) -> Json:
        """A new one."""
        if key.namespace not in self.namespaces:
            raise Refusal(404, "NotFound", f'namespaces "{key.namespace}" not found')
        if key in self.objects:
            raise Refusal(409, "AlreadyExists", f"{key.said} already exists")
        if values.get("metadata", {}).get("resourceVersion"):
            raise Refusal(400, "BadRequest", "resourceVersion should not be set on objects to be created")
        _validate(key, values)
        metadata = {
            "uid": str(uuid.UUID(int=next(self._uids))), "creationTimestamp": "2026-01-01T00:00:00Z",
            "managedFields": [{"manager": "test", "operation": "Update"}],
        }  # fmt: skip
        return self._write(key, None, values, metadata)

    def replace(self, key: Key, values: Json) -> Json:
        """Written over, as PUT does."""
        before = self._get(key)
        said = values.get("metadata", {}).get("resourceVersion", "")
        if not said and key.plural == "leases":
            raise Refusal(
                422, "Invalid", f"{key.said} is invalid: metadata.resourceVersion: must be specified for an update"
            )
        self._expect(key, before, said)
        _validate(key, values, before)
        kept = {name: before["metadata"][name] for name in ("uid", "creationTimestamp", "managedFields")}
        return self._write(key, before, values, kept)

    def patch(self, key: Key, values: Json) -> Json:
        """A merge patch."""
        before = self._get(key)
        self._expect(key, before, values.get("metadata", {}).get("resourceVersion", ""))
        after = merged(before, values)
        _validate(key, after, before)
        return self._write(key, before, after, {})

    def delete(self, key: Key, preconditions: Mapping[str, str]) -> None:
        """Gone, if it is as was said."""
        before = self._get(key)
        for name in ("uid", "resourceVersion"):
            if name in preconditions and before["metadata"][name] != preconditions[name]:
                raise Refusal(409, "Conflict", f"the {name} in the precondition does not match the one of {key.said}")
        self.version += 1
        del self.objects[key]
        last = copy.deepcopy(before)
        last["metadata"]["resourceVersion"] = str(self.version)
        self.history.append(Change(self.version, key, last, None))

    def compact(self) -> None:
        """Forget the history, as etcd does every five minutes."""
        self.version += 1
        self.compacted = self.version
        self.history.clear()

    def get(self, key: Key) -> Json:
        """One of them."""
        return copy.deepcopy(self._get(key))

    def _get(self, key: Key) -> Json:
        if key not in self.objects:
            raise Refusal(404, "NotFound", f"{key.said} not found")
        return self.objects[key]

    def _expect(self, key: Key, before: Json, said: str) -> None:
        if said and before["metadata"]["resourceVersion"] != said:
            raise Refusal(
                409, "Conflict",
                f"Operation cannot be fulfilled on {key.said}: the object has been modified; please apply your changes "
                "to the latest version and try again",
            )  # fmt: skip

    def _write(self, key: Key, before: Json | None, values: Json, kept: Json) -> Json:
        after = copy.deepcopy(values)
        after["apiVersion"], after["kind"] = key.version, GROUPS[key.version, key.plural]
        after["metadata"] = {**after.get("metadata", {}), **kept, "name": key.name}
        if key.namespace:
            after["metadata"]["namespace"] = key.namespace
        after["metadata"].pop("resourceVersion", None)
        if before is not None:
            old = copy.deepcopy(before)
            version = old["metadata"].pop("resourceVersion")
            if old == after:
                after["metadata"]["resourceVersion"] = version
                return after
        self.version += 1
        after["metadata"]["resourceVersion"] = str(self.version)
        self.objects[key] = after
        self.history.append(Change(self.version, key, copy.deepcopy(before), copy.deepcopy(after)))
        return copy.deepcopy(after)


def merged(before: Any, patch: Any) -> Any:
    """RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    after = dict(before) if isinstance(before, dict) else {}
    for name, value in patch.items():
        if value is None:
            after.pop(name, None)
        else:
            after[name] = merged(after.get(name), value)
    return after


def selector(labels: str, fields: str) -> Selects:
    """Whether an object is chosen: `a=b,c=d` of labels, `metadata.name=x` of fields."""
    wanted = dict(one.split("=", 1) for one in labels.split(",") if one)
    name = fields.removeprefix("metadata.name=")
    assert not fields or name != fields, fields

    def selects(one: Json) -> bool:
        said = one["metadata"].get("labels") or {}
        if any(said.get(label) != value for label, value in wanted.items()):
            return False
        return not fields or one["metadata"]["name"] == name

    return selects


def _validate(key: Key, values: Json, before: Json | None = None) -> None:
    def invalid(why: str) -> Refusal:
        return Refusal(422, "Invalid", f"{key.said} is invalid: {why}")

    metadata = values.get("metadata", {})
    if not _SUBDOMAIN.fullmatch(key.name) or len(key.name) > 253:
        raise invalid(f'metadata.name: Invalid value: "{key.name}"')
    if metadata.get("name") != key.name:
        raise Refusal(400, "BadRequest", "the name of the object does not match the name on the URL")
    for value in (metadata.get("labels") or {}).values():
        if not isinstance(value, str) or len(value) > 63 or not _LABEL_VALUE.fullmatch(value):
            raise invalid(f'metadata.labels: Invalid value: "{value}"')
    if not all(isinstance(value, str) for value in (metadata.get("annotations") or {}).values()):
        raise Refusal(400, "BadRequest", "json: cannot unmarshal into Go struct field .annotations of type string")
    if key.plural == "secrets":
        _validate_secret(values, before, invalid)
    if key.plural != "configmaps":
        return
    data, binary = values.get("data") or {}, values.get("binaryData") or {}
    if any(not _KEY.fullmatch(name) for name in (*data, *binary)) or data.keys() & binary.keys():
        raise invalid("data: Invalid value")
    size = sum(len(value.encode()) for value in data.values())
    size += sum(len(base64.b64decode(value, validate=True)) for value in binary.values())
    if size > _MAX_DATA_BYTES:
        raise invalid(f"[]: Too long: must have at most {_MAX_DATA_BYTES} bytes")
    is_other = any(((before or {}).get(name) or {}) != (values.get(name) or {}) for name in ("data", "binaryData"))
    if before is not None and before.get("immutable") and is_other:
        raise invalid("data: Forbidden: field is immutable when `immutable` is set")


def _validate_secret(values: Json, before: Json | None, invalid: Callable[[str], Refusal]) -> None:
    data = values.get("data") or {}
    if any(not _KEY.fullmatch(name) for name in data):
        raise invalid("data: Invalid value")
    try:
        size = sum(len(base64.b64decode(value, validate=True)) for value in data.values())
    except ValueError:
        raise Refusal(400, "BadRequest", "illegal base64 data at input byte 0") from None
    if size > _MAX_DATA_BYTES:
        raise invalid(f"data: Too long: must have at most {_MAX_DATA_BYTES} bytes")
    if before is not None and before.get("type", "Opaque") != values.get("type", "Opaque"):
        raise invalid("type: Invalid value: field is immutable")
