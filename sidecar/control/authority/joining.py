"""
Joining: a proof and a signing request in, a certificate out (docs/mesh-protocol.md). *On the loop; signs in a thread.*

The order in which it is done: nothing is counted before it is known that something can be signed, and nothing is signed
before the proof has been counted.

    the body, the key in the request            400
    an authority that may issue now             503
    the proof: who it is                        403
    what the body says of it                    403, `service_mismatch`
    how often this service asked lately         429
    sign, note, log
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from sidecar.control.authority import certificates as pki
from sidecar.control.authority import proofs
from sidecar.control.authority.authority import (
    LEAST_LIFETIME_S,
    LIFETIME_S,
    MOST_LIFETIME_S,
    Authority,
    Issued,
    NoAuthority,
)
from sidecar.control.authority.certificates import BadRequest
from sidecar.control.authority.issued import IssuedRecord
from sidecar.control.authority.names import (
    BadName,
    check_service,
    line_of,
    of_account,
    of_control,
    of_service,
    parts_of,
)
from sidecar.control.authority.proofs import ProofRefused, Proven
from sidecar.control.authority.tokens import JoinTokens, TokenRefused
from sidecar.control.engines.interface import Accounts, EngineError
from sidecar.link.fields import MessageError
from sidecar.link.identity.messages import (
    CertificateProof,
    Joined,
    JoinRequest,
    ServiceAccountProof,
    SignedProof,
    TokenProof,
    read_join,
)
from sidecar.process_log import event

logger = logging.getLogger(__name__)

MAX_BODY_BYTES: Final = 128 * 1024
MAX_AT_ONCE: Final = 256
"""Joins under way; others are told to come again."""
PER_SECOND: Final = 20.0
AT_ONCE: Final = 200.0
"""Certificates of one service: so many at once, then so many a second."""
MAX_SERVICES: Final = 10_000
_COMMON_NAME_CHARS: Final = 64
_T = TypeVar("_T")


class JoinRefused(Exception):  # noqa: N818
    """
    No certificate.

    Attributes:
        status: Of HTTP.
        code: For the sidecar, which acts by it; the text is for people.
        retry_after_s: When to come again; 0: not as it is.
    """

    def __init__(self, status: int, code: str, text: str, retry_after_s: int = 0) -> None:
        super().__init__(text)
        self.status = status
        self.code = code
        self.retry_after_s = retry_after_s


class Joining:
    """
    Args:
        authority: Signs.
        tokens: Know who may join.
        issued: Notes what was given out.
        accounts: Know service accounts; None: nobody does.
        services_of: Services whose file names an identity that is not made of a service's name.
        clock: Seconds, monotonic.
        now_s: Since the Unix epoch.
        lifetime_s: For which is signed where a sidecar does not say; 0: a week.

    Attributes:
        given: Certificates by what proved who asked: `token`, `service_account`, `certificate`.
        refused: Requests by code.
    """

    def __init__(
        self,
        authority: Authority,
        tokens: JoinTokens,
        issued: IssuedRecord,
        accounts: Accounts | None,
        services_of: Callable[[str], Collection[str]],
        clock: Callable[[], float],
        now_s: Callable[[], float],
        lifetime_s: Callable[[], float] = float,
    ) -> None:
        self._lifetime_s = lifetime_s
        self._authority = authority
        self._tokens = tokens
        self._issued = issued
        self._accounts = accounts
        self._services_of = services_of
        self._now_s = now_s
        self._rates = _Rates(clock)
        # One: a core signs some thousands a second, and the loop needs the other.
        self._signing = ThreadPoolExecutor(1, thread_name_prefix="signing")
        self._under_way = 0
        self.given: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()

    def close(self) -> None:
        """Sign nothing more."""
        self._signing.shutdown(wait=False, cancel_futures=True)

    def nonce(self) -> str:
        """For a proof by signature. Raises JoinRefused."""
        record = self._authority.record
        if record is None:
            raise JoinRefused(503, "ca_unavailable", "there is no authority", 10)
        return proofs.new_nonce(record.nonce_key, self._now_s())

    async def join(self, raw: bytes, shown: bytes | None, peer: str) -> Joined:
        """
        What a sidecar is answered.

        Args:
            raw: The body.
            shown: The client's certificate in DER, if TLS has verified one.
            peer: Address, for the log.

        Raises:
            JoinRefused: No certificate.
        """
        service = ""
        try:
            if self._under_way >= MAX_AT_ONCE:
                raise JoinRefused(503, "busy", f"{MAX_AT_ONCE} joins are under way", 1)
            self._under_way += 1
            try:
                request = _read(raw)
                service = request.service[:100]
                return await self._join(request, shown, peer)
            finally:
                self._under_way -= 1
        except JoinRefused as refusal:
            self.refused[refusal.code] += 1
            logger.warning(event("join_refused", service=service, peer=peer, code=refusal.code, why=refusal))
            raise
        except NoAuthority as error:
            self.refused["ca_unavailable"] += 1
            logger.error(event("join_refused", service=service, peer=peer, code="ca_unavailable", why=error))
            raise JoinRefused(503, "ca_unavailable", str(error), 10) from None
        except EngineError as error:
            self.refused["engine_unavailable"] += 1
            logger.error(event("join_refused", service=service, peer=peer, code="engine_unavailable", why=error))
            raise JoinRefused(
                503, "engine_unavailable", "what the control plane keeps cannot be asked now", 2
            ) from None

    async def _join(self, request: JoinRequest, shown: bytes | None, peer: str) -> Joined:
        try:
            key = await self._in_thread(pki.read_request, request.csr)
        except BadRequest as error:
            raise JoinRefused(400, "csr_invalid", f"csr: {error}") from None
        record = self._authority.usable()
        proven, proof, kind = await self._proven(request, shown, key)
        self._check_service(request.service, proven.identity, record.trust_domain)
        if not self._rates.admits(request.service):
            raise JoinRefused(429, "rate_limited", f"`{request.service}` asks for too many certificates", 5)
        instance = proven.instance or _common_name(request.instance)
        lifetime_s = request.lifetime_s or self._lifetime_s() or LIFETIME_S
        issued = await self._in_thread(self._authority.issue, key, proven.identity, instance, lifetime_s)
        line = line_of(proven.identity, instance or issued.serial)
        self._issued.note(line, issued)
        self.given[kind] += 1
        logger.info(
            event("certificate_issued", service=request.service, identity=issued.identity, line=line,
                  serial=issued.serial, not_after=int(issued.not_after_s), proof=proof, peer=peer)
        )  # fmt: skip
        return _joined(issued)

    async def _proven(
        self, request: JoinRequest, shown: bytes | None, key: CertificatePublicKeyTypes
    ) -> tuple[Proven, str, str]:
        """Who asks, what proves it for the log, and the kind of proof. Raises JoinRefused, EngineError."""
        match request.proof:
            case TokenProof(token):
                return await self._by_token(token, key)
            case ServiceAccountProof(token):
                return await self._by_account(token)
            case CertificateProof() | SignedProof() as proof:
                return await self._by_certificate(proof, shown, request.csr), "certificate", "certificate"

    async def _by_token(self, shown: str, key: CertificatePublicKeyTypes) -> tuple[Proven, str, str]:
        record = self._authority.usable()
        user = hashlib.sha256(pki.key_octets(key)).hexdigest()
        try:
            token = await self._tokens.redeem(shown.partition("#")[0].strip(), user)
        except TokenRefused as error:
            raise JoinRefused(403, error.code, str(error)) from None
        return Proven(of_service(record.trust_domain, token.service), "", 0.0), f"token:{token.id}", "token"

    async def _by_account(self, token: str) -> tuple[Proven, str, str]:
        record = self._authority.usable()
        if self._accounts is None:
            raise JoinRefused(403, "token_unknown", "this control plane knows no service accounts: join by a token")
        account = await self._accounts.reviewed(token, of_control(record.trust_domain))
        if account is None:
            raise JoinRefused(
                403, "token_unknown",
                f"expected a service-account token for the audience {of_control(record.trust_domain)}",
            )  # fmt: skip
        identity = of_account(record.trust_domain, *account)
        if parts_of(identity) is None:
            raise JoinRefused(403, "token_unknown", "the account's name is none that a SPIFFE ID can have")
        return Proven(identity, "", 0.0), f"service_account:{'/'.join(account)}", "service_account"

    async def _by_certificate(self, proof: CertificateProof | SignedProof, shown: bytes | None, csr: str) -> Proven:
        record = self._authority.usable()
        try:
            if isinstance(proof, SignedProof):
                proven = await self._in_thread(
                    proofs.by_signature, record, proof.certificate, proof.nonce, proof.signature, csr, self._now_s()
                )
            elif shown is not None:
                proven = await self._in_thread(proofs.by_tls, record, shown, self._now_s())
            else:
                raise JoinRefused(403, "certificate_invalid", "no client certificate was shown by TLS")
        except ProofRefused as error:
            if error.code == "root_unknown":
                await self._authority.saw_unknown(error.chain, pki.identity_of(error.chain[0]))
            raise JoinRefused(403, error.code, str(error)) from None
        line = line_of(proven.identity, proven.instance)
        if await self._issued.is_revoked(line, proven.begins_s):
            raise JoinRefused(403, "revoked", f"certificates of `{line}` are not renewed: join by a token")
        return proven

    def _check_service(self, service: str, identity: str, trust_domain: str) -> None:
        """That the proven identity is one of the service that the body names."""
        try:
            check_service(service)
        except BadName as error:
            raise JoinRefused(403, "service_mismatch", f"service: {error}") from None
        if identity == of_service(trust_domain, service):
            return
        parts = parts_of(identity)
        if parts is not None and "/" in parts[1]:
            if service in self._services_of(identity):
                return
            text = f"`{service}` is not proven by {identity}: its file does not say `identities: [{parts[1]}]`"
            raise JoinRefused(403, "service_mismatch", text)
        raise JoinRefused(403, "service_mismatch", f"the proof is of {identity}, not of `{service}`")

    async def _in_thread(self, act: Callable[..., _T], *values: Any) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._signing, act, *values)


def _read(raw: bytes) -> JoinRequest:
    """The body, as far as it can be judged by itself. Raises JoinRefused."""
    try:
        request = read_join(raw)
    except MessageError as error:
        raise JoinRefused(400, "request_invalid", str(error)) from None
    if request.lifetime_s and not LEAST_LIFETIME_S <= request.lifetime_s <= MOST_LIFETIME_S:
        raise JoinRefused(400, "lifetime_invalid", "lifetime_s: expected 1 hour to 30 days")
    return request


def _joined(issued: Issued) -> Joined:
    return Joined(
        issued.certificate, issued.trust, issued.trust_domain, issued.identity,
        int(issued.not_after_s), int(issued.renew_after_s),
    )  # fmt: skip


def _common_name(instance: str) -> str:
    """The instance that joins, in a form that a certificate's subject can have."""
    if len(instance) <= _COMMON_NAME_CHARS and instance.isprintable() and instance.isascii():
        return instance
    return hashlib.sha256(instance.encode("utf-8", "replace")).hexdigest()[:32]


class _Rates:
    """A bucket of tokens for each service that asked lately."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}

    def admits(self, service: str) -> bool:
        now = self._clock()
        if len(self._buckets) >= MAX_SERVICES:
            full_s = AT_ONCE / PER_SECOND
            self._buckets = {name: one for name, one in self._buckets.items() if now - one[1] < full_s}
        left, at = self._buckets.get(service, (AT_ONCE, now))
        left = min(AT_ONCE, left + (now - at) * PER_SECOND)
        is_admitted = left >= 1.0
        self._buckets[service] = (left - 1.0 if is_admitted else left, now)
        return is_admitted
