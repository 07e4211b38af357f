"""
What the authority keeps in Kubernetes: a Secret each, written over the `resourceVersion` that reading it gave; and who
stands behind the token of a service account, by the API's own TokenReview.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any, Final

from sidecar.control.engines.interface import Conflict, Unavailable, Versioned
from sidecar.control.engines.kubernetes import wire
from sidecar.control.engines.kubernetes.client import Client
from sidecar.control.engines.kubernetes.wire import MAX_DATA_BYTES, SECRETS, ApiError, Object

_KEY: Final = "value"
_ACCOUNT: Final = "system:serviceaccount:"
REVIEWS: Final = "/apis/authentication.k8s.io/v1/tokenreviews"


class KubernetesSecrets:
    """
    `Secrets`.

    Args:
        client: Asks.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    async def read(self, name: str) -> Versioned | None:
        """By a read without a `resourceVersion`, which the API answers from etcd's quorum."""
        found = await self._client.get(SECRETS, self._client.named(name))
        return _read_back(found) if found is not None else None

    async def swap(self, name: str, value: bytes, expected: str) -> str:
        """Create it, or replace the version that it has."""
        if len(value) > MAX_DATA_BYTES - 1024:
            raise Unavailable(f"{name} takes {len(value)} octets, and Kubernetes at most 1 MiB in one Secret")
        metadata: dict[str, Any] = {
            "name": self._client.named(name), "labels": {"app.kubernetes.io/managed-by": "sidecar"},
        }  # fmt: skip
        fields = {"type": "Opaque", "data": {_KEY: base64.b64encode(value).decode()}}
        try:
            if not expected:
                return wire.version_of(await self._client.create(SECRETS, {"metadata": metadata} | fields))
            metadata["resourceVersion"] = expected
            return wire.version_of(await self._client.replace(SECRETS, {"metadata": metadata} | fields))
        except ApiError as error:
            if error.is_conflict or (error.is_absent and expected):
                raise Conflict(f"expected version {expected or 'none'}, found another") from None
            raise


class KubernetesAccounts:
    """
    `Accounts`.

    Args:
        client: Asks.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    async def reviewed(self, token: str, audience: str) -> tuple[str, str] | None:
        """By TokenReview (authentication.k8s.io/v1)."""
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [audience]},
        }
        status = wire.part(await self._client.call("POST", REVIEWS, body=body), "status")
        # An API that knows nothing of audiences leaves them out of its answer: then it may be a token for anybody.
        audiences = status.get("audiences")
        if status.get("authenticated") is not True or not isinstance(audiences, list) or audience not in audiences:
            return None
        user = wire.text(wire.part(status, "user"), "username")
        namespace, _, name = user.removeprefix(_ACCOUNT).partition(":")
        return (namespace, name) if user.startswith(_ACCOUNT) and namespace and name else None


def _read_back(one: Object) -> Versioned:
    try:
        value = base64.b64decode(wire.text(wire.part(one, "data"), _KEY), validate=True)
    except (binascii.Error, ValueError):
        raise ApiError(f"Secret {wire.name_of(one)}: expected what was written there, found it damaged") from None
    return Versioned(value, wire.version_of(one))
