"""
What an agent says (SPIFFE Workload API, 5: `X509SVIDResponse`), read into what is judged as files are. *Pure, cold.*

Each message has everything, and replaces all that came before (4.3, 4.4). Of several identities one is used: the first,
which is the default (5.3), or the first of the trust domain that the file wants. Revocation lists and bundles of other
trust domains, which we do not believe yet, are passed over.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Final

from sidecar.net.grpc.protobuf import ProtobufError, fields, octets, text
from sidecar.security.identity.certificates.credentials import Material
from sidecar.security.identity.certificates.pem import MAX_CERTIFICATES, text_of
from sidecar.security.identity.certificates.trouble import TroubleError
from sidecar.spiffe import SpiffeError, parse_spiffe_id

MAX_SVIDS: Final = 1000
_SVIDS: Final = 1
_SPIFFE_ID: Final = 1
_CHAIN: Final = 2
_KEY: Final = 3
_BUNDLE: Final = 4

_SEQUENCE: Final = 0x30


@dataclass(frozen=True, slots=True)
class Svid:
    """
    One identity.

    Attributes:
        spiffe_id: As the agent writes it; what counts is in the certificate.
        chain: In DER, the leaf first.
        key: In DER (PKCS 8).
        bundle: In DER: the roots of its trust domain.
    """

    spiffe_id: str
    chain: tuple[bytes, ...] = field(repr=False)
    key: bytes = field(repr=False)
    bundle: tuple[bytes, ...] = field(repr=False)


def read_response(message: bytes, at: str) -> tuple[Svid, ...]:
    """
    All identities of a message.

    Args:
        at: Where it is from, for sentences.

    Raises:
        TroubleError: `malformed`: "Clients receiving a message in which a mandatory field has a default value SHOULD
            report an error and discard the message" (4.5), as anything that cannot be read.
    """
    try:
        found = tuple(_svid(octets(one)) for one in fields(message) if one.number == _SVIDS)
        if not found:
            raise ProtobufError("it has no identity at all")
        if len(found) > MAX_SVIDS:
            raise ProtobufError(f"it has {len(found)} identities, more than {MAX_SVIDS}")
    except ProtobufError as error:
        raise TroubleError("malformed", f"{at}: the agent's message cannot be used: {error}") from None
    return found


def choose(svids: tuple[Svid, ...], trust_domain: str) -> Svid:
    """The one that is used: the first of this trust domain; the first of all where there is none, or none is said."""
    return next((one for one in svids if trust_domain and _trust_domain_of(one) == trust_domain), svids[0])


def material_of(svid: Svid, at: str) -> Material:
    """One identity as what is judged."""
    key = base64.encodebytes(svid.key).replace(b"\n", b"")
    lines = b"\n".join(key[start : start + 64] for start in range(0, len(key), 64))
    key_pem = b"-----BEGIN PRIVATE KEY-----\n" + lines + b"\n-----END PRIVATE KEY-----\n"
    certificate_at, key_at, trust_at = (f"{what} from {at}" for what in ("the certificate", "the key", "the bundle"))
    return Material(text_of(svid.chain), key_pem, text_of(svid.bundle), certificate_at, key_at, trust_at)


def _svid(message: bytes) -> Svid:
    spiffe_id, chain, key, bundle = "", b"", b"", b""
    for one in fields(message):
        # Of a field that comes twice the last counts.
        if one.number == _SPIFFE_ID:
            spiffe_id = text(one)
        elif one.number == _CHAIN:
            chain = octets(one)
        elif one.number == _KEY:
            key = octets(one)
        elif one.number == _BUNDLE:
            bundle = octets(one)
    given = {"spiffe_id": spiffe_id, "x509_svid": chain, "x509_svid_key": key, "bundle": bundle}
    missing = [name for name, value in given.items() if not value]
    if missing:
        raise ProtobufError(f"an identity lacks `{'`, `'.join(missing)}`")
    if len(split(key, "x509_svid_key")) != 1:
        raise ProtobufError("`x509_svid_key` is more than one key")
    return Svid(spiffe_id, split(chain, "x509_svid"), key, split(bundle, "bundle"))


def split(joined: bytes, name: str) -> tuple[bytes, ...]:
    """
    Values of ASN.1 in DER (X.690, 8.1 and 10.1), one after the other without anything between, taken apart.

    Raises:
        ProtobufError: They do not come out even, or are no sequences, as certificates and keys are.
    """
    found: list[bytes] = []
    at = 0
    while at < len(joined):
        if len(found) == MAX_CERTIFICATES:
            raise ProtobufError(f"`{name}` has more than {MAX_CERTIFICATES} certificates")
        if joined[at] != _SEQUENCE or at + 2 > len(joined):
            raise ProtobufError(f"`{name}` is not in DER")
        head, length = 2, joined[at + 1]
        if length >= 0x80:
            size = length & 0x7F
            head += size
            # X.690, 10.1: lengths are definite, and "encoded in the minimum number of octets".
            length = int.from_bytes(joined[at + 2 : at + head])
            if not 1 <= size <= 4 or at + head > len(joined) or length < 0x80 or length >> 8 * (size - 1) == 0:
                raise ProtobufError(f"`{name}` is not in DER")
        if length > len(joined) - at - head:
            raise ProtobufError(f"`{name}` is cut")
        found.append(joined[at : at + head + length])
        at += head + length
    return tuple(found)


def _trust_domain_of(svid: Svid) -> str:
    try:
        return parse_spiffe_id(svid.spiffe_id).trust_domain
    except SpiffeError:
        return ""
