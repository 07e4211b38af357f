"""
What is stored of the authority. *Pure: octets in and out; each step makes a new record of an old one.*

One value, swapped whole, so that two replicas which start with an empty engine agree on one authority, and no step is
done by halves. It has the keys in it: it goes to the engine and nowhere else (`backup` writes it encrypted).
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes

from sidecar.control.authority import certificates as pki
from sidecar.control.authority.certificates import DAY_S, BadCertificate
from sidecar.control.authority.names import BadName, check_trust_domain
from sidecar.link.fields import Fields, MessageError, decode, encode
from sidecar.link.identity.messages import MAX_PEM_CHARS

RENEWED_LEFT_S: Final = 45 * DAY_S
"""An intermediate is renewed when less is left: the longest leaf, 30 days, always fits, and half a month may fail."""
KNOWN_S: Final = 2 * DAY_S
"""After which every sidecar has renewed its leaf of a week once, and has the roots that were there then."""
MAX_ROOTS: Final = 16
MAX_KEY_CHARS: Final = 16 * 1024


class AuthorityError(Exception):
    """An order that is not carried out; why, and what to do, in one line."""


@dataclass(frozen=True)
class Signer:
    """
    An authority: its certificate, and its key if it is here.

    Attributes:
        certificate: PEM; of an intermediate that somebody gave, with those between it and the root.
        key: PEM, or empty.
        added_s: Since the Unix epoch, when it became known.
    """

    certificate: str
    key: str = field(default="", repr=False)
    added_s: float = 0.0

    @cached_property
    def chain(self) -> tuple[x509.Certificate, ...]:
        """Itself first."""
        return tuple(pki.read_certificates(self.certificate))

    @property
    def own(self) -> x509.Certificate:
        """Its certificate."""
        return self.chain[0]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of its certificate."""
        return pki.fingerprint(self.own)

    @cached_property
    def private_key(self) -> CertificateIssuerPrivateKeyTypes:
        """Raises AuthorityError: it is not here."""
        if not self.key:
            raise AuthorityError(f"the key of {self.own.subject.rfc4514_string()} is not here")
        return pki.read_key(self.key)


@dataclass(frozen=True)
class Held:
    """
    Nothing is issued: a sidecar showed a certificate of this mesh by a root that is older than this authority.

    Attributes:
        root: SHA-256 of the topmost certificate that it showed.
        subject: Of that certificate.
        identity: As which the sidecar showed itself.
    """

    root: str
    subject: str
    identity: str
    since_s: float


@dataclass(frozen=True)
class Record:
    """
    The authority.

    Attributes:
        created_s: Since the Unix epoch, when this record began.
        roots: What everyone trusts, the one that signs among them.
        signing: SHA-256 of the root below which leaves are issued.
        intermediate: What signs leaves.
        nonce_key: 64 hexadecimal digits, for the marks that join requests carry; of all replicas.
        is_only: An operator said that no other authority of this mesh counts (`ca replace`).
        changed_s: Since the Unix epoch, when trust changed last: other roots, or another one that signs.
    """

    trust_domain: str
    created_s: float
    roots: tuple[Signer, ...]
    signing: str
    intermediate: Signer
    nonce_key: str = field(repr=False)
    is_only: bool = False
    held: Held | None = None
    changed_s: float = 0.0

    @property
    def root(self) -> Signer:
        """The one below which leaves are issued."""
        return next(one for one in self.roots if one.fingerprint == self.signing)

    @property
    def next_root(self) -> Signer | None:
        """One that is trusted, has its key here, and was made after the one that signs; None if there is none."""
        later = self.roots[self.roots.index(self.root) + 1 :]
        return next((one for one in later if one.key), None)

    @cached_property
    def trust(self) -> str:
        """PEM of the roots."""
        return "".join(one.certificate for one in self.roots)


# --- reading and writing ------------------------------------------------------------------------------------------


def read_record(raw: bytes) -> Record:
    """
    What was stored.

    Raises:
        AuthorityError: It is damaged, or of a later release.
    """
    try:
        said = decode(raw)
        held = said.part("held")
        record = Record(
            trust_domain=check_trust_domain(said.text("trust_domain")),
            created_s=said.number("created"),
            roots=tuple(_signer(one) for one in said.objects("roots", MAX_ROOTS)),
            signing=said.text("signing"),
            intermediate=_signer(said.part("intermediate") or Fields({})),
            nonce_key=said.text("nonce_key"),
            is_only=said.flag("is_only", False),
            held=Held(
                held.text("root"), held.text("subject", limit=4096), held.text("identity", limit=4096),
                held.number("since"),
            ) if held is not None else None,
            changed_s=said.number("changed", 0.0),
        )  # fmt: skip
        bytes.fromhex(record.nonce_key)
        _ = record.root, record.intermediate.chain
    except (MessageError, BadName, BadCertificate, StopIteration, ValueError) as error:
        raise AuthorityError(f"the stored authority cannot be used: {error or 'no root signs'}") from None
    return record


def _signer(said: Fields) -> Signer:
    return Signer(
        said.text("certificate", limit=MAX_PEM_CHARS), said.text("key", "", limit=MAX_KEY_CHARS),
        said.number("added", 0.0),
    )  # fmt: skip


def written(record: Record) -> bytes:
    """As it is stored."""

    def signer(one: Signer) -> Mapping[str, Any]:
        return {"certificate": one.certificate, "key": one.key, "added": one.added_s}

    held = record.held
    return encode({
        "trust_domain": record.trust_domain,
        "created": record.created_s,
        "roots": [signer(one) for one in record.roots],
        "signing": record.signing,
        "intermediate": signer(record.intermediate),
        "nonce_key": record.nonce_key,
        "is_only": record.is_only,
        "changed": record.changed_s,
        "held": None if held is None else {
            "root": held.root, "subject": held.subject, "identity": held.identity, "since": held.since_s,
        },
    })  # fmt: skip


# --- steps --------------------------------------------------------------------------------------------------------


def made(trust_domain: str, now_s: float) -> Record:
    """A new authority: a root and an intermediate. Raises BadName."""
    root = _new_root(check_trust_domain(trust_domain), now_s)
    intermediate = _new_intermediate(trust_domain, root, now_s)
    return Record(trust_domain, now_s, (root,), root.fingerprint, intermediate, secrets.token_hex(32))


def given(trust_domain: str, chain: str, key: str, trust: str, now_s: float) -> Record:
    """
    An authority whose root is elsewhere: an intermediate that somebody gave. It is renewed by being given again.

    Args:
        chain: PEM, the intermediate first.
        key: PEM of its key.
        trust: PEM of the roots.

    Raises:
        AuthorityError: They do not belong together, or it may not sign.
        BadName, BadCertificate: As they say.
    """
    check_trust_domain(trust_domain)
    roots = pki.read_certificates(trust)
    intermediate = Signer(chain, key, now_s)
    _check_given(intermediate, roots, now_s)
    root = pki.root_of(intermediate.chain, roots)
    if root is None:
        raise AuthorityError("the certificate does not chain to any of the roots that were given with it")
    if len(roots) > MAX_ROOTS:
        raise AuthorityError(f"expected at most {MAX_ROOTS} roots, found {len(roots)}")
    signers = tuple(Signer(pki.text_of([one]), "", now_s) for one in roots)
    return Record(trust_domain, now_s, signers, pki.fingerprint(root), intermediate, secrets.token_hex(32))


def given_again(record: Record, chain: str, key: str, now_s: float) -> Record:
    """The next intermediate, under a root that is trusted. Raises AuthorityError, BadCertificate."""
    roots = [one.own for one in record.roots]
    intermediate = Signer(chain, key, now_s)
    _check_given(intermediate, roots, now_s)
    root = pki.root_of(intermediate.chain, roots)
    if root is None:
        raise AuthorityError("the certificate does not chain to any root that is trusted; `ca trust` its root first")
    signing = pki.fingerprint(root)
    changed_s = now_s if signing != record.signing else record.changed_s
    return replace(record, intermediate=intermediate, signing=signing, changed_s=changed_s)


def is_due(record: Record, now_s: float) -> bool:
    """Whether the intermediate is to be renewed, and can be."""
    ends_s = pki.ends(record.intermediate.own)
    # One that ends with its root gains nothing by being renewed; below one that has ended nothing can be.
    root_ends_s = pki.ends(record.root.own)
    return bool(record.root.key) and ends_s - now_s < RENEWED_LEFT_S and ends_s < root_ends_s and now_s < root_ends_s


def renewed(record: Record, now_s: float) -> Record:
    """With a new intermediate under the same root. Raises AuthorityError: the root's key is not here."""
    made = _new_intermediate(record.trust_domain, record.root, now_s)
    return replace(record, intermediate=_below(made, record.intermediate.chain[1:]))


def held_for(record: Record, held: Held) -> Record:
    """Nothing is issued from now on."""
    return record if record.held is not None else replace(record, held=held)


def trusting(record: Record, pem: str, now_s: float) -> Record:
    """
    With further roots that are trusted and do not sign here. It ends a hold.

    Raises:
        AuthorityError, BadCertificate: They are no authorities, or have ended.
    """
    known = {one.fingerprint for one in record.roots}
    found = [one for one in pki.read_certificates(pem) if pki.fingerprint(one) not in known]
    for one in found:
        if not pki.is_authority(one):
            raise AuthorityError(f"{one.subject.rfc4514_string()!r} is no authority: expected CA certificates")
        if pki.ends(one) <= now_s:
            raise AuthorityError(f"{one.subject.rfc4514_string()!r} has ended at {one.not_valid_after_utc}")
    return replace(_with_roots(record, [Signer(pki.text_of([one]), "", now_s) for one in found], now_s), held=None)


def replaced(record: Record) -> Record:
    """This authority counts, and no other that sidecars may know. It ends a hold, and there is no other."""
    return replace(record, is_only=True, held=None)


def with_next_root(record: Record, now_s: float) -> Record:
    """First step of the rotation: a new root is trusted. Raises AuthorityError."""
    if record.next_root is not None:
        raise AuthorityError("there is a new root already; the next step is `ca rotate sign`")
    return _with_roots(record, [_new_root(record.trust_domain, now_s)], now_s)


def signing_by_next(record: Record, now_s: float, *, is_now: bool) -> Record:
    """
    Second step: the new root signs. The old one is trusted still, and has signed the new one: who has only the old one
    verifies what the new one signs.

    Args:
        is_now: Whether it is taken for granted that everyone has the new root. It need not be where the old root's key
            is here.

    Raises:
        AuthorityError: There is none, or not everyone can have it yet.
    """
    root = record.next_root
    if root is None:
        raise AuthorityError("there is no new root; the first step is `ca rotate add`")
    old = record.root
    if not old.key and now_s - root.added_s < KNOWN_S and not is_now:
        left_h = (KNOWN_S - (now_s - root.added_s)) / 3600
        raise AuthorityError(
            f"not every sidecar can have the new root yet: wait for {left_h:.0f} h more, in which leaves are renewed,"
            " or give --now if you know that all have it"
        )
    made = _new_intermediate(record.trust_domain, root, now_s)
    # One that has ended is believed by nobody, and what it would sign ends with it.
    crosses = bool(old.key) and now_s < pki.ends(old.own)
    cross = [pki.make_cross(record.trust_domain, root.own, old.own, old.private_key)] if crosses else []
    return replace(record, signing=root.fingerprint, intermediate=_below(made, cross), changed_s=now_s)


def without_root(record: Record, which: str, live: Mapping[str, int], now_s: float) -> Record:
    """
    Third step: a root that does not sign is not trusted any more.

    Args:
        which: The beginning of its SHA-256; empty: the only other one.
        live: By SHA-256 of a root, how many leaves that have not ended chain to it and are not replaced.

    Raises:
        AuthorityError: A live leaf chains to it, or it is not said which.
    """
    if record.next_root is not None and not which:
        raise AuthorityError("the new root does not sign yet; the next step is `ca rotate sign`")
    others = [one for one in record.roots if one.fingerprint != record.signing]
    found = [one for one in others if one.fingerprint.startswith(which.lower())]
    if which and record.signing.startswith(which.lower()) and not found:
        raise AuthorityError("this root signs; the first step is `ca rotate add`")
    if len(found) != 1:
        there = ", ".join(one.fingerprint[:16] for one in others) or "none"
        raise AuthorityError(f"expected one root that does not sign, found {len(found)}; there is {there}")
    count = live.get(found[0].fingerprint, 0)
    if count:
        certificates = "certificate chains" if count == 1 else "certificates chain"
        raise AuthorityError(
            f"{count} live {certificates} to the root {found[0].fingerprint[:16]}: wait until they are renewed"
        )
    # What it has signed of what is shown to peers nobody can verify by it any more.
    gone, shown = found[0].own.subject, record.intermediate
    kept = replace(shown, certificate=pki.text_of([one for one in shown.chain if one.issuer != gone]))
    roots = tuple(one for one in record.roots if one is not found[0])
    return replace(record, roots=roots, intermediate=kept, changed_s=now_s)


def _check_given(intermediate: Signer, roots: Sequence[x509.Certificate], now_s: float) -> None:
    own = intermediate.own
    if not pki.is_authority(own):
        raise AuthorityError("the certificate may not sign others: expected CA:TRUE and keyCertSign")
    if not pki.begins(own) <= now_s < pki.ends(own):
        raise AuthorityError(f"the certificate holds from {own.not_valid_before_utc} to {own.not_valid_after_utc}")
    if not pki.is_pair(own, intermediate.private_key):
        raise AuthorityError("the key is not the certificate's")
    if not all(pki.is_authority(one) for one in roots):
        raise AuthorityError("expected roots that are CA certificates")


def _with_roots(record: Record, more: Sequence[Signer], now_s: float) -> Record:
    if not more:
        return record
    if len(record.roots) + len(more) > MAX_ROOTS:
        raise AuthorityError(f"expected at most {MAX_ROOTS} roots in all; drop those that are not needed")
    return replace(record, roots=(*record.roots, *more), changed_s=now_s)


def _new_root(trust_domain: str, now_s: float) -> Signer:
    key = pki.new_key()
    return Signer(pki.text_of([pki.make_root(trust_domain, key, now_s)]), pki.text_of_key(key), now_s)


def _below(intermediate: Signer, above: Sequence[x509.Certificate]) -> Signer:
    """An intermediate with what is shown to peers besides."""
    return replace(intermediate, certificate=pki.text_of([intermediate.own, *above]))


def _new_intermediate(trust_domain: str, root: Signer, now_s: float) -> Signer:
    key = pki.new_key()
    own = pki.make_intermediate(trust_domain, key.public_key(), root.own, root.private_key, now_s)
    return Signer(pki.text_of([own]), pki.text_of_key(key), now_s)
