"""
`Upgrade` (RFC 9110, 7.8): which of the protocols that a request offers are offered on. *Hot path of upgrades; pure.*

Behind a switch the bytes are another protocol's and no rule sees them, so what may be switched to is an allow-list of
the route. A request that offers nothing that is allowed is an ordinary request: "A server MAY ignore a received Upgrade
header field if it wishes to continue using the current protocol".
"""

from __future__ import annotations

from typing import Final

from sidecar.http1.framing import connection_options
from sidecar.message import Kind, RequestHead, ResponseHead, Version

DEFAULT: Final = frozenset((b"websocket",))
"""What is allowed where nobody says otherwise."""

_UPGRADE: Final = Kind.UPGRADE | Kind.CONNECTION


def offered(head: RequestHead, allowed: frozenset[bytes]) -> bytes:
    """
    The value of `Upgrade` to send on, or nothing.

    Those members of the request's own that are allowed, as they were written and in their order, which is that of
    preference; a version is the two ends' business. Not over HTTP/1.0, and not unless `Connection` names it.

    Args:
        allowed: Names of protocols, lower case, without versions.
    """
    if head.kinds & _UPGRADE != _UPGRADE or not head.version or b"upgrade" not in connection_options(head.fields):
        return b""
    members = (head.joined(b"upgrade") or b"").split(b",")
    return b", ".join([member.strip(b" \t") for member in members if _name(member) in allowed])


def is_extended_connect(head: RequestHead) -> bool:
    """
    Whether the request was one of HTTP/2 that asks for a tunnel (RFC 8441), where `Upgrade` itself has no place: its
    client takes a 2xx, which answers any other request, for the tunnel that it has asked for.
    """
    return head.version == Version.HTTP2 and head.kinds & Kind.UPGRADE != 0


def switched_to(head: ResponseHead, offer: bytes) -> bytes:
    """
    The protocol that a 101 says it switches to, or nothing if that is not one that it was offered.

    "A server MUST NOT switch to a protocol that was not indicated by the client in the corresponding request's Upgrade
    header field". One that names none can only mean the one that it was offered, if it was one.

    Args:
        offer: What was sent on: of `offered`, not empty.
    """
    names = [_name(member) for member in offer.split(b",")]
    values = [field.value for field in head.fields if field.kind & Kind.UPGRADE]
    if not values:
        return offer if len(names) == 1 else b""
    value = b", ".join(values)
    # Several are layers, one upon the other: each must have been offered.
    return value if all(_name(member) in names for member in value.split(b",")) else b""


def _name(member: bytes) -> bytes:
    """`protocol = protocol-name ["/" protocol-version]`; names compare in any case."""
    return member.partition(b"/")[0].strip(b" \t").lower()
