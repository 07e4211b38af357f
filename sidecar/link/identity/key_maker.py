"""Who makes keys and requests to sign them, as `Joiner` needs it; `runtime.mesh.key_process` does. *Cold.*"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class SigningRequest:
    """
    Attributes:
        key: PEM; nobody else may see it.
        csr: PEM (RFC 2986).
        signature: By an older key, of `messages.text_to_sign`, in base64url; empty if none was asked for.
    """

    key: str = field(repr=False)
    csr: str
    signature: str = field(default="", repr=False)


class KeyMakerError(Exception):
    """There is no key, and why, in one line without anything secret."""


class KeyMaker(Protocol):
    """Makes them."""

    async def make(self, nonce: str = "", old_key: str = "") -> SigningRequest:
        """
        A new key and its request.

        Args:
            nonce: What the server wants signed by the old key.
            old_key: PEM; empty if nothing is to be signed.

        Raises:
            KeyMakerError: There is none.
        """
        ...
