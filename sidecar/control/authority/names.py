"""SPIFFE IDs of a mesh (SPIFFE ID 2). *Pure.*"""

from __future__ import annotations

import re
from typing import Final

from sidecar.mesh.told import NAME_PATTERN, RESERVED

MAX_IDENTITY_CHARS: Final = 2048
"""SPIFFE ID, 2.3."""

_TRUST_DOMAIN: Final = re.compile(NAME_PATTERN)
_IDENTITY: Final = re.compile(r"spiffe://(?P<domain>[a-z0-9._-]{1,255})(?P<path>(?:/[A-Za-z0-9._-]+)+)")
_DOTS: Final = frozenset({".", ".."})


class BadName(ValueError):  # noqa: N818
    """It is no name of that kind; what was expected."""


def check_trust_domain(name: str) -> str:
    """The name of a mesh. Raises BadName."""
    if _TRUST_DOMAIN.fullmatch(name) is None:
        raise BadName(f"expected a mesh's name, up to 63 lower-case letters, digits and `-`, found {name[:80]!r}")
    return name


def check_service(name: str) -> str:
    """The name of a service that can have a certificate. Raises BadName."""
    if _TRUST_DOMAIN.fullmatch(name) is None or name in RESERVED:
        raise BadName(f"expected the name of a service, found {name[:80]!r}")
    return name


def of_service(trust_domain: str, service: str) -> str:
    """`spiffe://shop/storefront`."""
    return f"spiffe://{trust_domain}/{service}"


def of_account(trust_domain: str, namespace: str, account: str) -> str:
    """`spiffe://shop/ns/NAMESPACE/sa/ACCOUNT`."""
    return f"spiffe://{trust_domain}/ns/{namespace}/sa/{account}"


def of_control(trust_domain: str) -> str:
    """Of every replica of the control plane; no service may be called so."""
    return f"spiffe://{trust_domain}/control"


def parts_of(identity: str) -> tuple[str, str] | None:
    """Trust domain, and path without its first `/`; None if it is no SPIFFE ID of a workload."""
    found = _IDENTITY.fullmatch(identity)
    if found is None or len(identity) > MAX_IDENTITY_CHARS or _DOTS & set(found["path"].split("/")):
        return None
    return found["domain"], found["path"][1:]


def line_of(identity: str, instance: str) -> str:
    """
    The name of a line of certificates: `storefront/i-0a1`, the path of the identity and the instance that joined first.
    So nobody who may join for one service touches what is known of another's.
    """
    parts = parts_of(identity)
    return f"{parts[1] if parts is not None else ''}/{instance}"
