"""
The file by which a sidecar proves who it is before it has a certificate. *Pure.*

    sct_...                       a join token, as `sidecar mesh token create` prints it
    sct_...#sha256:HEX            and the SHA-256 of the root that the control plane must have, in DER
    xxx.yyy.zzz                   a service-account token, as Kubernetes projects it

What the file holds is in no error, no `repr` and no line of a log; its path is.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import Final

from sidecar.link.identity.messages import Proof, ServiceAccountProof, TokenProof
from sidecar.link.transport.reading import JOIN_TOKEN

_TOKEN: Final = re.compile(r"sct_[A-Za-z0-9_-]{43}")
_JWT: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_PIN: Final = re.compile(r"sha256:([0-9A-Fa-f]{64})")
_WANTED: Final = (
    "expected a join token (`sct_` and 43 characters), perhaps with `#sha256:` and 64 hexadecimal digits after it, "
    "or a service-account token"
)


class NotForJoiningError(ValueError):
    """It may be a token, but for another use."""


@dataclass(frozen=True, slots=True)
class TokenFile:
    """
    What a token file says.

    Attributes:
        proof: Of who this is.
        pin: SHA-256 of the control plane's root in lower-case hexadecimal digits; empty if it is not said.
        digest: Tells two contents apart, without being one.
    """

    proof: Proof = field(repr=False)
    pin: str
    digest: str = field(repr=False)


def parse_token(text: str) -> TokenFile:
    """
    Understand a token file's content, without the white space around it.

    Raises:
        NotForJoiningError: It is something else altogether; what, is not said.
        ValueError: It is nearly one.
    """
    token, mark, pinned = text.partition("#")
    pin = ""
    if not token.startswith(JOIN_TOKEN) and not _JWT.fullmatch(token):
        raise NotForJoiningError(f"{_WANTED}; found {len(text)} characters of something else")
    if mark:
        found = _PIN.fullmatch(pinned)
        if found is None:
            raise ValueError(f"{_WANTED}; found something else after `#`")
        pin = found[1].lower()
    digest = hashlib.sha256(text.encode()).hexdigest()
    if _TOKEN.fullmatch(token):
        return TokenFile(TokenProof(token), pin, digest)
    if token.startswith(JOIN_TOKEN):
        raise ValueError(f"{_WANTED}; found {len(token) - len(JOIN_TOKEN)} characters after `sct_`")
    return TokenFile(ServiceAccountProof(token), pin, digest)
