"""SPIFFE IDs of a mesh (SPIFFE ID 2). *Pure.*"""

from __future__ import annotations

import re
from typing import Final

from sidecar.mesh.told import NAME_PATTERN, RESERVED
from sidecar.spiffe import SCHEME, SpiffeError, parse_workload_id

_TRUST_DOMAIN: Final = re.compile(NAME_PATTERN)


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
    return f"{SCHEME}{trust_domain}/{service}"


def of_account(trust_domain: str, namespace: str, account: str) -> str:
    """`spiffe://shop/ns/NAMESPACE/sa/ACCOUNT`."""
    return f"{SCHEME}{trust_domain}/ns/{namespace}/sa/{account}"


def of_control(trust_domain: str) -> str:
    """Of every replica of the control plane; no service may be called so."""
    return f"{SCHEME}{trust_domain}/control"


def parts_of(identity: str) -> tuple[str, str] | None:
    """Trust domain, and path without its first `/`; None if it is no SPIFFE ID of a workload."""
    try:
        found = parse_workload_id(identity)
    except SpiffeError:
        return None
    return found.trust_domain, found.path[1:]


def line_of(identity: str, instance: str) -> str:
    """
    The name of a line of certificates: `storefront/i-0a1`, the path of the identity and the instance that joined first.
    So nobody who may join for one service touches what is known of another's.
    """
    parts = parts_of(identity)
    return f"{parts[1] if parts is not None else ''}/{instance}"
