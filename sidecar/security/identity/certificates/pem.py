"""
PEM (RFC 7468) taken apart into certificates and a key, and what was cut off told from what is wrong. *Pure, cold.*

OpenSSL reads such a file up to the first block that it cannot use and keeps what came before, so that half a bundle
would be a smaller bundle. Here every block that begins must end.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterable
from typing import Final

from sidecar.security.identity.certificates.trouble import TroubleError

MAX_CERTIFICATES: Final = 1000
"""In one file; the roots of a machine are some 150."""

_BLOCK: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----[ \t]*\r?\n(.*?)-----END \1-----", re.DOTALL)
_EDGE: Final = re.compile(rb"^-----(?:BEGIN|END) ", re.MULTILINE)
_FIRST_EDGE: Final = b"-----BEGIN "
_CERTIFICATE: Final = b"CERTIFICATE"
_KEY: Final = b"PRIVATE KEY"


def certificates(content: bytes, path: str) -> tuple[bytes, ...]:
    """
    The certificates of a file, in its order, each in DER; what else stands there is passed over.

    Args:
        path: For the sentence, if there is one to tell.

    Raises:
        TroubleError: `half_written`, `malformed` or `no_certificate`.
    """
    found = []
    for match in _blocks(content, path):
        if match[1] == _CERTIFICATE:
            try:
                found.append(ssl.PEM_cert_to_DER_cert(match[0].decode("ascii").replace("\r\n", "\n")))
            except ValueError:  # of base64, or of the text
                at = content.count(b"\n", 0, match.start()) + 1
                raise TroubleError(
                    "malformed", f"{path}:{at}: expected a certificate in PEM, got a block that is not base64"
                ) from None
    if not found:
        got = "a key only" if _KEY in content else "an empty file" if not content.strip() else "none"
        raise TroubleError("no_certificate", f"{path}: expected certificates in PEM (BEGIN CERTIFICATE), got {got}")
    if len(found) > MAX_CERTIFICATES:
        raise TroubleError("malformed", f"{path}: expected at most {MAX_CERTIFICATES} certificates, got {len(found)}")
    return tuple(found)


def private_key(content: bytes, path: str) -> bytes:
    """
    The key of a file, as the block that it is.

    Raises:
        TroubleError: `half_written`, `malformed`, or `key_encrypted`. Nothing of the content is in its sentence.
    """
    keys = [match for match in _blocks(content, path) if match[1].endswith(_KEY)]
    if len(keys) != 1:
        got = len(keys) or ("an empty file" if not content.strip() else "none")
        raise TroubleError("malformed", f"{path}: expected one private key in PEM (BEGIN PRIVATE KEY), got {got}")
    if keys[0][1].startswith(b"ENCRYPTED") or b"ENCRYPTED" in keys[0][2].split(b"\n\n", 1)[0][:200]:
        raise TroubleError(
            "key_encrypted",
            f"{path}: the key has a password; give it without one, in a file that only this user can read",
        )
    return keys[0][0] + b"\n"


def text_of(certificates: Iterable[bytes]) -> bytes:
    """Certificates in DER as one text in PEM."""
    return "".join(ssl.DER_cert_to_PEM_cert(one) for one in certificates).encode()


def _blocks(content: bytes, path: str) -> list[re.Match[bytes]]:
    blocks = list(_BLOCK.finditer(content))
    spans = iter([*((match.start(), match.end()) for match in blocks), (len(content), len(content))])
    start, end = next(spans)
    for edge in _EDGE.finditer(content):
        while edge.start() >= end:
            start, end = next(spans)
        if edge.start() < start:
            raise _half_written(content, edge.start(), path)
    last_line = content.rpartition(b"\n")[2]
    if last_line and _FIRST_EDGE.startswith(last_line):
        raise _half_written(content, len(content), path)
    return blocks


def _half_written(content: bytes, at: int, path: str) -> TroubleError:
    line = content.count(b"\n", 0, at) + 1
    return TroubleError(
        "half_written", f"{path}:{line}: here a block is cut; the file is being written, or was not written to its end"
    )
