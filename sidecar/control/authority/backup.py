"""
The authority in a file, encrypted. *Pure; slow and large on purpose: 128 MiB for half a second.*

As the library's manual says it for passwords: Scrypt (RFC 7914) makes a key of the passphrase, and Fernet encrypts and
authenticates with it. (PKCS#12 and PKCS#8 were looked at: of what the library writes, 2,048 rounds try a passphrase.)
"""

from __future__ import annotations

import base64
import binascii
import json
import secrets
from dataclasses import replace
from typing import Final

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from sidecar.control.authority.record import AuthorityError, Record, read_record, written
from sidecar.link.fields import MessageError, decode

COST: Final = 2**17
LEAST_CHARS: Final = 12
MAX_BYTES: Final = 4 * 1024 * 1024
_FORM: Final = "sidecar-authority-1"
_SALT_BYTES: Final = 16


def sealed(record: Record, passphrase: str) -> bytes:
    """
    The file's content.

    Raises:
        AuthorityError: The passphrase is too short.
    """
    if len(passphrase) < LEAST_CHARS:
        raise AuthorityError(f"expected a passphrase of at least {LEAST_CHARS} characters")
    salt = secrets.token_bytes(_SALT_BYTES)
    token = _fernet(passphrase, salt).encrypt(written(replace(record, held=None)))
    said = {
        "form": _FORM, "trust_domain": record.trust_domain, "root": record.signing,
        "salt": base64.b64encode(salt).decode(), "sealed": token.decode(),
    }  # fmt: skip
    return json.dumps(said, indent=2).encode() + b"\n"


def opened(raw: bytes, passphrase: str) -> Record:
    """
    What was sealed, without a hold.

    Raises:
        AuthorityError: It is no such file, is damaged, or the passphrase is another.
    """
    try:
        said = decode(raw)
        if said.text("form", "") != _FORM:
            raise AuthorityError("expected a backup of an authority, as `sidecar mesh ca backup` writes it")
        salt = base64.b64decode(said.text("salt"), validate=True)
        token = said.text("sealed", limit=MAX_BYTES)
    except (MessageError, binascii.Error, ValueError):
        raise AuthorityError("the backup is damaged") from None
    try:
        return read_record(_fernet(passphrase, salt).decrypt(token.encode("ascii", "replace")))
    except InvalidToken:
        raise AuthorityError("the passphrase is not the backup's, or the backup is damaged") from None


def _fernet(passphrase: str, salt: bytes) -> Fernet:
    key = Scrypt(salt=salt, length=32, n=COST, r=8, p=1).derive(passphrase.encode())
    return Fernet(base64.urlsafe_b64encode(key))
