"""What a certificate says, as the standard library's `ssl` tells it of a handshake or a store. *Pure, cold.*"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sidecar.net.tls.certificates import distinguished_name
from sidecar.security.identity.certificates.trouble import TroubleError, moment


@dataclass(frozen=True, slots=True)
class Facts:
    """
    One certificate.

    Attributes:
        subject: In the form of RFC 4514; may be empty, a workload's name is its URI.
        issuer: Who signed it, in the same form.
        serial: In hexadecimal.
        not_before_s, not_after_s: In seconds since the Unix epoch.
        fingerprint: SHA-256 of its DER, in 64 lower-case hexadecimal digits.
        names: DNS names and IP addresses.
        uris: URIs.
    """

    subject: str
    issuer: str
    serial: str
    not_before_s: float
    not_after_s: float
    fingerprint: str
    names: tuple[str, ...] = ()
    uris: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What people would call it."""
        return self.subject or (self.uris or self.names or (f"serial {self.serial}",))[0]

    @property
    def lived(self) -> str:
        """From when to when."""
        return f"{moment(self.not_before_s)} to {moment(self.not_after_s)}"

    @property
    def told(self) -> str:
        """Whose it is, a workload's by its URI; who signed it, and when it ends."""
        return f"{(self.uris or (self.name,))[0]}, signed by {self.issuer}, until {moment(self.not_after_s)}"


def facts_of(shown: Mapping[str, Any], der: bytes) -> Facts:
    """Of what `getpeercert` or `get_ca_certs` gives, and the certificate itself."""
    others = shown.get("subjectAltName", ())
    return Facts(
        distinguished_name(shown.get("subject", ())),
        distinguished_name(shown.get("issuer", ())),
        str(shown.get("serialNumber", "")),
        float(ssl.cert_time_to_seconds(shown["notBefore"])),
        float(ssl.cert_time_to_seconds(shown["notAfter"])),
        hashlib.sha256(der).hexdigest(),
        tuple(value for kind, value in others if kind in ("DNS", "IP Address")),
        tuple(value for kind, value in others if kind == "URI"),
    )


def authorities(certificates: Iterable[bytes], path: str) -> dict[bytes, Facts]:
    """
    What certificates of authorities say, by their DER; those that may sign nothing are left out.

    Raises:
        TroubleError: `malformed`: one is no certificate; the sentence says which.
    """
    store = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for number, der in enumerate(certificates, 1):
        try:
            store.load_verify_locations(cadata=der)
        except (ssl.SSLError, ValueError):
            raise TroubleError("malformed", f"{path}: certificate {number} in this file is not in DER") from None
    shown = zip(store.get_ca_certs(binary_form=True), store.get_ca_certs(), strict=True)
    return {der: facts_of(one, der) for der, one in shown}
