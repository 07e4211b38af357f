"""What a sidecar holds of its identity, as it is kept on disk and handed to a successor. *Pure.*"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sidecar.link.fields import Fields, MessageError
from sidecar.link.identity.messages import MAX_PEM_CHARS


@dataclass(frozen=True, slots=True)
class Held:
    """
    A certificate, its key, and whom to believe.

    Attributes:
        certificate: PEM: the leaf, then who signed it, up to and without the root.
        key: PEM; in no `repr`.
        trust: PEM: all roots of the mesh.
        trust_domain: Of the mesh.
        identity: The SPIFFE ID in the certificate.
        issuer: Who signed the leaf, in the form of RFC 4514.
        not_before_s: When the certificate begins; since the Unix epoch, as all times here.
        not_after_s: When it ends.
        renew_after_s: When the authority wants it renewed.
        obtained_s: When it came, by our clock.
    """

    certificate: str = field(repr=False)
    key: str = field(repr=False)
    trust: str = field(repr=False)
    trust_domain: str
    identity: str
    issuer: str
    not_before_s: float
    not_after_s: float
    renew_after_s: float
    obtained_s: float

    def shown(self) -> dict[str, object]:
        """All of it, the key included, as JSON has it; `read_held` reads it."""
        return {name: getattr(self, name) for name in self.__slots__}


def read_held(value: Mapping[str, Any] | None) -> Held | None:
    """What `shown` made; None for anything that is not understood."""
    if value is None:
        return None
    fields = Fields(value)
    try:
        return Held(
            fields.text("certificate", None, MAX_PEM_CHARS),
            fields.text("key", None, MAX_PEM_CHARS),
            fields.text("trust", None, MAX_PEM_CHARS),
            fields.text("trust_domain"),
            fields.text("identity"),
            fields.text("issuer"),
            fields.number("not_before_s"),
            fields.number("not_after_s"),
            fields.number("renew_after_s"),
            fields.number("obtained_s"),
        )
    except MessageError:
        return None
