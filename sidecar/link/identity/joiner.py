"""
Who this sidecar is, by the control plane: joining, holding, renewing, for as long as the process lives. *Cold.*

    nothing is held          the token file's proof, from the start on without end
    held, and it holds       by this certificate, from the time that the authority says; the old one goes on until then
    ended within 7 days      by its key's signature
    ended before that, or    the token file's proof again; whether that is a way around what an operator has to decide
    refused for good         is the control plane's to say

A refusal that holds until something changes (`FINAL`) is asked about again when the token file has changed, else now
and then: an operator may have changed his mind, or brought a backup back. Everything else is tried again, `schedule`
and `transport.rota` say when.

A server is believed by the roots that are held. Before there are any, by a root whose SHA-256 is in the token file, or
by the file of roots that the machine has; also when the server is not believed and the token file names a root that is
not held, which is how an operator says that the authority was replaced: such a file is seen within a minute, for until
then nothing is heard of a control plane that nobody believes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from random import random as system_random
from typing import Final, Literal

from sidecar.link.complaints import Complaints
from sidecar.link.fields import MessageError
from sidecar.link.identity.held import Held
from sidecar.link.identity.interfaces import Files, JoinClient, JoinSettings, OnHeld, Prove, UnusableError
from sidecar.link.identity.key_maker import KeyMaker, KeyMakerError, SigningRequest
from sidecar.link.identity.messages import (
    EXPIRED_GRACE_S,
    CertificateProof,
    Joined,
    JoinRequest,
    ServiceAccountProof,
    SignedProof,
    TokenProof,
)
from sidecar.link.identity.schedule import first_renewal, next_try
from sidecar.link.identity.server_trust import ServerTrust, fingerprints_of
from sidecar.link.identity.token_file import NotForJoiningError, TokenFile
from sidecar.link.report import IdentityReport
from sidecar.link.transport.http_client import CertificateRefusedError, TransportError, UntrustedError
from sidecar.link.transport.reading import said
from sidecar.link.transport.refusal import Refusal
from sidecar.link.transport.rota import Rota
from sidecar.link.transport.server import Server, parse_server
from sidecar.process_log import event
from sidecar.security.identity.certificates.trouble import moment

logger = logging.getLogger("sidecar.link")

FINAL: Final = frozenset({
    "token_unknown", "token_expired", "token_used", "service_mismatch", "revoked", "certificate_invalid", "root_unknown"
})  # fmt: skip
"""Codes of refusals that hold until the proof is another one, or an operator has done something."""
FINAL_AGAIN_S: Final = 600.0
LOOK_S: Final = 5.0
"""Between two looks at the token file, where another content would change something."""
STEP_S: Final = 60.0
"""No wait is longer: the clock of the machine may be set, or have stood still."""
BROKEN_S: Final = 10.0
"""After a fault of ours."""
ENDS: Final = (1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 0.0)
"""Parts of its life that are left when it is told, of a certificate that should have been renewed by then."""

Way = Literal["token", "certificate", "signature"]


class _FailedError(Exception):
    """This attempt came to nothing, and why."""

    def __init__(self, why: str, *, is_final: bool = False, retry_after_s: float = 0.0) -> None:
        super().__init__(why)
        self.is_final = is_final
        self.retry_after_s = retry_after_s


@dataclass(slots=True)
class _Attempt:
    """What is tried: how, and what is secret in it."""

    way: Way
    secret: str = ""


class Joiner:
    """
    See `interfaces`.

    Args:
        instance: Name of this one, when asked.
        chance: From 0 to below 1.
        now_s: Time since the Unix epoch.

    Attributes:
        on_held: Told what is held from now on.
        on_change: Told that something of `report`, or `is_elsewhere`, is another.
        is_elsewhere: Nothing is held, and what there is to prove by is not for joining: a plain bearer token, or
            nothing at all. The control plane may be one that signs nothing.

    Raises:
        ValueError: An address is none, or none begins with `https://`.
    """

    def __init__(
        self,
        settings: JoinSettings,
        *,
        client: JoinClient,
        maker: KeyMaker,
        files: Files,
        prove: Prove,
        instance: Callable[[], str] = str,
        chance: Callable[[], float] = system_random,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self.on_held: OnHeld = lambda held: None
        self.on_change: Callable[[], None] = lambda: None
        self.is_elsewhere = False
        servers = [server for server in map(parse_server, settings.addresses) if server.is_tls]
        if not servers:
            raise ValueError("expected an address of the control plane that begins with https://, for joining by it")
        self._settings = settings
        self._client = client
        self._maker = maker
        self._files = files
        self._prove = prove
        self._instance = instance
        self._chance = chance
        self._now_s = now_s
        self._loop_time: Callable[[], float] = lambda: asyncio.get_running_loop().time()
        self._rota = Rota(servers, chance)
        self._complaints = Complaints(self._loop_time)
        self._held: Held | None = None
        self._request: SigningRequest | None = None
        """Made, and not answered yet: an attempt that failed costs no other key, and is repeated as it was."""
        self._at_s = -inf
        self._failures = 0
        self._last_error = ""
        self._last_tried_s = 0.0
        self._refused_until_s: dict[str, float] = {}
        """Final refusals, by what was refused: a leaf's own text, or the digest of a token file."""
        self._is_leaf_shunned = False
        """A handshake with it came to nothing: its key's signature is tried next."""
        self._seen_token = self._seen_root_in = ""
        self._is_token_awaited = False
        """The token file was of no use: another content of it is worth an attempt."""
        self._ends_told = 0
        self._wake = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Joiner [{'HOLDS' if self.held is not None else 'HOLDS NOTHING'}]>"

    # --- what others ask ---------------------------------------------------------------------------------------

    @property
    def held(self) -> Held | None:
        """What is held, if it has not ended."""
        held = self._held
        return held if held is not None and self._now_s() < held.not_after_s else None

    @property
    def last_held(self) -> Held | None:
        """What is held, also if it has ended: its key may still renew it."""
        return self._held

    def why_none(self) -> str:
        """Why nothing is held that holds, in one line; empty if something is."""
        if self.held is not None:
            return ""
        why = self._last_error or f"the control plane at {self._rota.current} is asked"
        if self._held is not None:
            return f"its certificate ended at {moment(self._held.not_after_s)}: {why}"
        return why

    def report(self) -> IdentityReport:
        """For the control plane."""
        held = self._held
        if held is None:
            return IdentityReport(last_error=self._last_error)
        return IdentityReport(held.identity, held.not_after_s, held.issuer, self._last_error)

    def shown(self) -> dict[str, object]:
        """As `/certs` shows it; no key is in it."""
        held = self._held
        return {
            "from": "control",
            "state": "none" if held is None else "valid" if self.held is not None else "expired",
            "identity": held.identity if held is not None else None,
            "trust_domain": held.trust_domain if held is not None else None,
            "issuer": held.issuer if held is not None else None,
            "not_before": moment(held.not_before_s) if held is not None else None,
            "not_after": moment(held.not_after_s) if held is not None else None,
            "roots": sorted(fingerprints_of(held.trust)) if held is not None else [],
            "obtained": moment(held.obtained_s) if held is not None else None,
            "next_try": moment(self._at_s) if self._at_s > 0 else None,
            "last_tried": moment(self._last_tried_s) if self._last_tried_s else None,
            "last_error": self._last_error or None,
            "failures": self._failures,
        }

    # --- life --------------------------------------------------------------------------------------------------

    async def begin(self, kept: Held | None) -> None:
        """Take what an earlier process held, if it is of use. Before `run`."""
        if kept is None:
            return
        now_s = self._now_s()
        why = ""
        if now_s < kept.not_after_s:
            try:
                proved = await self._prove(kept.certificate, kept.key, kept.trust)
                if proved.identity != kept.identity:
                    why = f"expected the identity {kept.identity}, found {proved.identity}"
            except UnusableError as error:
                why = str(error)
        elif now_s >= kept.not_after_s + EXPIRED_GRACE_S:
            why = f"it ended at {moment(kept.not_after_s)}, too long ago to be renewed"
        if not why and self._settings.trust_domain not in ("", kept.trust_domain):
            why = f"it is of {kept.trust_domain}, and {self._settings.trust_domain} is wanted"
        if why:
            logger.warning(event("identity_kept_unusable", identity=kept.identity, reason=why))
            return
        self._held = kept
        self._at_s = first_renewal(kept.obtained_s, kept.renew_after_s, kept.not_after_s, now_s, self._chance())
        logger.info(event("identity_kept", identity=kept.identity, not_after=moment(kept.not_after_s)))
        self._tell_held()

    async def run(self) -> None:
        """Keep it until cancelled."""
        while True:
            try:
                await self._wait()
                await self._attempt()
            except Exception:  # a fault of ours must not end this for good
                logger.exception(event("identity_broken"))
                self._failures += 1
                self._at_s = self._now_s() + STEP_S
                await asyncio.sleep(BROKEN_S)

    def renew_soon(self, within_s: float = 0.0) -> None:
        """Ask for another certificate at some time from now to then."""
        self._at_s = min(self._at_s, self._now_s() + within_s * self._chance())
        self._wake.set()

    # --- waiting -----------------------------------------------------------------------------------------------

    async def _wait(self) -> None:
        """Until it is time, or another token is there that may be better than the last."""
        while (left_s := self._at_s - self._now_s()) > 0:
            self._tell_end()
            self._wake.clear()
            step_s = LOOK_S if self._is_token_awaited and not self.is_elsewhere else STEP_S
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left_s, step_s)):
                    await self._wake.wait()
            if await self._is_token_new():
                return

    async def _is_token_new(self) -> bool:
        """Whether the token file is worth an attempt before it is time: each content of it once."""
        try:
            token = await self._files.token()
        except (OSError, ValueError):
            return False
        if self._is_token_awaited:
            return token.digest != self._seen_token
        is_news = self._held is not None and self._names_root(token) and token.digest != self._seen_root_in
        if is_news:
            self._seen_root_in = token.digest
        return is_news

    # --- trying ------------------------------------------------------------------------------------------------

    async def _attempt(self) -> None:
        """Ask once; whatever comes of it, `_at_s` is when to ask again."""
        server = self._rota.current
        attempt = _Attempt(self._way())
        self._last_tried_s = self._now_s()
        try:
            try:
                held = await self._ask(attempt, server)
            except UntrustedError:
                if attempt.way == "token" or not await self._is_root_named():
                    raise
                attempt = _Attempt("token")
                held = await self._ask(attempt, server)
        except TransportError as error:
            # The other clock may be ahead, and the certificate have ended there. In TLS 1.3 a server says so at the
            # first read, which a reset may have overtaken: so after anything else the one and the other in turn.
            is_refused = isinstance(error, CertificateRefusedError)
            self._is_leaf_shunned = attempt.way == "certificate" or (is_refused and self._is_leaf_shunned)
            self._failed(attempt, server, _FailedError(str(error)))
        except (MessageError, KeyMakerError, UnusableError) as error:
            self._failed(attempt, server, _FailedError(str(error)))
        except _FailedError as error:
            self._failed(attempt, server, error)
        else:
            self._succeeded(attempt, server, held)

    def _way(self) -> Way:
        held = self._held
        if held is None or self._is_barred(self._leaf()):
            return "token"
        if self._now_s() < held.not_after_s and not self._is_leaf_shunned:
            return "certificate"
        return "signature" if self._now_s() < held.not_after_s + EXPIRED_GRACE_S else "token"

    async def _ask(self, attempt: _Attempt, server: Server) -> Held:
        held = self._held
        if attempt.way == "token" or held is None:
            return await self._ask_by_token(attempt, server)
        pair = (held.certificate, held.key) if attempt.way == "certificate" else None
        tls = ServerTrust(held.trust, held.trust_domain, pair)
        if pair is not None:
            request = self._request = self._request or await self._maker.make()
            joined = await self._client.join(server, tls, self._said(request, CertificateProof()))
            return await self._judged(self._accepted(joined, self._leaf()), request, held.trust_domain)
        nonce = await self._client.nonce(server, tls)
        if isinstance(nonce, Refusal):
            raise _FailedError(nonce.why, retry_after_s=nonce.retry_after_s)
        request = await self._maker.make(nonce, held.key)
        proof = SignedProof(held.certificate, nonce, request.signature)
        joined = await self._client.join(server, tls, self._said(request, proof))
        return await self._judged(self._accepted(joined, self._leaf()), request, held.trust_domain)

    async def _ask_by_token(self, attempt: _Attempt, server: Server) -> Held:
        settings = self._settings
        if not settings.token_file:
            self.is_elsewhere = self._held is None
            raise _FailedError("there is no certificate to show, and no token file: `control.token_file` names one")
        try:
            token = await self._files.token()
        except (OSError, ValueError) as error:
            self.is_elsewhere = self._held is None and isinstance(error, NotForJoiningError)
            raise _FailedError(f"token_file {settings.token_file}: {said(error)}") from None
        self.is_elsewhere = False
        if isinstance(token.proof, TokenProof | ServiceAccountProof):
            attempt.secret = token.proof.token
        self._seen_token = token.digest
        tls = ServerTrust(await self._roots(token, server), settings.trust_domain)
        request = self._request = self._request or await self._maker.make()
        joined = await self._client.join(server, tls, self._said(request, token.proof))
        return await self._judged(self._accepted(joined, token.digest), request, tls.trust_domain)

    async def _roots(self, token: TokenFile, server: Server) -> str:
        """By which the server is believed as long as nothing is held."""
        settings = self._settings
        if token.pin:
            given = await self._client.trust(server)
            if isinstance(given, Refusal):
                raise _FailedError(given.why, retry_after_s=given.retry_after_s)
            try:
                known = fingerprints_of(given)
            except ValueError:
                raise _FailedError("the control plane's roots are no certificates") from None
            if token.pin not in known:
                shown = " or ".join(f"sha256:{one}" for one in sorted(known)) or "nothing"
                raise _FailedError(
                    f"the control plane's root is not the one that token_file {settings.token_file} names: "
                    f"expected sha256:{token.pin}, found {shown}"
                )
            return known[token.pin]
        if settings.trust_file:
            try:
                return await self._files.trust()
            except (OSError, ValueError) as error:
                raise _FailedError(f"trust_file {settings.trust_file}: {said(error)}") from None
        # As whoever has such a token for other control planes has it.
        self.is_elsewhere = self._held is None and isinstance(token.proof, ServiceAccountProof)
        raise _FailedError(
            f"nothing says by which root the control plane is to be believed: token_file {settings.token_file} has no "
            "`#sha256:` of one, and `control.trust` names no file"
        )

    async def _is_root_named(self) -> bool:
        """Whether the token file names a root that is not among those that are held."""
        try:
            return self._names_root(await self._files.token())
        except (OSError, ValueError):
            return False

    def _names_root(self, token: TokenFile) -> bool:
        return bool(token.pin) and self._held is not None and token.pin not in fingerprints_of(self._held.trust)

    def _said(
        self, request: SigningRequest, proof: TokenProof | ServiceAccountProof | CertificateProof | SignedProof
    ) -> JoinRequest:
        settings = self._settings
        return JoinRequest(request.csr, settings.service, self._instance(), proof, settings.lifetime_s)

    def _accepted(self, joined: Joined | Refusal, refused: str) -> Joined:
        if isinstance(joined, Joined):
            return joined
        is_final = joined.code in FINAL
        if is_final:
            self._refused_until_s[refused] = self._now_s() + FINAL_AGAIN_S
        code = f" ({joined.code})" if joined.code else ""
        raise _FailedError(f"{joined.why}{code}", is_final=is_final, retry_after_s=joined.retry_after_s)

    async def _judged(self, joined: Joined, request: SigningRequest, trust_domain: str) -> Held:
        """What came, if it is what was asked for."""
        proved = await self._prove(joined.certificate, request.key, joined.trust)
        wanted = trust_domain or joined.trust_domain
        found = proved.identity.removeprefix("spiffe://").partition("/")[0]
        if proved.identity != joined.identity or found != wanted or joined.trust_domain != wanted:
            raise UnusableError(
                f"expected an identity of {wanted}, found {proved.identity} in the certificate and {joined.identity} "
                "beside it"
            )
        return Held(
            joined.certificate, request.key, joined.trust, wanted, proved.identity, proved.issuer,
            proved.not_before_s, proved.not_after_s, joined.renew_after_s, self._now_s(),
        )  # fmt: skip

    # --- what came of it ---------------------------------------------------------------------------------------

    def _succeeded(self, attempt: _Attempt, server: Server, held: Held) -> None:
        name = "identity_renewed" if self._held is not None else "identity_joined"
        self._held, self._request = held, None
        self._failures, self._last_error, self._ends_told = 0, "", 0
        self.is_elsewhere = False
        self._is_leaf_shunned = self._is_token_awaited = False
        self._refused_until_s.clear()
        self._rota.on_lived()
        self._complaints.settle("identity_not_had")
        self._at_s = first_renewal(
            held.obtained_s, held.renew_after_s, held.not_after_s, held.obtained_s, self._chance()
        )
        logger.info(
            event(
                name, identity=held.identity, by=attempt.way, issuer=held.issuer, not_after=moment(held.not_after_s),
                next=moment(self._at_s), address=str(server),
            )
        )  # fmt: skip
        self._tell_held()

    def _failed(self, attempt: _Attempt, server: Server, error: _FailedError) -> None:
        # A server is not to have our secrets in our log by saying them back.
        why = str(error).replace(attempt.secret, "[redacted]") if attempt.secret else str(error)
        now_s = self._now_s()
        self._failures += 1
        self._is_token_awaited = attempt.way == "token"
        wait_s = self._rota.on_failure(self._loop_time(), error.retry_after_s)
        if self.held is not None:
            wait_s = max(wait_s, next_try(now_s, self.held.not_after_s, self._failures, self._chance()) - now_s)
        elif error.is_final and self._way() == attempt.way:
            wait_s = max(wait_s, FINAL_AGAIN_S * (0.5 + 0.5 * self._chance()))
        self._at_s = now_s + wait_s
        has_changed, self._last_error = why != self._last_error, why
        if self.is_elsewhere:
            # Not a fault: so are meshes without an authority.
            self._at_s = now_s + FINAL_AGAIN_S
            if has_changed:
                logger.info(event("identity_none", reason=why))
                self._tell_change()
            return
        ends = moment(self._held.not_after_s) if self._held is not None else None
        self._complaints.tell(
            "identity_not_had", why, by=attempt.way, address=str(server), failures=self._failures, held_until=ends
        )
        if has_changed:
            self._tell_change()

    def _leaf(self) -> str:
        return self._held.certificate if self._held is not None else ""

    def _is_barred(self, what: str) -> bool:
        return self._now_s() < self._refused_until_s.get(what, -inf)

    def _tell_end(self) -> None:
        """That what is held ends, once for each of some times before it."""
        held = self._held
        if held is None or not self._failures:
            return
        left_s = held.not_after_s - self._now_s()
        part = left_s / max(1.0, held.not_after_s - held.not_before_s)
        passed = sum(part <= one for one in ENDS)
        if passed > self._ends_told:
            self._ends_told = passed
            name = "identity_ended" if left_s <= 0 else "identity_ends"
            logger.error(
                event(
                    name, identity=held.identity, not_after=moment(held.not_after_s),
                    days_left=round(left_s / 86_400, 2), reason=self._last_error,
                )
            )  # fmt: skip
            self._tell_change()

    def _tell_held(self) -> None:
        held = self._held
        assert held is not None
        try:
            self.on_held(held)
        except Exception:  # what others make of it must not end this
            logger.exception(event("identity_listener_broken"))
        self._tell_change()

    def _tell_change(self) -> None:
        try:
            self.on_change()
        except Exception:
            logger.exception(event("identity_listener_broken"))
