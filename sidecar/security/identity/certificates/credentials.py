"""
Who a workload is and whom it believes: read, judged as a peer would, and then never changed. *Cold.*

What is read is used as a whole or not at all. It is judged in the order in which a reader of the files would ask: is it
PEM, does the key belong to the leaf, what may it be used for, whose is it, does it lead to a root of the bundle, and is
this its time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from sidecar.security.identity.certificates import pem, proof
from sidecar.security.identity.certificates.facts import Facts
from sidecar.security.identity.certificates.pair import KeyPair, read_pair
from sidecar.security.identity.certificates.roots import Roots, read_roots
from sidecar.security.identity.certificates.spiffe import identity_of, trust_domain_of
from sidecar.security.identity.certificates.trouble import TroubleError
from sidecar.security.identity.certificates.validity import judge_times

_MAX_NAMESAKES: Final = 8
"""Roots of one name that are tried one by one; a rotation has two."""
_MAX_SHOWN: Final = 4


@dataclass(frozen=True, slots=True)
class Material:
    """
    What a source has, not judged yet.

    Attributes:
        certificate: In PEM: the leaf first, then who signed it.
        key: In PEM.
        trust: In PEM: roots.
        certificate_at, key_at, trust_at: Where each is from, for sentences: paths, or a few words.
        renew_after_s: From when on it is renewed, where its source says so; since the Unix epoch.
    """

    certificate: bytes = field(repr=False)
    key: bytes = field(repr=False)
    trust: bytes = field(repr=False)
    certificate_at: str
    key_at: str
    trust_at: str
    renew_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Credentials:
    """
    Attributes:
        pair: Certificate and key.
        roots: Whom it believes.
        identity: Its SPIFFE ID.
        trust_domain: Of it.
        above: Who signed the leaf, who signed that one, and so on; the root, where the chain ends, is the last.
        renew_after_s: As `Material`.
    """

    pair: KeyPair
    roots: Roots
    identity: str
    trust_domain: str
    above: tuple[Facts, ...]
    renew_after_s: float | None = None

    @property
    def leaf(self) -> Facts:
        """What its own certificate says."""
        return self.pair.leaf

    @property
    def chain_pem(self) -> bytes:
        """What it shows."""
        return pem.text_of(self.pair.chain)

    @property
    def issuer(self) -> Facts | None:
        """Who signed the leaf, if that is not the root; of several, the one that ends first."""
        between = self.above[:-1]
        return min(between, key=lambda one: one.not_after_s) if between else None

    @property
    def root(self) -> Facts | None:
        """Where its chain ends."""
        return self.above[-1] if self.above else None


def read_credentials(material: Material, now_s: float, trust_domain: str = "") -> Credentials:
    """
    Judge what a source has. Some handshakes with oneself, so some 10 ms; for a thread.

    Args:
        now_s: Since the Unix epoch.
        trust_domain: Which it must be of; empty: any.

    Raises:
        TroubleError: It is not to be used, for this reason first.
        OSError: Not now.
    """
    pair = read_pair(material.certificate, material.key, material.certificate_at, material.key_at)
    if not (pair.is_for_servers and pair.is_for_clients):
        only = "servers" if pair.is_for_servers else "clients"
        raise TroubleError(
            "wrong_purpose",
            f"{pair.at}: the certificate of {pair.leaf.name} is for {only} only, and a workload is both; have "
            f"{pair.leaf.issuer} sign it with the extended key usages serverAuth and clientAuth",
        )
    if pair.is_authority:
        # X509-SVID, 4.1: "Leaf certificates MUST set the cA field to false."
        raise TroubleError(
            "wrong_purpose",
            f"{pair.at}: the certificate of {pair.leaf.name} is an authority's, and a workload's may sign nothing; put "
            "one that it has signed in its place",
        )
    identity = _identity(pair)
    found = trust_domain_of(identity)
    if trust_domain and found != trust_domain:
        raise TroubleError(
            "other_trust_domain", f"{pair.at}: expected an identity of the trust domain {trust_domain}, got {identity}"
        )
    roots = read_roots(material.trust, material.trust_at)
    _prove_chain(pair, roots)
    above = _above(pair, roots)
    judge_times((pair.leaf, *above), pair.at, now_s)
    return Credentials(pair, roots, identity, found, above, material.renew_after_s)


def _identity(pair: KeyPair) -> str:
    try:
        return identity_of(pair.leaf.uris)
    except TroubleError as error:
        wrong = error.trouble
        raise TroubleError(
            wrong.code, f"{pair.at}: the certificate of {pair.leaf.name}, signed by {pair.leaf.issuer}: {wrong.text}"
        ) from None


def _prove_chain(pair: KeyPair, roots: Roots) -> None:
    if not roots.authorities:
        raise TroubleError(
            "no_certificate",
            f"{roots.at}: expected certificates of authorities, got {len(roots.certificates)} that may sign nothing",
        )
    try:
        proof.prove(pair.chain, pair.key_pem, tuple(roots.authorities))
    except proof.RefusedError as error:
        subjects = [one.subject for one in roots.authorities.values()]
        more = len(subjects) - _MAX_SHOWN
        shown = "; ".join(subjects[:_MAX_SHOWN]) + (f"; and {more} more" if more > 0 else "")
        raise TroubleError(
            "untrusted",
            f"{pair.at}: the certificate of {pair.leaf.name}, signed by {pair.leaf.issuer}, leads to no root in "
            f"{roots.at} ({shown}): {error.why}; {_what_to_do(pair, roots, subjects)}",
        ) from None


def _what_to_do(pair: KeyPair, roots: Roots, subjects: list[str]) -> str:
    """About a chain that leads nowhere."""
    missing = _between(pair)[-1].issuer
    if missing in subjects:
        return f"a root there is called {missing}, but has another key: one of them is older, or of another mesh"
    if missing == pair.leaf.issuer:
        return f"append the certificate of {missing} to {pair.at}, or put its root into {roots.at}"
    return f"put the root of {missing} into {roots.at}"


def _between(pair: KeyPair) -> list[Facts]:
    """The leaf and those of its chain above it, as far as names lead."""
    found = [pair.leaf]
    while True:
        above = [one for one in pair.authorities if one.subject == found[-1].issuer and one not in found]
        if not above:
            return found
        found.append(above[0])


def _above(pair: KeyPair, roots: Roots) -> tuple[Facts, ...]:
    """The chain above the leaf by names, as OpenSSL walks it: a root of the bundle before what the chain itself has."""
    between = _between(pair)
    for number, one in enumerate(between, 1):
        ends = [der for der, root in roots.authorities.items() if root.subject == one.issuer]
        if ends:
            return (*between[1:number], roots.authorities[_proved(pair, ends)])
    # The handshake was content all the same: names may be equal in a way that these are not.
    return tuple(between[1:])


def _proved(pair: KeyPair, ends: list[bytes]) -> bytes:
    """Of roots of one name, the one whose key has signed."""
    for der in ends[1 : _MAX_NAMESAKES + 1]:
        try:
            proof.prove(pair.chain, pair.key_pem, (der,), is_client=False)
        except proof.RefusedError:
            continue
        return der
    return ends[0]
