"""Who the peer of a finished handshake is. *Once a connection.*"""

from __future__ import annotations

import hashlib
import ssl
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Final

from sidecar.net.tls.spiffe import is_workload
from sidecar.peer import Peer

MAX_KNOWN: Final = 1024
"""Certificates whose content is remembered: reading one costs 20 us."""

_SHORT: Final = {
    "commonName": "CN", "organizationName": "O", "organizationalUnitName": "OU", "countryName": "C",
    "localityName": "L", "stateOrProvinceName": "ST", "domainComponent": "DC", "userId": "UID",
    "streetAddress": "STREET",
}  # fmt: skip
"""RFC 4514, 3."""
_ESCAPED: Final = str.maketrans({**{one: "\\" + one for one in '\\",+;<>='}, "\0": "\\00"})

_Content = tuple[str, str, str, tuple[str, ...], tuple[str, ...], float, str]
"""What `Peer` has of a certificate, in its order."""

_known: OrderedDict[bytes, _Content] = OrderedDict()


def distinguished_name(parts: Sequence[Sequence[tuple[str, str]]]) -> str:
    """
    A name in the form of RFC 4514, the most particular part first.

    Args:
        parts: As `ssl.SSLObject.getpeercert` gives a subject or an issuer.
    """
    return ",".join(
        "+".join(f"{_SHORT.get(kind, kind)}={_escaped(value)}" for kind, value in part) for part in reversed(parts)
    )


def _escaped(value: str) -> str:
    """RFC 4514, 2.4: also what stands first or last and would be taken for something else."""
    text = value.translate(_ESCAPED)
    if text.endswith(" "):
        text = text[:-1] + "\\ "
    return "\\" + text if text.startswith((" ", "#")) else text


def spiffe_id(uris: tuple[str, ...]) -> str:
    """
    The SPIFFE ID of a certificate, or nothing.

    "An X.509 SVID MUST contain exactly one URI SAN" (SPIFFE X.509-SVID, 2), and one with more is nobody's.
    """
    return uris[0] if len(uris) == 1 and is_workload(uris[0]) else ""


def _content(der: bytes, said: dict[str, Any]) -> _Content:
    names = said.get("subjectAltName", ())
    uris = tuple(value for kind, value in names if kind == "URI")
    return (
        spiffe_id(uris),
        distinguished_name(said.get("subject", ())),
        distinguished_name(said.get("issuer", ())),
        tuple(value for kind, value in names if kind == "DNS"),
        uris,
        float(ssl.cert_time_to_seconds(said["notAfter"])),
        hashlib.sha256(der).hexdigest(),
    )


def peer_of(connection: ssl.SSLObject, server_name: str = "") -> Peer:
    """
    Who is at the other end, once the handshake is over.

    Args:
        server_name: What the client asked for; of a server-side object the caller knows it.
    """
    cipher = connection.cipher()
    version = (connection.version() or "").removeprefix("TLSv")
    suite, protocol = cipher[0] if cipher else "", connection.selected_alpn_protocol() or ""
    is_resumed = bool(connection.session_reused)
    der = connection.getpeercert(binary_form=True)
    if der is None:
        return Peer(version, suite, protocol, server_name, is_resumed)
    content = _known.get(der)
    if content is None:
        said = connection.getpeercert()
        if not said:  # it was asked for and not verified: its content is nobody's word
            shown = hashlib.sha256(der).hexdigest()
            return Peer(version, suite, protocol, server_name, is_resumed, fingerprint=shown)
        content = _known[der] = _content(der, said)
        if len(_known) > MAX_KNOWN:
            _known.popitem(last=False)
    identity, subject, issuer, names, uris, not_after_s, fingerprint = content
    return Peer(
        version,
        suite,
        protocol,
        server_name,
        is_resumed,
        identity,
        subject,
        issuer,
        names,
        uris,
        not_after_s,
        fingerprint,
    )
