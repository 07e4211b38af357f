"""
Join tokens: each lets sidecars of one service have certificates. *On the loop; the clock is given.*

    sct_ + 43 characters of base64url (256 bits)                  what a sidecar shows
    ... + "#sha256:" + SHA-256 of a root, 64 hexadecimal digits   as it is printed: by whom it may be shown the token

Kept is the SHA-256 of a token and nothing else of it. A use is counted by compare-and-swap before anything is signed,
so that of many replicas only one takes a token that may be used once. Who used that one up may come again with the same
key for a while: the answer may have been lost on its way.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import re
import secrets as random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from sidecar.control.authority.certificates import DAY_S
from sidecar.control.authority.names import check_service
from sidecar.control.engines.interface import Conflict, Secrets, Unavailable
from sidecar.link.fields import Fields, MessageError, decode, encode

NAME: Final = "tokens"
PREFIX: Final = "sct_"
MAX_TOKENS: Final = 1000
TTL_S: Final = 90 * DAY_S
LEAST_TTL_S: Final = 60.0
MOST_TTL_S: Final = 3650 * DAY_S
KEPT_S: Final = 30 * DAY_S
"""For which an expired token is remembered, to say that it has expired and not that it is unknown."""
AGAIN_S: Final = 600.0
"""In which the key that used up a token may come again."""
_TRIES: Final = 8
_TOKEN: Final = re.compile(r"sct_[A-Za-z0-9_-]{43}")
_TEXT: Final = re.compile(r"(?P<token>sct_[A-Za-z0-9_-]{43})(?:#sha256:(?P<root>[0-9a-fA-F]{64}))?")


class TokenRefused(Exception):  # noqa: N818
    """
    It lets nobody in.

    Attributes:
        code: `token_unknown`, `token_expired` or `token_used`.
    """

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class TokenError(Exception):
    """A token is not made; why."""


@dataclass(frozen=True, slots=True)
class JoinToken:
    """
    A token, as far as it is kept.

    Attributes:
        id: By which people name it; says nothing of the token.
        hash: SHA-256 of the token, hexadecimal.
        uses: How often it let somebody in; `used_s`: when last, in seconds since the Unix epoch.
        user: Of one that was used up: SHA-256 of the key that did, hexadecimal.
    """

    id: str
    hash: str = field(repr=False)
    service: str
    is_once: bool
    created_s: float
    expires_s: float
    uses: int = 0
    used_s: float = 0.0
    user: str = ""

    def told(self) -> dict[str, Any]:
        """For people."""
        return {
            "id": self.id, "service": self.service, "once": self.is_once, "created": self.created_s,
            "expires": self.expires_s, "uses": self.uses, "used": self.used_s or None,
        }  # fmt: skip


def parse(text: str) -> tuple[str, str]:
    """
    The content of a token's file: the token, and the SHA-256 of the root that is to be trusted, or nothing.

    Raises:
        TokenRefused: It is none; what was found is not said.
    """
    found = _TEXT.fullmatch(text.strip())
    if found is None:
        raise TokenRefused("token_unknown", "expected a join token, sct_ and 43 characters")
    return found["token"], (found["root"] or "").lower()


def printed(token: str, root: str) -> str:
    """As a file has it."""
    return f"{token}#sha256:{root}"


class JoinTokens:
    """
    Args:
        secrets: Where they are kept.
        now_s: Since the Unix epoch.
    """

    def __init__(self, secrets: Secrets, now_s: Callable[[], float]) -> None:
        self._secrets = secrets
        self._now_s = now_s
        self._waiting: list[tuple[str, str, asyncio.Future[JoinToken]]] = []
        self._one_at_a_time = asyncio.Lock()

    async def list(self) -> tuple[JoinToken, ...]:
        """All that are kept, the newest last. Raises Unavailable."""
        return (await self._read())[0]

    async def create(self, service: str, ttl_s: float = TTL_S, *, is_once: bool = False) -> tuple[JoinToken, str]:
        """
        Make one.

        Returns:
            What is kept of it, and the token, which nobody can ask for again.

        Raises:
            BadName: The service can have no certificate.
            TokenError: It would live too short or too long, or there are too many.
            Unavailable: As the engine says.
        """
        check_service(service)
        if not LEAST_TTL_S <= ttl_s <= MOST_TTL_S:
            raise TokenError("expected a ttl of 1m to 3650d")
        token = PREFIX + base64.urlsafe_b64encode(random.token_bytes(32)).rstrip(b"=").decode()
        now_s = self._now_s()
        made = JoinToken(random.token_hex(4), _hash(token), service, is_once, now_s, now_s + ttl_s)

        def add(known: Sequence[JoinToken]) -> tuple[JoinToken, ...]:
            if len(known) >= MAX_TOKENS:
                raise TokenError(f"there are {len(known)} tokens already: revoke those that nobody needs")
            return (*known, made)

        await self._change(add)
        return made, token

    async def revoke(self, name: str) -> bool:
        """Forget a token by its id; whether there was one. Raises Unavailable."""
        was_there = False

        def drop(known: Sequence[JoinToken]) -> tuple[JoinToken, ...]:
            nonlocal was_there
            was_there = any(one.id == name for one in known)
            return tuple(one for one in known if one.id != name)

        await self._change(drop)
        return was_there

    async def redeem(self, token: str, user: str) -> JoinToken:
        """
        Count a use. Those that come together are counted together.

        Args:
            token: As it was shown.
            user: SHA-256 of the key for which a certificate is asked.

        Raises:
            TokenRefused: It lets nobody in.
            Unavailable: It could not be counted, and so lets nobody in.
        """
        if _TOKEN.fullmatch(token) is None:
            raise TokenRefused("token_unknown", "expected a join token, sct_ and 43 characters")
        future: asyncio.Future[JoinToken] = asyncio.get_running_loop().create_future()
        self._waiting.append((_hash(token), user, future))
        async with self._one_at_a_time:
            if not future.done():
                taken, self._waiting = self._waiting, []
                await self._count(taken)
        return await future

    async def _count(self, taken: Sequence[tuple[str, str, asyncio.Future[JoinToken]]]) -> None:
        outcomes: list[JoinToken | TokenRefused] = []

        def use(known: Sequence[JoinToken]) -> tuple[JoinToken, ...]:
            outcomes.clear()
            after = list(known)
            for hashed, user, _ in taken:
                outcome = _used(after, hashed, user, self._now_s())
                outcomes.append(outcome)
                if isinstance(outcome, JoinToken):
                    after = [outcome if one.id == outcome.id else one for one in after]
            return tuple(after)

        try:
            await self._change(use)
        except BaseException as error:
            # Also of one that was cancelled, with whom others waited: they come again.
            failure = error if isinstance(error, Unavailable) else Unavailable("it was not counted")
            for _, _, future in taken:
                if not future.done():
                    future.set_exception(failure)
                    future.exception()  # who waited may be gone, and nobody else asks
            raise
        for (_, _, future), outcome in zip(taken, outcomes, strict=True):
            if future.done():
                continue
            if isinstance(outcome, JoinToken):
                future.set_result(outcome)
            else:
                future.set_exception(outcome)
                future.exception()

    async def _change(self, step: Callable[[Sequence[JoinToken]], tuple[JoinToken, ...]]) -> None:
        for _ in range(_TRIES):
            known, version = await self._read()
            after = step(known)
            if after == known:
                return
            try:
                await self._secrets.swap(NAME, _written(after), version)
                return
            except Conflict:
                continue
        raise Unavailable(f"others changed the tokens {_TRIES} times while this was tried")

    async def _read(self) -> tuple[tuple[JoinToken, ...], str]:
        found = await self._secrets.read(NAME)
        if found is None:
            return (), ""
        try:
            said = decode(found.value)
            known = [_token(one) for one in said.objects("tokens", 2 * MAX_TOKENS)]
        except MessageError as error:
            raise Unavailable(f"the stored tokens cannot be read: {error}") from None
        now_s = self._now_s()
        return tuple(one for one in known if one.expires_s + KEPT_S > now_s), found.version


def _used(known: Iterable[JoinToken], hashed: str, user: str, now_s: float) -> JoinToken | TokenRefused:
    # Each is compared in a time that tells nothing of it.
    matches = [one for one in known if hmac.compare_digest(one.hash, hashed)]
    if not matches:
        return TokenRefused("token_unknown", "this token is not known here, or was revoked")
    one = matches[0]
    if one.expires_s <= now_s:
        return TokenRefused(
            "token_expired", f"the token {one.id} has expired: `sidecar mesh token create` makes another"
        )
    if not one.is_once or not one.uses:
        return replace(one, uses=one.uses + 1, used_s=now_s, user=user if one.is_once else "")
    if hmac.compare_digest(one.user, user) and now_s - one.used_s < AGAIN_S:
        return one
    return TokenRefused("token_used", f"the token {one.id} may be used once, and was: make another")


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _token(said: Fields) -> JoinToken:
    return JoinToken(
        said.text("id"), said.text("hash"), said.text("service"), said.flag("once", False), said.number("created"),
        said.number("expires"), said.integer("uses", 0), said.number("used", 0.0), said.text("user", ""),
    )  # fmt: skip


def _written(known: Iterable[JoinToken]) -> bytes:
    def one(token: JoinToken) -> Mapping[str, Any]:
        return {
            "id": token.id, "hash": token.hash, "service": token.service, "once": token.is_once,
            "created": token.created_s, "expires": token.expires_s, "uses": token.uses, "used": token.used_s,
            "user": token.user,
        }  # fmt: skip

    return encode({"tokens": [one(token) for token in known]})
