"""
Makes a key and a request to sign it, in a process of its own that ends at once. *Cold.*

The library for it takes 14 MiB, which a data path does not spend. Standard input has one JSON object, up to its end,
standard output gets one: what is secret is on no disk, in no argument and in no variable.

    {"nonce": NONCE, "old_key": PEM}     both where a certificate is to be proved by a signature, else neither
    {"key": PEM, "csr": PEM, "signature": base64url, or empty}
    {"error": "what went wrong"}
"""

from __future__ import annotations

import base64
import json
import resource
import sys
from contextlib import suppress
from typing import Any, Final

from sidecar.link.identity.messages import text_to_sign

MAX_INPUT_BYTES: Final = 256 * 1024


def answer(asked: dict[str, Any]) -> dict[str, str]:
    """
    A P-256 key in PKCS#8, a request that names nobody (RFC 2986), and what the old key is to sign.

    Raises:
        ValueError, TypeError: The old key is none.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    csr_pem = csr.public_bytes(serialization.Encoding.PEM).decode()
    signature = ""
    if asked.get("old_key"):
        old_key = serialization.load_pem_private_key(str(asked["old_key"]).encode(), None)
        if not isinstance(old_key, ec.EllipticCurvePrivateKey):
            raise ValueError("it is not of an elliptic curve")
        signed = text_to_sign(str(asked["nonce"]), csr.public_bytes(serialization.Encoding.DER))
        signature = base64.urlsafe_b64encode(old_key.sign(signed, ec.ECDSA(hashes.SHA256()))).decode()
    key_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return {"key": key_pem.decode(), "csr": csr_pem, "signature": signature}


def main() -> None:
    """Answer one request."""
    # A key is nothing for a core file.
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        said = answer(json.loads(sys.stdin.buffer.read(MAX_INPUT_BYTES)))
    except ImportError:
        said = {"error": "the package `cryptography` is not installed"}
    except Exception as error:
        # Its text is left out: it may quote a key.
        said = {"error": f"no key and request could be made: {type(error).__name__}"}
    sys.stdout.buffer.write(json.dumps(said).encode())
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
