"""
The authority that a replica has in its hands: as the engine keeps it, followed, its intermediate renewed in good time.
*On the loop; what signs is called in a thread.*

What one replica or a command changes, the others read within `FOLLOW_S`. An engine that does not answer stops nothing:
what was read last signs on, for the record changes seldom and each of its steps leaves time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from sidecar.control.authority import certificates as pki
from sidecar.control.authority import record as steps
from sidecar.control.authority.certificates import DAY_S
from sidecar.control.authority.record import AuthorityError, Held, Record
from sidecar.control.engines.interface import Conflict, EngineError, Secrets, Unavailable, Versioned
from sidecar.process_log import event

logger = logging.getLogger(__name__)

NAME: Final = "ca"
FOLLOW_S: Final = 5.0
TRIES: Final = 8
LEAST_LIFETIME_S: Final = 3600.0
MOST_LIFETIME_S: Final = 30 * DAY_S
LIFETIME_S: Final = 7 * DAY_S
RENEWED_AFTER: Final = 1 / 7
"""Of its life: a leaf of a week is renewed from the first day on, so that the control plane may be away for six."""
MAX_LEAF_AGE_S: Final = 37 * DAY_S
"""As old as a leaf can be whose renewal is asked for: the longest life, and a week after it."""


class NoAuthority(Exception):  # noqa: N818
    """Nothing can be issued now; why, and what an operator does."""


@dataclass(frozen=True, slots=True)
class Issued:
    """
    A certificate that was given out.

    Attributes:
        certificate: PEM, leaf first, then what is between it and the root.
        trust: PEM of all roots.
        serial: Hexadecimal.
        root: SHA-256 of the root that it chains to.
        begins_s, not_after_s, renew_after_s: Since the Unix epoch.
    """

    certificate: str
    trust: str
    trust_domain: str
    identity: str
    serial: str
    root: str
    begins_s: float
    not_after_s: float
    renew_after_s: float


async def read(secrets: Secrets) -> tuple[Record, str] | None:
    """The stored authority and its version; None if there is none. Raises Unavailable, AuthorityError."""
    found = await secrets.read(NAME)
    return (await asyncio.to_thread(steps.read_record, found.value), found.version) if found is not None else None


async def create(secrets: Secrets, record: Record) -> Record:
    """
    Store a new authority, unless there is one.

    Returns:
        The one that is stored now: of two that begin at once one is faster, and both have that.

    Raises:
        Unavailable, AuthorityError: As `read` says.
    """
    try:
        await secrets.swap(NAME, steps.written(record), "")
        return record
    except Conflict:
        found = await read(secrets)
        if found is None:
            raise Unavailable("the authority was there a moment ago, and is not now") from None
        return found[0]


async def change(secrets: Secrets, step: Callable[[Record], Record]) -> Record:
    """
    Do a step on the stored authority, whoever else does one meanwhile.

    Raises:
        AuthorityError: There is none, or the step refuses.
        Unavailable: As the engine says.
    """
    for _ in range(TRIES):
        found = await read(secrets)
        if found is None:
            raise AuthorityError("there is no authority yet: `sidecar mesh ca init` makes it")
        before, version = found
        after = await asyncio.to_thread(step, before)
        if after == before:
            return before
        try:
            await secrets.swap(NAME, steps.written(after), version)
            return after
        except Conflict:
            continue
    raise Unavailable(f"others changed the authority {TRIES} times while this was tried")


class Authority:
    """
    Args:
        secrets: Where it is kept.
        now_s: Since the Unix epoch.
        mesh_name: What the mesh's files say; empty while that is not known.

    Attributes:
        record: As it was read last; None: there is none.
        trouble: Why it could not be read or renewed when that was tried last; empty: it could.
    """

    def __init__(self, secrets: Secrets, now_s: Callable[[], float], mesh_name: Callable[[], str] = str) -> None:
        self._secrets = secrets
        self._now_s = now_s
        self._mesh_name = mesh_name
        self._version = ""
        self.record: Record | None = None
        self.trouble = ""

    async def refresh(self) -> None:
        """Read it, and renew its intermediate if that is due. Raises nothing: `trouble` tells."""
        try:
            found = await self._secrets.read(NAME)
            await self._take(found)
            if self.record is not None and steps.is_due(self.record, self._now_s()):
                await self._renew()
        except (EngineError, AuthorityError) as error:
            if str(error) != self.trouble:
                logger.error(event("authority_trouble", error=error))
            self.trouble = str(error)
            return
        if self.trouble:
            logger.info(event("authority_works"))
            self.trouble = ""

    async def create(self, trust_domain: str) -> Record:
        """Make one if there is none. Raises Unavailable, AuthorityError, BadName."""
        if self.record is None:
            made = await asyncio.to_thread(steps.made, trust_domain, self._now_s())
            record = await create(self._secrets, made)
            await self.refresh()
            if record is made:
                logger.warning(
                    event("authority_made", trust_domain=trust_domain, root=record.root.fingerprint,
                          hint="keep a copy: `sidecar mesh ca backup FILE --passphrase-file FILE`")
                )  # fmt: skip
        if self.record is None:
            raise Unavailable(self.trouble or "the authority could not be read after it was made")
        return self.record

    async def follow(self) -> None:
        """Read it every few seconds; ends only by being cancelled."""
        while True:
            await asyncio.sleep(FOLLOW_S)
            await self.refresh()

    def why_not(self) -> str:
        """Why it may not issue now; empty if it may."""
        try:
            self.usable()
        except NoAuthority as error:
            return str(error)
        return ""

    def usable(self) -> Record:
        """The authority, if it may issue now. Raises NoAuthority."""
        record = self.record
        if record is None:
            raise NoAuthority(self.trouble or "there is no authority yet: `sidecar mesh ca init` makes it")
        if record.held is not None:
            raise NoAuthority(
                f"a sidecar showed itself as {record.held.identity!r} by an authority that is older than this one and"
                " not known here: an operator decides by `sidecar mesh ca trust FILE` or `sidecar mesh ca replace`"
            )
        name = self._mesh_name()
        if name and name != record.trust_domain:
            raise NoAuthority(f"the mesh is called `{name}`, and the authority is of `{record.trust_domain}`")
        if pki.ends(record.intermediate.own) <= self._now_s():
            raise NoAuthority("the intermediate has ended: `sidecar mesh ca status` says what to do")
        if not record.intermediate.key:
            raise NoAuthority("the key of the intermediate is not here")
        return record

    def issue(
        self, key: CertificatePublicKeyTypes, identity: str, common_name: str, lifetime_s: float = LIFETIME_S
    ) -> Issued:
        """
        Sign. Takes a thread for some 0.2 ms, longer with RSA.

        Raises:
            NoAuthority: Not now.
        """
        record = self.usable()
        now_s = self._now_s()
        signer = record.intermediate
        leaf = pki.make_leaf(identity, common_name, key, signer.own, signer.private_key, now_s, lifetime_s)
        ends_s = pki.ends(leaf)
        return Issued(
            certificate=pki.text_of([leaf]) + signer.certificate,
            trust=record.trust,
            trust_domain=record.trust_domain,
            identity=identity,
            serial=f"{leaf.serial_number:x}",
            root=record.signing,
            begins_s=pki.begins(leaf),
            not_after_s=ends_s,
            renew_after_s=now_s + (ends_s - now_s) * RENEWED_AFTER,
        )

    async def saw_unknown(self, chain: tuple[x509.Certificate, ...], identity: str) -> bool:
        """
        A sidecar showed a certificate of this mesh that no known root has signed; whether that holds everything.

        It does if it may be of an authority that was here before this one was made, as after a disk was lost: nobody
        can tell then whether this one is the right one. Whoever can reach the port could pretend that. So it counts for
        as long as leaves of an earlier authority can live, and never again after `ca replace`.

        Raises:
            Unavailable: It could not be written.
        """
        record = self.record
        leaf, top = chain[0], chain[-1]
        now_s = self._now_s()
        if record is None or record.is_only or record.held is not None:
            return record is not None and record.held is not None
        is_older = pki.begins(leaf) < record.created_s - pki.BACKDATED_S
        if not is_older or pki.ends(leaf) + 7 * DAY_S < now_s or now_s - record.created_s > MAX_LEAF_AGE_S:
            return False
        held = Held(pki.fingerprint(top), top.issuer.rfc4514_string()[:200], identity, now_s)
        try:
            await change(self._secrets, lambda one: one if one.is_only else steps.held_for(one, held))
        except AuthorityError as error:
            raise Unavailable(str(error)) from None
        logger.error(
            event("authority_held", identity=identity, issuer=held.subject, then="nothing is issued",
                  hint="`sidecar mesh ca trust FILE` trusts that authority, too; `sidecar mesh ca replace` gives it up")
        )  # fmt: skip
        await self.refresh()
        return True

    async def _take(self, found: Versioned | None) -> None:
        if found is None:
            if self.record is not None:
                raise AuthorityError("the stored authority is gone; put it back: `sidecar mesh ca init --backup FILE`")
            return
        if found.version == self._version:
            return
        record = await asyncio.to_thread(steps.read_record, found.value)
        self.record, self._version = record, found.version

    async def _renew(self) -> None:
        now_s = self._now_s()

        def renewed(one: Record) -> Record:
            return steps.renewed(one, now_s) if steps.is_due(one, now_s) else one

        record = await change(self._secrets, renewed)
        logger.info(event("intermediate_renewed", ends=record.intermediate.own.not_valid_after_utc.isoformat()))
        await self._take(await self._secrets.read(NAME))
