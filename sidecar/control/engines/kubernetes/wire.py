"""
What goes over the wire to the API of Kubernetes and comes back. *Pure.*

An answer is an object, a list of objects, or a `Status` that says why there is none. A watch is a line of JSON for each
event: `ADDED`, `MODIFIED` and `DELETED` with the object, `BOOKMARK` with one that is empty but for its
`resourceVersion`, `ERROR` with a `Status`, the status of the answer being 200 all the same.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sidecar.control.engines.interface import Unavailable

Object = Mapping[str, Any]
"""As JSON."""

MAX_DATA_BYTES: Final = 1024 * 1024
"""Of all values of a ConfigMap together (its validation; etcd behind it takes 1.5 MiB)."""

MAX_LINE_BYTES: Final = 16 * 1024 * 1024
"""Of one event; an object is at most 1.5 MiB, and JSON may write an octet as six."""

GONE: Final = 410
CONFLICT: Final = 409
TOO_MANY: Final = 429

_SUBDOMAIN: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_MAX_NAME_CHARS: Final = 253


class ApiError(Unavailable):
    """
    A call that did not succeed.

    Attributes:
        text: As the API said it.
        status: Of HTTP, or of the `Status` in a watch; 0: no answer came, and nothing is known of what was done.
        reason: The API's word for it, such as `AlreadyExists`.
        retry_after_s: For how long it asks to be left alone.
        is_ours: It was never sent: a file of ours, or the API's certificate, is not as it should be.
    """

    def __init__(
        self, text: str, status: int = 0, reason: str = "", retry_after_s: float = 0.0, *, is_ours: bool = False
    ) -> None:
        super().__init__(f"kubernetes: {status}: {text}" if status else f"kubernetes: {text}")
        self.text = text
        self.status = status
        self.reason = reason
        self.retry_after_s = retry_after_s
        self.is_ours = is_ours

    @property
    def is_absent(self) -> bool:
        """There is no such object."""
        return self.status == 404

    @property
    def is_conflict(self) -> bool:
        """It was not done, for the object is another than was named, or is there already."""
        return self.status == CONFLICT

    @property
    def is_too_old(self) -> bool:
        """A `resourceVersion`, or a place in a list, was asked for that is forgotten."""
        return self.status == GONE

    @property
    def is_refusal(self) -> bool:
        """We are not known, or may not."""
        return self.status in (401, 403)


@dataclass(frozen=True, slots=True)
class Kind:
    """
    A kind of objects.

    Attributes:
        version: Of the API, with its group.
        plural: As in paths.
        name: As in objects.
        is_of_cluster: They are in no namespace.
    """

    version: str
    plural: str
    name: str
    is_of_cluster: bool = False

    def path(self, namespace: str, name: str = "") -> str:
        """Of all of a namespace, or of one."""
        root = "api" if "/" not in self.version else "apis"
        where = "" if self.is_of_cluster else f"/namespaces/{namespace}"
        return f"/{root}/{self.version}{where}/{self.plural}" + (f"/{name}" if name else "")


CONFIG_MAPS: Final = Kind("v1", "configmaps", "ConfigMap")
SECRETS: Final = Kind("v1", "secrets", "Secret")
SERVICES: Final = Kind("v1", "services", "Service")
LEASES: Final = Kind("coordination.k8s.io/v1", "leases", "Lease")
SLICES: Final = Kind("discovery.k8s.io/v1", "endpointslices", "EndpointSlice")
NAMESPACES: Final = Kind("v1", "namespaces", "Namespace", True)
WEBHOOKS: Final = Kind(
    "admissionregistration.k8s.io/v1", "mutatingwebhookconfigurations", "MutatingWebhookConfiguration", True
)


# --- objects ------------------------------------------------------------------------------------------------------


def part(values: Object, name: str) -> Object:
    """An object within another; empty where it is absent or null. Raises ApiError."""
    found = values.get(name)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise unintelligible(f"{name} is no object")
    return found


def parts(values: Object, name: str) -> list[Object]:
    """Objects within another; none where they are absent or null. Raises ApiError."""
    found = values.get(name)
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise unintelligible(f"{name} is no list of objects")
    return found


def text(values: Object, name: str) -> str:
    """A string; empty where it is absent or null. Raises ApiError."""
    found = values.get(name)
    if found is None:
        return ""
    if not isinstance(found, str):
        raise unintelligible(f"{name} is no string")
    return found


def name_of(one: Object) -> str:
    """Of an object. Raises ApiError."""
    return text(part(one, "metadata"), "name")


def version_of(one: Object) -> str:
    """The `resourceVersion` of an object or a list: opaque. Raises ApiError."""
    return text(part(one, "metadata"), "resourceVersion")


def object_name(prefix: str, name: str) -> str:
    """
    A name for an object about something that may be called anything: what is no name to Kubernetes is hashed. Both
    cannot meet, for the part before differs.
    """
    if _SUBDOMAIN.fullmatch(name) is not None and len(prefix) + 1 + len(name) <= _MAX_NAME_CHARS:
        return f"{prefix}.{name}"
    return f"{prefix}-by-hash.{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()[:32]}"


# --- answers ------------------------------------------------------------------------------------------------------


def unintelligible(why: str) -> ApiError:
    """The error for an answer that is not of the API."""
    return ApiError(f"expected an answer of the API of Kubernetes: {why}")


def read_answer(status: int, raw: bytes, retry_after: str = "") -> Object:
    """
    Understand the answer to a call.

    Args:
        retry_after: The field of that name; a date, which the API never sends, counts as none.

    Raises:
        ApiError: It is a refusal, or no answer of the API.
    """
    try:
        values = json.loads(raw)
    except (ValueError, RecursionError):
        values = None
    if 200 <= status < 300 and isinstance(values, dict):
        return values
    after_s = float(retry_after) if retry_after.isdecimal() and len(retry_after) < 6 else 0.0
    if isinstance(values, dict):
        raise refusal(values, status, after_s)
    # Of a load balancer in front of it, or of the API server itself when it sheds load: a line of text.
    said = raw[:200].decode("utf-8", "replace").strip().partition("\n")[0]
    if 200 <= status < 300:
        raise unintelligible("no JSON object")
    raise ApiError(said or "no reason given", status, "", after_s)


def refusal(said: Object, status: int, retry_after_s: float = 0.0) -> ApiError:
    """The error that a `Status` tells."""
    code = said.get("code")
    message, reason = said.get("message"), said.get("reason")
    return ApiError(
        str(message or reason or "no reason given")[:500],
        code if isinstance(code, int) and 400 <= code <= 599 else status,
        str(reason or ""),
        retry_after_s,
    )


def read_event(line: bytes) -> tuple[str, Object]:
    """
    Understand an event of a watch: its type, and its object.

    Raises:
        ApiError: It is `ERROR`, after which the stream ends, or no event.
    """
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        raise unintelligible("an event that is no JSON") from None
    if not isinstance(values, dict):
        raise unintelligible("an event that is no object")
    kind, found = text(values, "type"), part(values, "object")
    if kind == "ERROR":
        raise refusal(found, 500)
    return kind, found
