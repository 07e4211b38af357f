"""`POST /v1/join`, the way in for who has no certificate yet, and the tokens that it takes. *On the loop.*"""

from __future__ import annotations

import logging
from collections.abc import Callable

from aiohttp import web

from sidecar.control.authority.authority import Authority
from sidecar.control.authority.issued import revoke
from sidecar.control.authority.joining import MAX_BODY_BYTES, Joining, JoinRefused
from sidecar.control.authority.names import BadName
from sidecar.control.authority.tokens import TTL_S, JoinTokens, TokenError, printed
from sidecar.control.engines.interface import EngineError, Secrets
from sidecar.control.server.access import peer_of, problem
from sidecar.control.server.bodies import read_body
from sidecar.control.server.callers import tls_of
from sidecar.link.fields import decode, encode
from sidecar.link.identity.messages import Trust, write_joined, write_nonce, write_trust
from sidecar.process_log import event

logger = logging.getLogger(__name__)


class JoinDesk:
    """
    Args:
        joining: Gives certificates out.
        authority: Knows whom to trust.
    """

    def __init__(self, joining: Joining, authority: Authority) -> None:
        self._joining = joining
        self._authority = authority

    async def join(self, request: web.Request) -> web.Response:
        """`POST /v1/join`."""
        secured = tls_of(request)
        try:
            if secured is None:
                # A token that was shown here is a token that somebody may have read.
                raise JoinRefused(403, "clear_refused", "joining needs TLS: ask https://")
            if (request.content_length or 0) > MAX_BODY_BYTES:
                raise JoinRefused(413, "request_invalid", f"expected at most {MAX_BODY_BYTES} octets")
            raw = await read_body(request)
            if len(raw) > MAX_BODY_BYTES:
                raise JoinRefused(413, "request_invalid", f"expected at most {MAX_BODY_BYTES} octets")
            joined = await self._joining.join(raw, secured.getpeercert(True), peer_of(request))
            return _answer(write_joined(joined))
        except JoinRefused as refusal:
            return _refusal(refusal)

    async def nonce(self, request: web.Request) -> web.Response:
        """`GET /v1/join/nonce`."""
        try:
            return _answer(write_nonce(self._joining.nonce()))
        except JoinRefused as refusal:
            return _refusal(refusal)

    async def trust(self, request: web.Request) -> web.Response:
        """`GET /v1/trust`: the roots. They are no secret, but only TLS says whose they are."""
        record = self._authority.record
        if record is None:
            return _refusal(JoinRefused(503, "ca_unavailable", "there is no authority", 10))
        roots = tuple(one.fingerprint for one in record.roots)
        return _answer(write_trust(Trust(record.trust, record.trust_domain, roots)))


class TokenDesk:
    """
    Join tokens, for operators; the one that is made is shown once.

    Args:
        authority: By whose root a sidecar knows to whom it may show its token.
        tokens: Keep what is known of them.
    """

    def __init__(self, authority: Authority, tokens: JoinTokens) -> None:
        self._authority = authority
        self._tokens = tokens

    async def list(self, request: web.Request) -> web.Response:
        """`GET /v1/tokens`."""
        try:
            return _answer(encode({"tokens": [one.told() for one in await self._tokens.list()]}))
        except EngineError as error:
            return problem(503, str(error))

    async def create(self, request: web.Request) -> web.Response:
        """`POST /v1/tokens`: `{"service", "ttl_s", "once"}`."""
        said = decode(await read_body(request))
        record = self._authority.record
        if record is None:
            return problem(503, "there is no authority: `sidecar mesh ca init` makes it")
        try:
            made, token = await self._tokens.create(
                said.text("service"), said.number("ttl_s", TTL_S), is_once=said.flag("once", False)
            )
        except (BadName, TokenError) as error:
            return problem(400, str(error))
        except EngineError as error:
            return problem(503, str(error))
        logger.info(event("join_token_made", id=made.id, service=made.service, expires=int(made.expires_s)))
        return _answer(encode({"token": printed(token, record.signing), **made.told()}))

    async def revoke(self, request: web.Request) -> web.Response:
        """`DELETE /v1/tokens/ID`. Certificates that came of it stay until they end."""
        name = request.match_info["id"]
        try:
            if not await self._tokens.revoke(name):
                return problem(404, "there is no such token")
        except EngineError as error:
            return problem(503, str(error))
        logger.info(event("join_token_revoked", id=name))
        return _answer(encode({}))


class RevokeDesk:
    """
    Args:
        secrets: Where it is kept whose certificates are not renewed.
        now_s: Since the Unix epoch.
    """

    def __init__(self, secrets: Secrets, now_s: Callable[[], float]) -> None:
        self._secrets = secrets
        self._now_s = now_s

    async def revoke(self, request: web.Request) -> web.Response:
        """`POST /v1/revoke`: `{"name": "SERVICE/INSTANCE"}`; what was issued to that until now is not renewed."""
        name = decode(await read_body(request)).text("name")
        try:
            await revoke(self._secrets, name, self._now_s())
        except EngineError as error:
            return problem(503, str(error))
        logger.warning(event("instance_revoked", line=name))
        return _answer(encode({}))


def _answer(body: bytes) -> web.Response:
    return web.Response(body=body, headers={"content-type": "application/json", "cache-control": "no-store"})


def _refusal(refusal: JoinRefused) -> web.Response:
    answer = web.json_response({"error": str(refusal), "code": refusal.code}, status=refusal.status)
    answer.headers["cache-control"] = "no-store"
    if refusal.retry_after_s:
        answer.headers["retry-after"] = str(refusal.retry_after_s)
    return answer
