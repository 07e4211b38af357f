"""A bundle: whom to believe. *Cold.*"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from sidecar.security.identity.certificates import pem
from sidecar.security.identity.certificates.facts import Facts, authorities

_MACHINES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Alpine
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",  # RHEL
    "/etc/ssl/cert.pem",  # Alpine, BSD
)
"""Where machines have the roots that they trust, in the order of Go's crypto/x509."""


@dataclass(frozen=True, slots=True)
class Roots:
    """
    Attributes:
        certificates: In DER.
        authorities: What those of them that may sign say, by their DER.
        at: Where it is from.
    """

    certificates: tuple[bytes, ...] = field(repr=False)
    authorities: Mapping[bytes, Facts] = field(repr=False)
    at: str

    def believe_by(self, context: ssl.SSLContext) -> None:
        """
        Have a context believe them, and whom they signed.

        Each is an end of a chain also if another has signed it, as users of Envoy and Go know it: cert-manager's
        `ca.crt` may be an intermediate's.
        """
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.load_verify_locations(cadata=b"".join(self.certificates))


def read_roots(content: bytes, at: str) -> Roots:
    """
    A bundle in PEM.

    Raises:
        TroubleError: It cannot be used.
    """
    certificates = tuple(dict.fromkeys(pem.certificates(content, at)))
    return Roots(certificates, authorities(certificates, at), at)


def machine_roots() -> str:
    """Path of the file of roots that this machine trusts; empty if there is none. Blocks."""
    named = os.environ.get("SSL_CERT_FILE", "")
    compiled_in = ssl.get_default_verify_paths().openssl_cafile
    return next((path for path in (named, *_MACHINES, compiled_in) if path and os.path.isfile(path)), "")
